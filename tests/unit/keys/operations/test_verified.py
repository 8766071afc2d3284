"""When the ledgers were verified last."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from keys.operations import verified
from keys.operations.verified import Verified, VerifiedLedger

FOUND = Verified(
    datetime(2023, 5, 14, 20, 31, 7, tzinfo=UTC),
    "denetci",
    12.4,
    (VerifiedLedger("transfer", 120345, 120340),),
    ("transfer: changed: record 7",),
)


def test_a_verification_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    verified.write(tmp_path, FOUND)

    found = verified.read(tmp_path)

    assert found == FOUND and not found.ok


def test_a_verification_that_root_remembers_belongs_to_the_owner_of_the_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    owners = []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.fchown", lambda descriptor, *owner: owners.append(owner))

    verified.write(tmp_path, FOUND)

    folder = (tmp_path / "state").stat()
    assert owners == [(folder.st_uid, folder.st_gid)]


def test_without_a_file_or_with_rubbish_there_was_none(tmp_path: Path) -> None:
    assert verified.read(tmp_path) is None
    verified.write(tmp_path, FOUND)  # there is no folder to write to: no error
    (tmp_path / "state").mkdir()
    for content in ("", "[]", "{}", '{"at": "yesterday"}'):
        (tmp_path / "state/verified.json").write_text(content)
        assert verified.read(tmp_path) is None
