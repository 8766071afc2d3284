"""A small site on disk, and the real server over it in a process of its own."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from config.site import HOST_KEYS, SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.ring import Ring
from keys.ledger import segments
from keys.ledger.record import Record
from keys.operations import ring_files
from keys.server_keys import host

OPENS = datetime.fromisoformat("2023-05-14T17:00:00+03:00")
SECRET = "Yedi-Kule-Kapisi-17"

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
from scripts.shared.json_log import configure_logging
from sftpd import server
from keys.credentials.penalties import ConnectionRates, Penalties
configure_logging("serve")
site, grace = Path(sys.argv[1]), float(sys.argv[2])
{patch}
server.serve(
    load.load(site),
    clock=lambda: datetime.fromisoformat((site / "now").read_text()),
    ready=lambda port: print(port, flush=True),
    drain={drain},
    grace=grace,
    penalties={penalties},
    rates={rates},
)
"""


def server_script(
    patch: str = "", *, drain: float | None = 0.3, limited: bool = False, rates: str = ""
) -> str:
    """Python code that runs the server; its arguments are the site and the grace time.

    `patch` is code that runs before the server starts. Most tests fail logins on purpose and
    connect often, all from one address, so penalties and connection rates are off unless `limited`;
    `rates` is then a ConnectionRates in place of the default.
    """
    return _SERVER.format(
        patch=patch,
        drain=drain,
        penalties="Penalties()" if limited else "Penalties(tolerated=inf)",
        rates=(rates or "ConnectionRates()") if limited else "ConnectionRates(burst=inf)",
    )


@dataclass
class Served:
    """A running server and what is needed to reach it."""

    site: Path
    port: int
    process: subprocess.Popen[str]
    log: Path
    gone: bool = False

    def forget(self) -> None:
        """The test has ended it in its own way."""
        self.gone = True

    def at(self, now: datetime) -> None:
        fresh = self.site / "now.new"
        fresh.write_text(now.isoformat())
        fresh.replace(self.site / "now")

    def ssh(self, user: str, *more: str, key: str | None = None) -> list[str]:
        """Options for OpenSSH's clients."""
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
        return subprocess.run(
            ["sftp", *self.ssh(user, *more, **how), "-b", "-", "127.0.0.1"],
            input=batch,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def records(self, event: str | None = None) -> list[Record]:
        found = segments.read_records(self.site / "ledgers" / "transfer")
        return [r for r in found if event in (None, r.event.event)]

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)


def until(condition: Callable[[], object], patience: float = 10.0) -> None:
    """Wait for what other processes have yet to do."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


Serve = Callable[..., Served]


def setting(line: str) -> Callable[[Path], object]:
    """Add a line to [sftp] of site.toml, before the server starts."""

    def change(site: Path) -> None:
        with (site / "site.toml").open("a") as file:
            file.write(line + "\n")

    return change


def lay_out(site: Path, parties: dict[str, str], sessions: int, per_party: int) -> None:
    site.mkdir()
    (site / "site.toml").write_text(_SITE.format(sessions=sessions, per_party=per_party))
    listed = "".join(_PARTY.format(id=id_, address=a) for id_, a in parties.items())
    (site / "parties.toml").write_text(listed)
    host.create_key(site / HOST_KEYS / "ssh_host_ed25519_key", "ssps")
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    since = OPENS - timedelta(days=1)
    for id_ in parties:
        line = host.create_key(site / "clients" / id_, id_)
        credentials = (
            ring.key_credential(line, label="", not_before=since, not_after=None, added_by="test"),
            ring.password_credential(
                SECRET, label="", not_before=since, not_after=None, added_by="test"
            ),
        )
        ring_files.apply(site, Ring(id_, credentials))
        tree = site / "trees" / id_ / "2023-05-14-cb-mv"
        tree.mkdir(parents=True)
        (site / "trees" / id_ / "BENIOKU.txt").write_text(f"{id_}\n")
    host.create_key(site / "clients" / "stranger", "stranger")
