"""How fast the web service answers, beside Datasette on the same data.

    scripts/bench portal                        201,000 boxes, two contests: 402,000 rows
    scripts/bench portal --boxes 2010           a small country
    scripts/bench portal --site DIR             keep the site, which takes minutes to make

It prints

    data        seconds and megabytes to read the newest snapshot
    queries     milliseconds of searches by every criterion, in this process: median, 95 %, slowest
    calls       the same searches as calls of `ssps portal` over HTTP, with password and record,
                beside SQL queries of Datasette on an SQLite file with the same rows and indexes
    summary     calls a second of one small summary, over 8 connections that are kept
    bulk        megabytes a second of a whole snapshot (zstd)
    memory      megabytes of the portal's process: all, and without files that it shares

Both servers run one process each on the loopback interface. Datasette (Apache 2.0) gets a folder of
its own, since it is no dependency of this project. Run it on a quiet machine.
"""

import argparse
import asyncio
import base64
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from urllib.parse import quote, urlencode

import duckdb

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS.parent), str(_TESTS), str(_TESTS / "bench")]

import portal_site  # noqa: E402 - from the folders above
import web_site  # noqa: E402

from config.scope import ALL  # noqa: E402
from config.settings import ShareLevel  # noqa: E402
from config.sheet import SandikTuru, Secim  # noqa: E402
from config.site import KEYS, SNAPSHOTS  # noqa: E402
from keys.server_keys import host  # noqa: E402
from portal.data.criteria import Area, Criteria  # noqa: E402
from portal.data.live import LiveData  # noqa: E402
from portal.data.scoped import ScopedData  # noqa: E402
from publisher.results.snapshots.snapshot import latest_number  # noqa: E402

ALL_BOXES = 201_000
_DATASETTE = _TESTS.parent / ".venv" / "datasette"
_QUERIES = 120
_CONNECTIONS, _SECONDS = 8, 5.0
_HOST = "127.0.0.1"
_PARTIES = """\
[[party]]
id = "parti-a"
name = "A Partisi"
kind = "party"
scope = "all"
static_ips = ["127.0.0.1"]
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=ALL_BOXES)
    parser.add_argument("--site", type=Path)
    parser.add_argument("--no-datasette", action="store_true")
    asked = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="ssps-bench-portal-"))
    site = asked.site or scratch / "site"
    try:
        if not (site / SNAPSHOTS).exists():
            portal_site.make(site, asked.boxes)
        if not (site / "parties.toml").exists():
            _make_portal(site)
        measure(site, scratch, datasette=not asked.no_datasette)
    finally:
        shutil.rmtree(scratch)


def _make_portal(site: Path) -> None:
    """Write the settings, keys and users that `ssps portal` needs."""
    settings = web_site.SITE_TOML.replace('127.0.0.1:0"', f'127.0.0.1:{_free_port()}"')
    web_site.make(site, f"{settings}calls_per_minute = 1000000\n", _PARTIES)
    shutil.rmtree(site / KEYS)  # the parties' users are written once all keys are there
    host.create_site_keys(site)
    web_site.write_users(site, *web_site.users()[:1])
    (site / KEYS).chmod(0o700)


def measure(site: Path, scratch: Path, *, datasette: bool) -> None:
    """Measure one site."""
    began, before = time.perf_counter(), _memory(os.getpid())[0]
    live = LiveData(site, ShareLevel.CEVRE)
    took = time.perf_counter() - began
    data = live.scoped(ALL)
    boxes = data.summary(Criteria(Secim.MV)).boxes
    print(f"\n{boxes:,} boxes, two contests: {2 * boxes:,} rows, load {os.getloadavg()[0]:.1f}")
    say(
        "reading the newest snapshot", f"{took:.1f} s", f"{_memory(os.getpid())[0] - before:.0f} MB"
    )
    searches = list(_searches(data, random.Random(7)))  # noqa: S311 - no secret in it
    print("\nqueries in this process, ms           median      95 %   slowest")
    for name, ask in _QUESTIONS.items():
        show(name, [timed(partial(ask, data, c)) for c in searches])
    with _portal(site) as (port, process):
        calls = [("/v1/results?" + _query(c), c) for c in searches]
        ours = [_get(port, path) for path, _ in calls]
        theirs: list[float] = []
        if datasette:
            file = scratch / "results.sqlite"
            _as_sqlite(site, file)
            with _datasette(file) as other:
                theirs = [_get(other, _sql(criteria), login=False) for _, criteria in calls]
        print("\ncalls over HTTP, ms                    median      95 %   slowest")
        show("/v1/results, 100 rows and their sums", ours)
        if theirs:
            show("Datasette, the same", theirs)
            ratio = statistics.median(theirs) / statistics.median(ours)
            say("median of Datasette / ours", f"{ratio:.1f}")
        spent = _processor_seconds(process)
        calls_made = asyncio.run(_load(port, "/v1/summary?secim=mv&cevre=34-istanbul-1"))
        spent = 1e6 * (_processor_seconds(process) - spent) / calls_made
        more = f"{spent:.0f} us of the portal's processor a call"
        say("a small summary", f"{calls_made / _SECONDS:,.0f} calls/s", more)
        say("the whole snapshot, zstd", f"{_bulk(port, live.number):,.0f} MB/s")
        whole, own = _memory(process)
        say("memory of the portal", f"{whole:.0f} MB", f"{own:.0f} MB without shared files")


def _searches(data: ScopedData, rng: random.Random) -> Iterator[Criteria]:
    """Yield searches by every criterion, from the whole country to one mahalle."""
    boards = data.boards()
    for number in range(_QUERIES):
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


_Question = Callable[[ScopedData, Criteria], object]
_QUESTIONS: dict[str, _Question] = {
    "table of 100 rows and its sums": lambda d, c: _forgetful(d).table(c),
    "sorted by a party's votes": lambda d, c: (
        d.table(c, "oylar.parti-3", descending=True)
        if c.secim is Secim.MV
        else d.table(c, "oylar.aday-1", descending=True)
    ),
    "dependent lists": lambda d, c: d.choices(c),
    "changes, newest 100": lambda d, c: d.changes(c),
    "gaps": lambda d, c: d.gaps(c),
    "box page": lambda d, c: [d.box(p) for p in islice(d.places(c), 1)],
}


def _forgetful(data: ScopedData) -> ScopedData:
    """Forget what was computed before, so that each search is the first one of its kind."""
    data._view.cache.clear()
    return data


def timed(work: Callable[[], object]) -> float:
    """Return the milliseconds that a call takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def show(name: str, times: list[float]) -> None:
    """Print median, 95 % and slowest."""
    cut = statistics.quantiles(times, n=20)[18]
    print(
        f"  {name:<36}{statistics.median(times):>8.1f}{cut:>10.1f}{max(times):>10.1f}", flush=True
    )


def say(what: str, figure: str, more: str = "") -> None:
    """Print one line."""
    print(f"  {what:<34} {figure:>14}  {more}", flush=True)


def _query(criteria: Criteria) -> str:
    return urlencode({**criteria.query(), "limit": "100"})


def _sql(criteria: Criteria) -> str:
    """Return the address at which Datasette answers the same search: its rows and their sums."""
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
    where = " AND ".join(parts) or "1"
    votes = [f"parti-{n}" for n in range(1, 27)] if criteria.secim is Secim.MV else ["aday-1"]
    # One pass for the sums of all columns, and the first hundred rows beside them.
    added = ", ".join(f'sum("oylar.{v}") AS "t.{v}"' for v in votes)
    table = criteria.secim.value
    sql = (
        f"WITH s AS (SELECT count(*) AS n, sum(secmen), sum(gecerli), {added} FROM {table} "
        f"WHERE {where}) SELECT * FROM (SELECT * FROM {table} WHERE {where} "
        "ORDER BY cevre, kurul, sandik LIMIT 100), s"
    )
    return f"/results.json?sql={quote(sql)}&_shape=arrays"


def _as_sqlite(site: Path, file: Path) -> None:
    """Write the newest snapshot as SQLite, with the mahalle, and indexes on what is searched."""
    number = latest_number(site) or 0
    mahalles = {place[:3]: place[4] for place in portal_site.places(ALL_BOXES)}
    database = sqlite3.connect(file)
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
    database.execute("ANALYZE")
    database.commit()
    database.close()


@contextmanager
def _portal(site: Path) -> Iterator[tuple[int, int]]:
    """Run `ssps portal`; yield its port and process id."""
    text = (site / "site.toml").read_text(encoding="utf-8")
    port = int(text.partition("[portal]")[2].partition(":")[2].partition('"')[0])
    command = [sys.executable, "-m", "scripts.ssps", "portal", "--site", str(site)]
    with _running(command, port) as process:
        _get(port, "/v1/summary?secim=mv")  # the first call reads the snapshot
        yield port, process.pid


@contextmanager
def _datasette(file: Path) -> Iterator[int]:
    port = _free_port()
    command = [sys.executable, "-m", "datasette", "serve", str(file), "--port", str(port)]
    command += ["--setting", "sql_time_limit_ms", "20000", "--setting", "num_sql_threads", "2"]
    with _running(command, port, {"PYTHONPATH": str(_DATASETTE)}):
        yield port


@contextmanager
def _running(
    command: list[str], port: int, environment: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        command,
        cwd=_TESTS.parent,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{command[2]} ended with {process.returncode}")
            try:
                socket.create_connection((_HOST, port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _head(path: str, login: bool = True, encoding: str = "identity") -> bytes:
    secret = base64.b64encode(f"parti-a.servis:{web_site.PASSWORD}".encode()).decode()
    authorization = f"Authorization: Basic {secret}\r\n" if login else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: bench\r\n{authorization}Accept-Encoding: {encoding}\r\n\r\n"
    ).encode()


async def _exchange(port: int, request: bytes) -> tuple[float, int]:
    """Return the milliseconds of one request on a connection of its own, and the bytes."""
    reader, writer = await asyncio.open_connection(_HOST, port)
    began = time.perf_counter()
    writer.write(request)
    size = await _answer(reader)
    took = 1000 * (time.perf_counter() - began)
    writer.close()
    return took, size


async def _answer(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b" 200 " not in head.split(b"\r\n", 1)[0]:
        raise SystemExit(head.decode())
    if b"transfer-encoding: chunked" in head:
        size = 0
        while length := int((await reader.readline()), 16):
            size += len(await reader.readexactly(length + 2)) - 2
        await reader.readline()
        return size
    size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    left = size
    while left:
        left -= len(await reader.read(min(left, 1 << 20)))
    return size


def _get(port: int, path: str, login: bool = True) -> float:
    return asyncio.run(_exchange(port, _head(path, login)))[0]


def _bulk(port: int, number: int) -> float:
    request = _head(f"/v1/snapshots/{number}", encoding="zstd")
    took, size = min(asyncio.run(_exchange(port, request)) for _ in range(3))
    return size / 1e3 / took


async def _load(port: int, path: str) -> int:
    """Return how many calls are answered in _SECONDS on connections that are kept."""
    request, until = _head(path), time.perf_counter() + _SECONDS

    async def one() -> int:
        reader, writer = await asyncio.open_connection(_HOST, port)
        count = 0
        while time.perf_counter() < until:
            writer.write(request)
            await _answer(reader)
            count += 1
        writer.close()
        return count

    return sum(await asyncio.gather(*(one() for _ in range(_CONNECTIONS))))


def _processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(process: int) -> tuple[float, float]:
    """Return the megabytes in memory of a process, and those that are not of files."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines if " kB" in line}
    return found["VmRSS"], found["RssAnon"] + found["RssShmem"]


if __name__ == "__main__":
    main()
