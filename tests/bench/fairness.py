"""How much one party with a single session gets beside another with many: prints it.

Both fetch a big file as fast as they can. The server has one processor, the clients the others,
so that it is the server's that is fought over; the single session's client goes before the
others', so that only the server holds it back. What is compared is what each party's children
used of the processor and read from the tree, with the shares that sftpd/monitor/cpu_shares gives
and without. An even share is 1.00: half of it all.
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

from wire.served import OPENS, Served, lay_out, server_script, until  # noqa: E402

from keys.server_keys import host  # noqa: E402

PARTIES = {"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"}
WITHOUT = "from sftpd.monitor import cpu_shares\ncpu_shares.set_nice = lambda *_: None\n"
BIG = 8 << 30


def used(pid: int) -> tuple[float, int]:
    """Return the processor's seconds and the bytes read of a process."""
    scheduled = Path(f"/proc/{pid}/schedstat").read_text().split()[0]
    counted = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(scheduled) / 1e9, int(counted["rchar"])


def start(folder: Path, patch: str) -> Served:
    site = folder / "site"
    lay_out(site, PARTIES, 64, 32)
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
    served = Served(site, int(process.stdout.readline()), process, log)
    (site / "known_hosts").write_text(host.known_hosts(site, "127.0.0.1", served.port))
    for party in PARTIES:
        with (site / "trees" / party / "big").open("wb") as file:
            file.truncate(BIG)
    return served


def fetch(served: Served, party: str) -> "subprocess.Popen[bytes]":
    more = ("-oCiphers=aes128-gcm@openssh.com", f"-oBindAddress={PARTIES[party]}")
    client = subprocess.Popen(
        ["sftp", "-q", *served.ssh(party, *more), "-b", "-", "127.0.0.1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert client.stdin is not None
    client.stdin.write(b"get big /dev/null\n")
    client.stdin.flush()
    return client


def favour(client: "subprocess.Popen[bytes]") -> None:
    children = Path(f"/proc/{client.pid}/task/{client.pid}/children").read_text().split()
    for pid in (client.pid, *map(int, children)):
        os.setpriority(os.PRIO_PROCESS, pid, -15)


def measure(served: Served, greedy: int, seconds: float) -> tuple[float, float, int]:
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(served.process.pid, processors[:1])
    os.sched_setaffinity(0, processors[1:] or processors)
    clients = [fetch(served, "parti-b")]
    try:
        until(lambda: len(served.records("open")) == 1)
        favour(clients[0])
        [single] = served.children()
        clients += [fetch(served, "parti-a") for _ in range(greedy)]
        until(lambda: len(served.records("open")) == greedy + 1, 60)
        time.sleep(1)
        before = {pid: used(pid) for pid in served.children()}
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
        os.sched_setaffinity(0, processors)
        served.stop()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--greedy", type=int, default=16)
    asked.add_argument("--seconds", type=float, default=5.0)
    given = asked.parse_args()
    print(f"one session beside {given.greedy} of another party, of an even share")
    print(f"{'shares':<10}{'nice':>5}{'processor':>11}{'bytes':>8}")
    for name, patch in (("without", WITHOUT), ("with", "")):
        with tempfile.TemporaryDirectory() as folder:
            served = start(Path(folder), patch)
            cpu, read, nice = measure(served, given.greedy, given.seconds)
        print(f"{name:<10}{nice:>5}{cpu:>11.2f}{read:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
