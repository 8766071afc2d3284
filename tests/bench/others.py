"""Run other SFTP servers on the same tree: ProFTPD with mod_sftp, and asyncssh.

Both run with their defaults, except for the address and the one key that may log in, which is the
same for all servers. ProFTPD serves as `nobody`, asyncssh as the current user.
"""

import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import Server, _free_port, _wait_until_listening

PROFTPD = "/usr/sbin/proftpd"
ASYNCSSH = Path(__file__).resolve().parents[2] / ".venv" / "peers"
_PROFTPD = """\
ServerType standalone
ServerName olcum
DefaultAddress 127.0.0.1
SocketBindTight on
Port {port}
UseIPv6 off
UseReverseDNS off
User nobody
Group nogroup
ModulePath /usr/lib/proftpd
LoadModule mod_sftp.c
PidFile {folder}/proftpd.pid
ScoreboardFile {folder}/proftpd.scoreboard
DelayTable none
SystemLog {folder}/proftpd.log
WtmpLog off
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile {folder}/proftpd.passwd
AuthGroupFile {folder}/proftpd.group
SFTPEngine on
SFTPHostKey {folder}/proftpd_host_key
SFTPAuthorizedUserKeys file:{folder}/proftpd.keys
SFTPAuthMethods publickey
"""
_SERVE = """\
import asyncio, sys
import asyncssh

async def main(folder, tree):
    server = await asyncssh.listen(
        "127.0.0.1", 0, backlog=200,
        server_host_keys=[folder + "/host_key"],
        authorized_client_keys=folder + "/authorized_keys",
        sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=tree.encode()),
    )
    print(server.get_port(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def proftpd(folder: Path, tree: Path) -> Iterator[Server]:
    """Run ProFTPD with mod_sftp; needs root."""
    if not shutil.which(PROFTPD):
        raise SystemExit(f"{PROFTPD} not found: install proftpd-core and proftpd-mod-crypto")
    nobody = pwd.getpwnam("nobody")
    port = _free_port()
    (folder / "proftpd.conf").write_text(_PROFTPD.format(port=port, folder=folder))
    (folder / "proftpd.passwd").write_text(
        f"olcum:*:{nobody.pw_uid}:{nobody.pw_gid}::{tree}:/bin/false\n"
    )
    (folder / "proftpd.group").write_text(f"nogroup:*:{nobody.pw_gid}:\n")
    for name in ("proftpd.passwd", "proftpd.group"):
        (folder / name).chmod(0o600)
    key = folder / "proftpd_host_key"  # mod_sftp reads only PEM and its own ed25519 format
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-m", "PEM", "-N", ""]
    subprocess.run([*command, "-f", str(key)], check=True)
    convert = ["ssh-keygen", "-e", "-f", str(folder / "authorized_keys")]
    converted = subprocess.run(convert, check=True, capture_output=True, text=True).stdout
    (folder / "proftpd.keys").write_text(converted)
    log = folder / "proftpd.log"
    with (
        (folder / "proftpd.err").open("w") as err,
        subprocess.Popen(
            [PROFTPD, "-n", "-q", "-c", str(folder / "proftpd.conf")], stderr=err
        ) as process,
    ):
        try:
            _wait_until_listening(port, process, folder / "proftpd.err")
            yield Server("proftpd", process.pid, port, "olcum", folder / "client")
        finally:
            process.terminate()
            log.touch()


@contextmanager
def asyncssh(folder: Path, tree: Path) -> Iterator[Server]:
    """Run asyncssh's server from the folder into which scripts/bench installs it."""
    if not ASYNCSSH.is_dir():
        raise SystemExit(f"{ASYNCSSH} not found: run `scripts/bench peers`, which installs it")
    with (
        (folder / "asyncssh.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(folder), str(tree)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={"PYTHONPATH": str(ASYNCSSH), "PATH": "/usr/bin:/bin"},
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit((folder / "asyncssh.log").read_text())
        try:
            yield Server("asyncssh", process.pid, int(line), "olcum", folder / "client")
        finally:
            process.terminate()
