"""Run the two servers to compare on the same tree: ours, and OpenSSH's sshd."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.site import HOST_KEYS, SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.operations import ring_files
from keys.server_keys import host

PARTY = "parti-a"
SSHD = "/usr/sbin/sshd"
_SITE = """\
[election]
id = "2023-05-14-cb-mv"
title = "Olcum"
opens = 2023-05-14T17:00:00+03:00
[sftp]
listen = "127.0.0.1:0"
max_sessions = 512
max_sessions_per_party = 128
"""
_PARTIES = f"""
[[party]]
id = "{PARTY}"
name = "{PARTY}"
kind = "party"
scope = "all"
static_ips = ["127.0.0.1"]
"""
_SERVE = """\
import sys
from pathlib import Path
import structlog
from config import load
from scripts.daemons.run import FORKER
from sftpd import server
structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=sys.stderr))
PATCH
server.serve(
    load.load(Path(sys.argv[1])),
    ready=lambda port: print(port, flush=True),
    forker_command=FORKER,
)
"""
# The process that forks the sessions, with the same patch.
_FORKER = """\
import sys
from sftpd import sessions
PATCH
sys.exit(sessions.main(int(sys.argv[1]), int(sys.argv[2])))
"""
_SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/sshd.pid
PermitRootLogin yes
StrictModes no
UsePAM no
MaxStartups 500
MaxSessions 100
Subsystem sftp internal-sftp -d {tree}
"""


@dataclass(frozen=True)
class Server:
    """A running server, and how a client connects to it."""

    name: str
    pid: int
    port: int
    user: str
    key: Path
    helpers: frozenset[int] = frozenset()  # its processes that do not belong to a connection

    @property
    def options(self) -> list[str]:
        """Options for OpenSSH's clients."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "IdentityFile": str(self.key),
            "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "LogLevel": "ERROR",
            "Port": str(self.port),
            "User": self.user,
        }
        return ["-F", "none", *(f"-o{name}={value}" for name, value in options.items())]

    def sessions(self) -> list[int]:
        """Return the processes of its connections."""
        return [pid for pid in self.processes() if pid not in self.helpers]

    def processes(self) -> list[int]:
        """Return all its processes but the first: its descendants."""
        found, new = [], [self.pid]
        while new:
            new = [child for pid in new for child in _children(pid)]
            found += new
        return found

    def settled(self) -> bool:
        """Wait at most ten seconds until its connections have ended; return whether they have."""
        deadline = time.monotonic() + 10
        while self.sessions() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not self.sessions()


class Cpu:
    """Measures the CPU seconds of a server and its connections inside a `with` block.

    It reads them every 20 ms, because some processes of sshd become children of init when they end,
    and no process counts their times then.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._taken: dict[int, float] = {}
        self._before: dict[int, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def seconds(self) -> float:
        """The CPU seconds so far."""
        return sum(self._taken.values()) - sum(self._before.values())

    def _look(self) -> None:
        for pid in [self._server.pid, *self._server.processes()]:
            with suppress(OSError, IndexError):
                text = Path(f"/proc/{pid}/schedstat").read_text()
                self._taken[pid] = int(text.split()[0]) / 1e9

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._look()

    def __enter__(self) -> "Cpu":
        self._look()
        self._before = dict(self._taken)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()


def _children(pid: int) -> list[int]:
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def lay_out(folder: Path) -> Path:
    """Create a site with one party and an empty tree, and return the tree."""
    site = folder / "site"
    tree = site / "trees" / PARTY
    tree.mkdir(parents=True)
    (site / "site.toml").write_text(_SITE)
    (site / "parties.toml").write_text(_PARTIES)
    host.create_key(site / HOST_KEYS / "ssh_host_ed25519_key", "ssps")
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    line = host.create_key(folder / "client", "bench")
    since = datetime.now(UTC) - timedelta(days=1)
    credential = ring.key_credential(
        line, label="", not_before=since, not_after=None, added_by="bench"
    )
    ring_files.apply(site, Ring(PARTY, (credential,)))
    (folder / "authorized_keys").write_text(line)
    return tree


@contextmanager
def ours(folder: Path, patch: str = "") -> Iterator[Server]:
    """Run our server on the site, as in production with children, sandbox, ledger and limits.

    `patch` is code that runs before it starts, also in the process that forks its sessions.
    """
    code = _SERVE.replace("PATCH", patch)
    if patch:
        forker = [sys.executable, "-c", _FORKER.replace("PATCH", patch)]
        code = code.replace("forker_command=FORKER", f"forker_command={forker!r}")
    with (
        (folder / "ours.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder / "site")],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit((folder / "ours.log").read_text())
        try:
            helpers = frozenset(_children(process.pid))  # nobody has connected yet
            yield Server("ours", process.pid, int(line), PARTY, folder / "client", helpers)
        finally:
            process.terminate()


@contextmanager
def theirs(folder: Path, tree: Path) -> Iterator[Server]:
    """Run OpenSSH's sshd with its defaults as the current user."""
    if not shutil.which(SSHD):
        raise SystemExit(f"{SSHD} not found: install openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    host.create_key(folder / "host_key", "sshd")
    port = _free_port()
    (folder / "sshd_config").write_text(_SSHD.format(port=port, folder=folder, tree=tree))
    with (
        (folder / "sshd.log").open("w") as log,
        subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log
        ) as process,
    ):
        try:
            _wait_until_listening(port, process, folder / "sshd.log")
            user = pwd.getpwuid(os.geteuid()).pw_name
            yield Server("sshd", process.pid, port, user, folder / "client")
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server accepts connections; exit with its log if it does not."""
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None:
                break
            time.sleep(0.02)
        else:
            return
    raise SystemExit(log.read_text())
