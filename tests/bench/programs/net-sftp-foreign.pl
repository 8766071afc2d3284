# Mirror / with Perl's Net::SFTP::Foreign, which runs OpenSSH's ssh: PORT USER KEY PASSWORD INTO
use strict; use warnings; use Net::SFTP::Foreign;
my ($port, $user, $key, $password, $into) = @ARGV;
my @quiet = ('-F', 'none', '-o', 'StrictHostKeyChecking=no', '-o', 'UserKnownHostsFile=/dev/null',
    '-o', 'LogLevel=ERROR', '-o', 'IdentitiesOnly=yes', '-o', 'IdentityAgent=none');
my %proof = $password ne '' ? (password => $password) : (key_path => $key);
my $sftp = Net::SFTP::Foreign->new('127.0.0.1', port => $port, user => $user, more => \@quiet, %proof);
$sftp->die_on_error('login');
for my $entry (grep { $_->{filename} !~ /^\.\.?$/ } @{$sftp->ls('/')}) {
    my ($path, $local) = ("/$entry->{filename}", "$into/$entry->{filename}");
    if ($entry->{longname} =~ /^d/) {
        # A folder that is there already counts as an error too.
        $sftp->rget($path, $local, overwrite => 1, on_error => sub {
            my $error = $_[0]->error;
            die "$error: $_[1]{filename}\n" unless $error =~ /^directory .* already exists/;
        });
    } else {
        $sftp->get($path, $local, overwrite => 1) or die $sftp->error . ": $path\n";
    }
}
