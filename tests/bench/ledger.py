"""How fast the record is written, proved and asked: prints a table.

append    records like those of a transfer, one by one, while a signer signs once a second; writer
          and signer share one core. `always` has the disk hold each record before the next, `of 32`
          as many at once
asked     what sessions get of it: so many processes that open and close files, each waiting for
          its answer, and the server's parent (sftpd/monitor/children) that writes for all of them;
          the processor time is the parent's
verify    `ssps audit verify`'s own work, on one core
index     DuckDB, which `ssps audit query` uses, beside SQLite with the indexes it would need:
          making it of the same lines, its size, and the same questions to both

Below 20,000 appended records a second the exit code is 1.
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
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.event import Event, Value
from config.party import parse_address
from keys.credentials.ratelimit import BandwidthLimits
from keys.ledger import note, segments
from keys.ledger.signer import Signer
from keys.ledger.verify import LedgerFiles, verify_ledger
from keys.ledger.writer import Ledger, WritePolicy, utc_now
from scripts.audit import index
from scripts.shared.signing import sign_until_closed
from sftpd.ipc.monitor_client import MonitorClient
from sftpd.ipc.pending_closes import PendingCloses
from sftpd.monitor.children import Children
from sftpd.monitor.loop import Loop
from sftpd.monitor.monitor import Monitor
from sftpd.monitor.password_change import PasswordChanges

KEY = Ed25519PrivateKey.generate()
REACH = 20_000


def transfers(count: int) -> Iterator[Event]:
    """The opens and closes of forty parties that each mirror the same sheets."""
    for number in range(count):
        sheet = number // 80 % 201_000
        path = (
            f"/2023-05-14-cb-mv/{sheet % 87}-il/kurul-{sheet % 1094}/sandik-{sheet}"
            "/cb-sandik-sonuc-s1.jpg"
        )
        told: dict[str, Value] = {"session": number // 1000, "handle": number % 9}
        party, address = f"parti-{number // 2 % 40:02}", f"192.0.2.{number // 2 % 40}"
        if number % 2:
            told |= {"bytes": 200_000, "complete": True, "ms": 12, "sha256": f"{sheet:064x}"}
            yield Event("close", party, address, path, detail=told)
        else:
            yield Event("open", party, address, path, detail={**told, "size": 200_000})


def append(folder: Path, seconds: float, terms: WritePolicy, group: int = 1) -> dict[str, float]:
    """Write for so long with a signer beside, both on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    folder.mkdir(parents=True)
    asked, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        signed = sign(folder, asked)
        os._exit(min(signed, 255))
    os.close(asked)
    took: list[float] = []
    with Ledger(folder, policy=terms) as writer:
        begun = time.monotonic()
        events = transfers(1 << 40)
        while (before := time.perf_counter()) and time.monotonic() < begun + seconds:
            writer.append(*(next(events) for _ in range(group)))
            took.append(time.perf_counter() - before)
        whole = time.monotonic() - begun
        count = writer.next_seq
    os.close(told)
    _, status = os.waitpid(child, 0)
    os.sched_setaffinity(0, cores)
    checkpoint = segments.read_checkpoint(folder)
    assert checkpoint is not None
    assert note.open_checkpoint(checkpoint, [KEY.public_key()]).size == count
    return {
        "records a second": count / whole,
        "median us": statistics.median(took) * 1e6,
        "p99 us": statistics.quantiles(took, n=100)[98] * 1e6,
        "checkpoints": os.waitstatus_to_exitcode(status),
    }


def asked(folder: Path, seconds: float, terms: WritePolicy, sessions: int) -> dict[str, float]:
    """Have so many children ask for so long."""
    loop = Loop()
    with Ledger(folder, policy=terms) as writer:
        monitor = Monitor(loop, writer, sessions)
        passwords = PasswordChanges(loop, folder, utc_now)
        children = Children(loop, monitor, lambda _: None, BandwidthLimits(), passwords)
        until = time.monotonic() + seconds + sessions * 0.005
        for _ in range(sessions):
            peer, other = socket.socketpair()
            with peer, other:
                children.start(
                    peer,
                    parse_address("192.0.2.7"),
                    None,
                    lambda parent, slate: ask(parent, slate, until),
                )
        while monitor.sessions["a"] < sessions:
            loop.run_once()
        first, begun, before = writer.next_seq, time.monotonic(), time.process_time()
        while time.monotonic() < until:
            loop.run_once(until)
        count, took = writer.next_seq - first, time.monotonic() - begun
        spent = time.process_time() - before
        while children:
            loop.run_once()
    loop.close()
    return {"records a second": count / took, "parent's us a record": spent / count * 1e6}


def ask(parent: socket.socket, slate: PendingCloses, until: float) -> None:
    """Open and close files, as a session does."""
    reporter = MonitorClient(parent, slate)
    reporter.admit("a", "publickey", "SHA256:x", "SSH-2.0-x", "aes128-gcm", "mlkem768x25519")
    path, sha256 = b"/2023-05-14-cb-mv/7-il/kurul-7/sandik-7/cb-sandik-sonuc-s1.jpg", b"0" * 64
    while time.monotonic() < until:
        assert reporter.record_open(1, path, 200_000, sha256)
        reporter.record_close(1, 200_000, True, b"", "")
    reporter.end("closed")
    os._exit(0)


def sign(folder: Path, asked: int) -> int:
    """Sign once a second until the other end is closed; return how often."""
    count = 0

    class Counted(Signer):
        def sign(self, last: bool = False) -> note.Checkpoint | None:
            nonlocal count
            signed = super().sign(last)
            count += signed is not None
            return signed

    with Counted(folder, KEY) as signer:
        sign_until_closed(signer, asked, compress=False)
    return count


def filled(folder: Path, count: int) -> None:
    """Write and sign a ledger of so many records."""
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
    """Return the seconds that it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


QUESTIONS = {
    "one party's refusals": (
        "select count(*) from record where who = 'parti-07' and outcome <> 'ok'"
    ),
    "one board of one party": (
        "select * from record where who = 'parti-07' "
        "and what glob '/2023-05-14-cb-mv/7-il/kurul-7/*'"
    ),
    "who took how much": (
        "select who, count(distinct what), sum({bytes}) from record "
        "where event = 'close' group by who"
    ),
    "first fetch of each sheet": (
        "select who, what, min(time) from record where event = 'close' group by who, what"
    ),
}


def duck(folder: Path) -> dict[str, float]:
    """Make the index and ask it."""
    database = index.open_index([folder], rebuild=True)
    database.close()
    path = index.index_path([folder])
    made = timed(lambda: index.open_index([folder], rebuild=True).close())
    database = index.open_index([folder])
    found = {"made, s": made, "MB": path.stat().st_size / 1e6}
    for name, question in QUESTIONS.items():
        asked = question.format(bytes="try_cast(detail->>'bytes' as bigint)")
        found[name] = timed(lambda asked=asked: index.select_rows(database, asked))  # type: ignore[misc]
    database.close()
    path.unlink()
    return found


def sqlite(folder: Path, path: Path) -> dict[str, float]:
    """Do the same with SQLite and the indexes that these questions would need."""

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

    def make() -> None:
        database.executescript("pragma journal_mode = off; pragma synchronous = off;")
        columns = "seq integer primary key, time, event, who, origin, what, outcome, bytes, detail"
        database.execute(f"create table record ({columns})")
        database.executemany(f"insert into record values ({','.join('?' * 9)})", records())
        for column in ("who", "what", "time", "origin", "outcome"):
            database.execute(f"create index by_{column} on record ({column})")
        database.commit()

    found = {"made, s": timed(make), "MB": path.stat().st_size / 1e6}
    for name, question in QUESTIONS.items():
        asked = question.format(bytes="bytes")
        found[name] = timed(lambda asked=asked: database.execute(asked).fetchall())  # type: ignore[misc]
    database.close()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000, help="to verify and to index")
    parser.add_argument("--seconds", type=float, default=10.0, help="of appending")
    parser.add_argument("--only", choices=["append", "asked", "verify", "index"])
    parser.add_argument("--folder", type=Path, help="where to write; else a temporary folder")
    stated = parser.parse_args()
    slow = False
    with tempfile.TemporaryDirectory(dir=stated.folder) as made:
        room = Path(made)
        os.environ["XDG_CACHE_HOME"] = str(room / "cache")
        if stated.only in (None, "append"):
            plain = append(room / "a", stated.seconds, WritePolicy())
            show("append", plain)
            slow = plain["records a second"] < REACH
            show(
                "append, always",
                append(room / "b", stated.seconds / 3, WritePolicy(sync_always=True)),
            )
            of = append(room / "c", stated.seconds / 3, WritePolicy(sync_always=True), 32)
            show("append, always, of 32", of)
        if stated.only in (None, "asked"):
            for sessions in (1, 8, 32):
                for kind, terms in (
                    ("", WritePolicy()),
                    (", always", WritePolicy(sync_always=True)),
                ):
                    found = asked(room / f"{sessions}{kind}", stated.seconds / 3, terms, sessions)
                    show(f"asked by {sessions}{kind}", found)
        if stated.only in (None, "verify", "index"):
            filled(room / "v", stated.records)
        if stated.only in (None, "verify"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            took = timed(lambda: verified(room / "v"))
            show(
                "verify", {"records": stated.records, "s": took, "a second": stated.records / took}
            )
            os.sched_setaffinity(0, range(os.cpu_count() or 1))
        if stated.only in (None, "index"):
            show("DuckDB", duck(room / "v"))
            show("SQLite", sqlite(room / "v", room / "sqlite"))
    return int(slow)


def verified(folder: Path) -> None:
    """Verify, and have it hold."""
    result = verify_ledger(LedgerFiles(folder), [KEY.public_key()])
    assert not result.findings, result.findings


def show(name: str, figures: dict[str, float]) -> None:
    """Print a line a figure."""
    for what, figure in figures.items():
        text = f"{figure:,.0f}" if figure >= 100 else f"{figure:,.3g}"
        print(f"{name:24} {what:28} {text:>14}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
