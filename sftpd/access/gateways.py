"""Lets the limits of a site hold for all gateways together, if several hosts run `ssps serve`.

Each named host (config/site) replaces `state/hosts/<host>/gateway.json` whenever it has changed,
and reads those of the others, each `INTERVAL`:

    {"began": 1684069200.125, "sessions": {"parti-a": [[1684069450.5, 90, true]]},
     "spent": {"4/c0000207": [3.5, 12, 0.75]}}

    began      when this server started (Unix time); what it has spent begins at 0 then
    sessions   of each party: since when, number, and whether it has a file open
    spent      by source (keys/credentials/penalties): seconds of penalty, connections, and seconds
               of processor time before logins; left out a minute after the last change

Rule 1. A party has at most `[sftp] max_sessions_per_party` sessions on all gateways together.
Rule 2. Several gateways can admit a session at the same moment. If these are then too many, each
gateway ends those of its own that are among the newest.
Rule 3. A party's bandwidth, and the files that it opens a second, are divided among the gateways:
each has a part in proportion to its sessions with an open file, and counts one at least.
Rule 4. What a source has spent on another gateway is charged here too.
Rule 5. A gateway that gives no sign of life (keys/operations/server_state) for `GONE_AFTER` seconds
counts for nothing. A sign is a change of its time, not the time itself, so a gateway whose clock is
wrong still counts; its clock is reported.

So limits can be exceeded for `TOLERANCE` seconds. The gateways share files and not a database,
because the process that accepts connections can reach no database and has no password of one, and
because the site's folder is what they share in any case.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog

from config.site import GATEWAY_STATE, host_state, named_hosts
from keys import files
from keys.credentials.penalties import OnCharge, Source
from keys.operations import server_state

INTERVAL = 0.5  # seconds
TOLERANCE = 2.0  # seconds
REASON = "too many sessions"
_PART = server_state.SERVE
_REMEMBERED = 60.0  # seconds after the last change
_DIGITS = 3  # of seconds
_CLOCK_SECONDS = 3.0  # by which a clock may differ; a share may show a sign of life a second late

_log = structlog.get_logger()


class GatewaySession(NamedTuple):
    """One session: since when (Unix time), its number, and whether it has a file open."""

    since: float
    number: int
    is_busy: bool


@dataclass(slots=True)
class _Spent:
    """What a source has spent here since the server began, and when that changed last."""

    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    changed: float = 0.0


@dataclass(slots=True)
class _Other:
    """What is known of another gateway."""

    began: float
    sessions: Mapping[str, tuple[GatewaySession, ...]]
    spent: dict[Source, list[float]]
    stamp: tuple[int, int, int]


@dataclass(slots=True)
class _Sign:
    """The last sign of life of another gateway: its time, and when this gateway saw it change."""

    time: float
    changed: float
    is_clock_wrong: bool = False


class Limit(Protocol):
    """A limit for each source (keys/credentials/penalties)."""

    on_charge: OnCharge

    def charge_source(self, source: Source, amount: float, /) -> None:
        """Charge what was spent on another gateway."""


class Gateways:
    """What this gateway tells the others, and what it knows of them.

    `limits` are those of penalties, connections and processor time, in the order of `spent`.
    `shares` is the part of its bandwidth and opens that each party has here, if not all of it.
    """

    def __init__(
        self,
        site: Path,
        host: str,
        limits: Sequence[Limit],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._site, self._host, self._clock, self._monotonic = site, host, clock, monotonic
        self._looked = monotonic()
        self._signs: dict[str, _Sign] = {}
        self._began = clock()
        self._limits = limits
        self._spent: dict[Source, _Spent] = {}
        self._others: dict[str, _Other] = {}
        self._written = b""
        self._own: Mapping[str, tuple[GatewaySession, ...]] = {}
        self.shares: dict[str, float] = {}
        self.elsewhere: Counter[str] = Counter()  # sessions of each party
        for index, limit in enumerate(limits):
            limit.on_charge = partial(self._count, index)

    def exchange(self, own: Mapping[str, Iterable[GatewaySession]]) -> None:
        """Tell the others of these sessions by party, and apply what they tell; raise OSError."""
        self._own = {party: tuple(sessions) for party, sessions in own.items()}
        self._read_others()
        self.elsewhere = Counter()
        busy: Counter[str] = Counter()
        for other in self._others.values():
            for party, sessions in other.sessions.items():
                self.elsewhere[party] += len(sessions)
                busy[party] += _count_busy(sessions)
        self.shares = {party: self._share(party, n) for party, n in busy.items() if n}
        self._write()

    def too_many(self, party: str, maximum: int) -> frozenset[int]:
        """Return which sessions of a party on this gateway are to end by rule 2."""
        if len(self._own.get(party, ())) + self.elsewhere[party] <= maximum:
            return frozenset()
        everywhere = [
            (session.since, host, session.number)
            for host, sessions in self._sessions_of(party)
            for session in sessions
        ]
        newest = sorted(everywhere)[maximum:]
        return frozenset(number for _, host, number in newest if host == self._host)

    def _sessions_of(self, party: str) -> Iterable[tuple[str, tuple[GatewaySession, ...]]]:
        yield self._host, self._own.get(party, ())
        for host, other in self._others.items():
            yield host, other.sessions.get(party, ())

    def _share(self, party: str, busy_elsewhere: int) -> float:
        busy_here = max(1, _count_busy(self._own.get(party, ())))
        return busy_here / (busy_here + busy_elsewhere)

    def _count(self, index: int, source: Source, amount: float) -> None:
        spent = self._spent.setdefault(source, _Spent())
        spent.sums[index] += amount
        spent.changed = self._clock()

    def _write(self) -> None:
        oldest = self._clock() - _REMEMBERED
        self._spent = {s: spent for s, spent in self._spent.items() if spent.changed > oldest}
        stated = {
            "began": self._began,
            "sessions": self._own,
            "spent": {
                f"{version}/{number:x}": [round(each, _DIGITS) for each in spent.sums]
                for (version, number), spent in self._spent.items()
            },
        }
        content = json.dumps(stated).encode() + b"\n"
        if content != self._written:
            files.replace_unsynced(self._site / host_state(GATEWAY_STATE, self._host), content)
            self._written = content

    def _read_others(self) -> None:
        hosts = [host for host in named_hosts(self._site) if host != self._host]
        now = self._monotonic()
        alive = {host for host in hosts if self._is_alive(host, now)}
        self._looked = now
        self._others = {host: each for host, each in self._others.items() if host in alive}
        for host in alive:
            try:
                self._read(host)
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue  # it has not written yet, or the file is damaged

    def _is_alive(self, host: str, now: float) -> bool:
        sign, last = self._signs.get(host), server_state.last_sign(self._site, _PART, host)
        if sign is None:  # whether it changes is not known yet
            is_new = abs(time.time() - last) < server_state.GONE_AFTER
            sign = self._signs[host] = _Sign(last, now if is_new else -math.inf)
        elif last != sign.time:
            sign.time, sign.changed = last, now if last > 0 else -math.inf
            self._check_clock(host, sign, now - self._looked)
        return now - sign.changed < server_state.GONE_AFTER

    def _check_clock(self, host: str, sign: _Sign, oldest: float) -> None:
        """Report a gateway whose sign of life, at most `oldest` seconds old, has another time."""
        age = time.time() - sign.time
        is_wrong = math.isfinite(age) and not -_CLOCK_SECONDS < age < oldest + _CLOCK_SECONDS
        if is_wrong and not sign.is_clock_wrong:
            _log.warning("clock-differs", host=host, seconds=round(-age, 1))
        sign.is_clock_wrong = is_wrong

    def _read(self, host: str) -> None:
        path = self._site / host_state(GATEWAY_STATE, host)
        status = path.stat()
        stamp = status.st_ino, status.st_size, status.st_mtime_ns
        before = self._others.get(host)
        if before is not None and before.stamp == stamp:
            return
        stated = json.loads(path.read_bytes())
        began = float(stated["began"])
        sessions = {
            str(party): tuple(GatewaySession(float(s), int(n), bool(busy)) for s, n, busy in each)
            for party, each in stated["sessions"].items()
        }
        spent = {_parse_source(s): [float(each) for each in sums] for s, sums in _items(stated)}
        if any(len(sums) != len(self._limits) for sums in spent.values()):
            raise ValueError("a gateway of another version")  # before anything is charged
        if before is not None and before.began == began:
            self._charge(before.spent, spent)
        elif began >= self._began:
            self._charge({}, spent)  # it began after this server
        self._others[host] = _Other(began, sessions, spent, stamp)

    def _charge(
        self, before: Mapping[Source, list[float]], now: Mapping[Source, list[float]]
    ) -> None:
        for source, sums in now.items():
            known = before.get(source, [0.0] * len(sums))
            if any(new < old for new, old in zip(sums, known, strict=True)):
                known = [0.0] * len(sums)  # it was left out for a while, and begins again
            for limit, new, old in zip(self._limits, sums, known, strict=True):
                if new > old:
                    limit.charge_source(source, new - old)


def _items(stated: Mapping[str, Any]) -> Iterable[tuple[str, list[float]]]:
    found: dict[str, list[float]] = stated["spent"]
    return found.items()


def _parse_source(text: str) -> Source:
    version, _, number = text.partition("/")
    return int(version), int(number, 16)


def _count_busy(sessions: Iterable[GatewaySession]) -> int:
    return sum(session.is_busy for session in sessions)
