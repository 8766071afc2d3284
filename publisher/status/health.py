"""What the site runs on: disks, ledgers and their signer, daemons, and where they listen."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from config.settings import Settings
from config.site import LEDGERS, QUARANTINE, STATE, STORE, TREES, ledger_names
from keys.ledger import note, segments
from keys.operations import freshness, server_state

_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp (tcp_states.h)


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk that holds a part of the site; some shares do not say how large they are (0)."""

    folder: str  # the first folder of the site on it
    free_bytes: int
    total_bytes: int
    free_inodes: int
    total_inodes: int

    @property
    def free_share(self) -> float | None:
        """The smaller of the free shares of bytes and inodes, None if the disk states neither."""
        shares = [
            free / total
            for free, total in (
                (self.free_bytes, self.total_bytes),
                (self.free_inodes, self.total_inodes),
            )
            if total
        ]
        return min(shares, default=None)


@dataclass(frozen=True, slots=True)
class LedgerHealth:
    """One ledger: its records, how many of them are signed, and how long one waits for that.

    `unsigned_seconds` is 0 as long as the signer is in time.
    """

    name: str
    records: int
    signed: int
    unsigned_seconds: float


@dataclass(frozen=True, slots=True)
class DaemonHealth:
    """One daemon: its process and since when it runs; `listening` is None if it has no listener.

    Of a daemon on another host neither is known. It is listed only while it runs, with its host.
    """

    part: str
    pid: int | None
    since: datetime | None
    listening: bool | None
    host: str = ""  # another than this one

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.pid is not None or bool(self.host)


def disks(settings: Settings) -> tuple[Disk, ...]:
    """Return each disk that the site and its intake are on."""
    site = settings.site
    parts = (site / STORE, site / TREES, site / STATE, site / LEDGERS, site / QUARANTINE)
    found: dict[int, Disk] = {}
    for folder in (site, *parts, *settings.intake.folders):
        with suppress(OSError):
            device = folder.stat().st_dev
            if device in found:
                continue
            usage, state = shutil.disk_usage(folder), os.statvfs(folder)
            found[device] = Disk(
                str(folder), usage.free, usage.total, state.f_favail, state.f_files
            )
    return tuple(found.values())


def ledgers(site: Path, now: datetime) -> tuple[LedgerHealth, ...]:
    """Return each ledger that the site has."""
    late = dict(freshness.not_signed(site, now))
    found = []
    for name in ledger_names(site / LEDGERS):
        folder = site / LEDGERS / name
        if not folder.exists():
            continue
        records = signed = 0
        with suppress(OSError, ValueError, EOFError):  # `ssps audit verify` names damaged files
            message = segments.read_checkpoint(folder)
            signed = 0 if message is None else note.unverified_checkpoint(message).size
            records = max(signed, segments.next_seq(folder))
        found.append(LedgerHealth(name, records, signed, late.get(name, 0.0)))
    return tuple(found)


def daemons(settings: Settings) -> tuple[DaemonHealth, ...]:
    """Return each daemon that the settings ask for."""
    listeners: list[tuple[str, int | None]] = [
        (server_state.PUBLISH, None),
        (server_state.SERVE, settings.sftp.port),
    ]
    if settings.portal is not None:
        listeners.append((server_state.PORTAL, settings.portal.port))
    if settings.staff is not None:
        listeners.append((server_state.STAFF, settings.staff.port))
    ports = listening_ports()
    found = []
    for part, port in listeners:
        pid = server_state.holder(settings.site, part, settings.host)
        listening = None if port is None else pid is not None and (port in ports or port == 0)
        since = None if pid is None else started(pid)
        found.append(DaemonHealth(part, pid, since, listening))
    running = server_state.running(settings.site, *(part for part, _ in listeners))
    others = [(part, host) for part, host in running if host != settings.host]
    there = {part for part, _ in others}
    # With several hosts, a daemon that only other hosts run is not one that is missing here.
    found = [each for each in found if each.pid is not None or each.part not in there]
    found += [DaemonHealth(part, None, None, None, host) for part, host in others]
    return tuple(found)


def listening_ports(folder: Path = Path("/proc/self/net")) -> frozenset[int]:
    """Return the TCP ports on which this machine listens (proc_net_tcp in the kernel's docs).

    Nothing is connected to: the server would record that as a refused connection.
    """
    return frozenset(_ports(folder / name for name in ("tcp", "tcp6")))


def started(pid: int) -> datetime | None:
    """Return when a process was started, None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        with Path("/proc/stat").open() as lines:
            boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, StopIteration):
        return _seen(pid)
    seconds = boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return datetime.fromtimestamp(seconds, UTC)


def _seen(pid: int) -> datetime | None:
    """Return the time of a process's folder, where the service may not read /proc/stat."""
    try:
        return datetime.fromtimestamp(Path(f"/proc/{pid}").stat().st_mtime, UTC)
    except OSError:
        return None


def _ports(files: Iterable[Path]) -> Iterator[int]:
    for file in files:
        with suppress(OSError), file.open() as lines:
            next(lines, None)
            for line in lines:
                _, local, _, state, *_ = line.split()
                if state == _LISTEN:
                    yield int(local.rpartition(":")[2], 16)
