import os
import threading
from pathlib import Path

import pytest
import structlog

from config.event import Event
from config.fault import Faults
from keys.ledger import note, segments
from keys.ledger.writer import Ledger
from keys.server_keys import host
from scripts.shared import console, signing

OPENED = Event("open", "parti-a", "192.0.2.7", "/a.jpg")


def signed(site: Path, ledger: str) -> note.Checkpoint:
    message = segments.read_checkpoint(site / "ledgers" / ledger)
    assert message is not None
    public = (site / "keys/signing/signing_key.pub").read_text()
    return note.open_checkpoint(message, [note.parse_public_key(public)])


def test_signing_is_tried_again_after_an_error_of_the_disk(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    structlog.reset_defaults()
    with Ledger(site / "ledgers/transfer") as writer:
        writer.append(OPENED)
    ours, theirs = os.pipe()
    calls: list[bool] = []
    with signing.open_signer(site, "transfer") as signer:
        real = signer.sign

        def full_at_first(last: bool = False) -> note.Checkpoint | None:
            calls.append(last)
            if len(calls) == 1:
                raise OSError(28, "No space left on device")
            os.close(theirs) if len(calls) == 2 else None
            return real(last)

        monkeypatch.setattr(signer, "sign", full_at_first)
        monkeypatch.setattr(signing, "SIGN_INTERVAL", 0.01)
        thread = threading.Thread(target=signing.sign_until_closed, args=(signer, ours))
        thread.start()
        thread.join(10)

    os.close(ours)
    assert calls == [False, False, True]
    assert "No space left on device" in capsys.readouterr().out
    assert signed(site, "transfer").size == 1


def test_a_ledger_is_signed_once_a_second_however_long_signing_takes(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.pipe()
    now = 100.0
    began: list[float] = []

    def waits(read: list[int], *rest: object) -> tuple[list[int], list[int], list[int]]:
        nonlocal now
        now += float(str(rest[-1]))
        return (read if len(began) == 4 else []), [], []

    with signing.open_signer(site, "transfer") as signer:

        def slow(last: bool = False) -> None:
            nonlocal now
            began.append(now)
            now += 2.5 if len(began) == 2 else 0.4

        os.close(theirs)
        monkeypatch.setattr(signer, "sign", slow)
        monkeypatch.setattr("select.select", waits)
        signing.sign_until_closed(signer, ours, monotonic=lambda: now)

    os.close(ours)
    assert began == pytest.approx([101.0, 102.0, 104.5, 105.5, 106.5])


def test_the_record_of_a_command_is_signed_at_once(site: Path) -> None:
    with console.recorded_change(site, "key add", "parti-a", "form 12") as record:
        record.done(None)

    assert signed(site, "operations").size == 1


def test_nothing_is_changed_while_the_operations_ledger_does_not_match_its_checkpoint(
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


def test_a_credential_can_be_revoked_without_a_signing_key(site: Path) -> None:
    (site / "keys/signing" / host.SIGNING_KEY).unlink()

    with console.recorded_change(site, "key revoke", "parti-a", "lost") as record:
        assert record.done(None) == 0
