import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from wire.attacker import key_exchanged
from wire.server import TWO_PARTIES, RunningServer, StartServer, until

from sftpd.monitor import cpu_shares


def fetch_seconds(
    server: RunningServer, user: str, source: str, into: Path, name: str = "big"
) -> float:
    began = time.monotonic()
    done = server.sftp(user, f"get {name} {into}\n", f"-oBindAddress={source}")
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def run_in_parallel(*acts: Callable[[], float]) -> list[float]:
    found: list[float] = [0.0] * len(acts)

    def run(number: int) -> None:
        found[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_the_sessions_of_a_party_share_its_bandwidth(serve: StartServer, tmp_path: Path) -> None:
    server = serve(TWO_PARTIES)
    server.edit("parties.toml", 'id = "parti-a"', 'id = "parti-a"\nrate_mbit = 40')
    server.reload()
    contents = {server.add_file("big", 5_000_000), server.add_file("big", 5_000_000, "parti-b")}
    run_in_parallel(
        lambda: fetch_seconds(server, "parti-a", "127.0.0.1", tmp_path / "one"),
        lambda: fetch_seconds(server, "parti-a", "127.0.0.1", tmp_path / "two"),
        lambda: fetch_seconds(server, "parti-b", "127.0.0.2", tmp_path / "three"),
    )
    assert {(tmp_path / name).read_bytes() for name in ("one", "two", "three")} == contents
    took: dict[str, list[int]] = {}
    for record in server.records("close"):
        took.setdefault(record.event.who, []).append(int(str(record.event.detail["ms"])))
    print(f"\n10 MB at 40 Mbit/s took {max(took['parti-a'])} ms, uncapped {took['parti-b']} ms")
    assert 1500 < max(took["parti-a"]) < 2500
    assert took["parti-b"][0] < 1000


def test_a_session_runs_under_sched_batch_from_its_login_on(serve: StartServer) -> None:
    server = serve(TWO_PARTIES)
    with key_exchanged(server):
        [child] = server.children()
        assert os.sched_getscheduler(child) == os.SCHED_OTHER
    until(lambda: not server.children())
    with server.connect("parti-a"):
        [child] = server.children()
        assert os.sched_getscheduler(child) == os.SCHED_BATCH
        assert os.sched_getscheduler(server.process.pid) == os.SCHED_OTHER


def nice_value(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def share(pid: int, server: int) -> tuple[int, int]:
    """Return the nice value of a process, relative to that of the server, and its policy."""
    return nice_value(pid) - server, os.sched_getscheduler(pid)


def shares_beside_four(server: RunningServer, expected: int) -> None:
    """Wait until four sessions of `parti-a` have that nice value beside one of `parti-b`."""
    mine = nice_value(server.process.pid)
    with server.connect("parti-b", source="127.0.0.2"):
        [b] = server.children()
        clients = [subprocess.Popen(
            ["sftp", "-q", *server.ssh("parti-a"), "127.0.0.1"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        ) for _ in range(4)]  # fmt: skip
        try:
            until(lambda: len(server.details("login")) == 5)
            others = [child for child in server.children() if child != b]
            b_share = (0, os.SCHED_OTHER if expected else os.SCHED_BATCH)
            shares = [b_share, *[(expected, os.SCHED_BATCH)] * 4]
            until(lambda: [share(child, mine) for child in (b, *others)] == shares)
        finally:
            for client in clients:
                client.communicate(b"bye\n", timeout=20)
        until(lambda: len(server.children()) == 1)
        until(lambda: os.sched_getscheduler(b) == os.SCHED_BATCH)


def remembered(seconds: float) -> str:
    return f"from sftpd.monitor import cpu_shares; cpu_shares.REMEMBERED = {seconds}"


def test_sessions_of_a_party_with_many_busy_ones_get_a_higher_nice_value(
    serve: StartServer,
) -> None:
    shares_beside_four(serve(TWO_PARTIES, patch=remembered(1e6)), 9)


@pytest.mark.skipif(
    not cpu_shares.may_lower(os.getpriority(os.PRIO_PROCESS, 0)),
    reason="what a session got for its login stays unless a nice value may be lowered",
)
def test_idle_sessions_do_not_change_the_nice_value_of_their_party(serve: StartServer) -> None:
    shares_beside_four(serve(TWO_PARTIES, patch=remembered(0.0)), 0)


def test_of_two_parties_with_a_session_each_the_one_that_uses_less_interrupts_the_other(
    serve: StartServer,
) -> None:
    server = serve(TWO_PARTIES)
    server.add_file("big", 20_000_000)
    with server.connect("parti-b", source="127.0.0.2"):
        [b] = server.children()
        with subprocess.Popen(
            ["sftp", "-q", *server.ssh("parti-a"), "-b", "-", "127.0.0.1"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        ) as client:  # fmt: skip
            assert client.stdin is not None
            client.stdin.write(b"get big /dev/null\n" * 3_000)
            client.stdin.flush()
            until(lambda: len(server.children()) == 2)
            [a] = set(server.children()) - {b}
            until(lambda: os.sched_getscheduler(a) == os.SCHED_BATCH)
            until(lambda: os.sched_getscheduler(b) == os.SCHED_OTHER)
            assert os.sched_getscheduler(a) == os.SCHED_BATCH
            assert nice_value(a) > nice_value(b)
            client.kill()
