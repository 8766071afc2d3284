"""The settings of one site, frozen; config/load reads them from the operator's files."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from config import litter
from config.election import Election, Rehearsal
from config.fault import Fault
from config.party import Address, Contact, Party


class SandboxMode(StrEnum):
    """Whether the server may run on a kernel that cannot sandbox a session."""

    REQUIRED = "required"
    BEST_EFFORT = "best-effort"


class Algorithms(StrEnum):
    """Which key exchanges and MACs the server offers (sftpd/ssh/algorithms)."""

    DEFAULT = "default"
    COMPATIBLE = "compatible"
    PQ_ONLY = "pq-only"


@dataclass(frozen=True, slots=True)
class SftpSettings:
    """Where the server listens, its limits, and its sandbox.

    `rate_mbit` limits all sessions of a party together, in megabits a second; None is no limit.
    `opens_per_second` and `memory_mb_per_party` limit the same sessions: the files and folders that
    they open or look for, and the memory that they take after their logins, in MiB. If the server
    is started as root, the processes that serve clients switch to `user`. With
    `must_change_password`, a password that an operator made can only be used to set a new one.
    `address` is the host and port that the parties connect to, if the site states it.
    """

    host: str
    port: int
    max_sessions: int
    max_sessions_per_party: int
    login_grace_seconds: float = 120.0
    stall_seconds: float = 900.0
    idle_seconds: float = 14_400.0
    drain_seconds: float = 30.0
    rate_mbit: float | None = None
    opens_per_second: float = 5_000.0
    memory_mb_per_party: int = 1024
    proxies: tuple[Address, ...] = ()
    metrics: tuple[str, int] | None = None
    algorithms: Algorithms = Algorithms.DEFAULT
    sha1_signatures: bool = False
    cage: SandboxMode = SandboxMode.REQUIRED
    user: str = "nobody"
    must_change_password: bool = False
    address: tuple[str, int] | None = None

    @property
    def public_address(self) -> tuple[str, int] | None:
        """The host and port for the parties; None if the server listens on every address."""
        if self.address is None and not ip_address(self.host).is_unspecified:
            return self.host, self.port
        return self.address


class Sync(StrEnum):
    """When a record is synced: before the client gets its answer, or once per second."""

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
    """Where scans arrive, and how long the publisher waits, in seconds.

    A file that could still be open for writing stays in its folder until it has not changed for
    `quiet_seconds`. With `keep_seconds` every file stays at least that long, so that a standby that
    takes over finds what it has no copy of. With `mounts` each folder must be a mount point. Files
    and folders whose names match a pattern of `ignore_files` or `ignore_folders` are not scans
    (config/litter).
    """

    folders: tuple[Path, ...]
    settle_seconds: float
    rescan_seconds: float
    quiet_seconds: float = 600.0
    mounts: bool = False
    ignore_folders: tuple[str, ...] = litter.FOLDERS
    ignore_files: tuple[str, ...] = litter.FILES
    keep_seconds: float = 0.0

    @property
    def held_seconds(self) -> float:
        """How long a file that stays in its folder must be unchanged before it is removed."""
        return max(self.quiet_seconds, self.keep_seconds)

    @property
    def litter(self) -> litter.Litter:
        """The names in the intake folders that are not scans."""
        return litter.Litter(self.ignore_folders, self.ignore_files)


@dataclass(frozen=True, slots=True)
class QrSettings:
    """How many independent readings of a karekod must agree: 2, or 1."""

    witnesses: int = 2


@dataclass(frozen=True, slots=True)
class DeskSettings:
    """How many operators must identify a page as the same sheet before it is filed."""

    confirmations: int = 2


@dataclass(frozen=True, slots=True)
class CatalogSettings:
    """Where catalog and results are: a PostgreSQL database, or SQLite files if `url` is empty.

    `password_file` is in the format of libpq's `.pgpass`; the URL never has a password.
    `reader_url` is the same database for a role that may only read, which the confined process of
    the portal uses.
    """

    url: str = ""
    password_file: Path | None = None
    reader_url: str = ""
    reader_password_file: Path | None = None

    @property
    def for_reading(self) -> "CatalogSettings":
        """What a process gets that only reads."""
        if not self.reader_url:
            return self
        return CatalogSettings(self.reader_url, self.reader_password_file)


class ShareLevel(StrEnum):
    """At which level the joint votes of an alliance are divided (law 7102 md. 18)."""

    CEVRE = "cevre"
    ILCE = "ilce"


@dataclass(frozen=True, slots=True)
class ResultsSettings:
    """How often results are published, and how joint votes are divided.

    `snapshot_seconds` is the shortest time between two snapshots. With `in_trees` the parties'
    trees get them as well, in `<election>/sonuclar/`.
    """

    snapshot_seconds: float = 10.0
    share_level: ShareLevel = ShareLevel.CEVRE
    in_trees: bool = False


class Totp(StrEnum):
    """Whether the users of the web site may, or must, have a second factor."""

    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class PortalSettings:
    """Where the web site and the web service listen, and their limits.

    `certificate` and `key` are PEM files. Without them the portal speaks plain HTTP, behind a
    balancer of `proxies`, which states the client's address in X-Forwarded-For or, with
    `proxy_protocol`, in a PROXY header before everything else. A session ends
    `idle_minutes` after its last request, and `session_hours` after its login. `address` is what
    the parties type, such as `https://ssps.ysk.gov.tr`; it is printed for them and never trusted.
    With `requests` the representatives' pages are open at every address and time.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    proxies: tuple[Address, ...] = ()
    proxy_protocol: bool = False
    address: str = ""
    idle_minutes: float = 30.0
    session_hours: float = 12.0
    totp: Totp = Totp.OPTIONAL
    calls_per_minute: int = 6000
    requests: bool = False


@dataclass(frozen=True, slots=True)
class StaffSettings:
    """Where the staff site listens, and its limits; the fields are those of PortalSettings.

    `networks` are the networks that operators come from; without any, every address may come that
    no party has registered. `metrics` is where Prometheus finds the figures of the whole site.
    """

    host: str = "127.0.0.1"
    port: int = 8444
    certificate: Path | None = None
    key: Path | None = None
    proxies: tuple[Address, ...] = ()
    proxy_protocol: bool = False
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    metrics: tuple[str, int] | None = None
    address: str = ""
    idle_minutes: float = 30.0
    session_hours: float = 12.0


WebSettings = PortalSettings | StaffSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one site.

    `digests` are the names of the settings files and the SHA-256 of their bytes as they were read.
    `warnings` name keys of earlier versions that are still in the files and are not used any more.
    `host` is the name of this host if several hosts run the site's daemons, and empty otherwise.
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
    catalog: CatalogSettings = CatalogSettings()
    portal: PortalSettings | None = None
    staff: StaffSettings | None = None
    contact: Contact = field(default_factory=Contact)
    digests: tuple[tuple[str, str], ...] = ()
    warnings: tuple[Fault, ...] = ()
    host: str = ""

    def party(self, party_id: str) -> Party | None:
        """Return the party with that id, or None."""
        return next((p for p in self.parties if p.id == party_id), None)

    def stage(self, now: datetime) -> Election | Rehearsal | None:
        """Return what the parties may see now: the election once it opens, or else a rehearsal."""
        if now >= self.election.opens:
            return self.election if self.election.open_at(now) else None
        return next((r for r in self.rehearsals if r.open_at(now)), None)
