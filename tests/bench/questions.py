"""Measure how fast `ssps audit query` answers from a large transfer ledger.

It writes a ledger like that of a polling night with 40 parties: sessions of a thousand files each,
with LOGIN, OPEN, CLOSE and SESSION_END records, and sometimes a missing file, a denied verb or a
failed login. Then it runs `ssps audit query` in a new process for each query. The first run builds
the index, the others use it. The exit code is 1 if a query returns a wrong number of records.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

from keys.ledger import segments
from keys.ledger.record import parse_record

PARTIES = 40
FILES = 1000  # per session
SEGMENT = 200_000  # records per segment, about 64 MB
_BEGAN = datetime(2023, 5, 14, 14, tzinfo=UTC)
_A_DAY = timedelta(hours=24)
_SSPS = [sys.executable, "-m", "scripts.ssps", "audit", "query"]


def lines(count: int) -> Iterator[str]:
    """Yield the lines of the ledger in order, as keys/ledger/record formats them."""
    step = _A_DAY / count
    seq = 0
    for session in range(count):
        party = session % PARTIES
        tail = f'"who":"parti-{party:02}"}}\n'
        for detail, event, outcome, what in session_events(session, party):
            at = _BEGAN + seq * step
            yield (
                f'{{"detail":{{{detail}}},"event":"{event}","from":"192.0.2.{party}","mono":{seq},'
                f'"outcome":"{outcome}","seq":{seq},'
                f'"time":"{at.isoformat(timespec="microseconds")[:-6]}Z","what":"{what}",{tail}'
            )
            seq += 1


def session_events(session: int, party: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield detail, event, outcome and path of each record of a session."""
    login = (
        f'"cipher":"aes128-gcm@openssh.com","client":"SSH-2.0-OpenSSH_9.2","credential":'
        f'"SHA256:{party:043}","kex":"mlkem768x25519-sha256","method":"publickey","session":{session}'
    )
    if session % 10 == 3:
        refused = (
            f'"client":"SSH-2.0-OpenSSH_9.2","credential":"SHA256:x{session:042}",'
            f'"method":"publickey","reason":"wrong credential","session":{session}'
        )
        yield refused, "login-refused", "refused", ""
    yield login, "login", "ok", ""
    for number in range(FILES):
        # Every party downloads the same sheets in the same order.
        sheet = (session // PARTIES * FILES + number) % 201_000
        what = (
            f"/2023-05-14-cb-mv/{sheet % 87}-il/kurul-{sheet % 1094}/sandik-{sheet}"
            "/cb-sandik-sonuc-s1.jpg"
        )
        handle = number % 9
        yield f'"handle":{handle},"session":{session},"size":200000', "open", "ok", what
        closed = (
            f'"bytes":200000,"complete":true,"handle":{handle},"ms":12,"session":{session},'
            f'"sha256":"{sheet:064x}"'
        )
        yield closed, "close", "ok", what
    if session % 5 == 1:
        yield f'"reason":"no such file","session":{session}', "open", "refused", "/yok.jpg"
        yield f'"session":{session},"verb":"mkdir"', "denied", "refused", "/yeni"
    ended = f'"bytes":200000000,"files":{FILES},"ms":60000,"reason":"closed","session":{session}'
    yield ended, "session-end", "ok", ""


def write(folder: Path, count: int) -> int:
    """Write the segments and return their size in bytes; parse one line of each as a check."""
    folder.mkdir()
    written, remaining = 0, lines(count)
    for first in range(0, count, SEGMENT):
        part = list(islice(remaining, min(SEGMENT, count - first)))
        if parse_record(part[-1].encode()).seq != first + len(part) - 1:
            raise SystemExit("the generated lines are not valid records")
        path = folder / segments.file_name(first, segments.PLAIN)
        path.write_text("".join(part), encoding="utf-8")
        written += path.stat().st_size
    return written


def queries(count: int) -> dict[str, tuple[list[str], int | None]]:
    """Return name, options and expected number of records of each query; None if not known."""
    noon = _BEGAN + _A_DAY / 2
    hour = ["--since", noon.isoformat(), "--until", (noon + timedelta(minutes=10)).isoformat()]
    sessions = count // (PARTIES * (2 * FILES + 2))  # of each party, at least
    sheet = "/2023-05-14-cb-mv/7-il/kurul-7/sandik-7/cb-sandik-sonuc-s1.jpg"
    fetched = 2 * PARTIES * (1 + (sessions * FILES - 1000) // 201_000)
    return {
        "new records (none)": (["--since", "2030-01-01T00:00:00+00:00"], 0),
        "ten minutes of one party": (["--party", "parti-07", *hour], None),
        "one sheet, all parties": (["--path", sheet], fetched if count >= 40_000_000 else None),
        "one board of one party": (
            ["--party", "parti-07", "--path", "/2023-05-14-cb-mv/7-il/kurul-7/*"], None,
        ),
        "an unknown address": (["--address", "198.51.100.1"], 0),
        "first hundred of one address": (["--address", "192.0.2.9", "-n", "100"], 100),
        "refusals of one credential": (
            ["--credential", f"SHA256:{11:043}", "--outcome", "refused"], None,
        ),
        "credential of one failed login": (["--credential", f"SHA256:x{13:042}"], None),
        "all refusals": (["--outcome", "refused"], None),
        "failed logins of one party": (["--party", "parti-03", "--event", "login-refused"], None),
    }  # fmt: skip


def run_query(folder: Path, options: list[str]) -> tuple[float, int]:
    """Run one query; return the seconds and the number of records."""
    begun = time.perf_counter()
    done = subprocess.run([*_SSPS, str(folder), "--json", *options], capture_output=True)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return time.perf_counter() - begun, done.stdout.count(b"\n")


def main() -> int:
    """Measure and print the figures; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bench questions", description=__doc__)
    parser.add_argument(
        "--records", type=int, default=40_000_000, help="records in the ledger (40000000)"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="folder for the ledger (a temporary one)"
    )
    stated = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(dir=stated.folder) as made:
        room = Path(made)
        os.environ["XDG_CACHE_HOME"] = str(room / "cache")
        folder = room / "transfer"
        size = write(folder, stated.records)
        print(f"{stated.records:,} records, {size / 1e9:.1f} GB", flush=True)
        took, _ = run_query(folder, ["--address", "198.51.100.1"])
        index = sum(path.stat().st_size for path in (room / "cache").rglob("*.duckdb"))
        print(f"{'build the index':36} {took:8.1f} s  {index / 1e9:.1f} GB", flush=True)
        for name, (options, expected) in queries(stated.records).items():
            took, found = run_query(folder, options)
            wrong += expected is not None and expected != found
            print(f"{name:36} {took:8.2f} s  {found:,} records", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
