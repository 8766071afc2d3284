"""Measure what a party's mirror keeps of its speed beside hostile sessions of another party.

One party fetches a tree with OpenSSH's `sftp`: alone, then beside the sessions of another party
that attack in one of the ways of tests/bench/hostile.py, then alone again. The medians of the
speeds are printed. `kept` should be at least 50 %.

In an attack from outside, the clients have processors of their own. So the server gets the first
half of the processors here and all clients get the others, where the hostile clients run only when
the mirror's client does not (SCHED_IDLE). What each side used is printed, in processors: `mirror`
is the server's time for the mirror, as measured without an attack; `attack` is all else that the
server used, in its sessions and its other processes; `hostile` is what the hostile clients used.
An attack is strong enough if the server has no time left: `mirror` and `attack` make up all it has.

With `--together` all processes share all processors, and none has another priority than the others.
Then 16 hostile clients have 16 times the share of the mirror's client, and what they cost counts
against the server.

`--before` also measures a server without its processor shares (sftpd/monitor/cpu_shares).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import hostile  # noqa: E402
from wire.server import OPENS, RunningServer, make_site, server_script, until  # noqa: E402

from keys.server_keys import host  # noqa: E402

PARTIES = {"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"}
ATTACKER, VICTIM = PARTIES
WITHOUT_SHARES = (
    "from sftpd.monitor import cpu_shares\ncpu_shares.set_share = lambda *_, **__: None\n"
)
FILES, SIZE = 600, 200_000
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Processors:
    """The processors of the server and of the clients; the same ones if they are not apart."""

    server: frozenset[int]
    clients: frozenset[int]

    @property
    def apart(self) -> bool:
        """Say whether the server has processors that no client has."""
        return self.server != self.clients


def shared_out(together: bool) -> Processors:
    """Give the first half of the processors to the server, if there are two or more."""
    numbers = sorted(os.sched_getaffinity(0))
    half = 0 if together else len(numbers) // 2
    if not half:
        return Processors(frozenset(numbers), frozenset(numbers))
    return Processors(frozenset(numbers[:half]), frozenset(numbers[half:]))


@dataclass(frozen=True, slots=True)
class Run:
    """One mirror: its time, and the processor time meanwhile, all in seconds."""

    seconds: float
    server: float
    hostile: float


@contextmanager
def running_server(patch: str, processors: Processors) -> Iterator[RunningServer]:
    """Run a server with `patch` applied, on a site with the trees of both parties."""
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        make_site(site, PARTIES, 128, 32)
        (site / "now").write_text((OPENS + timedelta(hours=1)).isoformat())
        hostile.prepare(site / "trees" / ATTACKER)
        for number in range(FILES):
            page = site / f"trees/{VICTIM}/pages/{number % 30}/{number}.jpg"
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_bytes(os.urandom(SIZE))
            page.chmod(0o444)
        log = site / "log"
        script = server_script(patch, limited=True)
        os.sched_setaffinity(0, processors.server)  # the server inherits it
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(site), "30"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )
        os.sched_setaffinity(0, processors.clients)
        assert process.stdout is not None
        server = RunningServer(site, int(process.stdout.readline()), process, log)
        (site / "known_hosts").write_text(host.known_hosts(site, "127.0.0.1", server.port))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def attacked(server: RunningServer, kinds: list[str], *, apart: bool) -> Iterator[list[int]]:
    """Run a hostile client of the attacker for each of `kinds`; yield their process ids."""
    key = str(server.site / "clients" / ATTACKER)
    command = [sys.executable, str(Path(hostile.__file__))]
    errors = (server.site / "hostile.log").open("w")
    clients = [
        subprocess.Popen(
            [*command, kind, str(server.port), ATTACKER, key, PARTIES[ATTACKER]],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        for kind in kinds
    ]
    try:
        for client in clients:
            if apart:
                os.sched_setscheduler(client.pid, os.SCHED_IDLE, os.sched_param(0))
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == b"ready\n", (server.site / "hostile.log").read_text()
        time.sleep(1)
        yield [client.pid for client in clients]
        running = [client.poll() is None for client in clients]
        assert all(running), f"{running.count(False)} hostile sessions have ended"
    finally:
        errors.close()
        for client in clients:
            client.kill()
            client.wait()
            if client.stdout is not None:
                client.stdout.close()
        until(lambda: not server.children(), 120)


def processor_seconds(pids: Iterable[int], *, with_ended: bool = False) -> float:
    """Return the processor time of processes, and of their children that have ended."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11 : 15 if with_ended else 13]))
    return ticks / _TICK


def of_server(server: RunningServer) -> float:
    """Return the processor time of the server and of all its processes."""
    pid = server.process.pid
    live = [child for child, _ in server.processes()]
    return processor_seconds([pid], with_ended=True) + processor_seconds(live)


def mirror(server: RunningServer, hostile_clients: Iterable[int] = ()) -> Run:
    """Fetch the tree of the victim once."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as into:
        before = of_server(server), processor_seconds(hostile_clients)
        began = time.monotonic()
        options = server.ssh(VICTIM, f"-oBindAddress={PARTIES[VICTIM]}")
        done = subprocess.run(
            ["sftp", "-q", *options, "-b", "-", "127.0.0.1"],
            input=f"get -r pages {into}\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        took = time.monotonic() - began
        after = of_server(server), processor_seconds(hostile_clients)
        assert done.returncode == 0, done.stderr
        found = sum(path.stat().st_size for path in Path(into).rglob("*.jpg"))
        assert found == FILES * SIZE, f"{found} bytes of {FILES * SIZE}"
    return Run(took, after[0] - before[0], after[1] - before[1])


def compare(
    server: RunningServer, kinds: list[str], repeats: int, *, apart: bool
) -> tuple[list[Run], list[Run]]:
    """Return the mirrors alone, half of them before the attack and half after, and beside it."""
    mirror(server)  # fills the page cache
    alone = [mirror(server) for _ in range((repeats + 1) // 2)]
    with attacked(server, kinds, apart=apart) as clients:
        beside = [mirror(server, clients) for _ in range(repeats)]
    alone += [mirror(server) for _ in range((repeats + 1) // 2)]
    return alone, beside


def row(name: str, alone: list[Run], beside: list[Run]) -> str:
    """Return the line of the table for one attack."""
    lasted = statistics.median(run.seconds for run in alone)
    slowed = statistics.median(run.seconds for run in beside)
    megabytes = FILES * SIZE / 1e6
    for_mirror = statistics.median(run.server for run in alone)
    total = sum(run.seconds for run in beside)
    mirrored = for_mirror * len(beside) / total
    attack = sum(run.server for run in beside) / total - mirrored
    hostile_use = sum(run.hostile for run in beside) / total
    return (
        f"{name:<24}{megabytes / lasted:>12.0f}{megabytes / slowed:>9.0f}{lasted / slowed:>8.0%}"
        f"{mirrored:>9.2f}{attack:>8.2f}{hostile_use:>9.2f}"
    )


def main() -> None:
    """Measure each attack and all together, and print a table."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench fairness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, default=16, help="hostile sessions (16)")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each kind (3)")
    parser.add_argument(
        "--attack",
        choices=(*hostile.KINDS, *hostile.WITHOUT_LOGIN, "all"),
        action="append",
        help="measure this attack; may be repeated. Default: each of them and all at once",
    )
    parser.add_argument(
        "--together", action="store_true", help="clients and server share all processors"
    )
    parser.add_argument("--before", action="store_true", help="also without processor shares")
    options = parser.parse_args()
    mixed = [hostile.KINDS[n % len(hostile.KINDS)] for n in range(options.sessions)]
    plans = {kind: [kind] * options.sessions for kind in hostile.KINDS}
    plans |= {kind: [kind] for kind in hostile.WITHOUT_LOGIN}
    plans["all"] = mixed
    if options.attack:
        plans = {name: plans[name] for name in options.attack}
    servers = {"": ""} | ({"without shares": WITHOUT_SHARES} if options.before else {})
    processors = shared_out(options.together)
    load = os.getloadavg()[0]
    print(f"speed of a party's sftp beside {options.sessions} hostile sessions of another party")
    print(f"{os.cpu_count()} processors, load {load:.1f} before; medians of {options.repeats}")
    if processors.apart:
        print(f"processors {sorted(processors.server)} for the server, ", end="")
        print(f"{sorted(processors.clients)} for the clients")
    print(f"{'attack':<24}{'alone MB/s':>12}{'beside':>9}{'kept':>8}", end="")
    print(f"{'mirror':>9}{'attack':>8}{'hostile':>9}")
    for label, patch in servers.items():
        with running_server(patch, processors) as server:
            for name, plan in plans.items():
                alone, beside = compare(server, plan, options.repeats, apart=processors.apart)
                print(row(f"{name} {label}".strip(), alone, beside), flush=True)


if __name__ == "__main__":
    main()
