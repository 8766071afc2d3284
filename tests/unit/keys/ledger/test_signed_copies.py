"""The newest checkpoint of a ledger is kept outside its folder, and shows that it was cut back."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from unit.keys.ledger.signed_ledgers import KEY, NOON, write

from config.event import Event
from config.site import LEDGERS, SIGNED
from keys.ledger import anchors, segments, signed_copies
from keys.ledger.signer import Signer
from keys.ledger.writer import Ledger

TRANSFER = LEDGERS / "transfer"


def sign(site: Path, records: int, first: int = 0, when: datetime = NOON) -> None:
    folder = site / TRANSFER
    write(folder, records, first)
    copy = site / SIGNED / "transfer"
    with Signer(folder, KEY, lambda: when, token=lambda: "0" * 16, copy=copy) as signer:
        signer.sign(last=True)


def behind(site: Path) -> list[str]:
    kept = (anchor for _, _, anchor in signed_copies.read_all(site, [KEY.public_key()]))
    return [str(lack) for each in kept if (lack := anchors.behind(site / LEDGERS, each))]


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    """A site whose ledger has 20 records again, after 23 were signed."""
    sign(tmp_path, 20)
    shutil.copytree(tmp_path / TRANSFER, tmp_path / "backup")
    sign(tmp_path, 3, 20)
    assert behind(tmp_path) == []
    shutil.rmtree(tmp_path / TRANSFER)
    (tmp_path / "backup").rename(tmp_path / TRANSFER)
    return tmp_path


def test_a_ledger_that_was_cut_back_a_moment_after_it_was_signed_is_behind(restored: Path) -> None:
    assert behind(restored) == ["has 20 records, but it had 23 (state/signed/transfer)"]


def test_signing_a_shortened_ledger_again_does_not_hide_it(restored: Path) -> None:
    sign(restored, 1, 100)
    assert behind(restored) == ["has 21 records, but it had 23 (state/signed/transfer)"]

    sign(restored, 9, 101)
    assert behind(restored) == ["has other records among its first 23 (state/signed/transfer)"]


def test_a_file_is_replaced_only_when_the_record_of_the_loss_is_signed(restored: Path) -> None:
    operations = restored / LEDGERS / "operations"
    with Ledger(operations, lambda: NOON) as writer:
        detail = {anchors.ACCEPTED: [f"ssps/transfer/{'0' * 16} 20 23"]}
        writer.append(Event(anchors.RECOVER, "ali", "h", "ledgers", detail=detail))
    sign(restored, 1, 100)
    assert behind(restored) == ["has 21 records, but it had 23 (state/signed/transfer)"]

    with Signer(operations, KEY, lambda: NOON) as signer:
        signer.sign(last=True)
    sign(restored, 1, 101)

    [(_, message, _)] = signed_copies.read_all(restored, [KEY.public_key()])
    assert message == segments.read_checkpoint(restored / TRANSFER)


def test_a_second_loss_is_not_hidden_by_the_acceptance_of_the_first(restored: Path) -> None:
    operations, again = restored / LEDGERS / "operations", restored / "again"
    shutil.copytree(restored / TRANSFER, again)
    with Ledger(operations, lambda: NOON) as writer:
        detail = {anchors.ACCEPTED: [f"ssps/transfer/{'0' * 16} 20 23"]}
        writer.append(Event(anchors.RECOVER, "ali", "h", "ledgers", detail=detail))
    with Signer(operations, KEY, lambda: NOON) as signer:
        signer.sign(last=True)
    sign(restored, 2, 100, NOON + timedelta(hours=1))
    assert behind(restored) == []
    shutil.rmtree(restored / TRANSFER)
    again.rename(restored / TRANSFER)

    sign(restored, 1, 200, NOON + timedelta(hours=2))

    assert behind(restored) == ["has 21 records, but it had 22 (state/signed/transfer)"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes().replace(b"\n23\n", b"\n99\n")),
    ],
    ids=["removed", "empty", "not signed"],
)
def test_a_damaged_file_is_written_again(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    sign(tmp_path, 23)
    damage(tmp_path / SIGNED / "transfer")
    assert behind(tmp_path) == []

    sign(tmp_path, 0)

    assert (tmp_path / SIGNED / "transfer").read_bytes() == segments.read_checkpoint(
        tmp_path / TRANSFER
    )
