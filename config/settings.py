"""What is agreed on one site, frozen: what config/load makes of the operator's files."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from config.election import Election, Rehearsal
from config.fault import Fault
from config.party import Address, Party


class SandboxMode(StrEnum):
    """Whether the server may run where the kernel cannot shut a session in."""

    REQUIRED = "required"
    BEST_EFFORT = "best-effort"


class Algorithms(StrEnum):
    """Which key exchanges and MACs are offered."""

    DEFAULT = "default"
    COMPATIBLE = "compatible"
    PQ_ONLY = "pq-only"


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """How the server listens, what it bears, and how it is shut in.

    Rates are megabits a second for one party, all its sessions together, None for no cap; the
    user is whom the server becomes if it is started as root; with must_change_password, one that an
    operator made is good only for setting a new one.
    """

    host: str
    port: int
    max_sessions: int
    max_sessions_per_party: int
    login_grace_seconds: float = 30.0
    drain_seconds: float = 30.0
    rate_mbit: float | None = None
    proxies: tuple[Address, ...] = ()
    metrics: tuple[str, int] | None = None
    algorithms: Algorithms = Algorithms.DEFAULT
    cage: SandboxMode = SandboxMode.REQUIRED
    user: str = "nobody"
    must_change_password: bool = False


class Sync(StrEnum):
    """When a record is made to survive a loss of power: before it is answered, or each second."""

    ALWAYS = "always"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """How the ledgers are written: size of a segment in MiB, whether sealed ones are compressed."""

    sync: Sync = Sync.INTERVAL
    segment_mb: int = 64
    compress: bool = True


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """Where scans arrive, and how patient the publisher is, in seconds."""

    folders: tuple[Path, ...]
    settle_seconds: float
    rescan_seconds: float


@dataclass(frozen=True, slots=True)
class QrSettings:
    """How much it takes to believe a karekod: so many independent witnesses, 2 or 1."""

    witnesses: int = 2


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """How many operators must name the same sheet before a page is filed by their word."""

    confirmations: int = 2


class ShareLevel(StrEnum):
    """At which level the joint votes of an alliance are divided (law 7102 md. 18)."""

    CEVRE = "cevre"
    ILCE = "ilce"


@dataclass(frozen=True, slots=True)
class ResultsSettings:
    """How often results are published, and where.

    `snapshot_seconds` is the shortest time between two snapshots; with `in_trees` each party finds
    them in its tree.
    """

    snapshot_seconds: float = 10.0
    share_level: ShareLevel = ShareLevel.CEVRE
    in_trees: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """All that is agreed on one site.

    `digests` are the files that say so: each one's name and the SHA-256 of its bytes as they were
    read, by name. `warnings` name keys of earlier versions, which the files still have and nothing
    uses.
    """

    site: Path
    election: Election
    sftp: SftpSettings
    intake: IntakeSettings
    parties: tuple[Party, ...]
    rehearsals: tuple[Rehearsal, ...] = ()
    qr: QrSettings = QrSettings()
    desk: DeskSettings = DeskSettings()
    ledger: LedgerSettings = LedgerSettings()
    results: ResultsSettings = ResultsSettings()
    digests: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Fault, ...] = ()

    def party(self, party_id: str) -> Party | None:
        """Return the party of that id, if there is one."""
        return next((p for p in self.parties if p.id == party_id), None)

    def stage(self, now: datetime) -> Election | Rehearsal | None:
        """Return what the parties may look at: the election once it opens, whatever else is on."""
        if now >= self.election.opens:
            return self.election if self.election.open_at(now) else None
        return next((r for r in self.rehearsals if r.open_at(now)), None)
