"""The keys of `site.toml` and `parties.toml`: their types, limits and defaults.

A key without a default is required, and a key that is not listed here is a fault. Times have a
zone. If a value is wrong, a ValueError says what to write; config/load adds the file and the key.
"""

import re
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from config import litter, name, scope
from config.party import MAX_ADDRESSES, Address, PartyKind
from config.party import parse_address as parse_address
from config.scope import Scope
from config.settings import Algorithms, SandboxMode, ShareLevel, Sync, Totp
from config.site import INTAKE, REHEARSALS, is_host


def _listen(value: object) -> tuple[str, int]:
    host, colon, port = str(value).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (isinstance(value, str) and colon and host and port.isascii() and port.isdecimal()):
        raise ValueError('write "address:port", such as "0.0.0.0:22" or "[::]:22"')
    if int(port) > 65535:
        raise ValueError(f"{port} is not a port, the highest is 65535")
    try:
        return str(ip_address(host)), int(port)
    except ValueError:
        raise ValueError(f"{host!r} is not an IP address to listen on, write one") from None


def _name_and_port(value: object) -> tuple[str, int]:
    host, colon, port = str(value).rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (isinstance(value, str) and colon and port.isascii() and port.isdecimal()):
        raise ValueError('write "name:port", such as "sonuc.example:22"')
    if not 0 < int(port) <= 65535:
        raise ValueError(f"{port} is not a port, write one from 1 to 65535")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", host):
        raise ValueError(f"{host!r} is not the name or address of a host")
    return host, int(port)


def _zoned(value: object) -> datetime:
    if not isinstance(value, datetime):
        raise ValueError("write a time without quotes, such as 2023-05-14T17:00:00+03:00")
    if value.tzinfo is None:
        raise ValueError("has no time zone, add one: 2023-05-14T17:00:00+03:00")
    return value


def _safe(value: object) -> object:
    if isinstance(value, str) and (wrong := name.fault(value)):
        raise ValueError(wrong)
    return value


def _pattern(value: object) -> object:
    if isinstance(value, str) and (not value or "/" in value or value.strip("*") == ""):
        raise ValueError(f'{value!r} is not a pattern of names, write one such as "@eaDir"')
    return value


def _host(value: object) -> str:
    if not isinstance(value, str) or not is_host(value):
        raise ValueError(f"{value!r} is not the name of a host, use up to 16 of a-z, 0-9 and -")
    return value


def _scope(value: object) -> Scope:
    if isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(place, str) for place in value)
    ):
        return scope.parse(value)
    raise ValueError('write "all" or a list such as ["34-istanbul-1"]')


def _addresses(value: object) -> tuple[Address, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError('write a list of one or two addresses, such as ["192.0.2.7"]')
    if not value:
        raise ValueError("no address, write the one or two that the party registered")
    if len(value) > MAX_ADDRESSES:
        raise ValueError(
            f"{len(value)} addresses, at most {MAX_ADDRESSES} are allowed (Genelge md. 4/b-2)"
        )
    found = tuple(static_address(text) for text in value)
    if len(set(found)) < len(found):
        raise ValueError("has the same address twice, write it once")
    return found


def _balancers(value: object) -> tuple[Address, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError('write a list of addresses, such as ["192.0.2.1"]')
    return tuple(static_address(text) for text in value)


def _networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError('write a list of networks, such as ["10.20.0.0/16"]')
    try:
        return tuple(ip_network(text) for text in value)
    except ValueError as error:
        raise ValueError(f'{error}, write networks such as "10.20.0.0/16"') from None


def _database(value: object) -> str:
    # What is stated is never repeated in a fault: it may have a password.
    wrong = 'write a database such as "postgresql+psycopg://ssps@db.example:5432/ssps"'
    try:
        stated = urlsplit(value if isinstance(value, str) else "")
        asked = dict(parse_qsl(stated.query))
        secret = stated.password is not None or any("password" in key for key in asked)
        has_port = stated.port != 0
    except ValueError:
        raise ValueError(wrong) from None
    if secret:
        raise ValueError(
            "has a password, which every reader of this file sees: change it, and write the new "
            "one into a file that catalog.password_file names"
        )
    # A password with a slash would be taken for a path here, and for a password by SQLAlchemy.
    if (
        stated.scheme != "postgresql+psycopg"
        or not has_port
        or not _DATABASE_PATH.fullmatch(stated.path)
    ):
        raise ValueError(wrong)
    return str(value)


def static_address(text: str) -> Address:
    """Return the address of one host; ValueError says what is wrong with the text."""
    try:
        found = parse_address(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IPv4 or IPv6 address, write a single address without a /length"
        ) from None
    if "%" in text or found.is_unspecified or found.is_multicast:
        raise ValueError(f"{text!r} is not the static address of one host")
    return found


# Keys that an earlier version had, and what to do with one that is still in a file. The file is
# still read, with a warning, so that an old site starts.
REMOVED_KEYS = {
    "ledger.keep_days": "sealed segments are evidence and are never deleted now; remove this key, "
    "and move old segments to another disk if you need the room",
    "sftp.packet_layer": "the server has only one packet layer now; remove this key",
}

_DATABASE_PATH = re.compile(r"/[^/@]+")
_Safe = Annotated[str, BeforeValidator(_safe)]
_Time = Annotated[datetime, BeforeValidator(_zoned)]
_Count = Annotated[int, Field(strict=True, ge=1)]
_Pattern = Annotated[str, BeforeValidator(_pattern)]
_Rate = Annotated[float, Field(strict=True, gt=0, le=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class Election(_Strict):
    """`[election]`."""

    id: _Safe
    title: Annotated[str, Field(min_length=1)]
    opens: _Time
    closes: _Time | None = None
    ban_lifts: _Time | None = None


class Sftp(_Strict):
    """`[sftp]`."""

    listen: Annotated[tuple[str, int], BeforeValidator(_listen)]
    address: Annotated[tuple[str, int], BeforeValidator(_name_and_port)] | None = None
    max_sessions: _Count = 512
    max_sessions_per_party: _Count = 32
    login_grace_seconds: Annotated[float, Field(strict=True, gt=0, le=600)] = 120.0
    stall_seconds: Annotated[float, Field(strict=True, ge=1, le=86_400)] = 900.0
    idle_seconds: Annotated[float, Field(strict=True, ge=1, le=604_800)] = 14_400.0
    drain_seconds: Annotated[float, Field(strict=True, ge=0, le=3600)] = 30.0
    rate_mbit: _Rate | None = None
    opens_per_second: Annotated[float, Field(strict=True, ge=1, le=1_000_000)] = 5_000.0
    memory_mb_per_party: Annotated[int, Field(strict=True, ge=64, le=1_048_576)] = 1024
    proxies: Annotated[tuple[Address, ...], BeforeValidator(_balancers)] = ()
    metrics: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None
    algorithms: Algorithms = Algorithms.DEFAULT
    sha1_signatures: Annotated[bool, Field(strict=True)] = False
    cage: SandboxMode = SandboxMode.REQUIRED
    user: Annotated[str, Field(min_length=1)] = "nobody"
    must_change_password: Annotated[bool, Field(strict=True)] = False


class Intake(_Strict):
    """`[intake]`."""

    folders: Annotated[list[str], Field(min_length=1)] = [str(INTAKE)]
    settle_seconds: Annotated[float, Field(strict=True, ge=0, le=3600)] = 2.0
    rescan_seconds: Annotated[float, Field(strict=True, gt=0, le=3600)] = 30.0
    quiet_seconds: Annotated[float, Field(strict=True, ge=0, le=86_400)] = 600.0
    keep_seconds: Annotated[float, Field(strict=True, ge=0, le=86_400)] = 0.0
    mounts: Annotated[bool, Field(strict=True)] = False
    ignore_folders: list[_Pattern] = list(litter.FOLDERS)
    ignore_files: list[_Pattern] = list(litter.FILES)


class Desk(_Strict):
    """`[desk]`."""

    confirmations: Annotated[int, Field(strict=True, ge=1, le=5)] = 2


class Qr(_Strict):
    """`[qr]`."""

    witnesses: Annotated[int, Field(strict=True, ge=1, le=2)] = 2


class Ledger(_Strict):
    """`[ledger]`."""

    sync: Sync = Sync.INTERVAL
    segment_mb: Annotated[int, Field(strict=True, ge=1, le=4096)] = 64
    compress: Annotated[bool, Field(strict=True)] = True


class Catalog(_Strict):
    """`[catalog]`."""

    url: Annotated[str, BeforeValidator(_database)] | None = None
    password_file: Annotated[str, Field(min_length=1)] | None = None
    reader_url: Annotated[str, BeforeValidator(_database)] | None = None
    reader_password_file: Annotated[str, Field(min_length=1)] | None = None


class Results(_Strict):
    """`[results]`."""

    snapshot_seconds: Annotated[float, Field(strict=True, gt=0, le=3600)] = 10.0
    share_level: ShareLevel = ShareLevel.CEVRE
    in_trees: Annotated[bool, Field(strict=True)] = False


class Portal(_Strict):
    """`[portal]`."""

    listen: Annotated[tuple[str, int], BeforeValidator(_listen)]
    certificate: Annotated[str, Field(min_length=1)] | None = None
    key: Annotated[str, Field(min_length=1)] | None = None
    proxies: Annotated[tuple[Address, ...], BeforeValidator(_balancers)] = ()
    proxy_protocol: Annotated[bool, Field(strict=True)] = False
    address: Annotated[str, Field(pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+)?$")] = ""
    idle_minutes: Annotated[float, Field(strict=True, ge=1, le=1440)] = 30.0
    session_hours: Annotated[float, Field(strict=True, gt=0, le=168)] = 12.0
    totp: Totp = Totp.OPTIONAL
    calls_per_minute: _Count = 6000
    requests: Annotated[bool, Field(strict=True)] = False


class Staff(_Strict):
    """`[staff]`."""

    listen: Annotated[tuple[str, int], BeforeValidator(_listen)] = ("127.0.0.1", 8444)
    certificate: Annotated[str, Field(min_length=1)] | None = None
    key: Annotated[str, Field(min_length=1)] | None = None
    proxies: Annotated[tuple[Address, ...], BeforeValidator(_balancers)] = ()
    proxy_protocol: Annotated[bool, Field(strict=True)] = False
    networks: Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_networks)] = ()
    metrics: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None
    address: Annotated[str, Field(pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+)?$")] = ""
    idle_minutes: Annotated[float, Field(strict=True, ge=1, le=1440)] = 30.0
    session_hours: Annotated[float, Field(strict=True, gt=0, le=168)] = 12.0


class OnlyCatalog(BaseModel):
    """`site.toml`, of which only `[catalog]` is looked at."""

    catalog: Catalog = Catalog()


class Rehearsal(_Strict):
    """`[[rehearsal]]`, one of the parties' test days."""

    id: _Safe
    title: Annotated[str, Field(min_length=1)]
    opens: _Time
    closes: _Time
    folder: Annotated[str, Field(min_length=1)] | None = None

    @property
    def place(self) -> str:
        """The folder of its site, relative to the real site."""
        return self.folder or str(REHEARSALS / self.id)


class Contact(_Strict):
    """`contact` of a party, and `[contact]`: whom the parties call."""

    name: str = ""
    email: str = ""
    phone: str = ""


class Host(_Strict):
    """`[hosts.gw2]`: where the daemons of one host listen, if not where the others do."""

    sftp_listen: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None
    sftp_metrics: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None
    portal_listen: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None
    staff_listen: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None
    staff_metrics: Annotated[tuple[str, int], BeforeValidator(_listen)] | None = None


class Site(_Strict):
    """`site.toml`."""

    election: Election
    sftp: Sftp
    intake: Intake = Intake()
    ledger: Ledger = Ledger()
    catalog: Catalog = Catalog()
    results: Results = Results()
    portal: Portal | None = None
    staff: Staff | None = None
    rehearsal: list[Rehearsal] = []
    hosts: dict[Annotated[str, BeforeValidator(_host)], Host] = {}
    qr: Qr = Qr()
    desk: Desk = Desk()
    contact: Contact = Contact()


class Party(_Strict):
    """`[[party]]`."""

    id: _Safe
    name: Annotated[str, Field(min_length=1)]
    kind: PartyKind
    scope: Annotated[Scope, BeforeValidator(_scope)]
    static_ips: Annotated[tuple[Address, ...], BeforeValidator(_addresses)] = ()
    contact: Contact = Contact()
    suspended: Annotated[bool, Field(strict=True)] = False
    rate_mbit: _Rate | None = None
    totp: Totp = Totp.OPTIONAL
    invited: Annotated[bool, Field(strict=True)] = False


class Parties(_Strict):
    """`parties.toml`."""

    # Each party is validated separately, so that a fault can name it by its id.
    party: list[dict[str, Any]] = []
