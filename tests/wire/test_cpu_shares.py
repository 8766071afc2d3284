import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from wire.served import Serve, Served, until
from wire.test_lifecycle import TWO, reloaded, rewrite
from wire.test_server import add_file, connected, sum_of, told


def fetched(served: Served, user: str, source: str, into: Path, name: str = "big") -> float:
    began = time.monotonic()
    done = served.sftp(user, f"get {name} {into}\n", f"-oBindAddress={source}")
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began


def at_once(*acts: Callable[[], float]) -> list[float]:
    found: list[float] = [0.0] * len(acts)

    def run(number: int) -> None:
        found[number] = acts[number]()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_the_sessions_of_a_party_share_its_bandwidth(serve: Serve, tmp_path: Path) -> None:
    served = serve(TWO)
    rewrite(served, "parties.toml", 'id = "parti-a"', 'id = "parti-a"\nrate_mbit = 40')
    reloaded(served)
    digests = {add_file(served, "big", 5_000_000), add_file(served, "big", 5_000_000, "parti-b")}
    at_once(
        lambda: fetched(served, "parti-a", "127.0.0.1", tmp_path / "one"),
        lambda: fetched(served, "parti-a", "127.0.0.1", tmp_path / "two"),
        lambda: fetched(served, "parti-b", "127.0.0.2", tmp_path / "three"),
    )
    assert {sum_of(tmp_path / name) for name in ("one", "two", "three")} == digests
    took: dict[str, list[int]] = {}
    for record in served.records("close"):
        took.setdefault(record.event.who, []).append(int(str(record.event.detail["ms"])))
    print(f"\n10 MB at 40 Mbit/s took {max(took['parti-a'])} ms, uncapped {took['parti-b']} ms")
    assert 1500 < max(took["parti-a"]) < 2500
    assert took["parti-b"][0] < 1000


def test_a_session_takes_its_turn_and_the_parent_is_prompt(serve: Serve) -> None:
    served = serve(TWO)
    with connected(served, "parti-a"):
        [child] = served.children()
        assert os.sched_getscheduler(child) == os.SCHED_BATCH
        assert os.sched_getscheduler(served.process.pid) == os.SCHED_OTHER


def nice_of(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_a_party_with_many_sessions_weighs_no_more_than_one_with_few(serve: Serve) -> None:
    served = serve(TWO)
    mine = nice_of(served.process.pid)
    with connected(served, "parti-b", source="127.0.0.2"):
        [b] = served.children()
        clients = [subprocess.Popen(
            ["sftp", "-q", *served.ssh("parti-a"), "127.0.0.1"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        ) for _ in range(8)]  # fmt: skip
        try:
            until(lambda: len(told(served, "login")) == 9)
            until(lambda: [nice_of(c) - mine for c in served.children() if c != b] == [9] * 8)
            assert nice_of(b) == mine
        finally:
            for client in clients:
                client.communicate(b"bye\n", timeout=20)
