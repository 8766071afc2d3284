"""Makes a small site, runs the real server on it in a process of its own, and connects to it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import paramiko

from config.site import HOST_KEYS, SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.ring import Credential, Ring
from keys.ledger import segments
from keys.ledger.record import Record
from keys.operations import ring_files
from keys.server_keys import host

OPENS = datetime.fromisoformat("2023-05-14T17:00:00+03:00")
SINCE = OPENS - timedelta(days=1)
SECRET = "Yedi-Kule-Kapisi-17"
TWO_PARTIES = {"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"}

_SITE = """\
[election]
id = "2023-05-14-cb-mv"
title = "Prova"
opens = 2023-05-14T17:00:00+03:00
[sftp]
listen = "127.0.0.1:0"
max_sessions = {sessions}
max_sessions_per_party = {per_party}
"""
_PARTY = """
[[party]]
id = "{id}"
name = "{id}"
kind = "party"
scope = "all"
static_ips = ["{address}"]
"""
# The server's time is in a file that a test rewrites to change it.
_SERVER = """\
import sys
from datetime import datetime
from math import inf
from pathlib import Path
from config import load
from scripts.daemons import run
from scripts.shared.json_log import configure_logging
from sftpd import server
from keys.credentials.penalties import ConnectionRates, LoginCpu, Penalties
configure_logging("serve")
site, grace = Path(sys.argv[1]), float(sys.argv[2]) if sys.argv[2] else None
{patch}
server.serve(
    load.load(site),
    clock=lambda: datetime.fromisoformat((site / "now").read_text()),
    ready=lambda port: print(port, flush=True),
    drain={drain},
    grace=grace,
    penalties={penalties},
    rates={rates},
    login_cpu={login_cpu},
    forker_command={forker},
)
"""
# The process that forks the sessions, with the same patch.
_FORKER = """\
import sys
from pathlib import Path
from scripts.shared.json_log import configure_logging
from sftpd import server, sessions
configure_logging("serve")
site, grace = Path(sys.argv[1]), 0.0
{patch}
sessions.main(int(sys.argv[2]), int(sys.argv[3]))
"""
_SERVER_PROCESSES = {"ssps-forker", "ssps-judge", "ssps-hostkeys"}


def server_script(
    patch: str = "",
    *,
    drain: float | None = 0.3,
    limited: bool = False,
    rates: str = "",
    login_cpu: str = "",
) -> str:
    """Python code that runs the server; its arguments are the site and the grace time.

    `patch` is code that runs before the server starts. Most tests fail logins on purpose and
    connect often, all from one address, so penalties, connection rates and the limit on what logins
    cost are off unless `limited`; `rates` and `login_cpu` then replace the defaults.
    """
    unpatched = "run.FORKER"
    patched = f"[sys.executable, '-c', {_FORKER.format(patch=patch)!r}, str(site)]"
    return _SERVER.format(
        patch=patch,
        forker=patched if patch else unpatched,
        drain=drain,
        penalties="Penalties()" if limited else "Penalties(tolerated=inf)",
        rates=(rates or "ConnectionRates()") if limited else "ConnectionRates(burst=inf)",
        login_cpu=(login_cpu or "LoginCpu()") if limited else "LoginCpu(burst=inf)",
    )


@dataclass
class RunningServer:
    """A server that runs, and what its clients need."""

    site: Path
    port: int
    process: subprocess.Popen[str]
    log: Path
    ended: bool = False

    def mark_ended(self) -> None:
        """Tell the fixture that the test ended the server itself, so any exit code is right."""
        self.ended = True

    def set_time(self, now: datetime) -> None:
        """Set the server's clock."""
        fresh = self.site / "now.new"
        fresh.write_text(now.isoformat())
        fresh.replace(self.site / "now")

    def ssh(self, user: str, *more: str, key: str | None = None) -> list[str]:
        """Return the options that OpenSSH's clients need to log in as `user`."""
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": str(self.site / "known_hosts"),
            "StrictHostKeyChecking": "yes",
            "User": user,
        }
        chosen = [f"-o{name}={value}" for name, value in options.items()]
        chosen += ["-F", "none", "-i", str(self.site / "clients" / (key or user))]
        return [*chosen, f"-oPort={self.port}", *more]

    def sftp(
        self, user: str, batch: str, *more: str, **how: str
    ) -> subprocess.CompletedProcess[str]:
        """Run OpenSSH's sftp with a batch of commands."""
        return subprocess.run(
            ["sftp", *self.ssh(user, *more, **how), "-b", "-", "127.0.0.1"],
            input=batch,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def records(self, event: str | None = None) -> list[Record]:
        """Return the records of the transfer ledger, all or those of one event."""
        found = segments.read_records(self.site / "ledgers" / "transfer")
        return [r for r in found if event in (None, r.event.event)]

    def details(self, event: str) -> list[dict[str, object]]:
        """Return the details of the records of one event."""
        return [dict(record.event.detail) for record in self.records(event)]

    def children(self) -> list[int]:
        """Return the process ids of the sessions."""
        return [pid for pid, name in self.processes() if name not in _SERVER_PROCESSES]

    def server_process(self, name: str) -> int:
        """Return the process id of one of the server's other processes, such as "judge"."""
        [found] = [pid for pid, known in self.processes() if known == f"ssps-{name}"]
        return found

    def processes(self) -> list[tuple[int, str]]:
        """Return process id and name of every child of the server."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = []
        for pid in path.read_text().split():
            with suppress(OSError):
                found.append((int(pid), Path(f"/proc/{pid}/comm").read_text().strip()))
        return found

    def reload(self) -> None:
        """Make the server reload its settings, and wait until it has."""
        before = self.log.read_text().count("settings-reloaded")
        self.process.send_signal(signal.SIGHUP)
        until(lambda: self.log.read_text().count("settings-reloaded") > before)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the site."""
        path = self.site / file
        text = path.read_text()
        assert old in text
        fresh = path.with_suffix(".new")
        fresh.write_text(text.replace(old, new, 1))
        fresh.replace(path)

    def add_file(self, name: str, size: int, party: str = "parti-a") -> bytes:
        """Put a file of random bytes into a party's tree; return the bytes."""
        content = os.urandom(size)
        (self.site / "trees" / party / name).write_bytes(content)
        return content

    @contextmanager
    def connect(
        self, user: str, *, password: str | None = None, source: str = "127.0.0.1"
    ) -> Iterator[paramiko.SSHClient]:
        """Log in with paramiko's client, by the party's key or by password."""
        client = paramiko.SSHClient()
        client.load_host_keys(str(self.site / "known_hosts"))
        key = str(self.site / "clients" / user) if password is None else None
        with (
            socket.create_connection(("127.0.0.1", self.port), source_address=(source, 0)) as sock,
            client,
        ):
            client.connect(
                "127.0.0.1",
                self.port,
                user,
                password,
                key_filename=key,
                sock=sock,
                allow_agent=False,
                look_for_keys=False,
            )
            yield client

    def first_bytes(self, source: str = "127.0.0.1") -> bytes:
        """Return the first four bytes that a new connection gets; none if it is closed at once."""
        with (
            suppress(ConnectionResetError),
            socket.create_connection(("127.0.0.1", self.port), source_address=(source, 0)) as sock,
        ):
            sock.settimeout(10)
            return sock.recv(4)
        return b""

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def until(condition: Callable[[], object], timeout: float = 30.0) -> None:
    """Wait until `condition` is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


StartServer = Callable[..., RunningServer]


def setting(line: str) -> Callable[[Path], object]:
    """Return a `before` that adds a line to [sftp] of site.toml."""

    def change(site: Path) -> None:
        with (site / "site.toml").open("a") as file:
            file.write(line + "\n")

    return change


def make_site(site: Path, parties: dict[str, str], sessions: int, per_party: int) -> None:
    """Make a site with these parties: id -> registered address.

    Each has a key in `clients`, the password SECRET, and a tree with BENIOKU.txt. `clients` also
    has the key of a stranger.
    """
    site.mkdir()
    (site / "site.toml").write_text(_SITE.format(sessions=sessions, per_party=per_party))
    listed = "".join(_PARTY.format(id=id_, address=a) for id_, a in parties.items())
    (site / "parties.toml").write_text(listed)
    host.create_key(site / HOST_KEYS / "ssh_host_ed25519_key", "ssps")
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    for id_ in parties:
        line = host.create_key(site / "clients" / id_, id_)
        credentials = (
            ring.key_credential(line, label="", not_before=SINCE, not_after=None, added_by="test"),
            _password_of(id_),
        )
        ring_files.apply(site, Ring(id_, credentials))
        tree = site / "trees" / id_ / "2023-05-14-cb-mv"
        tree.mkdir(parents=True)
        readme = site / "trees" / id_ / "BENIOKU.txt"
        readme.write_text(f"{id_}\n")
        readme.chmod(0o444)  # also for those who use this without the fixture of tests/published
    host.create_key(site / "clients" / "stranger", "stranger")


@cache
def _password_of(party: str) -> Credential:
    """Make the credential of a party's SECRET once, since hashing takes a tenth of a second."""
    return ring.password_credential(
        SECRET, label="", not_before=SINCE, not_after=None, added_by="test"
    )
