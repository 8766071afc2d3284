import os
import threading
from pathlib import Path

import pytest

from config.event import Event
from config.fault import Faults
from config.settings import Keeping
from keys import host, ledger, note, segments
from keys.ledger import Ledger
from scripts import console, notary

OPENED = Event("open", "parti-a", "192.0.2.7", "/a.jpg")


def signed(folder: Path, site: Path) -> note.Checkpoint:
    message = ledger.checkpoint(folder)
    assert message is not None
    public = (site / host.SIGNING / "signing_key.pub").read_text()
    return note.open_checkpoint(message, note.public_key(public))


def test_a_process_of_its_own_signs_for_what_a_daemon_wrote(site: Path) -> None:
    folder = site / "ledgers/transfer"
    with notary.beside(site, "transfer", Keeping()), Ledger(folder) as writer:
        writer.append(OPENED)
        writer.append(OPENED)

    assert signed(folder, site).size == 2
    assert len(note.split((folder / segments.CHECKPOINTS).read_bytes())) == 1


def test_a_daemon_does_not_start_on_a_ledger_that_is_not_what_was_signed_for(site: Path) -> None:
    folder = site / "ledgers/transfer"
    with notary.beside(site, "transfer", Keeping()), Ledger(folder) as writer:
        writer.append(OPENED)
    segments.listed(folder)[0].path.write_bytes(b"")

    with (
        pytest.raises(Faults, match="holds 0 records, but 1 were signed for"),
        notary.beside(site, "transfer", Keeping()),
    ):
        pass


def test_what_the_disk_refuses_is_tried_again(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site / "ledgers/transfer"
    with Ledger(folder) as writer:
        writer.append(OPENED)
    ours, theirs = os.pipe()
    looks: list[bool] = []
    with notary.take_up(site, "transfer") as taken:
        real = taken.notarize

        def full(last: bool = False) -> note.Checkpoint | None:
            looks.append(last)
            if len(looks) == 1:
                raise OSError(28, "No space left on device")
            os.close(theirs) if len(looks) == 2 else None
            return real(last)

        monkeypatch.setattr(taken, "notarize", full)
        monkeypatch.setattr(notary, "_OFTEN", 0.01)
        thread = threading.Thread(target=notary.attend, args=(taken, ours))
        thread.start()
        thread.join(10)

    os.close(ours)
    assert looks == [False, False, True]
    assert "No space left on device" in capsys.readouterr().out
    assert signed(folder, site).size == 1


def test_what_an_operator_does_is_signed_for_at_once(site: Path) -> None:
    with console.operating(site) as record:
        record("key add", "parti-a", {})

    assert signed(site / "ledgers/operations", site).size == 1


def test_nothing_is_changed_while_the_operations_ledger_is_not_what_was_signed_for(
    site: Path,
) -> None:
    with console.operating(site) as record:
        record("key add", "parti-a", {})
    segments.listed(site / "ledgers/operations")[0].path.write_bytes(b"")

    with pytest.raises(Faults, match="1 were signed for"), console.operating(site):
        raise AssertionError("not reached")


def test_without_a_signing_key_a_credential_can_be_revoked_all_the_same(site: Path) -> None:
    (site / host.SIGNING / host.SIGNING_KEY).unlink()

    with console.operating(site) as record:
        assert record("key revoke", "parti-a", {}) == 0
