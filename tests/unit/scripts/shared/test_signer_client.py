import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.scripts.shared.test_signing import OPENED, signed

from config.fault import Faults
from config.settings import LedgerSettings
from keys.ledger import note, segments
from keys.ledger.writer import Ledger
from keys.operations import server_state
from scripts.shared.signer_client import STUCK_AFTER, SignerClient, running_signer

SETTINGS = LedgerSettings()


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def kill(client: SignerClient) -> None:
    assert client._process is not None
    client._process.kill()
    client._process.wait()


def test_what_a_daemon_writes_is_signed_by_another_process(site: Path) -> None:
    folder = site / "ledgers/transfer"

    with running_signer(site, "transfer", SETTINGS), Ledger(folder) as writer:
        writer.append(OPENED)
        writer.append(OPENED)

    assert signed(site, "transfer").size == 2
    assert len(note.split_notes((folder / segments.CHECKPOINTS).read_bytes())) == 1


@pytest.mark.slow
def test_a_daemon_does_not_start_if_its_ledger_does_not_match_its_checkpoint(site: Path) -> None:
    folder = site / "ledgers/transfer"
    with running_signer(site, "transfer", SETTINGS), Ledger(folder) as writer:
        writer.append(OPENED)
    segments.list_segments(folder)[0].path.write_bytes(b"")

    with (
        pytest.raises(Faults, match=r"ledgers/transfer: .*has 0 records, but 1 were signed"),
        running_signer(site, "transfer", SETTINGS),
    ):
        pass

    assert server_state.holder(site, "signer") is None


def test_a_module_in_the_working_directory_is_not_run_with_the_key(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scripts/shared").mkdir(parents=True)
    (tmp_path / "scripts/__init__.py").touch()
    (tmp_path / "scripts/shared/__init__.py").touch()
    (tmp_path / "scripts/shared/signer_process.py").write_text("raise SystemExit(7)")
    (tmp_path / "keys/server_keys/host").mkdir(parents=True)  # as in a site's own folder
    monkeypatch.chdir(tmp_path)

    with running_signer(site, "transfer", SETTINGS), Ledger(site / "ledgers/transfer") as writer:
        writer.append(OPENED)

    assert signed(site, "transfer").size == 1


@pytest.mark.slow
def test_two_daemons_share_one_process_and_the_second_replaces_it(site: Path) -> None:
    first = SignerClient(site, "filing", SETTINGS)
    second = SignerClient(site, "transfer", SETTINGS)
    first.start()
    second.start()
    assert second._process is None
    shared = server_state.holder(site, "signer")

    with Ledger(site / "ledgers/transfer") as writer, capture_logs() as logs:
        writer.append(OPENED)
        first.stop()
        assert signed(site, "transfer").size == 1
        wait_until(lambda: second.poll() or server_state.holder(site, "signer") is not None)
        writer.append(OPENED)
    second.stop()

    assert server_state.holder(site, "signer") != shared
    assert signed(site, "transfer").size == 2
    assert logs == []


@pytest.mark.slow
def test_daemons_that_start_at_the_same_time_agree_on_one_process(site: Path) -> None:
    clients = [SignerClient(site, name, SETTINGS) for name in ("filing", "transfer")]
    threads = [threading.Thread(target=client.start) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert all(client._connection is not None for client in clients)
    for client in clients:
        client.stop()

    assert server_state.holder(site, "signer") is None


@pytest.mark.slow
def test_a_signer_that_dies_is_started_again(site: Path) -> None:
    folder = site / "ledgers/transfer"
    now = 0.0
    client = SignerClient(site, "transfer", SETTINGS, monotonic=lambda: now)
    client.start()

    with Ledger(folder) as writer, capture_logs() as logs:
        kill(client)
        writer.append(OPENED)
        client.poll()
        client.poll()
        assert client._process is None, "it waits a second first"
        now = 1.0
        wait_until(lambda: client.poll() or segments.read_checkpoint(folder) is not None)
    client.stop()

    assert [(entry["event"], entry["cause"]) for entry in logs] == [
        ("signer-died", "it ended with -9")
    ]
    assert signed(site, "transfer").size == 1


@pytest.mark.slow
def test_records_that_were_written_without_a_signer_are_signed_at_the_end(site: Path) -> None:
    with (
        running_signer(site, "transfer", SETTINGS) as client,
        Ledger(site / "ledgers/transfer") as writer,
    ):
        kill(client)
        writer.append(OPENED)

    assert signed(site, "transfer").size == 1


@pytest.mark.slow
def test_a_ledger_that_is_refused_is_logged_again_and_again_with_the_cause(site: Path) -> None:
    folder = site / "ledgers/transfer"
    now = 0.0
    client = SignerClient(site, "transfer", SETTINGS, monotonic=lambda: now)
    client.start()
    with Ledger(folder) as writer:
        writer.append(OPENED)
    wait_until(lambda: segments.read_checkpoint(folder) is not None)
    kill(client)
    segments.list_segments(folder)[0].path.write_bytes(b"")

    with capture_logs() as logs:
        while len(logs) < 3:
            now += 0.1
            client.poll()
            threading.Event().wait(0.01)
        client.stop()

    assert [entry["event"] for entry in logs] == [
        "signer-died",
        "signing-refused",
        "signing-refused",
        "signing-failed",
    ]
    assert [entry["retry_seconds"] for entry in logs[:3]] == [1.0, 2.0, 4.0]
    assert "has 0 records, but 1 were signed" in logs[1]["cause"]


@pytest.mark.slow
def test_a_process_that_hangs_is_killed_and_replaced_also_by_another_daemon(site: Path) -> None:
    now = [0.0]
    first = SignerClient(site, "filing", SETTINGS, lambda: now[0])
    second = SignerClient(site, "transfer", SETTINGS, lambda: now[0])
    first.start()
    second.start()
    stuck = server_state.holder(site, "signer")
    assert stuck is not None and second._process is None
    os.kill(stuck, signal.SIGSTOP)

    with Ledger(site / "ledgers/transfer") as writer, capture_logs() as logs:
        writer.append(OPENED)
        second.poll()  # reads what was sent before
        now[0] = STUCK_AFTER - 0.1
        second.poll()
        assert logs == []
        now[0] = 2 * STUCK_AFTER
        second.poll()
        [log] = logs
        assert (log["event"], log["ledger"], log["log_level"]) == (
            "signer-stuck",
            "transfer",
            "error",
        )
        assert f"process {stuck} gave no sign of life for 15 s" in log["cause"]

        def replaced() -> bool:
            if second._connection is None:
                now[0] += 60  # it is due to try again
            second.poll()
            return signed_size(site) == 1

        wait_until(replaced)
    assert server_state.holder(site, "signer") not in (None, stuck)
    first.stop()
    second.stop()


def signed_size(site: Path) -> int:
    message = segments.read_checkpoint(site / "ledgers/transfer")
    return 0 if message is None else note.unverified_checkpoint(message).size
