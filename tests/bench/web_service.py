"""How fast the portal is: site and service, with TLS, passwords and records, beside Datasette.

    scripts/bench portal                        201,000 boxes, two contests: 402,000 rows
    scripts/bench portal --boxes 2010           a small country
    scripts/bench portal --site DIR             keep the site, which takes minutes to make
    scripts/bench portal --only users --minutes 2        one part

The parts:

    queries     milliseconds of searches by every criterion, inside a process
    pages       the same through `ssps portal`: pages of the site, with session and record, and
                the milliseconds of processor that one takes
    calls       the same questions as calls of the service, beside SQL queries of Datasette on an
                SQLite file with the same rows and indexes. Of one box there are two:
                its newest row of one contest (ours: `/v1/results` with the box's place), and all
                versions of all contests with the findings (ours: `/v1/boxes/...`; Datasette makes
                one JSON text of it). The site has no scans, so neither answer has any
    changes     `/v1/changes` from places all over the changes
    summary     calls a second of one small summary, over 8 connections that are kept
    bulk        a whole snapshot (zstd), beside nginx with the same file and certificate: over a
                line of 1 Gbit/s, and without a limit
    users       400 users (40 parties, 10 each) who open a page every 5 seconds
    streams     seconds from a new snapshot until the last of 400 open pages is told of it
    memory      megabytes of each of the portal's processes after the other parts

The processor's time is of all processes of the portal: of the broker, the one that serves, and what
the broker starts. Times are of the client: from its request to the last byte of the answer, on a
connection that is kept, with TLS. Datasette (Apache 2.0) and nginx get a configuration of their own
and the portal's certificate; Datasette answers without password and record.

The goals (issue F) are printed beside the figures; the last line names those that were missed. Run
it on a quiet machine.
"""

import argparse
import asyncio
import gc
import os
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from urllib.parse import quote, urlencode

import duckdb

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS), str(_TESTS / "bench")]

import portal_site  # noqa: E402 - from the folders above
import web_client  # noqa: E402
import web_site  # noqa: E402
from filing import memory_of, process_tree  # noqa: E402
from web_client import GIGABIT, HOST, Server  # noqa: E402

from config.result import BOX_SHEET, NUMBER_COLUMNS  # noqa: E402
from config.scope import ALL  # noqa: E402
from config.settings import ShareLevel  # noqa: E402
from config.sheet import SandikTuru, Secim  # noqa: E402
from config.site import CLIENTS, KEYS, PORTAL_SESSIONS, SNAPSHOTS, TLS  # noqa: E402
from keys.credentials.users import Role, User, Users  # noqa: E402
from keys.ledger.writer import utc_now  # noqa: E402
from keys.server_keys import host  # noqa: E402
from portal.access.accounts import Accounts  # noqa: E402
from portal.access.entrance import Entrance  # noqa: E402
from portal.access.sessions import Lifetimes, Sessions, Stage  # noqa: E402
from portal.data.criteria import Area, Criteria  # noqa: E402
from portal.data.live import LiveData  # noqa: E402
from portal.data.numbers.boxes import BoxPlace  # noqa: E402
from portal.data.numbers.snapshots import Cursor  # noqa: E402
from portal.data.queries import databases  # noqa: E402
from portal.data.scoped import ScopedData  # noqa: E402
from publisher.results.snapshots.folder import latest_number  # noqa: E402
from scripts.rehearsal import web_clients  # noqa: E402

ALL_BOXES = 201_000
_DATASETTE = _TESTS.parent / ".venv" / "datasette"
_PARTIES, _WEB_USERS = 40, 10
_SEARCHES = 120
_CONNECTIONS, _SECONDS = 8, 5.0
_BULK_REPEATS = 5
_LOGIN = "parti-1.servis"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=ALL_BOXES)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--only", action="append", choices=[*_PARTS, "memory"])
    parser.add_argument("--minutes", type=float, default=5.0, help="of the part `users`")
    parser.add_argument("--think", type=float, default=5.0, help="seconds between two pages")
    parser.add_argument("--snapshots", type=int, default=20, help="of the part `streams`")
    parser.add_argument("--no-peers", action="store_true", help="without Datasette and nginx")
    asked = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ssps-bench-portal-"))
    site = (asked.site or scratch / "site").absolute()
    try:
        if not (site / SNAPSHOTS).exists():
            portal_site.make(site, asked.boxes)
        if not (site / "parties.toml").exists():
            _make_portal(site)
        bench = Bench(site, scratch, asked)
        bench.run(asked.only or [*_PARTS, "memory"])
        print(f"\ngoals missed: {'; '.join(GOALS.missed) or 'none'}")
    finally:
        shutil.rmtree(scratch)


def _make_portal(site: Path) -> None:
    """Write the settings, keys, certificate and users that `ssps portal` needs."""
    portal = web_clients.portal_toml(_free_port()) + "calls_per_minute = 1000000\n"
    parties = "\n".join(
        f'[[party]]\nid = "parti-{n}"\nname = "Parti {n}"\nkind = "party"\nscope = "all"\n'
        'static_ips = ["127.0.0.1"]\n'
        for n in range(1, _PARTIES + 1)
    )
    settings = web_site.SITE_TOML.partition("[portal]")[0] + portal
    web_site.make(site, settings, parties)
    shutil.rmtree(site / KEYS)  # the parties' users are written once all keys are there
    host.create_site_keys(site)
    web_clients.make_certificate(site)
    accepted = utc_now() - timedelta(hours=1)
    password = (web_site.password(),)
    names = [f"web-{n}" for n in range(1, _WEB_USERS + 1)]
    web = tuple(User(name, Role.WEB, password, terms=accepted) for name in names)
    service = User("servis", Role.SERVICE, password, terms=accepted)
    for n in range(1, _PARTIES + 1):
        web_site.write_users(site, Users(f"parti-{n}", (*web, service)))
    (site / KEYS).chmod(0o700)


def _begin_sessions(site: Path) -> list[str]:
    """Log every web user in, as the portal stores it; return their cookies."""
    never = timedelta(days=1)
    sessions = Sessions(site / PORTAL_SESSIONS, utc_now, lambda: Lifetimes(never, never))
    accounts = Accounts(site)
    found = []
    try:
        for number in range(1, _WEB_USERS + 1):
            for party in range(1, _PARTIES + 1):
                user = accounts.in_force(f"parti-{party}").named(f"web-{number}")
                if user is None:
                    raise SystemExit(f"{site}: has no user web-{number}: remove it and try again")
                (credential,) = user.credentials
                token, _ = sessions.begin(
                    f"parti-{party}", user.name, credential.fingerprint, "", Stage.FULL
                )
                found.append(f"{Entrance.cookie}={token}")
    finally:
        sessions.close()
    return found


class Bench:
    """One site, and the servers that are started for it when a part needs them."""

    process: "subprocess.Popen[bytes]"  # of the portal, while it runs

    def __init__(self, site: Path, scratch: Path, asked: argparse.Namespace) -> None:
        self.site, self.scratch = site, scratch
        self.minutes, self.think, self.peers = asked.minutes, asked.think, not asked.no_peers
        self.snapshots = asked.snapshots
        self.server = Server(0)
        self.cookies: list[str] = []
        self.searches: list[Criteria] = []
        self.boxes: list[BoxPlace] = []

    def run(self, parts: Sequence[str]) -> None:
        """Run these parts."""
        self._read()
        if "queries" in parts:
            self.queries()
        served = [name for name in _PARTS if name in parts and name != "queries"]
        if served or "memory" in parts:
            self.cookies = _begin_sessions(self.site)
            with _portal(self.site) as (self.server, self.process):
                for name in served:
                    _PARTS[name](self)
                if "memory" in parts:
                    self.memory()

    def _read(self) -> None:
        began = time.perf_counter()
        data = LiveData(self.site, ShareLevel.CEVRE).scoped(ALL)
        took = time.perf_counter() - began
        boxes = data.summary(Criteria(Secim.MV)).boxes
        self.data = data
        self.searches = list(_searches(data, random.Random(7)))  # noqa: S311 - no secret in it
        places = list(data.places(Criteria(Secim.MV)))
        self.boxes = random.Random(8).sample(places, min(200, len(places)))  # noqa: S311
        print(f"\n{boxes:,} boxes, two contests: {2 * boxes:,} rows, load {os.getloadavg()[0]:.1f}")
        say("reading the newest snapshot", f"{took:.1f} s")

    def queries(self) -> None:
        """Ask inside this process."""
        head("queries inside a process, ms")
        gc.collect()
        gc.freeze()  # as the portal does
        with databases.kept_open():  # the same
            for name, ask in _QUESTIONS.items():
                times = [
                    timed(partial(ask, self.data, c, box))
                    for c, box in zip(self.searches, self.boxes, strict=False)
                ]
                show(name, times, goal=_QUESTION_GOALS.get(name))

    def pages(self) -> None:
        """Open pages of the site over TLS, each on record."""
        head("pages, ms", "  processor")
        cookie = f"Cookie: {self.cookies[0]}\r\n"
        web_client.milliseconds(self.server, ["/arama"], cookie)  # templates are read once
        for name, paths in self._pages().items():
            spent = _processor_seconds(self.process)
            times = web_client.milliseconds(self.server, paths, cookie)
            spent = _processor_seconds(self.process) - spent
            more = f"{1000 * spent / len(paths):>9.1f}"
            show(name, times, more, goal=_PAGE_GOALS.get(name))

    def _pages(self) -> dict[str, list[str]]:
        queries = [urlencode(c.query()) for c in self.searches]
        boards = [
            urlencode(Criteria(Secim.MV, cevre=cevre, kurul=kurul).query())
            for cevre, kurul in random.Random(9).sample(self.data.boards(), 60)  # noqa: S311
        ]
        sort = "&sirala=oylar.parti-3&yon=azalan"
        by_votes = [q + sort for q in queries if "secim=mv" in q]
        return {
            "Genel durum": [f"/?secim={secim}" for secim in ("mv", "cb")] * 30,
            "Arama, every criterion": [f"/arama?{query}" for query in queries],
            "Arama, sorted by votes": [f"/arama?{query}" for query in by_votes],
            "Arama, one board": [f"/arama?{query}" for query in boards],
            "Sandık": [f"/sandik/{_path(box)}" for box in self.boxes],
            "Değişiklikler": [f"/degisiklikler?{query}" for query in queries],
            "Eksikler": [f"/eksikler?{query}" for query in queries],
            "Uyarılar": [f"/uyarilar?{query}" for query in queries],
            "Birleştirme, one board": [f"/birlestirme?{query}" for query in boards],
        }

    def calls(self) -> None:
        """Call the service and Datasette with the same questions."""
        header = web_client.basic(_LOGIN, web_site.PASSWORD)
        web_client.milliseconds(self.server, ["/v1/summary?secim=mv"], header)  # the password
        head("calls, ms", "Datasette, ms  times as fast")
        with ExitStack() as stack:
            other = None
            if self.peers:
                other = stack.enter_context(_datasette(self.site, self.scratch))
            for name, asked in _CALLS.items():
                pairs = [asked(c, self.boxes[n]) for n, c in enumerate(self.searches)]
                ours = web_client.milliseconds(self.server, [path for path, _ in pairs], header)
                if other is None:
                    show(name, ours)
                    continue
                theirs = web_client.milliseconds(other, [_sql_path(sql) for _, sql in pairs])
                median = statistics.median(theirs)
                ratio = median / statistics.median(ours)
                goal = GOALS.at_least(f"{name}: times as fast as Datasette", ratio, 2)
                show(name, ours, f"{median:>13.2f} {ratio:>14.1f}{goal}")

    def changes(self) -> None:
        """Ask for changes after cursors all over the changes files."""
        header = web_client.basic(_LOGIN, web_site.PASSWORD)
        web_client.milliseconds(self.server, ["/v1/summary?secim=mv"], header)
        newest, rng = latest_number(self.site) or 0, random.Random(5)  # noqa: S311
        cursors = [str(Cursor(newest))] * 200
        for _ in range(300):
            number, secim = rng.randrange(1, newest + 1), rng.choice(("cb", "mv"))
            name = f"{number:08}/{secim}.changes.ndjson"
            size = (self.site / SNAPSHOTS / name).stat().st_size
            cursors.append(str(Cursor(number, secim, rng.randrange(size))))
        rng.shuffle(cursors)
        head("changes, ms")
        for limit in (100, 1000):
            paths = [f"/v1/changes?since={cursor}&limit={limit}" for cursor in cursors]
            times = web_client.milliseconds(self.server, paths, header)
            show(f"up to {limit} changes", times, goal=(99, 20))

    def summary(self) -> None:
        """Ask for one small summary again and again."""
        header = web_client.basic(_LOGIN, web_site.PASSWORD)
        server = Server(self.server.port, self.server.context, header)
        path = "/v1/summary?secim=mv&cevre=34-istanbul-1"
        web_client.milliseconds(server, [path])
        spent, own = _processor_seconds(self.process), time.process_time()
        calls = asyncio.run(web_client.calls_in(server, path, _CONNECTIONS, _SECONDS))
        spent, own = _processor_seconds(self.process) - spent, time.process_time() - own
        more = f"{1e6 * spent / calls:.0f} us of the portal's processor a call, "
        more += f"the client used {100 * own / _SECONDS:.0f} % of a core"
        rate = calls / _SECONDS
        goal = GOALS.at_least("small summaries a second", rate, 1500)
        say("a small summary", f"{rate:,.0f} calls/s", f"{more}{goal}")

    def bulk(self) -> None:
        """Fetch a whole snapshot."""
        header = web_client.basic(_LOGIN, web_site.PASSWORD) + "Accept-Encoding: zstd\r\n"
        web_client.milliseconds(self.server, ["/v1/summary?secim=mv"], header)
        number = latest_number(self.site) or 0
        exports = self.data.newest_exports or number
        folder = self.site / SNAPSHOTS / f"{exports:08}"
        file = self.scratch / "snapshot.zst"
        names = sorted(folder.glob("*.ndjson.zst"))
        file.write_bytes(b"".join(name.read_bytes() for name in names))
        size = file.stat().st_size / 1e6
        head(f"the whole snapshot, {size:.1f} MB", "MB/s       nginx      ratio")
        path = f"/v1/snapshots/{exports}"
        with ExitStack() as stack:
            nginx = stack.enter_context(_nginx(self.site, file)) if self.peers else None
            for name, pace in (("over 1 Gbit/s", GIGABIT), ("without a limit", None)):
                ours, theirs = [], []
                for _ in range(_BULK_REPEATS):
                    ours.append(web_client.megabytes_a_second(self.server, path, header, pace))
                    if nginx is not None:
                        theirs.append(
                            web_client.megabytes_a_second(nginx, f"/{file.name}", "", pace)
                        )
                mine = statistics.median(ours)
                line = f"  {name:<36}{mine:>10.1f}"
                if theirs:
                    other = statistics.median(theirs)
                    line += f"{other:>12.1f}{mine / other:>11.2f}"
                    if pace is not None:
                        line += GOALS.at_least(f"snapshot {name}: of nginx", mine / other, 0.9)
                print(line, flush=True)

    def users(self) -> None:
        """Let all users browse at the same time."""
        queries = [urlencode(c.query()) for c in self.searches]

        def visits(rng: random.Random) -> Iterator[tuple[str, str]]:
            for kind in cycle(_VISITS):
                box = _path(rng.choice(self.boxes))
                yield kind, _VISITS[kind].format(query=rng.choice(queries), box=box)
                if rng.random() < 0.1:
                    yield "Genel durum", "/"

        spent = _processor_seconds(self.process)
        load = asyncio.run(
            web_client.users(self.server, self.cookies, visits, self.think, 60 * self.minutes)
        )
        spent = (_processor_seconds(self.process) - spent) / load.seconds
        every = [took for times in load.times.values() for took in times]
        head(f"{len(self.cookies)} users, ms", "  requests")
        for name, times in {**load.times, "all": every}.items():
            goal = (99, 250) if name == "all" else None
            show(name, times, f"{len(times):>10,}", goal=goal)
        say("requests a second", f"{len(every) / load.seconds:.1f}")
        told = GOALS.at_most("errors of users", len(load.errors), 0)
        say("errors", str(len(load.errors)), "; ".join(load.errors[:3]) + told)
        say("the portal's processor", f"{100 * spent:.0f} %", "of one core")
        say("the load generator's", f"{100 * load.own_processor:.0f} %", "of one core")

    def streams(self) -> None:
        """Close snapshots while every user has a page open."""
        newest = latest_number(self.site) or 0
        published: dict[int, float] = {}

        async def close_snapshots() -> None:
            for number in range(newest + 1, newest + 1 + self.snapshots):
                maker = await asyncio.create_subprocess_exec(
                    sys.executable, portal_site.__file__, str(self.site), str(number)
                )
                if await maker.wait():
                    raise SystemExit("a snapshot could not be made")
                published[number] = (self.site / SNAPSHOTS / "latest").lstat().st_mtime
                await asyncio.sleep(1.5)

        told = asyncio.run(web_client.streams(self.server, self.cookies, "/canli", close_snapshots))
        last, missing = [], 0
        for number, at in published.items():
            times = told.get(number, [])
            missing += len(self.cookies) - len(times)
            last.append(max(times, default=at) - at)
        head(f"{len(self.cookies)} streams, {len(published)} snapshots, ms")
        show("until the last one was told", [1000 * each for each in last], goal=(99, 1000))
        say("events that were not told", str(missing))

    def memory(self) -> None:
        """Print the memory of the portal's processes."""
        head("memory, MB", "     now   without files    at most")
        for pid in process_tree(self.process.pid):
            name = _process_name(pid, self.process.pid)
            found = _memory(pid)
            goal = GOALS.at_most(f"memory of {name}", found["all"], 200)
            figures = f"{found['all']:>8.0f}{found['own']:>16.0f}{found['most']:>11.0f}"
            print(f"  {name:<36}{figures}{goal}", flush=True)
        say("all, shared pages counted once", f"{memory_of(self.process):.0f}")


_PARTS: dict[str, Callable[[Bench], None]] = {
    "queries": Bench.queries,
    "pages": Bench.pages,
    "calls": Bench.calls,
    "changes": Bench.changes,
    "summary": Bench.summary,
    "bulk": Bench.bulk,
    "users": Bench.users,
    "streams": Bench.streams,
}
_VISITS = {
    "Arama": "/arama?{query}",
    "Sandık": "/sandik/{box}",
    "Arama, again": "/arama?{query}",
    "Değişiklikler": "/degisiklikler?{query}",
    "Sandık, again": "/sandik/{box}",
    "Eksikler": "/eksikler?{query}",
    "Uyarılar": "/uyarilar?{query}",
}


def _searches(data: ScopedData, rng: random.Random) -> Iterator[Criteria]:
    """Yield searches by every criterion, from the whole country to one mahalle."""
    boards = data.boards()
    for number in range(_SEARCHES):
        cevre, kurul = rng.choice(boards)
        match number % 8:
            case 0:
                yield Criteria(Secim.MV)
            case 1:
                yield Criteria(Secim.CB, rng.choice(list(Area)))
            case 2:
                yield Criteria(Secim.MV, kind=rng.choice(list(SandikTuru)))
            case 3:
                yield Criteria(Secim.MV, cevre=cevre)
            case 4:
                yield Criteria(Secim.MV, cevre=cevre, kurul=kurul)
            case 5:
                yield Criteria(Secim.MV, cevre=cevre, kurul=kurul, mahalle="Mahalle 3")
            case 6:
                yield Criteria(Secim.MV, first="1010", last=str(rng.randrange(1020, 1100)))
            case _:
                yield Criteria(Secim.MV, mahalle=f"Mahalle {rng.randrange(1, 30)}")


_Question = Callable[[ScopedData, Criteria, BoxPlace], object]
_QUESTIONS: dict[str, _Question] = {
    "table of 100 rows and its sums": lambda d, c, _: _forgetful(d).table(c),
    "sorted by a party's votes": lambda d, c, _: d.table(c, _sort(c), descending=True),
    "dependent lists": lambda d, c, _: _forgetful(d).choices(c),
    "changes, newest 100": lambda d, c, _: d.changes(c),
    "gaps": lambda d, c, _: d.gaps(c),
    "findings, first 100": lambda d, c, _: _forgetful(d).findings(c),
    "box": lambda d, _, box: d.box(box),
}
_Goal = tuple[int, float]  # per cent of the times, and their milliseconds at most
_QUESTION_GOALS: dict[str, _Goal] = {
    "table of 100 rows and its sums": (95, 50),
    "sorted by a party's votes": (95, 50),
}
_PAGE_GOALS: dict[str, _Goal] = {
    "Arama, every criterion": (95, 50),
    "Arama, sorted by votes": (95, 50),
    "Arama, one board": (95, 50),
    "Birleştirme, one board": (95, 80),
}


def _sort(criteria: Criteria) -> str:
    return "oylar.parti-3" if criteria.secim is Secim.MV else "oylar.aday-1"


def _forgetful(data: ScopedData) -> ScopedData:
    """Forget what was computed before, so that each search is the first one of its kind."""
    data._view.cache.clear()
    return data


# What both are asked: the path of ours, and the SQL that answers it.


def _table(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    return f"/v1/results?{_query(criteria)}", _rows_sql(criteria, "cevre, kurul, sandik")


def _sorted_table(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    sort = _sort(criteria)
    path = f"/v1/results?{_query(criteria)}&sirala={sort}&azalan=true"
    return path, _rows_sql(criteria, f'"{sort}" DESC')


def _summary(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    query = urlencode(criteria.query())
    sql = f"SELECT count(*), {_sums(criteria)} FROM {criteria.secim} WHERE {_where(criteria)}"
    return f"/v1/summary?{query}", sql


def _box_row(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    place = {"cevre": box.cevre, "kurul": box.kurul, "ilk": box.sandik, "son": box.sandik}
    path = f"/v1/results?{urlencode({'secim': criteria.secim, **place})}"
    return path, f"SELECT * FROM {criteria.secim} WHERE {_at(box)}"


def _box(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    row = {name: name for name in ("secim", "reason", "time", "accepted_at", *NUMBER_COLUMNS)}
    row |= {name: name for name in ("version", "newest", "digest", "sheet", "sheet_sha256", "seq")}
    row |= {"votes": "json(votes)"}
    row |= {"snapshot": "(SELECT min(number) FROM snapshot WHERE last_result >= result.id)"}
    finding = {name: name for name in ("check_name", "secim")}
    finding |= {name: f"json({name})" for name in ("places", "numbers", "sheets")}
    board, subjects = "/".join(box[:2]), [f"'contests {box}'"]
    subjects += [
        f"'{kind} {secim} {at}'" for secim in Secim for kind, at in (("box", box), ("board", board))
    ]
    named = f"SELECT 1 FROM json_each(places) WHERE value = '{box}'"
    results = f"FROM result WHERE {_at(box)} AND belge = '{BOX_SHEET}' ORDER BY secim, version"
    findings = f"FROM finding WHERE subject IN ({', '.join(subjects)}) AND EXISTS ({named})"
    return f"/v1/boxes/{_path(box)}", (
        "SELECT number, closed_at, "
        f"(SELECT json_group_array(made) FROM (SELECT {_object(row)} AS made {results})), "
        f"(SELECT json_group_array(made) FROM (SELECT {_object(finding)} AS made {findings})) "
        "FROM snapshot ORDER BY number DESC LIMIT 1"
    )


def _at(box: BoxPlace) -> str:
    return f"cevre = '{box.cevre}' AND kurul = '{box.kurul}' AND sandik = '{box.sandik}'"


def _object(columns: dict[str, str]) -> str:
    pairs = [f"'{name}', {value}" for name, value in columns.items()]
    return f"json_object({', '.join(pairs)})"


def _path(box: BoxPlace) -> str:
    return "/".join(quote(part, safe="") for part in box)


def _coverage(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    path = f"/v1/coverage?secim={criteria.secim}"
    where, by = "1", "cevre"
    if criteria.cevre:
        path += f"&cevre={criteria.cevre}"
        where, by = f"cevre = '{criteria.cevre}'", "kurul"
    sql = f"SELECT {by}, count(*), count(surum) FROM {criteria.secim} WHERE {where} GROUP BY {by}"
    return path, sql


def _findings(criteria: Criteria, box: BoxPlace) -> tuple[str, str]:
    query = {"secim": criteria.secim.value, "limit": "100"}
    where = f"secim = '{criteria.secim}'"
    if criteria.cevre:
        query["cevre"] = criteria.cevre
        where += f" AND places LIKE '[\"{criteria.cevre}/%'"
    sql = (
        f"WITH n AS (SELECT count(*) AS n FROM finding WHERE {where}) SELECT * FROM (SELECT * "
        f"FROM finding WHERE {where} ORDER BY check_name, places LIMIT 100), n"
    )
    return f"/v1/findings?{urlencode(query)}", sql


_CALLS: dict[str, Callable[[Criteria, BoxPlace], tuple[str, str]]] = {
    "results, 100 rows and their sums": _table,
    "results, sorted by votes": _sorted_table,
    "summary": _summary,
    "one box: its newest row": _box_row,
    "one box: all versions, findings": _box,
    "coverage by place": _coverage,
    "findings, first 100": _findings,
}


def _query(criteria: Criteria) -> str:
    return urlencode({**criteria.query(), "limit": "100"})


def _where(criteria: Criteria) -> str:
    columns = {
        "cevre": criteria.cevre,
        "kurul": criteria.kurul,
        "mahalle": criteria.mahalle,
        "sandik_turu": criteria.kind.value if criteria.kind else None,
    }
    parts = [f"{name} = '{value}'" for name, value in columns.items() if value is not None]
    if criteria.area is not Area.EVERYWHERE:
        negated = "" if criteria.area is Area.ABROAD else "NOT "
        parts.append(f"cevre {negated}IN ('yurt-disi', 'gumruk')")
    if criteria.first:
        parts.append(f"sandik BETWEEN '{criteria.first}' AND '{criteria.last}'")
    return " AND ".join(parts) or "1"


def _sums(criteria: Criteria) -> str:
    mv = criteria.secim is Secim.MV
    votes = [f"parti-{n}" for n in range(1, 27)] if mv else [f"aday-{n}" for n in range(1, 5)]
    numbers = ("secmen", "oy_kullanan", "gecerli", "gecersiz")
    return ", ".join([f'sum("{n}")' for n in numbers] + [f'sum("oylar.{v}")' for v in votes])


def _rows_sql(criteria: Criteria, order: str) -> str:
    """Return the SQL for the first hundred rows and the sums of all, in one pass each."""
    table, where = criteria.secim.value, _where(criteria)
    return (
        f"WITH s AS (SELECT count(*) AS n, {_sums(criteria)} FROM {table} WHERE {where}) "
        f"SELECT * FROM (SELECT * FROM {table} WHERE {where} ORDER BY {order} LIMIT 100), s"
    )


def _sql_path(sql: str) -> str:
    return f"/results.json?sql={quote(sql)}&_shape=arrays"


def _as_sqlite(site: Path, file: Path) -> None:
    """Write the newest snapshot as SQLite, with the mahalle, and indexes on what is searched."""
    number = latest_number(site) or 0
    mahalles = {place[:3]: place[4] for place in portal_site.places(ALL_BOXES)}
    database = sqlite3.connect(file)
    database.execute("PRAGMA synchronous = OFF")
    for secim in ("cb", "mv"):
        parquet = site / SNAPSHOTS / f"{number:08}" / f"{secim}.parquet"
        with duckdb.connect() as source:
            found = source.execute(f"SELECT * REPLACE (zaman::VARCHAR AS zaman) FROM '{parquet}'")
            names = [name for name, *_ in found.description or ()]
            at = [names.index(name) for name in ("cevre", "kurul", "sandik")]
            listed = ", ".join(f'"{name}"' for name in names)
            database.execute(f"CREATE TABLE {secim} ({listed}, mahalle)")
            marks = ", ".join("?" * (len(names) + 1))
            while rows := found.fetchmany(5000):
                database.executemany(
                    f"INSERT INTO {secim} VALUES ({marks})",
                    [
                        (*row, mahalles.get((row[at[0]], row[at[1]], row[at[2]]), ""))
                        for row in rows
                    ],
                )
        for columns in ("cevre, kurul, sandik", "mahalle", "sandik_turu", "sandik"):
            name = columns.replace(", ", "_")
            database.execute(f"CREATE INDEX {secim}_{name} ON {secim} ({columns})")
    database.commit()
    database.execute("ATTACH ? AS site", (str(site / "state" / "results.sqlite"),))
    for table in ("finding", "result", "snapshot"):
        database.execute(f"CREATE TABLE {table} AS SELECT * FROM site.{table}")
    for table, columns in (
        ("finding", "check_name, places"),
        ("finding", "secim, check_name, places"),
        ("finding", "subject"),
        ("result", "cevre, kurul, sandik, secim, belge, version"),
        ("snapshot", "number"),
    ):
        name = columns.replace(", ", "_")
        database.execute(f"CREATE INDEX {table}_{name} ON {table} ({columns})")
    database.execute("ANALYZE")
    database.commit()
    database.close()


@contextmanager
def _portal(site: Path) -> Iterator[tuple[Server, "subprocess.Popen[bytes]"]]:
    """Run `ssps portal`; yield it and its process, the broker."""
    text = (site / "site.toml").read_text(encoding="utf-8")
    listen = text.partition("[portal]")[2].partition('listen = "')[2].partition('"')[0]
    server = Server(int(listen.rpartition(":")[2]), web_client.trusting(site / CLIENTS / "ca.pem"))
    command = [sys.executable, "-m", "scripts.ssps", "portal", "--site", str(site)]
    with _running(command, server.port, site.parent / "portal.log") as process:
        header = web_client.basic(_LOGIN, web_site.PASSWORD)
        web_client.milliseconds(server, ["/v1/summary?secim=mv"], header)  # reads the snapshot
        yield server, process


@contextmanager
def _datasette(site: Path, scratch: Path) -> Iterator[Server]:
    file, port = scratch / "results.sqlite", _free_port()
    _as_sqlite(site, file)
    command = [sys.executable, "-m", "datasette", "serve", str(file), "--port", str(port)]
    command += ["--setting", "sql_time_limit_ms", "20000", "--setting", "num_sql_threads", "2"]
    command += ["--ssl-certfile", str(site / TLS / "portal.crt")]
    command += ["--ssl-keyfile", str(site / TLS / "portal.key")]
    server = Server(port, web_client.trusting(site / CLIENTS / "ca.pem"))
    with _running(command, port, scratch / "datasette.log", {"PYTHONPATH": str(_DATASETTE)}):
        web_client.milliseconds(server, [_sql_path("SELECT count(*) FROM mv")])
        yield server


@contextmanager
def _nginx(site: Path, file: Path) -> Iterator[Server]:
    """Run Debian's nginx with the folder of `file` and the portal's certificate."""
    folder, port = file.parent / "nginx", _free_port()
    folder.mkdir(exist_ok=True)
    kept = "\n".join(
        f"    {name}_temp_path {folder};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"""\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
user {"root" if os.getuid() == 0 else "nobody"};
events {{ worker_connections 64; }}
http {{
{kept}
    access_log off;
    sendfile on;
    server {{
        listen {HOST}:{port} ssl;
        ssl_certificate {site / TLS / "portal.crt"};
        ssl_certificate_key {site / TLS / "portal.key"};
        ssl_protocols TLSv1.2 TLSv1.3;
        root {file.parent};
    }}
}}
""",
        encoding="utf-8",
    )
    log = folder / "log"
    with _running(["/usr/sbin/nginx", "-c", str(folder / "nginx.conf")], port, log):
        yield Server(port, web_client.trusting(site / CLIENTS / "ca.pem"))


@contextmanager
def _running(
    command: list[str], port: int, log: Path, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=_TESTS.parent,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
        )
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(
                    f"{command[:3]} ended with {process.returncode}: {log.read_text()}"
                )
            try:
                socket.create_connection((HOST, port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@dataclass
class Goals:
    """Compares figures with goals; `missed` are those that were not reached."""

    missed: list[str] = field(default_factory=list)

    def at_most(self, name: str, figure: float, limit: float) -> str:
        """Return the goal as it is printed beside the figure."""
        return self._text(name, figure, f"<= {limit:g}", met=figure <= limit)

    def at_least(self, name: str, figure: float, limit: float) -> str:
        """Return the goal as it is printed beside the figure."""
        return self._text(name, figure, f">= {limit:g}", met=figure >= limit)

    def _text(self, name: str, figure: float, goal: str, *, met: bool) -> str:
        if met:
            return f"  (goal {goal})"
        self.missed.append(f"{name} {figure:.4g}, not {goal}")
        return f"  (goal {goal}: missed)"


GOALS = Goals()


def _share(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def timed(work: Callable[[], object]) -> float:
    """Return the milliseconds that a call takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def head(what: str, more: str = "") -> None:
    """Print the heading of a table."""
    columns = more if "MB" in what + more else f"  median      95 %      99 %   slowest  {more}"
    print(f"\n{what:<38}{columns}", flush=True)


def show(name: str, times: Sequence[float], more: str = "", goal: _Goal | None = None) -> None:
    """Print median, 95 %, 99 % and slowest, and whether the goal is met."""
    if goal is not None:
        share, limit = goal
        found = GOALS.at_most(f"{name}, {share} %", _share(times, share / 100), limit)
        more += found.replace("goal", f"goal: {share} %")
    print(
        f"  {name:<36}{statistics.median(times):>8.2f}{_share(times, 0.95):>10.2f}"
        f"{_share(times, 0.99):>10.2f}{max(times):>10.2f}  {more}",
        flush=True,
    )


def say(what: str, figure: str, more: str = "") -> None:
    """Print one line."""
    print(f"  {what:<34} {figure:>14}  {more}", flush=True)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _processor_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Return the seconds of processor of a process and all below it, running or ended."""
    ticks = 0
    for pid in process_tree(process.pid):
        with suppress(FileNotFoundError):  # it has ended in the meantime
            text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
            ticks += sum(map(int, text.rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _process_name(pid: int, broker: int) -> str:
    if pid == broker:
        return "the broker"
    words = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, broker)]
    if words[0] == words[1]:
        return "the process that serves"
    module = words[0].decode().partition("-m\0")[2].split("\0")[0]
    return module or f"process {pid}"


def _memory(process: int) -> dict[str, float]:
    """Return the megabytes in memory of a process, those that are not of files, and the most."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines if " kB" in line}
    own = found["RssAnon"] + found["RssShmem"]
    return {"all": found["VmRSS"], "own": own, "most": found["VmHWM"]}


if __name__ == "__main__":
    main()
