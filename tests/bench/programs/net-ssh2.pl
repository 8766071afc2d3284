# Mirror / with Perl's Net::SSH2, a binding of libssh2: PORT USER KEY PASSWORD INTO
use strict; use warnings; use Net::SSH2; use Fcntl ':mode';
my ($port, $user, $key, $password, $into) = @ARGV;
my $ssh = Net::SSH2->new;
$ssh->connect('127.0.0.1', $port) or $ssh->die_with_error;
($password ne '' ? $ssh->auth_password($user, $password)
    : $ssh->auth_publickey($user, "$key.pub", $key)) or $ssh->die_with_error;
my $sftp = $ssh->sftp or $ssh->die_with_error;
sub fetch {
    my ($from, $to) = @_;
    mkdir $to unless -d $to;
    my $folder = $sftp->opendir($from eq '' ? '/' : $from) or $sftp->die_with_error;
    my @entries;
    while (my $entry = $folder->read) { push @entries, {%$entry}; }
    for my $entry (grep { $_->{name} !~ /^\.\.?$/ } @entries) {
        my ($path, $local) = ("$from/$entry->{name}", "$to/$entry->{name}");
        if (S_ISDIR($entry->{mode})) { fetch($path, $local); next; }
        my $file = $sftp->open($path) or $sftp->die_with_error;
        open my $out, '>:raw', $local or die "$local: $!";
        while (defined(my $size = $file->read(my $data, 1 << 16))) { last unless $size; print $out $data; }
        close $out or die "$local: $!";
    }
}
fetch('', $into);
