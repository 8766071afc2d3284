"""Ours beside what a party would otherwise be given: OpenSSH's sshd, ProFTPD and asyncssh.

All four serve one and the same tree to the same clients in one run; each piece of work is done in
turns, one server after the other, and the medians are compared. It prints a table of seconds with
the ratio of each to ours (above 1 ours is faster), the server's CPU a gigabyte and its memory a
session, and with --json and --svg writes the figures and a plot. With --rtt the clients are that
many milliseconds away, through a proxy that delays (tests/bench/link.py): no kernel of ours had
netem to shape a link with. Work that would take minutes there is done on a smaller tree.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import others
import plot
import run
import servers
from link import delayed
from run import Size, Taken, Work
from servers import Server

FULL = Size(40, 50, 200_000, 500_000_000, 10_000, 20)
QUICK = Size(40, 10, 200_000, 100_000_000, 2_000, 10)
FAR = Size(40, 2, 200_000, 20_000_000, 10_000, 3)
_IDLE = 20  # sessions whose memory is looked at


def works(size: Size, folders: int) -> list[Work]:
    """All that is compared, without a goal for each."""
    named = {work.name: work for work in run.works(size)}
    kept = ("tree", "lftp", "rclone", "file", "ls-1", "clients-8", "clients-40", "login")
    return [*(named[name] for name in kept), Work(f"walk-{folders}", 0, walk)]


def walk(server: Server, into: Path) -> None:
    """Look into every folder of a tree that has many."""
    ssh = shlex.join(["ssh", "-a", "-x", *server.options])
    script = (
        f'set sftp:auto-confirm yes; set sftp:connect-program "{ssh}"; '
        f"open -u {server.user}, sftp://127.0.0.1:{server.port}; find gezi"
    )
    run.run(["lftp", "--norc", "-c", script])


def fill_walk(tree: Path, folders: int) -> None:
    """Write the folders to walk: a hundred boards, each with its boxes, a file in each."""
    for number in range(folders):
        folder = tree / "gezi" / f"kurul-{number % 100:02}" / f"sandik-{number:05}"
        folder.mkdir(parents=True)
        (folder / "cb-sandik-sonuc-s1.jpg").write_bytes(b"x")
    for path in [tree / "gezi", *(tree / "gezi").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o444)


@dataclass(frozen=True)
class Memory:
    """MB a session that has logged in and idles."""

    rss: float
    pss: float


def memory(server: Server) -> Memory:
    """Measure what idle sessions add to a server and its processes."""
    server.settled()
    before = _memory(server)
    with ExitStack() as stack:
        for _ in range(_IDLE):
            stack.enter_context(_idle(server))
        time.sleep(0.5)
        after = _memory(server)
    return Memory((after.rss - before.rss) / _IDLE, (after.pss - before.pss) / _IDLE)


@contextmanager
def _idle(server: Server) -> Iterator[None]:
    command = ["sftp", "-q", *server.options, "127.0.0.1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write("pwd\n")
        client.stdin.flush()
        client.stdout.readline()
        yield
        client.stdin.write("quit\n")
        client.stdin.flush()
        client.communicate()


def _memory(server: Server) -> Memory:
    rss = pss = 0
    for pid in (server.pid, *server.sessions()):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
        rss, pss = rss + found["Rss:"], pss + found["Pss:"]
    return Memory(rss / 1e6, pss / 1e6)


def heading(names: list[str]) -> str:
    """Head the table of seconds."""
    return f"{'seconds':<12}" + "".join(f"{n:>11}" for n in names) + "   ratio to ours"


def row(work: Work, taken: dict[str, Taken]) -> str:
    """Write one work's seconds, and the ratios of the others to ours."""
    medians = _medians(taken)
    ratios = "".join(f"{took / medians['ours']:>9.2f}" for took in list(medians.values())[1:])
    return f"{work.name:<12}" + "".join(f"{took:11.3f}" for took in medians.values()) + ratios


def cpu_table(works: list[Work], taken: dict[str, dict[str, Taken]], names: list[str]) -> list[str]:
    """Write the CPU a gigabyte, a line a work that moves any."""
    lines = ["", f"{'CPU s/GB':<12}" + "".join(f"{n:>11}" for n in names)]
    for work in works:
        if work.moved:
            cpu = [statistics.median(taken[work.name][n].cpu) / work.moved * 1e9 for n in names]
            lines.append(f"{work.name:<12}" + "".join(f"{value:11.2f}" for value in cpu))
    return lines if len(lines) > 2 else []


def main() -> None:
    """Lay out, measure, print."""
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each work (3)")
    parser.add_argument("--only", action="append", metavar="NAME", help="this work, may repeat")
    parser.add_argument("--quick", action="store_true", help="a smaller tree")
    parser.add_argument("--rtt", type=float, default=0, metavar="MS", help="a long link (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios there")
    given = parser.parse_args()
    size = FAR if given.rtt else QUICK if given.quick else FULL
    folders = 5_000 if size is FULL else 100 if size is FAR else 1_000
    chosen = [w for w in works(size, folders) if not given.only or w.name in given.only]
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="ssps-peers-")))
        folder.chmod(0o755)
        fetched = Path(
            enter(tempfile.TemporaryDirectory(prefix="ssps-peers-", dir=run._shared(size)))
        )
        tree = servers.lay_out(folder)
        print(f"writing {(size.tree + size.big) / 1e6:.0f} MB", file=sys.stderr)
        run.fill(tree, size)
        fill_walk(tree, folders)
        running: list[Server] = [
            enter(servers.ours(folder)),
            enter(servers.theirs(folder, tree)),
            enter(others.proftpd(folder, tree)),
            enter(others.asyncssh(folder, tree)),
        ]
        names = [server.name for server in running]
        memories = {} if given.rtt or given.only else {s.name: memory(s) for s in running}
        if given.rtt:
            running = [replace(s, port=enter(delayed(s.port, given.rtt / 1000))) for s in running]
        where = machine()
        away = f", clients {given.rtt:.0f} ms away" if given.rtt else ""
        print(f"{where}; {len(chosen)} works, medians of {given.repeats}{away}\n")
        print(heading(names), flush=True)
        taken = {w.name: {name: Taken() for name in names} for w in chosen}
        for work in chosen:
            for number in range(given.repeats):
                for server in running:
                    seconds, cpu = run.measure(work, server, fetched / "got")
                    taken[work.name][server.name].seconds.append(seconds)
                    taken[work.name][server.name].cpu.append(cpu)
                print(f"{work.name}: {number + 1} of {given.repeats}", file=sys.stderr)
            print(row(work, taken[work.name]), flush=True)
    print(*cpu_table(chosen, taken, names), sep="\n")
    for name, found in memories.items():
        print(f"{name}: {found.pss:.1f} MB a session (PSS), {found.rss:.1f} MB (RSS)")
    if given.json:
        given.json.write_text(json.dumps(figures(where, given.rtt, taken, memories), indent=1))
    if given.svg:
        medians = {work: _medians(by) for work, by in taken.items()}
        given.svg.write_text(plot.bars(f"Seconds{away}", "s", medians))


def figures(
    where: str,
    rtt: float,
    taken: dict[str, dict[str, Taken]],
    memories: dict[str, Memory],
) -> dict[str, object]:
    """Return all that was measured, as JSON has it."""
    return {
        "machine": where,
        "rtt_ms": rtt,
        "works": {
            work: {name: {"seconds": t.seconds, "cpu": t.cpu} for name, t in by.items()}
            for work, by in taken.items()
        },
        "memory": {n: {"pss_mb": m.pss, "rss_mb": m.rss} for n, m in memories.items()},
    }


def _medians(taken: dict[str, Taken]) -> dict[str, float]:
    return {name: statistics.median(each.seconds) for name, each in taken.items()}


def machine() -> str:
    """Say what this was measured on, and when."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    stated = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(stated, platform.machine())
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} × {model}, Linux {platform.release()}"


if __name__ == "__main__":
    main()
