"""Computes the figures of a report: what each party was entitled to, what it downloaded and when.

A party is entitled to every sheet in its scope that the filing ledger records as filed. A sheet
counts as downloaded at the first CLOSE record of a complete transfer. Its lag is the time from
filing, when the sheet appears in the trees of all entitled parties at once, to that record.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from statistics import median, quantiles

from config import layout
from config.event import TransferEvent
from config.scope import Scope
from config.sheet import Sheet
from keys.ledger.record import Record
from scripts.audit.index import Connection, select_records, select_rows

_FILED = """select ltrim(what, '/'), time, detail->>'sha256',
    try_cast(detail->>'parties' as bigint) from record
    where name = 'filing' and event = 'filed' order by time"""
_DOWNLOADED = """select ltrim(what, '/'), min(time), arg_min(detail->>'sha256', time) from record
    where name = 'transfer' and event = 'close' and outcome = 'ok' and who = ?
    and (detail->>'complete') = 'true' group by all"""
_REFUSED = """select event, coalesce(detail->>'reason', detail->>'verb', ''),
    coalesce(what, '') <> '', sum(coalesce(try_cast(detail->>'count' as bigint), 1)),
    min(time), max(time) from record
    where name = 'transfer' and outcome <> 'ok' and who = ? and event <> 'session-end'
    group by all order by 4 desc"""
_SESSIONS = """select count(*) filter (where event = 'login'),
    coalesce(sum(try_cast(detail->>'bytes' as bigint)) filter (where event = 'close'), 0),
    list(distinct detail->>'client') filter (where event = 'login'),
    list(distinct origin) filter (where event = 'login'),
    min(time) filter (where event = 'login') from record
    where name = 'transfer' and who = ?"""

_ACCESSES = """select coalesce(detail->>'user', ''), event, count(*), min(time), max(time)
    from record where name = 'access' and who = ? group by all order by 1, 2"""

_CHANGED = "name = 'operations' and what = ? and event <> 'asked' order by time, seq"


@dataclass(frozen=True, slots=True)
class FiledSheet:
    """A sheet that was filed; `parties` is the number of trees that it was linked into."""

    path: str
    time: datetime
    sha256: str | None
    parties: int | None
    sheet: Sheet


@dataclass(frozen=True, slots=True)
class Delivery:
    """A sheet that a party is entitled to; `time` and `sha256` are None until it has it."""

    filed: FiledSheet
    time: datetime | None
    sha256: str | None

    @property
    def lag(self) -> float | None:
        """Seconds from filing to the first complete download; None if there was none."""
        return None if self.time is None else (self.time - self.filed.time).total_seconds()

    @property
    def differs(self) -> bool:
        """Whether the downloaded bytes have another SHA-256 than the filed ones."""
        return None not in (self.sha256, self.filed.sha256) and self.sha256 != self.filed.sha256


class RefusalKind(StrEnum):
    """What it means that a request was not granted."""

    ACCESS = "access"  # a connection or a login was refused
    PATH = "path"  # no such file or folder, or it cannot be opened that way
    WRITE = "write"  # the client asked to change something
    SERVICE = "service"  # an SSH request that this server never grants, such as env or a shell
    TRANSFER = "transfer"  # a file was not sent to its end


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often an event was refused or failed for one reason."""

    kind: RefusalKind
    event: str
    reason: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Access:
    """How often a user of the web site or the web service did one thing."""

    user: str
    event: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class PartyReport:
    """All figures of one party."""

    party: str
    scope: Scope
    sheets: tuple[Delivery, ...]
    refusals: tuple[Refusal, ...]
    logins: int
    bytes: int
    clients: tuple[str, ...]
    addresses: tuple[str, ...]
    first_login: datetime | None
    changes: tuple[Record, ...] = ()
    accesses: tuple[Access, ...] = ()

    @property
    def downloaded(self) -> int:
        """The number of sheets that it downloaded."""
        return sum(each.time is not None for each in self.sheets)

    @property
    def lags(self) -> list[float]:
        """The lags of the sheets that it downloaded, sorted."""
        return sorted(each.lag for each in self.sheets if each.lag is not None)

    @property
    def median(self) -> float | None:
        """The median lag in seconds."""
        lags = self.lags
        return median(lags) if lags else None

    @property
    def p95(self) -> float | None:
        """The 95th percentile of the lag in seconds."""
        lags = self.lags
        return quantiles(lags, n=20, method="inclusive")[-1] if len(lags) > 1 else self.median


def filed_sheets(database: Connection) -> list[FiledSheet]:
    """Return the sheets that were filed, in order; other files in a tree are left out."""
    found = []
    for path, time, sha256, parties in select_rows(database, _FILED):
        try:
            sheet = layout.parse(path).sheet
        except ValueError:
            continue
        found.append(FiledSheet(path, _utc(time), sha256, parties, sheet))
    return found


def party_report(
    database: Connection, party: str, scope: Scope, filed: list[FiledSheet]
) -> PartyReport:
    """Compute the figures of one party."""
    rows = select_rows(database, _DOWNLOADED, [party])
    times = {path: (time, sha256) for path, time, sha256 in rows}
    sheets = []
    for each in filed:
        if scope.covers(each.sheet):
            time, sha256 = times.get(each.path, (None, None))
            sheets.append(Delivery(each, _utc(time) if time else None, sha256))
    refusals = tuple(
        Refusal(_kind(event, has_path), event, reason, int(count), _utc(first), _utc(last))
        for event, reason, has_path, count, first, last in select_rows(database, _REFUSED, [party])
    )
    ((logins, sent, clients, addresses, first),) = select_rows(database, _SESSIONS, [party])
    return PartyReport(
        party,
        scope,
        tuple(sheets),
        refusals,
        logins,
        int(sent),
        tuple(sorted(filter(None, clients or ()))),
        tuple(sorted(addresses or ())),
        _utc(first) if first else None,
        tuple(record for _, record in select_records(database, _CHANGED, [party])),
        tuple(
            Access(user, event, count, _utc(first), _utc(last))
            for user, event, count, first, last in select_rows(database, _ACCESSES, [party])
        ),
    )


def _kind(event: str, has_path: bool) -> RefusalKind:
    if event in (TransferEvent.CONNECTION_REFUSED, TransferEvent.LOGIN_REFUSED):
        return RefusalKind.ACCESS
    if event == TransferEvent.DENIED:  # a request of the SSH protocol has no path
        return RefusalKind.WRITE if has_path else RefusalKind.SERVICE
    return RefusalKind.TRANSFER if event == TransferEvent.CLOSE else RefusalKind.PATH


def unequally_linked(
    filed: list[FiledSheet], scopes: Mapping[str, Scope]
) -> Iterator[tuple[FiledSheet, int]]:
    """Yield (sheet, number of entitled parties) if the sheet is not in exactly that many trees."""
    for each in filed:
        entitled = sum(scope.covers(each.sheet) for scope in scopes.values())
        if each.parties is not None and each.parties != entitled:
            yield each, entitled


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)
