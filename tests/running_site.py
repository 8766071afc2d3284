"""Runs a rehearsal site with real processes: `ssps run` and real clients."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config import layout, load
from config.site import LEDGERS, TRANSFER
from keys.ledger import segments
from keys.ledger.record import Record
from scripts.filing.status import SETTLED, count_sheets

SSPS = [sys.executable, "-m", "scripts.ssps"]
ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class RunningSite:
    """A site whose publisher and SFTP server run."""

    site: Path
    port: int
    log: Path

    def ssps(self, *words: object, code: int = 0) -> str:
        """Run one `ssps` command on the site and return its output; of a refusal, its errors."""
        command = [*SSPS, *map(str, words), "--site", str(self.site)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stderr if code else done.stdout

    def status(self) -> dict[str, int]:
        """Return the counts of `ssps status --json`, without the process, which takes a second."""
        return count_sheets(self.site)

    def scan(self, *words: object) -> None:
        """Scan pages, and wait until each is filed, a duplicate or quarantined."""
        self.ssps("rehearse", "scan", *words)
        pages = len((self.site / "scanned.csv").read_text().splitlines())
        until(lambda: self.done() >= pages, f"{pages} pages filed, {self.status()}")

    def done(self) -> int:
        counts = self.status()
        return sum(counts[k] for k in SETTLED)

    def records(self, name: str = TRANSFER) -> list[Record]:
        return list(segments.read_records(self.site / LEDGERS / name))

    def tree(self, party: str) -> dict[str, str]:
        return pages(self.site / "trees" / party)

    def key(self, party: str) -> Path:
        return self.site / "clients" / party / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.site / "clients" / "known_hosts"

    def ssh_options(self, party: str) -> list[str]:
        """Return options for OpenSSH's clients, so that they ignore the user's own files."""
        stated = {
            "IdentityFile": self.key(party),
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "Port": self.port,
        }
        return ["-F", "none", *(f"-o{key}={value}" for key, value in stated.items())]

    def sftp(self, party: str, *lines: str) -> subprocess.CompletedProcess[str]:
        """Run OpenSSH's sftp over the batch `lines`; a line starting with `-` may fail."""
        command = ["sftp", *self.ssh_options(party), "-b", "-", f"{party}@{ADDRESS}"]
        batch = "\n".join(lines) + "\n"
        return subprocess.run(command, input=batch, capture_output=True, text=True, timeout=120)


def until(met: Callable[[], bool], what: str, seconds: float = 90) -> None:
    """Wait until a condition holds that real processes bring about."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)


def answers(port: int) -> bool:
    try:
        with socket.create_connection((ADDRESS, port), timeout=1) as probe:
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below `folder`, by its path there."""
    return {
        os.path.relpath(path, folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pages(folder: Path) -> dict[str, str]:
    """Return the same for pages only, because sums and feed change all the time."""
    endings = tuple(f".{extension}" for extension in layout.EXTENSIONS)
    return {path: digest for path, digest in digests(folder).items() if path.endswith(endings)}


@contextmanager
def running_rehearsal(
    folder: Path,
    *,
    boxes: int = 12,
    parties: int = 3,
    seed: int = 1,
    web_port: int | None = None,
    staff_port: int | None = None,
) -> Iterator[RunningSite]:
    """Make a rehearsal site and run it."""
    site, port = folder / "site", free_port()
    words = ["--boxes", boxes, "--parties", parties, "--seed", seed, "--port", port]
    words += ["--web-port", web_port] if web_port else []
    words += ["--staff-port", staff_port] if staff_port else []
    subprocess.run(
        [*SSPS, "rehearse", "init", str(site), *map(str, words)], check=True, capture_output=True
    )
    with running(site, port, folder / "log.jsonl") as found:
        yield found


@contextmanager
def running(site: Path, port: int, logged: Path) -> Iterator[RunningSite]:
    """Run an existing site; at the end all daemons must stop without an error."""
    found = RunningSite(site, port, logged)
    load.catalog(site)  # states a database in site.toml in a run with all sites on PostgreSQL
    with found.log.open("ab") as log:
        process = subprocess.Popen([*SSPS, "run", "--site", str(site)], stdout=log, stderr=log)
    try:
        until(lambda: answers(port), "the server answers")
        yield found
        process.terminate()
        assert process.wait(timeout=40) == 0, found.log.read_text()
    finally:
        process.kill()
        process.wait()
