"""Measure the share that a party with one session gets beside a party with many.

Both fetch a big file as fast as they can. The server runs on one core and the clients on the
others, so that the parties compete for the server's core. The client of the single session has a
higher priority than the other clients, so that only the server can slow it down. The benchmark
compares the CPU time that each party's children used and the bytes that they read, with and without
sftpd/monitor/cpu_shares. 1.00 is an even share: half of everything.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from wire.server import OPENS, RunningServer, make_site, server_script, until  # noqa: E402

from keys.server_keys import host  # noqa: E402

PARTIES = {"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"}
WITHOUT_SHARES = "from sftpd.monitor import cpu_shares\ncpu_shares.set_nice = lambda *_: None\n"
BIG_FILE = 8 << 30  # bytes


def used(pid: int) -> tuple[float, int]:
    """Return the CPU seconds of a process and the bytes that it read."""
    nanoseconds = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(nanoseconds) / 1e9, int(io["rchar"])


def start(folder: Path, patch: str) -> RunningServer:
    """Start a server with `patch` applied, and a big file in the tree of each party."""
    site = folder / "site"
    make_site(site, PARTIES, 64, 32)
    (site / "now").write_text((OPENS + timedelta(hours=1)).isoformat())
    log = site / "log"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            server_script(patch),
            str(site),
            "10",
        ],
        stdout=subprocess.PIPE,
        stderr=log.open("w"),
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    server = RunningServer(site, int(process.stdout.readline()), process, log)
    (site / "known_hosts").write_text(host.known_hosts(site, "127.0.0.1", server.port))
    for party in PARTIES:
        with (site / "trees" / party / "big").open("wb") as file:
            file.truncate(BIG_FILE)
    return server


def fetch(server: RunningServer, party: str) -> "subprocess.Popen[bytes]":
    """Start a client of `party` that fetches the big file."""
    more = ("-oCiphers=aes128-gcm@openssh.com", f"-oBindAddress={PARTIES[party]}")
    client = subprocess.Popen(
        ["sftp", "-q", *server.ssh(party, *more), "-b", "-", "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdin is not None
    client.stdin.write(b"get big /dev/null\n")
    client.stdin.flush()
    return client


def raise_priority(client: "subprocess.Popen[bytes]") -> None:
    """Give a client and its ssh process a higher priority."""
    children = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()
    for pid in (client.pid, *map(int, children)):
        os.setpriority(os.PRIO_PROCESS, pid, -15)


def measure(server: RunningServer, greedy: int, seconds: float) -> tuple[float, float, int]:
    """Return the single session's share of CPU and of bytes, and the nice value of the others."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(server.process.pid, cores[:1])
    os.sched_setaffinity(0, cores[1:] or cores)
    clients = [fetch(server, "parti-b")]
    try:
        until(lambda: len(server.records("open")) == 1)
        raise_priority(clients[0])
        [single] = server.children()
        clients += [fetch(server, "parti-a") for _ in range(greedy)]
        until(lambda: len(server.records("open")) == greedy + 1, 60)
        time.sleep(1)
        before = {pid: used(pid) for pid in server.children()}
        time.sleep(seconds)
        after = {pid: used(pid) for pid in before}
        cpu = {pid: after[pid][0] - before[pid][0] for pid in before}
        read = {pid: after[pid][1] - before[pid][1] for pid in before}
        others = [pid for pid in before if pid != single]
        nice = os.getpriority(os.PRIO_PROCESS, others[0])
        return (
            2 * cpu[single] / sum(cpu.values()),
            2 * read[single] / sum(read.values()),
            nice,
        )
    finally:
        for client in clients:
            client.kill()
            client.communicate()
        os.sched_setaffinity(0, cores)
        server.stop()


def main() -> None:
    """Measure without and with CPU shares, and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/bench fairness", description=__doc__)
    parser.add_argument("--greedy", type=int, default=16, help="sessions of the other party (16)")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a measurement (5)")
    options = parser.parse_args()
    print(f"share of one session beside {options.greedy} of another party; 1.00 is even")
    print(f"{'shares':<10}{'nice':>5}{'CPU':>8}{'bytes':>8}")
    for name, patch in (("without", WITHOUT_SHARES), ("with", "")):
        with tempfile.TemporaryDirectory() as folder:
            server = start(Path(folder), patch)
            cpu, read, nice = measure(server, options.greedy, options.seconds)
        print(f"{name:<10}{nice:>5}{cpu:>8.2f}{read:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
