"""Measure what a party's mirror keeps of its speed beside hostile sessions of another party.

One party fetches a tree with OpenSSH's `sftp`, first alone, then beside the sessions of another
party that attack in all the ways of tests/bench/hostile.py. The two alternate, and the medians of
the speeds are printed. Clients and server share the machine, and no process of the benchmark has
another priority than the others or a processor of its own. So what the hostile clients themselves
cost the machine counts against the server. It is little, except with `channels`, where they use
about as much as the server. `kept` should be at least 50 %.

`--before` also measures a server without its processor shares (sftpd/monitor/cpu_shares).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def running_server(patch: str) -> Iterator[RunningServer]:
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
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(site), "30"],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )
        assert process.stdout is not None
        server = RunningServer(site, int(process.stdout.readline()), process, log)
        (site / "known_hosts").write_text(host.known_hosts(site, "127.0.0.1", server.port))
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def attacked(server: RunningServer, kinds: list[str]) -> Iterator[None]:
    """Run a hostile client of the attacker for each of `kinds`."""
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
            assert client.stdout is not None
            assert client.stdout.readline() == b"ready\n", (server.site / "hostile.log").read_text()
        time.sleep(1)
        yield
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


def mirror(server: RunningServer) -> float:
    """Fetch the tree of the victim once; return the speed in MB/s."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as into:
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
        assert done.returncode == 0, done.stderr
        found = sum(path.stat().st_size for path in Path(into).rglob("*.jpg"))
        assert found == FILES * SIZE, f"{found} bytes of {FILES * SIZE}"
    return FILES * SIZE / took / 1e6


def compare(server: RunningServer, kinds: list[str], repeats: int) -> tuple[float, float]:
    """Return the median speeds of the mirror, alone and beside the hostile sessions."""
    mirror(server)  # fills the page cache
    alone, beside = [], []
    for _ in range(repeats):
        alone.append(mirror(server))
        with attacked(server, kinds):
            beside.append(mirror(server))
    return statistics.median(alone), statistics.median(beside)


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
    parser.add_argument("--before", action="store_true", help="also without processor shares")
    options = parser.parse_args()
    mixed = [hostile.KINDS[n % len(hostile.KINDS)] for n in range(options.sessions)]
    plans = {kind: [kind] * options.sessions for kind in hostile.KINDS}
    plans |= {kind: [kind] for kind in hostile.WITHOUT_LOGIN}
    plans["all"] = mixed
    if options.attack:
        plans = {name: plans[name] for name in options.attack}
    servers = {"": ""} | ({"without shares": WITHOUT_SHARES} if options.before else {})
    load = os.getloadavg()[0]
    print(f"speed of a party's sftp beside {options.sessions} hostile sessions of another party")
    print(f"{os.cpu_count()} processors, load {load:.1f} before; medians of {options.repeats}")
    print(f"{'attack':<24}{'alone MB/s':>12}{'beside':>9}{'kept':>8}")
    for label, patch in servers.items():
        with running_server(patch) as server:
            for name, plan in plans.items():
                alone, beside = compare(server, plan, options.repeats)
                row = f"{name} {label}".strip()
                print(f"{row:<24}{alone:>12.0f}{beside:>9.0f}{beside / alone:>8.0%}", flush=True)


if __name__ == "__main__":
    main()
