"""Compare the speed of our server with OpenSSH's sshd at the tasks of a party's mirror.

Both servers serve the same tree. Each task is done in turn with ours and with sshd, several times,
and the medians are compared, so that other load on the machine affects both. The ratio of seconds
is sshd's to ours: above 1 we are faster. CPU is the CPU time of the server's processes per
gigabyte; its ratio is ours to sshd's: below 1 we need less. The clients write to memory (/dev/shm)
if there is room. Tasks named `far-` use a link with a round trip of 50 ms, tasks named `slow-` a
link that is also limited to 5 Mbit/s (tests/bench/link.py).
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import servers
from link import delayed
from servers import Cpu, Server

from keys import digest
from keys.server_keys import stamp_key

GCM = "-oCiphers=aes128-gcm@openssh.com"


@dataclass(frozen=True)
class Size:
    """The size of the tree, and the number of logins."""

    folders: int
    files: int  # per folder
    file: int  # bytes
    big: int  # bytes of the big file
    entries: int  # of the folder to list
    logins: int

    @property
    def tree(self) -> int:
        return self.folders * self.files * self.file


FULL = Size(40, 50, 200_000, 500_000_000, 10_000, 20)
QUICK = Size(40, 10, 200_000, 100_000_000, 2_000, 10)


@dataclass(frozen=True)
class Task:
    """A task of a party: what it does, the bytes it transfers, and the ratio to reach."""

    name: str
    reach: float
    do: Callable[[Server, Path], None]
    moved: int = 0
    link: str = "near"


@dataclass
class Measurements:
    """The seconds and CPU seconds of one server for one task, one value for each round."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def fill(tree: Path, size: Size, *, sealed: bool = True) -> None:
    """Create the files of the tree."""
    block = os.urandom(1 << 20)
    for number in range(size.folders):
        folder = tree / "agac" / f"kurul-{number:02}"
        folder.mkdir(parents=True)
        for sheet in range(size.files):
            at = (number * size.files + sheet) % ((1 << 20) - size.file)
            (folder / f"sandik-{sheet:04}.jpg").write_bytes(block[at : at + size.file])
    with (tree / "buyuk").open("wb") as big:
        left = size.big
        while left:
            left -= big.write(block[: min(left, len(block))])
    listed = tree / "liste"
    listed.mkdir()
    for number in range(size.entries):
        (listed / f"sandik-{number:06}-cb-sandik-sonuc-s1.jpg").write_bytes(b"x")
    publish(tree, sealed=sealed)


def publish(tree: Path, *, sealed: bool = True) -> None:
    """Give all files of the tree stamps and modes as the publisher does: no others are served."""
    key = stamp_key.load_or_create(tree.parent.parent)
    for path in [tree, *tree.rglob("*")]:
        if sealed and path.is_file():
            path.chmod(0o644)
            with path.open("rb") as file:
                digest.stamp(file.fileno(), digest.compute(file.fileno()), key)
        path.chmod(0o755 if path.is_dir() else 0o444)


def run(command: list[str], stdin: str = "") -> None:
    """Run a client; exit if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")


def sftp(*more: str, get: str = "") -> Callable[[Server, Path], None]:
    """Return a task: a batch of commands for OpenSSH's `sftp`."""

    def do(server: Server, into: Path) -> None:
        command = ["sftp", "-q", *server.options, *more, "-b", "-", "127.0.0.1"]
        run(command, get.format(into=into))

    return do


def lftp(server: Server, into: Path) -> None:
    """Mirror with `lftp` and four transfers at once."""
    ssh = shlex.join(["ssh", "-a", "-x", *server.options])
    script = (
        f'set sftp:auto-confirm yes; set sftp:connect-program "{ssh}"; '
        f"open -u {server.user}, sftp://127.0.0.1:{server.port}; "
        f"mirror --parallel=4 agac {into}/agac"
    )
    run(["lftp", "--norc", "-c", script])


def rclone(server: Server, into: Path) -> None:
    """Copy with `rclone` and four transfers at once."""
    remote = (
        f":sftp,host=127.0.0.1,port={server.port},user={server.user},key_file={server.key},"
        "md5sum_command=none,sha1sum_command=none:agac"
    )
    run(["rclone", "--config", "/dev/null", "copy", "--transfers", "4", remote, f"{into}/agac"])


def several(clients: int, size: Size) -> Callable[[Server, Path], None]:
    """Return a task: several clients at once that fetch a share of the tree each."""

    def do(server: Server, into: Path) -> None:
        running = []
        for number in range(clients):
            share = range(number * size.folders // clients, (number + 1) * size.folders // clients)
            lines = [f"get -r agac/kurul-{folder:02} {into}/{number}-{folder}" for folder in share]
            command = ["sftp", "-q", *server.options, "-b", "-", "127.0.0.1"]
            client = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
            )
            assert client.stdin is not None
            client.stdin.write("\n".join(lines) + "\n")
            client.stdin.close()
            running.append(client)
        ended = [client.wait() for client in running]
        if any(ended):
            raise SystemExit(f"{server.name}: one of {clients} clients failed")

    return do


def logins(count: int) -> Callable[[Server, Path], None]:
    """Return a task: this number of logins, one after the other."""
    once = sftp(get="pwd\n")

    def do(server: Server, into: Path) -> None:
        for _ in range(count):
            once(server, into)

    return do


def tasks(size: Size) -> list[Task]:
    """Return all tasks."""
    tree = "get -r agac {into}/agac\n"
    return [
        Task("tree", 1.5, sftp(get=tree), size.tree),
        Task("tree-gcm", 1.2, sftp(GCM, get=tree), size.tree),
        Task("file", 1.5, sftp(get="get buyuk {into}/buyuk\n"), size.big),
        Task("ls-l", 1.5, sftp(get="ls -l liste\n")),
        Task("ls-1", 1.1, sftp(get="ls -1 liste\n")),
        Task("lftp", 1.3, lftp, size.tree),
        Task("rclone", 1.1, rclone, size.tree),
        Task("clients-8", 1.6, several(8, size), size.tree),
        Task("clients-40", 1.5, several(40, size), size.tree),
        Task("login", 3.0, logins(size.logins)),
        Task("far-tree", 1.0, sftp(get="get -r agac/kurul-00 {into}/agac\n"), 0, "far"),
        Task("far-ls-l", 1.0, sftp(get="ls -l liste\n"), 0, "far"),
        Task("slow-tree", 1.0, sftp(get="get agac/kurul-00/sandik-000* {into}\n"), 0, "slow"),
    ]


def measure(task: Task, server: Server, into: Path) -> tuple[float, float]:
    """Do a task once; return the seconds and the server's CPU seconds."""
    into.mkdir()
    try:
        server.settled()
        with Cpu(server) as cpu:
            began = time.perf_counter()
            task.do(server, into)
            seconds = time.perf_counter() - began
            server.settled()
        return seconds, cpu.seconds
    finally:
        shutil.rmtree(into)


def memory(server: Server, count: int = 20) -> tuple[float, float, float]:
    """Return what an idle session needs: MB (PSS), MB of its own, and a share of a CPU.

    PSS includes a share of the memory that several processes use. The second value is
    Private_Dirty, which only this session uses: the cost of one more session. Both count all
    processes of a session.
    """
    command = ["sftp", "-q", *server.options, "127.0.0.1"]
    idle = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
    ]
    for client in idle:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write("pwd\n")
        client.stdin.flush()
        client.stdout.readline()
    with Cpu(server) as cpu:
        time.sleep(3)
    share = cpu.seconds / 3 / count
    pss, own = (
        sum(_memory(pid, kind) for pid in server.sessions()) / count
        for kind in ("Pss", "Private_Dirty")
    )
    for client in idle:
        client.communicate()
    return pss / 1e6, own / 1e6, share


def _memory(pid: int, kind: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def report(tasks: list[Task], taken: dict[str, dict[str, Measurements]]) -> list[dict[str, object]]:
    """Print the table of tasks, and return its rows for --json."""
    rows: list[dict[str, object]] = []
    times = f"{'ours s':>9}{'sshd s':>9}{'ratio':>7}{'reach':>7}"
    spreads = f"{'spread ours':>14}{'spread sshd':>14}"
    print(f"{'task':<11}{times}{spreads}{'CPU s/GB':>11}{'sshd':>7}{'ratio':>7}")
    for task in tasks:
        ours, sshd = taken[task.name]["ours"], taken[task.name]["sshd"]
        mine, other = statistics.median(ours.seconds), statistics.median(sshd.seconds)
        row: dict[str, object] = {
            "work": task.name, "ours": mine, "sshd": other, "ratio": other / mine,
            "reach": task.reach, "ours_all": ours.seconds, "sshd_all": sshd.seconds,
        }  # fmt: skip
        line = (f"{task.name:<11}{mine:9.3f}{other:9.3f}{other / mine:7.2f}{task.reach:7.1f}"
                f"{_spread(ours.seconds):>14}{_spread(sshd.seconds):>14}")  # fmt: skip
        if task.moved:
            cpu = [statistics.median(t.cpu) / task.moved * 1e9 for t in (ours, sshd)]
            row |= {"cpu_per_gb_ours": cpu[0], "cpu_per_gb_sshd": cpu[1]}
            line += f"{cpu[0]:11.2f}{cpu[1]:7.2f}{cpu[0] / cpu[1]:7.2f}"
        print(line)
        rows.append(row)
    return rows


def _spread(values: list[float]) -> str:
    return f"{min(values):.2f}-{max(values):.2f}"


def main() -> None:
    """Create the tree, measure both servers, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each task (5)")
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only this task; may be repeated"
    )
    parser.add_argument("--quick", action="store_true", help="use a smaller tree and 3 rounds")
    parser.add_argument(
        "--unsealed", action="store_true", help="files without stamps, which our server hashes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    rounds = min(options.repeats, 3) if options.quick else options.repeats
    chosen = [w for w in tasks(size) if not options.only or w.name in options.only]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ssps-bench-")))
        shared = _shared(size)
        fetched = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="ssps-bench-", dir=shared))
        )
        folder.chmod(0o755)
        tree = servers.lay_out(folder)
        print(f"writing {(size.tree + size.big) / 1e6:.0f} MB", file=sys.stderr)
        fill(tree, size, sealed=not options.unsealed)
        both = [
            stack.enter_context(servers.ours(folder)),
            stack.enter_context(servers.theirs(folder, tree)),
        ]
        over = {
            "near": both,
            "far": [_away(server, stack, 0) for server in both],
            "slow": [_away(server, stack, 5) for server in both],
        }
        taken = {w.name: {s.name: Measurements() for s in both} for w in chosen}
        for task in chosen:
            for number in range(rounds + 1):
                for server in over[task.link]:
                    seconds, cpu = measure(task, server, fetched / "got")
                    if number:  # the first round is a warm-up
                        taken[task.name][server.name].seconds.append(seconds)
                        taken[task.name][server.name].cpu.append(cpu)
                print(f"{task.name}: {number} of {rounds}", file=sys.stderr)
        rows = report(chosen, taken)
        if not options.only or "memory" in options.only:
            for server in both:
                megabytes, own, share = memory(server)
                print(
                    f"{server.name}: {megabytes:.1f} MB per session (PSS), {own:.1f} MB of its own "
                    f"(private), {share:.3%} of a CPU when idle"
                )
                found = {"work": "memory", "server": server.name, "mb": megabytes, "mb_own": own}
                rows.append({**found, "idle_cpu": share})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _away(server: Server, stack: ExitStack, mbit: float) -> Server:
    return replace(server, port=stack.enter_context(delayed(server.port, 0.05, mbit)))


def _shared(size: Size) -> str | None:
    folder = Path("/dev/shm")
    if folder.is_dir() and shutil.disk_usage(folder).free > 2 * max(size.tree, size.big):
        return str(folder)
    return None


if __name__ == "__main__":
    main()
