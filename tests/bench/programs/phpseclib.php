<?php // Mirror / with phpseclib 2 or 3: PORT USER KEY PASSWORD INTO VERSION
[, $port, $user, $key, $password, $into, $version] = $argv;
require $version === '2' ? 'phpseclib/autoload.php' : 'phpseclib3/autoload.php';
if ($version === '2') {
    $sftp = new phpseclib\Net\SFTP('127.0.0.1', (int) $port);
    $proof = $password;
    if ($proof === '') { $proof = new phpseclib\Crypt\RSA(); $proof->loadKey(file_get_contents($key)); }
} else {
    $sftp = new phpseclib3\Net\SFTP('127.0.0.1', (int) $port);
    $proof = $password !== '' ? $password : phpseclib3\Crypt\PublicKeyLoader::load(file_get_contents($key));
}
if (!$sftp->login($user, $proof)) { fwrite(STDERR, 'login refused: ' . implode('; ', $sftp->getErrors()) . "\n"); exit(1); }
function fetch($sftp, $from, $to) {
    if (!is_dir($to)) { mkdir($to); }
    foreach ($sftp->rawlist($from === '' ? '/' : $from) as $name => $attributes) {
        if ($name === '.' || $name === '..') { continue; }
        if ($attributes['type'] === 2) { fetch($sftp, "$from/$name", "$to/$name"); continue; }
        if (!$sftp->get("$from/$name", "$to/$name")) { fwrite(STDERR, "$from/$name: " . $sftp->getLastSFTPError() . "\n"); exit(1); }
    }
}
fetch($sftp, '', $into);
