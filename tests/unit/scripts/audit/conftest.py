from pathlib import Path

import pytest
from unit.keys.ledger.signed_ledgers import Signed, make_signed, write_public_key
from unit.scripts.audit import recorded_night
from unit.scripts.audit.recorded_night import RecordedNight


@pytest.fixture
def public(tmp_path: Path) -> Path:
    return write_public_key(tmp_path / "ysk.pub")


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """Makes a ledger under the test's folder; see make_signed."""

    def make(name: str = "transfer", count: int = 30, step: int = 10, size: int = 64 << 20) -> Path:
        return make_signed(tmp_path / name, count, step, size)

    return make


@pytest.fixture
def night(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedNight:
    """The ledgers of a short night; see recorded_night.make."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return recorded_night.make(site)
