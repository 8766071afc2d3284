"""Show by packet traces whose waits a distant client's time consists of, for several servers.

    scripts/bench waits [--rtt 50] [--only walk] [--trace FILE]

Servers and tasks are those of `scripts/bench peers --rtt`. Each task is done once with each server
over a link that logs every packet (tests/bench/link.py). The client and the server take turns: the
server answers until the client sends again. For the connection that took longest it prints

    turns     how often the client waited for the server: the client chooses that
    links     the seconds that these turns spend on the link, at least: turns times the round trip
    server    the seconds from the end of a client's packets to the first packet of the answer, over
              all turns: what the server needs, and what it waits for
    slowest   the longest of these times in milliseconds
    client    the seconds from the last packet of an answer to the client's next packet, over all
    total     the seconds from the first packet to the last

A wait of the server's that a client does not cause is in `server`, or in more `turns` than another
server has. --trace writes all packets of one task and server to a file.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import others
import peers
import run
import servers
from link import Packet, delayed, packets
from peers import FAR
from servers import Server

_TASKS = ("login", "tree", "walk-100", "clients-40", "ls-1")


@dataclass(frozen=True)
class Waits:
    """What the time of one connection consists of; seconds."""

    turns: int
    links: float
    server: float
    slowest: float
    client: float
    total: float


def waits(trace: list[Packet], round_trip: float) -> Waits:
    """Compute them for one connection.

    The link logs a packet when it takes it from its sender, so the other end has it half a round
    trip after the time in the log.
    """
    half = round_trip / 2
    turns, server, slowest, client = 0, 0.0, 0.0, 0.0
    before: Packet | None = None
    for packet in trace:
        if before is not None and packet.to != before.to:
            took = max(0.0, packet.at - before.at - half)
            if packet.to == "<":
                turns += 1
                server, slowest = server + took, max(slowest, took)
            else:
                client += took
        before = packet
    total = trace[-1].at - trace[0].at
    return Waits(turns, turns * round_trip, server, slowest, client, total)


def longest(trace: list[Packet]) -> list[Packet]:
    """Return the packets of the connection that took longest."""
    connections: dict[int, list[Packet]] = {}
    for packet in trace:
        connections.setdefault(packet.connection, []).append(packet)
    return max(connections.values(), key=lambda each: each[-1].at - each[0].at)


def traced(
    do: Callable[[Server, Path], None], server: Server, folder: Path, round_trip: float
) -> list[Packet]:
    """Do a task over a link, and return the packets."""
    into, log = folder / "got", folder / "log"
    server.settled()
    with delayed(server.port, round_trip, log=log) as port:
        run.measure(run.Task("", 0, do), replace(server, port=port), into)
    return packets(log)


def main() -> None:
    """Trace the tasks, and print a table for each."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench waits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rtt", type=float, default=50, metavar="MS", help="round trip (50)")
    parser.add_argument(
        "--only", action="append", choices=_TASKS, metavar="TASK", help=f"one of {_TASKS}"
    )
    parser.add_argument(
        "--server", action="append", metavar="NAME", help="ours, sshd, proftpd or asyncssh (all)"
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write the packets to FILE")
    options = parser.parse_args()
    round_trip = options.rtt / 1000
    tasks = {task.name: task.do for task in peers.tasks(FAR, 100)}
    with ExitStack() as stack:
        enter = stack.enter_context
        folder = Path(enter(tempfile.TemporaryDirectory(prefix="ssps-waits-")))
        folder.chmod(0o755)
        tree = servers.lay_out(folder)
        run.fill(tree, FAR)
        peers.fill_walk(tree, 100)
        running = [
            enter(servers.ours(folder)),
            enter(servers.theirs(folder, tree)),
            enter(others.proftpd(folder, tree)),
            enter(others.asyncssh(folder, tree)),
        ]
        chosen = [s for s in running if not options.server or s.name in options.server]
        print(f"{peers.machine()}; clients {options.rtt:g} ms away; load {os.getloadavg()[0]:.0f}")
        for name in options.only or _TASKS:
            print(
                f"\n{name:<12}{'turns':>7}{'links':>9}{'server':>9}{'slowest':>10}"
                f"{'client':>9}{'total':>9}"
            )
            for server in chosen:
                trace = longest(traced(tasks[name], server, folder, round_trip))
                found = waits(trace, round_trip)
                print(
                    f"{server.name:<12}{found.turns:7}{found.links:7.2f} s{found.server:7.3f} s"
                    f"{found.slowest * 1000:7.1f} ms{found.client:7.3f} s{found.total:7.2f} s",
                    flush=True,
                )
                if options.trace:
                    lines = (f"{p.at:.4f} {p.to} {p.size}\n" for p in trace)
                    options.trace.write_text("".join(lines))
    sys.exit(0)


if __name__ == "__main__":
    main()
