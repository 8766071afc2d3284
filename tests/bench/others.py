"""What a party would otherwise be given: ProFTPD's mod_sftp and asyncssh's server, over our tree.

Each runs with its defaults but for where it listens and who may log in: the one key that the
other servers know too. ProFTPD serves as `nobody`, asyncssh as whoever runs it.
"""

import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import Server, _free_port, _listening

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
    """Run ProFTPD with mod_sftp as a server of its own; it has to be started by root."""
    if not shutil.which(PROFTPD):
        raise SystemExit(f"{PROFTPD} is not there; install proftpd-core and proftpd-mod-crypto")
    nobody = pwd.getpwnam("nobody")
    port = _free_port()
    (folder / "proftpd.conf").write_text(_PROFTPD.format(port=port, folder=folder))
    (folder / "proftpd.passwd").write_text(
        f"olcum:*:{nobody.pw_uid}:{nobody.pw_gid}::{tree}:/bin/false\n"
    )
    (folder / "proftpd.group").write_text(f"nogroup:*:{nobody.pw_gid}:\n")
    for name in ("proftpd.passwd", "proftpd.group"):
        (folder / name).chmod(0o600)
    key = folder / "proftpd_host_key"  # it reads no others than its own ed25519 or PEM
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "3072", "-m", "PEM", "-N", ""]
    subprocess.run([*command, "-f", str(key)], check=True)
    form = ["ssh-keygen", "-e", "-f", str(folder / "authorized_keys")]
    shown = subprocess.run(form, check=True, capture_output=True, text=True).stdout
    (folder / "proftpd.keys").write_text(shown)
    log = folder / "proftpd.log"
    with (
        (folder / "proftpd.err").open("w") as err,
        subprocess.Popen(
            [PROFTPD, "-n", "-q", "-c", str(folder / "proftpd.conf")], stderr=err
        ) as process,
    ):
        try:
            _listening(port, process, folder / "proftpd.err")
            yield Server("proftpd", process.pid, port, "olcum", folder / "client")
        finally:
            process.terminate()
            log.touch()


@contextmanager
def asyncssh(folder: Path, tree: Path) -> Iterator[Server]:
    """Run asyncssh's server, from the folder that scripts/bench installed it to."""
    if not ASYNCSSH.is_dir():
        raise SystemExit(f"{ASYNCSSH} is not there; scripts/bench peers puts asyncssh there")
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
