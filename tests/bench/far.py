"""Compare scripts/mirror with lftp, rclone and sftp for a party that is far away.

    scripts/bench far [--link 50:100] [--mb 250] [--repeats 1] [--only mirror] [--parallel 20]

Each client mirrors the same tree from our server through a delaying proxy (tests/bench/link.py),
which limits the rate of all its connections together. It prints the seconds of each client, from
its start to its end, and two shares: the time that the line needs for the pages alone, of these
seconds, and of the seconds since the first page began to arrive (without start and login). The
clients take turns, so that they share the load of the machine.

--parallel, which may be repeated, adds lftp and rclone with other numbers of files at once, to find
those of config/parallel.
"""

import argparse
import os
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import mirror
import run
import servers
from link import delayed, packets
from peers import machine
from servers import Server
from unit.publisher.filed_site import KEY, NOON

from config import layout, parallel
from keys.feed_segment import NO_PREVIOUS, FeedSegment, format_segment
from keys.server_keys import host, sshsig

_LINKS = ("50:100", "20:20", "100:50")
_PAGE = 200_000  # bytes
_EACH = 100  # pages in a segment
_LOGIN = 64_000  # bytes that the server sends until the first page, at most
_SESSIONS = 32  # the default of `sftp.max_sessions_per_party`
_MIRROR = Path(__file__).parents[2] / "scripts" / "mirror"


@dataclass(frozen=True)
class Link:
    """A line with its round trip in milliseconds and its rate in megabits per second."""

    round_trip: float
    mbit: float

    def __str__(self) -> str:
        return f"{self.round_trip:g} ms, {self.mbit:g} Mbit/s"


def link(text: str) -> Link:
    """Parse a link such as 50:100."""
    round_trip, mbit = map(float, text.split(":"))
    return Link(round_trip, mbit)


Task = Callable[[Server, Path], None]


def fill(tree: Path, pages: int) -> int:
    """Write pages and a feed that lists them; return the bytes of the pages."""
    (tree / "akis").mkdir()
    before = NO_PREVIOUS
    for number, first in enumerate(range(0, pages, _EACH), start=1):
        entries = []
        for page in range(first, min(first + _EACH, pages)):
            content = os.urandom(_PAGE)
            listed = replace(mirror.entry(page), size=_PAGE, sha256=sha256(content).hexdigest())
            file = tree / listed.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            entries.append(listed)
        segment = format_segment(
            FeedSegment(mirror._ELECTION, "0" * 16, number, NOON + number, before, tuple(entries))
        )
        file = tree / layout.segment(number)
        file.write_bytes(segment)
        Path(f"{file}.sig").write_bytes(sshsig.sign(KEY, segment))
        before = sha256(segment).hexdigest()
        (tree / "akis" / "son.txt").write_text(f"{file.name}\n")
    run.publish(tree)
    return pages * _PAGE


def ours(site: Path) -> Task:
    """Return the task of scripts/mirror; its known_hosts is written for the server's port."""

    def do(server: Server, into: Path) -> None:
        hosts, signers = into.parent / "known_hosts", into.parent / "allowed_signers"
        hosts.write_text(host.known_hosts(site, "127.0.0.1", server.port))
        signers.write_text(sshsig.allowed_signers(KEY.public_key()))
        command = [sys.executable, str(_MIRROR), "--host", "127.0.0.1", "--port", str(server.port)]
        command += ["--user", server.user, "--key", str(server.key), "--max-age", "0"]
        command += ["--known-hosts", str(hosts), "--signers", str(signers), "--to", str(into)]
        run.run(command)

    return do


def lftp(parallel: int) -> Task:
    """Return the task of `lftp` as the parties' guide says, with that number of files at once."""

    def do(server: Server, into: Path) -> None:
        ssh = shlex.join(["ssh", "-a", "-x", *server.options])
        script = (
            f'set sftp:auto-confirm yes; set sftp:connect-program "{ssh}"; '
            f"open -u {server.user}, sftp://127.0.0.1:{server.port}; "
            f"mirror --parallel={parallel} / {into}"
        )
        run.run(["lftp", "--norc", "-c", script])

    return do


def rclone(transfers: int, checkers: int) -> Task:
    """Return the task of `rclone` as the parties' guide says, with that many files at once."""

    def do(server: Server, into: Path) -> None:
        host = f"host=127.0.0.1,port={server.port},user={server.user},key_file={server.key}"
        many = ["--transfers", str(transfers), "--checkers", str(checkers)]
        run.run(["rclone", "--config", "/dev/null", "copy", *many, f":sftp,{host}:/", str(into)])

    return do


def clients(site: Path, more: list[int]) -> dict[str, Task]:
    """Return the clients to compare; `more` has other numbers of files at once."""
    best = parallel.within(_SESSIONS)
    found = {
        "mirror": ours(site),
        f"lftp -P{best.lftp}": lftp(best.lftp),
        "lftp -P10": lftp(10),
        f"rclone -t{best.transfers}": rclone(best.transfers, best.checkers),
        "sftp -r": run.sftp(get="get -r / {into}\n"),
    }
    for number in more:
        found[f"lftp -P{number}"] = lftp(number)
        found[f"rclone -t{number}"] = rclone(number, min(best.checkers, _SESSIONS - number))
    return found


def seconds_of_pages(log: Path) -> float:
    """Return the seconds from the first page to the end, according to the log of a link."""
    received, began = 0, None
    found = [packet for packet in packets(log) if packet.to == "<"]
    for packet in found:
        received += packet.size
        if began is None and received > _LOGIN:
            began = packet.at
    return found[-1].at - (began or 0.0)


@contextmanager
def emptied(into: Path) -> Iterator[Path]:
    """Create a folder, and delete it afterwards."""
    into.mkdir()
    try:
        yield into
    finally:
        shutil.rmtree(into)


def main() -> None:
    """Create the tree, let each client mirror it over each link, and print the table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench far",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--link",
        action="append",
        type=link,
        metavar="MS:MBIT",
        help=f"round trip and rate; may be repeated ({', '.join(_LINKS)})",
    )
    parser.add_argument("--mb", type=int, default=250, help="size of the tree in MB (250)")
    parser.add_argument("--repeats", type=int, default=1, help="rounds; medians are printed (1)")
    parser.add_argument(
        "--only", action="append", metavar="CLIENT", help="only this client; may be repeated"
    )
    parser.add_argument(
        "--parallel",
        action="append",
        type=int,
        default=[],
        metavar="N",
        help="also lftp and rclone with N files at once; may be repeated",
    )
    options = parser.parse_args()
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="ssps-far-")))
        folder.chmod(0o755)
        tree = servers.lay_out(folder)
        moved = fill(tree, max(1, options.mb * 1_000_000 // _PAGE))
        near = enter(servers.ours(folder))
        chosen = {
            name: do
            for name, do in clients(folder / "site", options.parallel).items()
            if not options.only or name in options.only
        }
        print(f"{machine()}; {moved / 1e6:.0f} MB in pages of {_PAGE // 1000} KB\n")
        print(f"{'link':<20}{'line':>8}" + "".join(f"{name:>23}" for name in chosen), flush=True)
        for line in options.link or [link(text) for text in _LINKS]:
            alone = moved * 8 / (line.mbit * 1e6)
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
            for _ in range(options.repeats):
                for name, do in chosen.items():
                    log = folder / "log"
                    with emptied(folder / "got") as into:
                        with delayed(near.port, line.round_trip / 1000, line.mbit, log) as port:
                            began = time.perf_counter()
                            do(replace(near, port=port), into)
                            took = time.perf_counter() - began
                        taken[name].append((took, seconds_of_pages(log)))
                        print(f"{line}: {name} {took:.1f} s", file=sys.stderr, flush=True)
                        pages = sum(file.stat().st_size for file in into.rglob("*.jpg"))
                        if pages != moved:
                            raise SystemExit(f"{name}: {pages} bytes of {moved} arrived")
            cells = ""
            for each in taken.values():
                whole, paging = (statistics.median(which) for which in zip(*each, strict=True))
                cells += f"{whole:11.1f} s {alone / whole:4.0%} {alone / paging:4.0%}"
            print(f"{line!s:<20}{alone:6.1f} s{cells}", flush=True)


if __name__ == "__main__":
    main()
