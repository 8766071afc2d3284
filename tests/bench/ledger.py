"""Measure how fast ledgers are written, verified and queried.

append    append records of transfers while a signer signs once a second; writer and signer share
          one core. With `always` each record is synced to disk before the next one, with `of 32`
          32 records at once
asked     processes that open and close files like sessions, each waiting for its answer, and the
          server's monitor (sftpd/monitor/children), which writes the records of all of them; the
          CPU time is the monitor's
verify    the work of `ssps audit verify`, on one core
index     DuckDB, which `ssps audit query` uses, compared with SQLite and the indexes that it would
          need: building the index from the same lines, its size, and the same queries

The exit code is 1 if fewer than 20,000 records per second are appended.
"""

import argparse
import json
import os
import socket
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.sftpd.monitor.test_children import LocalStarter

from config.event import Event, Value
from config.party import parse_address
from keys import digest
from keys.credentials.ratelimit import BandwidthLimits
from keys.ledger import note, segments
from keys.ledger.signer import Signer
from keys.ledger.verify import LedgerFiles, verify_ledger
from keys.ledger.writer import Ledger, WritePolicy
from scripts.audit import index
from scripts.shared.signing import sign_until_closed
from sftpd.ipc.messages import Recorded
from sftpd.ipc.monitor_client import MonitorClient
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.monitor.children import Children
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import Monitor
from sftpd.monitor.records.stamps import StampChecker

KEY = Ed25519PrivateKey.generate()
STAMP_KEY = bytes(32)
MIN_RATE = 20_000  # appended records per second


def transfers(count: int) -> Iterator[Event]:
    """Yield OPEN and CLOSE events of forty parties that mirror the same sheets."""
    for number in range(count):
        sheet = number // 80 % 201_000
        path = (
            f"/2023-05-14-cb-mv/{sheet % 87}-il/kurul-{sheet % 1094}/sandik-{sheet}"
            "/cb-sandik-sonuc-s1.jpg"
        )
        detail: dict[str, Value] = {"session": number // 1000, "handle": number % 9}
        party, address = f"parti-{number // 2 % 40:02}", f"192.0.2.{number // 2 % 40}"
        if number % 2:
            detail |= {"bytes": 200_000, "complete": True, "ms": 12, "sha256": f"{sheet:064x}"}
            yield Event("close", party, address, path, detail=detail)
        else:
            yield Event("open", party, address, path, detail={**detail, "size": 200_000})


def append(folder: Path, seconds: float, policy: WritePolicy, group: int = 1) -> dict[str, float]:
    """Append groups of records for some seconds beside a signer, both on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    folder.mkdir(parents=True)
    reader, writer_end = os.pipe()  # closing the writer's end stops the signer
    child = os.fork()
    if child == 0:
        os.close(writer_end)
        signed = sign(folder, reader)
        os._exit(min(signed, 255))
    os.close(reader)
    took: list[float] = []
    with Ledger(folder, policy=policy) as writer:
        began = time.monotonic()
        events = transfers(1 << 40)
        while (before := time.perf_counter()) and time.monotonic() < began + seconds:
            writer.append(*(next(events) for _ in range(group)))
            took.append(time.perf_counter() - before)
        elapsed = time.monotonic() - began
        count = writer.next_seq
    os.close(writer_end)
    _, status = os.waitpid(child, 0)
    os.sched_setaffinity(0, cores)
    checkpoint = segments.read_checkpoint(folder)
    assert checkpoint is not None
    assert note.open_checkpoint(checkpoint, [KEY.public_key()]).size == count
    return {
        "records per second": count / elapsed,
        "median us": statistics.median(took) * 1e6,
        "p99 us": statistics.quantiles(took, n=100)[98] * 1e6,
        "checkpoints": os.waitstatus_to_exitcode(status),
    }


def sessions_rate(
    folder: Path, seconds: float, policy: WritePolicy, sessions: int
) -> dict[str, float]:
    """Measure the records of this number of sessions for some seconds."""
    loop = Loop()
    with Ledger(folder, policy=policy) as writer:
        monitor = Monitor(loop, writer, sessions)
        monitor.stamps = StampChecker(lambda _: STAMP_KEY)
        starter = LocalStarter(lambda parent, pending: run_session(parent, pending, until))
        children = Children(loop, monitor, starter, lambda _: None, BandwidthLimits())
        until = time.monotonic() + seconds + sessions * 0.005
        for _ in range(sessions):
            peer, other = socket.socketpair()
            with peer, other:
                children.start(peer, parse_address("192.0.2.7"), None)
            for child in children:
                if child.state.party is None:
                    monitor.admit(child.state, "a", "publickey", "SHA256:x")
        # A slow disk may admit the last sessions only when the first have ended.
        while monitor.sessions["a"] < sessions and time.monotonic() < until:
            loop.run_once()
        first, began, before = writer.next_seq, time.monotonic(), time.process_time()
        while time.monotonic() < until:
            loop.run_once(until)
        count, took = writer.next_seq - first, time.monotonic() - began
        spent = time.process_time() - before
        while children:
            loop.run_once()
    loop.close()
    return {"records per second": count / took, "monitor's us per record": spent / count * 1e6}


def run_session(parent: socket.socket, pending: PendingCloses, until: float) -> None:
    """Open and close files as a session does, in a child."""
    monitor = MonitorClient(parent, pending)
    path = b"/2023-05-14-cb-mv/7-il/kurul-7/sandik-7/cb-sandik-sonuc-s1.jpg"
    claim = sealed_claim()
    while time.monotonic() < until:
        assert monitor.record_open(1, path, 200_000, claim) is Recorded.PROVEN
        monitor.record_close(1, 200_000, True, b"", "")
    monitor.end("closed")
    os._exit(0)


def sealed_claim() -> bytes:
    """Return the claim of a file that is sealed with STAMP_KEY."""
    with tempfile.NamedTemporaryFile() as file:
        digest.stamp(file.fileno(), digest.digests_of(b""), STAMP_KEY)
        return digest.Claim.of(file.fileno()).pack()


def sign(folder: Path, pipe: int) -> int:
    """Sign once a second until the other end of the pipe is closed; return how often."""
    count = 0

    class CountingSigner(Signer):
        def sign(self, last: bool = False) -> note.Checkpoint | None:
            nonlocal count
            signed = super().sign(last)
            count += signed is not None
            return signed

    with CountingSigner(folder, KEY) as signer:
        sign_until_closed(signer, pipe, compress=False)
    return count


def write_ledger(folder: Path, count: int) -> None:
    """Write and sign a ledger with this number of records."""
    with Ledger(folder) as writer:
        block: list[Event] = []
        for event in transfers(count):
            block.append(event)
            if len(block) == 1000:
                writer.append(*block)
                block.clear()
        if block:
            writer.append(*block)
    with Signer(folder, KEY) as signer:
        signer.sign(last=True)


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


QUERIES = {
    "one party's refusals": (
        "select count(*) from record where who = 'parti-07' and outcome <> 'ok'"
    ),
    "one board of one party": (
        "select * from record where who = 'parti-07' "
        "and what glob '/2023-05-14-cb-mv/7-il/kurul-7/*'"
    ),
    "bytes of each party": (
        "select who, count(distinct what), sum({bytes}) from record "
        "where event = 'close' group by who"
    ),
    "first download of each sheet": (
        "select who, what, min(time) from record where event = 'close' group by who, what"
    ),
}


def duckdb_figures(folder: Path) -> dict[str, float]:
    """Build the index of `ssps audit query`, and query it."""
    database = index.open_index([folder], rebuild=True)
    database.close()
    path = index.index_path([folder])
    built = timed(lambda: index.open_index([folder], rebuild=True).close())
    database = index.open_index([folder])
    figures = {"built, s": built, "MB": path.stat().st_size / 1e6}
    for name, query in QUERIES.items():
        query = query.format(bytes="try_cast(detail->>'bytes' as bigint)")
        figures[name] = timed(partial(index.select_rows, database, query))
    database.close()
    path.unlink()
    return figures


def sqlite_figures(folder: Path, path: Path) -> dict[str, float]:
    """Do the same with SQLite and the indexes that these queries need."""

    def records() -> Iterator[tuple[object, ...]]:
        for _, _, line in segments.read_lines(folder):
            data = json.loads(line)
            detail = data["detail"]
            yield (
                data["seq"],
                data["time"],
                data["event"],
                data["who"],
                data["from"],
                data["what"],
                data["outcome"],
                detail.get("bytes"),
                json.dumps(detail),
            )

    database = sqlite3.connect(path)

    def build() -> None:
        database.executescript("pragma journal_mode = off; pragma synchronous = off;")
        columns = "seq integer primary key, time, event, who, origin, what, outcome, bytes, detail"
        database.execute(f"create table record ({columns})")
        database.executemany(f"insert into record values ({','.join('?' * 9)})", records())
        for column in ("who", "what", "time", "origin", "outcome"):
            database.execute(f"create index by_{column} on record ({column})")
        database.commit()

    figures = {"built, s": timed(build), "MB": path.stat().st_size / 1e6}

    def select(query: str) -> None:
        database.execute(query).fetchall()

    for name, query in QUERIES.items():
        figures[name] = timed(partial(select, query.format(bytes="bytes")))
    database.close()
    return figures


def main() -> int:
    """Measure and print the figures; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench ledger",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--records", type=int, default=1_000_000, help="records to verify and to index (1000000)"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of an append measurement (10)"
    )
    parser.add_argument(
        "--only", choices=["append", "asked", "verify", "index"], help="only this part"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="folder for the ledgers (a temporary one)"
    )
    options = parser.parse_args()
    slow = False
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        room = Path(made)
        os.environ["XDG_CACHE_HOME"] = str(room / "cache")
        if options.only in (None, "append"):
            plain = append(room / "a", options.seconds, WritePolicy())
            show("append", plain)
            slow = plain["records per second"] < MIN_RATE
            show(
                "append, always",
                append(room / "b", options.seconds / 3, WritePolicy(sync_always=True)),
            )
            of = append(room / "c", options.seconds / 3, WritePolicy(sync_always=True), 32)
            show("append, always, of 32", of)
        if options.only in (None, "asked"):
            for sessions in (1, 8, 32):
                for kind, policy in (
                    ("", WritePolicy()),
                    (", always", WritePolicy(sync_always=True)),
                ):
                    folder, seconds = room / f"{sessions}{kind}", options.seconds / 3
                    figures = sessions_rate(folder, seconds, policy, sessions)
                    show(f"asked by {sessions}{kind}", figures)
        if options.only in (None, "verify", "index"):
            write_ledger(room / "v", options.records)
        if options.only in (None, "verify"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            took = timed(lambda: verify(room / "v"))
            count = options.records
            show("verify", {"records": count, "s": took, "records per second": count / took})
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        if options.only in (None, "index"):
            show("DuckDB", duckdb_figures(room / "v"))
            show("SQLite", sqlite_figures(room / "v", room / "sqlite"))
    return int(slow)


def verify(folder: Path) -> None:
    """Verify a ledger; it must have no findings."""
    result = verify_ledger(LedgerFiles(folder), [KEY.public_key()])
    assert not result.findings, result.findings


def show(name: str, figures: dict[str, float]) -> None:
    """Print one line for each figure."""
    for what, figure in figures.items():
        text = f"{figure:,.0f}" if figure >= 100 else f"{figure:,.3g}"
        print(f"{name:24} {what:28} {text:>14}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
