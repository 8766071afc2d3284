"""Each client mirrors again and again as an ordinary user, who is bound by the modes on its disk.

Clients give their copies the modes that the server reports. If those forbid writing, the first pass
succeeds, and every later one fails, except for root.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from running_site import digests
from wire.server import RunningServer, StartServer, setting, until

NOBODY = 65534
RATE = setting("rate_mbit = 64")  # slow enough to interrupt a client in a file of 4 MB
LARGE = 4 << 20

Command = Callable[["Mirror"], list[str]]


@dataclass
class Mirror:
    """A folder of an ordinary user, into which a client copies /il."""

    server: RunningServer
    home: Path

    @property
    def tree(self) -> Path:
        return self.server.site / "trees" / "parti-a" / "il"

    @property
    def copy(self) -> Path:
        return self.home / "to" / "il"

    def ssh(self) -> list[str]:
        given = self.server.ssh("parti-a")
        key, known = self.server.site / "clients" / "parti-a", self.server.site / "known_hosts"
        moved = {str(key): str(self.home / "key"), str(known): str(self.home / "known_hosts")}
        for old, new in moved.items():
            given = [word.replace(old, new) for word in given]
        return given

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        is_root = os.geteuid() == 0
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home)},
            start_new_session=True,
            umask=0o022,
            user=NOBODY if is_root else None,
            group=NOBODY if is_root else None,
            extra_groups=[] if is_root else None,
        )

    def run(self, command: list[str]) -> str:
        process = self.start(command)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0, printed
        return printed

    def interrupt(self, command: list[str]) -> None:
        """Kill the client while it copies a large file."""
        before = self.copied()
        process = self.start(command)
        try:
            until(lambda: self.copied() > before + (256 << 10), timeout=20)
            assert process.poll() is None, "the client had finished already"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def copied(self) -> int:
        found = 0
        for path in (self.home / "to").rglob("*"):
            with suppress(OSError):
                found += path.stat().st_blocks * 512
        return found

    def publish(self, name: str, content: bytes) -> None:
        """Put a file into the tree as the publisher does: mode 0444, in folders of mode 0755."""
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(".new")
        fresh.write_bytes(content)
        fresh.chmod(0o444)
        if path.exists():  # what replaces a file has a later time, in whole seconds
            later = int(path.stat().st_mtime) + 1
            os.utime(fresh, (later, later))
        fresh.replace(path)

    def bytes_sent(self) -> int:
        return sum(int(str(detail["bytes"])) for detail in self.server.details("close"))


@pytest.fixture
def mirror(serve: StartServer) -> Iterator[Mirror]:
    # Not below tmp_path, whose parents only their owner may enter.
    with tempfile.TemporaryDirectory(prefix="ssps-mirror-") as folder:
        server, home = serve(before=RATE), Path(folder)
        shutil.copy(server.site / "clients" / "parti-a", home / "key")
        shutil.copy(server.site / "known_hosts", home / "known_hosts")
        (home / "to").mkdir()
        if os.geteuid() == 0:
            for path in (home, home / "to", home / "key"):
                os.chown(path, NOBODY, NOBODY)
        yield Mirror(server, home)


def _sftp(*how: str) -> Command:
    def command(mirror: Mirror) -> list[str]:
        batch = mirror.home / "batch"
        batch.write_text(f"get {' '.join(how)} /il {mirror.home}/to\n")
        return ["sftp", *mirror.ssh(), "-b", str(batch), "127.0.0.1"]

    return command


def _scp(mirror: Mirror) -> list[str]:
    return ["scp", *mirror.ssh(), "-s", "-rp", "127.0.0.1:/il", f"{mirror.home}/to"]


def _putty(mirror: Mirror) -> list[str]:
    key, public = mirror.home / "key.ppk", mirror.server.site / "keys/host/ssh_host_ed25519_key.pub"
    if not key.exists():
        mirror.run(["puttygen", str(mirror.home / "key"), "-O", "private", "-o", str(key)])
    shown = subprocess.run(
        ["ssh-keygen", "-lf", public], capture_output=True, text=True, check=True
    )
    fingerprint = shown.stdout.split()[1]
    options = ["-batch", "-P", str(mirror.server.port), "-i", str(key)]
    return [*options, "-hostkey", fingerprint]


def _psftp(mirror: Mirror) -> list[str]:
    options, batch = _putty(mirror), mirror.home / "batch"
    batch.write_text(f"lcd {mirror.home}/to\nget -r il\n")
    return ["psftp", *options, "-b", str(batch), "parti-a@127.0.0.1"]


def _pscp(mirror: Mirror) -> list[str]:
    options = _putty(mirror)
    to = f"{mirror.home}/to"
    return ["pscp", "-sftp", "-q", "-r", "-p", *options, "parti-a@127.0.0.1:/il", to]


def _lftp(mirror: Mirror) -> list[str]:
    ssh = shlex.join(["ssh", "-a", "-x", *mirror.ssh()])
    address = f"sftp://parti-a:@127.0.0.1:{mirror.server.port}"
    script = f'set sftp:connect-program "{ssh}"; open {address}; mirror /il {mirror.copy}'
    return ["lftp", "--norc", "-c", script]


def _rclone(mirror: Mirror) -> list[str]:
    (mirror.home / "rclone.conf").write_text(
        f"[ysk]\ntype = sftp\nhost = 127.0.0.1\nport = {mirror.server.port}\nuser = parti-a\n"
        f"key_file = {mirror.home}/key\nknown_hosts_file = {mirror.home}/known_hosts\n"
        "shell_type = unix\nmd5sum_command = md5sum\nsha1sum_command = sha1sum\n"
    )
    words = ["--config", f"{mirror.home}/rclone.conf", "copy", "ysk:/il", str(mirror.copy)]
    return ["rclone", *words]


_FOREIGN = """\
my ($host, $to, @ssh) = @ARGV;
my $sftp = Net::SFTP::Foreign->new($host, more => \\@ssh);
$sftp->error and die $sftp->error;
$sftp->rget("/il", $to, overwrite => 1, on_error => sub {
  my $why = $_[0]->error; die $why unless $why =~ /already exists/; });
"""


def _foreign(mirror: Mirror) -> list[str]:
    perl = ["perl", "-MNet::SFTP::Foreign", "-e", _FOREIGN, "127.0.0.1", str(mirror.copy)]
    return [*perl, *mirror.ssh()]


CLIENTS: dict[str, tuple[str, Command]] = {
    "sftp get -r": ("sftp", _sftp("-r")),
    "sftp get -rp": ("sftp", _sftp("-rp")),
    "scp -rp": ("scp", _scp),
    "psftp get -r": ("psftp", _psftp),
    "pscp -r -p": ("pscp", _pscp),
    "lftp mirror": ("lftp", _lftp),
    "rclone copy": ("rclone", _rclone),
    "Net::SFTP::Foreign rget": ("perl", _foreign),
}
# These compare before they transfer; the others fetch everything again.
COMPARING = {"lftp mirror", "rclone copy"}


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_of_an_ordinary_user_brings_what_is_new_in_every_pass(
    mirror: Mirror, client: str
) -> None:
    program, command = CLIENTS[client]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if program == "perl" and subprocess.call(["perl", "-MNet::SFTP::Foreign", "-e", "1"]):
        pytest.skip("Net::SFTP::Foreign is not installed")
    mirror.publish("kurul/bir.jpg", b"bir")
    mirror.publish("kurul/SHA256SUMS", b"b one sum\n")
    mirror.publish("kurul/SHA256SUMS.sig", b"a signature")

    mirror.run(command(mirror))
    assert digests(mirror.copy) == digests(mirror.tree)

    # A new page, a new version, a new folder, and sums, which are sorted, with a signature of the
    # same size. (`get -a` of OpenSSH would append to the old sums and keep the old signature.)
    mirror.publish("kurul/iki.jpg", b"iki")
    mirror.publish("kurul/bir.v2.jpg", b"bir, yeniden")
    mirror.publish("kurul-2/bir.jpg", b"bir")
    mirror.publish("kurul/SHA256SUMS", b"a new sum\nb one sum\n")
    mirror.publish("kurul/SHA256SUMS.sig", b"another one")
    mirror.run(command(mirror))
    assert digests(mirror.copy) == digests(mirror.tree)

    mirror.publish("kurul/uc.jpg", os.urandom(LARGE))
    mirror.interrupt(command(mirror))
    mirror.run(command(mirror))
    assert digests(mirror.copy) == digests(mirror.tree)

    until(lambda: not mirror.server.children())
    before = mirror.bytes_sent()
    mirror.run(command(mirror))
    assert digests(mirror.copy) == digests(mirror.tree)
    until(lambda: not mirror.server.children())
    if client in COMPARING:
        assert mirror.bytes_sent() == before

    mirror.run(["rm", "-r", str(mirror.copy)])
    assert not mirror.copy.exists()


@pytest.mark.slow
def test_asyncssh_brings_what_is_new_and_keeps_modes(mirror: Mirror) -> None:
    pytest.importorskip("asyncssh")
    program = (
        "import asyncio, sys, asyncssh\n"
        "async def main(port, home):\n"
        "    async with asyncssh.connect('127.0.0.1', int(port), username='parti-a',\n"
        "            client_keys=[home + '/key'], known_hosts=None, config=None) as ssh:\n"
        "        async with ssh.start_sftp_client() as sftp:\n"
        "            await sftp.get('/il', home + '/to', recurse=True, preserve=True)\n"
        "asyncio.run(main(*sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", program, str(mirror.server.port), str(mirror.home)]
    for name in ("kurul/bir.jpg", "kurul/iki.jpg"):
        mirror.publish(name, name.encode())
        mirror.run(command)
        assert digests(mirror.copy) == digests(mirror.tree)


@pytest.mark.slow
@pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="no FUSE")
def test_a_copy_out_of_sshfs_can_be_updated(mirror: Mirror) -> None:
    mount = mirror.home / "mount"
    mount.mkdir()
    as_root = ["-oallow_other"] if os.geteuid() == 0 else []
    key = f"-oIdentityFile={mirror.server.site}/clients/parti-a"
    options = [
        word for word in mirror.server.ssh("parti-a") if word[:2] == "-o" and "User=" not in word
    ]
    # Without its caches, which show a folder as it was for up to 20 seconds.
    options += [key, "-F/dev/null", "-odir_cache=no", "-oattr_timeout=0,entry_timeout=0", *as_root]
    subprocess.run(["sshfs", *options, "parti-a@127.0.0.1:/", str(mount)], check=True, timeout=30)
    copy = ["cp", "-r", "--preserve=mode,timestamps", f"{mount}/il", f"{mirror.home}/to"]
    try:
        for number, name in enumerate(("kurul/bir.jpg", "kurul/iki.jpg", "kurul-2/bir.jpg")):
            mirror.publish(name, name.encode())
            mirror.publish("kurul/SHA256SUMS", b"sum\n" * number)
            mirror.run(copy)
        assert digests(mirror.copy) == digests(mirror.tree)

        mirror.publish("kurul/uc.jpg", os.urandom(LARGE))
        mirror.interrupt(copy)
        mirror.run(copy)
        assert digests(mirror.copy) == digests(mirror.tree)

        opened = len(mirror.server.records("open"))
        mirror.run([*copy, "--update"])
        assert len(mirror.server.records("open")) == opened
    finally:
        subprocess.run(["fusermount3", "-u", str(mount)], check=False)
