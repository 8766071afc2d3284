"""Compare our server with other SFTP servers: OpenSSH's sshd, ProFTPD and asyncssh.

All four serve the same tree to the same clients. Each task is done with one server after the other,
several times, and the medians are compared. It prints a table of seconds with the ratio of each
server to ours (above 1 ours is faster), the server's CPU time per gigabyte, and its memory per
session. --json and --svg write the figures and a plot to files. With --rtt the clients are this
many milliseconds away, through a delaying proxy (tests/bench/link.py), which works without netem
in the kernel. Over such a link the tree is smaller.
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
from run import Measurements, Size, Task
from servers import Server

FULL = Size(40, 50, 200_000, 500_000_000, 10_000, 20)
QUICK = Size(40, 10, 200_000, 100_000_000, 2_000, 10)
FAR = Size(40, 2, 200_000, 20_000_000, 10_000, 3)
_IDLE = 20  # sessions whose memory is measured


def tasks(size: Size, folders: int) -> list[Task]:
    """Return the tasks to compare; they have no goals here."""
    named = {task.name: task for task in run.tasks(size)}
    kept = ("tree", "lftp", "rclone", "file", "ls-1", "clients-8", "clients-40", "login")
    return [*(named[name] for name in kept), Task(f"walk-{folders}", 0, walk)]


def walk(server: Server, into: Path) -> None:
    """List every folder of a tree with many folders."""
    ssh = shlex.join(["ssh", "-a", "-x", *server.options])
    script = (
        f'set sftp:auto-confirm yes; set sftp:connect-program "{ssh}"; '
        f"open -u {server.user}, sftp://127.0.0.1:{server.port}; find gezi"
    )
    run.run(["lftp", "--norc", "-c", script])


def fill_walk(tree: Path, folders: int) -> None:
    """Create the folders to walk: a hundred boards with boxes, one file in each box."""
    for number in range(folders):
        folder = tree / "gezi" / f"kurul-{number % 100:02}" / f"sandik-{number:05}"
        folder.mkdir(parents=True)
        (folder / "cb-sandik-sonuc-s1.jpg").write_bytes(b"x")
    for path in [tree / "gezi", *(tree / "gezi").rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o444)


@dataclass(frozen=True)
class Memory:
    """The memory of an idle session in MB."""

    rss: float
    pss: float


def memory(server: Server) -> Memory:
    """Measure the memory that each idle session adds to a server and its processes."""
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
    for pid in (server.pid, *server.processes()):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        found = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:]}
        rss, pss = rss + found["Rss:"], pss + found["Pss:"]
    return Memory(rss / 1e6, pss / 1e6)


def heading(names: list[str]) -> str:
    """Return the heading of the table of seconds."""
    return f"{'seconds':<12}" + "".join(f"{n:>11}" for n in names) + "   ratio to ours"


def row(task: Task, taken: dict[str, Measurements]) -> str:
    """Format the seconds of one task, and the ratios of the other servers to ours."""
    medians = _medians(taken)
    ratios = "".join(f"{took / medians['ours']:>9.2f}" for took in list(medians.values())[1:])
    return f"{task.name:<12}" + "".join(f"{took:11.3f}" for took in medians.values()) + ratios


def cpu_table(
    tasks: list[Task], taken: dict[str, dict[str, Measurements]], names: list[str]
) -> list[str]:
    """Format the CPU time per gigabyte of each task that transfers data."""
    lines = ["", f"{'CPU s/GB':<12}" + "".join(f"{n:>11}" for n in names)]
    for task in tasks:
        if task.moved:
            cpu = [statistics.median(taken[task.name][n].cpu) / task.moved * 1e9 for n in names]
            lines.append(f"{task.name:<12}" + "".join(f"{value:11.2f}" for value in cpu))
    return lines if len(lines) > 2 else []


def main() -> None:
    """Create the tree, measure all servers, and print the tables."""
    parser = argparse.ArgumentParser(prog="scripts/bench peers", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each task (3)")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only this task; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="use a smaller tree")
    parser.add_argument(
        "--rtt", type=float, default=0, metavar="MS", help="round trip to the clients (0)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="also draw a plot to FILE")
    options = parser.parse_args()
    size = FAR if options.rtt else QUICK if options.quick else FULL
    folders = 5_000 if size is FULL else 100 if size is FAR else 1_000
    chosen = [w for w in tasks(size, folders) if not options.only or w.name in options.only]
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
        memories = {} if options.rtt or options.only else {s.name: memory(s) for s in running}
        if options.rtt:
            running = [replace(s, port=enter(delayed(s.port, options.rtt / 1000))) for s in running]
        where = machine()
        away = f", clients {options.rtt:.0f} ms away" if options.rtt else ""
        print(f"{where}; {len(chosen)} tasks, medians of {options.repeats}{away}\n")
        print(heading(names), flush=True)
        taken = {w.name: {name: Measurements() for name in names} for w in chosen}
        for task in chosen:
            for number in range(options.repeats):
                for server in running:
                    seconds, cpu = run.measure(task, server, fetched / "got")
                    taken[task.name][server.name].seconds.append(seconds)
                    taken[task.name][server.name].cpu.append(cpu)
                print(f"{task.name}: {number + 1} of {options.repeats}", file=sys.stderr)
            print(row(task, taken[task.name]), flush=True)
    print(*cpu_table(chosen, taken, names), sep="\n")
    for name, found in memories.items():
        print(f"{name}: {found.pss:.1f} MB per session (PSS), {found.rss:.1f} MB (RSS)")
    if options.json:
        options.json.write_text(json.dumps(figures(where, options.rtt, taken, memories), indent=1))
    if options.svg:
        medians = {task: _medians(by) for task, by in taken.items()}
        options.svg.write_text(plot.bars(f"Seconds{away}", "s", medians))


def figures(
    where: str,
    rtt: float,
    taken: dict[str, dict[str, Measurements]],
    memories: dict[str, Memory],
) -> dict[str, object]:
    """Return all figures for --json."""
    return {
        "machine": where,
        "rtt_ms": rtt,
        "works": {
            task: {name: {"seconds": t.seconds, "cpu": t.cpu} for name, t in by.items()}
            for task, by in taken.items()
        },
        "memory": {n: {"pss_mb": m.pss, "rss_mb": m.rss} for n, m in memories.items()},
    }


def _medians(taken: dict[str, Measurements]) -> dict[str, float]:
    return {name: statistics.median(each.seconds) for name, each in taken.items()}


def machine() -> str:
    """Return a line with the date, the CPU and the kernel."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.machine())
    return f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} × {model}, Linux {platform.release()}"


if __name__ == "__main__":
    main()
