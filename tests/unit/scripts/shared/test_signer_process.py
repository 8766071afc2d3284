import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from config.event import Event
from config.fault import Faults
from config.settings import LedgerSettings
from config.site import SIGNING_KEYS
from keys.ledger import note, segments
from keys.ledger.writer import Ledger
from keys.server_keys import host
from scripts.shared import console, signer_process

OPENED = Event("open", "parti-a", "192.0.2.7", "/a.jpg")


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not met():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def signed(folder: Path, site: Path) -> note.Checkpoint:
    message = segments.read_checkpoint(folder)
    assert message is not None
    public = (site / SIGNING_KEYS / "signing_key.pub").read_text()
    return note.open_checkpoint(message, [note.parse_public_key(public)])


def test_a_process_of_its_own_signs_for_what_a_daemon_wrote(site: Path) -> None:
    folder = site / "ledgers/transfer"
    with (
        signer_process.running_signer(site, "transfer", LedgerSettings()),
        Ledger(folder) as writer,
    ):
        writer.append(OPENED)
        writer.append(OPENED)

    assert signed(folder, site).size == 2
    assert len(note.split_notes((folder / segments.CHECKPOINTS).read_bytes())) == 1


def test_a_daemon_does_not_start_on_a_ledger_that_is_not_what_was_signed_for(site: Path) -> None:
    folder = site / "ledgers/transfer"
    with (
        signer_process.running_signer(site, "transfer", LedgerSettings()),
        Ledger(folder) as writer,
    ):
        writer.append(OPENED)
    segments.list_segments(folder)[0].path.write_bytes(b"")

    with (
        pytest.raises(Faults, match="has 0 records, but 1 were signed"),
        signer_process.running_signer(site, "transfer", LedgerSettings()),
    ):
        pass


@pytest.mark.parametrize("name", ["transfer", "operations"])
def test_what_lies_in_the_working_directory_never_gets_hold_of_the_key(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "scripts/shared").mkdir(parents=True)
    (tmp_path / "scripts/__init__.py").touch()
    (tmp_path / "scripts/shared/__init__.py").touch()
    (tmp_path / "scripts/shared/signer_process.py").write_text("print('ready')")
    (tmp_path / "keys/server_keys/host").mkdir(parents=True)  # as in a site's own folder
    monkeypatch.chdir(tmp_path)
    folder = site / "ledgers" / name
    with (
        signer_process.running_signer(site, name, LedgerSettings())
        if name == "transfer"
        else signer_process.on_demand_signer(site, name),
        Ledger(folder) as writer,
    ):
        writer.append(OPENED)

    assert signed(folder, site).size == 1


def test_a_notary_that_dies_is_missed_and_another_goes_on(site: Path) -> None:
    folder = site / "ledgers/transfer"
    now = 0.0
    process = signer_process.SignerProcess(
        site, "transfer", LedgerSettings(), monotonic=lambda: now
    )
    process.wait_until_ready()
    with Ledger(folder) as writer, capture_logs() as logs:
        first = process._process
        assert first is not None
        first.kill()
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
        writer.append(OPENED)
        process.poll()
        process.poll()
        assert process._process is None, "it waits a second first"
        now = 1.0
        process.poll()
        assert process._process is not None
        wait_until(lambda: segments.read_checkpoint(folder) is not None)
    process.stop()

    assert [(entry["event"], entry["cause"]) for entry in logs] == [
        ("signer-died", "it ended with -9")
    ]
    assert signed(folder, site).size == 1


def test_what_was_written_without_a_notary_is_signed_for_at_the_end(site: Path) -> None:
    folder = site / "ledgers/transfer"
    with (
        signer_process.running_signer(site, "transfer", LedgerSettings()) as process,
        Ledger(folder) as writer,
    ):
        assert process._process is not None
        process._process.kill()
        process._process.wait()
        writer.append(OPENED)

    assert signed(folder, site).size == 1


def test_one_that_will_not_sign_is_named_again_and_again_with_its_reason(site: Path) -> None:
    folder = site / "ledgers/transfer"
    now = 0.0
    process = signer_process.SignerProcess(
        site, "transfer", LedgerSettings(), monotonic=lambda: now
    )
    process.wait_until_ready()
    with Ledger(folder) as writer:
        writer.append(OPENED)
    wait_until(lambda: segments.read_checkpoint(folder) is not None)
    assert process._process is not None
    process._process.kill()
    segments.list_segments(folder)[0].path.write_bytes(b"")

    with capture_logs() as logs:
        while len(logs) < 3:
            now += 0.5
            process.poll()
            if process._process is not None:
                os.waitid(os.P_PID, process._process.pid, os.WEXITED | os.WNOWAIT)
        process.stop()

    assert [entry["retry_seconds"] for entry in logs[:3]] == [1.0, 2.0, 4.0]
    assert "has 0 records, but 1 were signed" in logs[1]["cause"]
    assert logs[3]["event"] == "signer-died"


def test_what_the_disk_refuses_is_tried_again(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site / "ledgers/transfer"
    with Ledger(folder) as writer:
        writer.append(OPENED)
    ours, theirs = os.pipe()
    looks: list[bool] = []
    with signer_process.open_signer(site, "transfer") as taken:
        real = taken.sign

        def full(last: bool = False) -> note.Checkpoint | None:
            looks.append(last)
            if len(looks) == 1:
                raise OSError(28, "No space left on device")
            os.close(theirs) if len(looks) == 2 else None
            return real(last)

        monkeypatch.setattr(taken, "sign", full)
        monkeypatch.setattr(signer_process, "_SIGN_INTERVAL", 0.01)
        thread = threading.Thread(target=signer_process.sign_until_closed, args=(taken, ours))
        thread.start()
        thread.join(10)

    os.close(ours)
    assert looks == [False, False, True]
    assert "No space left on device" in capsys.readouterr().out
    assert signed(folder, site).size == 1


def test_it_is_signed_once_a_second_however_long_signing_takes(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.pipe()
    now = 100.0
    began: list[float] = []

    def waits(read: list[int], *rest: object) -> tuple[list[int], list[int], list[int]]:
        nonlocal now
        now += float(str(rest[-1]))
        return (read if len(began) == 4 else []), [], []

    with signer_process.open_signer(site, "transfer") as taken:

        def slow(last: bool = False) -> None:
            nonlocal now
            began.append(now)
            now += 2.5 if len(began) == 2 else 0.4

        os.close(theirs)
        monkeypatch.setattr(taken, "sign", slow)
        monkeypatch.setattr("select.select", waits)
        signer_process.sign_until_closed(taken, ours, monotonic=lambda: now)

    os.close(ours)
    assert began == pytest.approx([101.0, 102.0, 104.5, 105.5, 106.5])


def test_what_an_operator_does_is_signed_for_at_once(site: Path) -> None:
    with console.recorded_change(site, "key add", "parti-a", "form 12") as record:
        record.done(None)

    assert signed(site / "ledgers/operations", site).size == 1


def test_what_others_record_is_signed_for_within_seconds(site: Path) -> None:
    folder, clock = site / "ledgers/operations", iter([0.0, 1.0, 6.0, 12.0])
    on_demand = signer_process.OnDemandSigner(site, "operations", lambda: next(clock))
    on_demand.poll()  # there is no ledger yet
    with Ledger(folder) as operations:
        operations.append(Event("password change", "parti-a", "192.0.2.7", "parti-a"))

    on_demand.poll()  # not due
    assert not (folder / "checkpoint").exists()
    on_demand.poll()
    on_demand.stop()

    assert signed(folder, site).size == 1


def test_nothing_is_changed_while_the_operations_ledger_is_not_what_was_signed_for(
    site: Path,
) -> None:
    with console.recorded_change(site, "key add", "parti-a", "form 12") as record:
        record.done(None)
    segments.list_segments(site / "ledgers/operations")[0].path.write_bytes(b"")

    with (
        pytest.raises(Faults, match="1 were signed"),
        console.recorded_change(site, "a", "b", "c"),
    ):
        raise AssertionError("not reached")


def test_without_a_signing_key_a_credential_can_be_revoked_all_the_same(site: Path) -> None:
    (site / SIGNING_KEYS / host.SIGNING_KEY).unlink()

    with console.recorded_change(site, "key revoke", "parti-a", "lost") as record:
        assert record.done(None) == 0
