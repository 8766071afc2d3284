from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.event import Event
from keys import settled
from keys.ledger import Ledger, read

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "parties.toml").touch()
    return tmp_path


@pytest.fixture
def folder(site: Path) -> Path:
    return site / "ledgers/operations"


def settle(site: Path, folder: Path) -> bool:
    with Ledger(folder, lambda: NOON) as operations:
        return settled.settle(operations, site, "ali", "host", "started")


def test_each_file_is_named_with_its_hash(site: Path) -> None:
    assert settled.digests(site) == [f"parties.toml {EMPTY}", "site.toml none"]
    assert settled.digests(site, b"\n") != settled.digests(site)
    (site / "parties.toml").write_bytes(b"\n")
    after = settled.digests(site)
    assert settled.digests(site, b"\n") == after
    (site / "site.toml").touch()
    assert settled.digests(site) == [after[0], f"site.toml {EMPTY}"]


def test_what_stands_is_recorded_once_and_again_when_it_was_edited(
    site: Path, folder: Path
) -> None:
    first = settled.digests(site)
    assert settle(site, folder)
    assert not settle(site, folder)
    (site / "site.toml").touch()
    assert settle(site, folder)
    assert not settle(site, folder)

    one, two = (record.event for record in read(folder))
    assert (one.event, one.who, one.origin, one.what) == (
        "settings", "ali", "host", "parties.toml site.toml",
    )  # fmt: skip
    assert one.detail == {"why": "started", "before": None, "after": first}
    assert two.detail == {"why": "started", "before": first, "after": settled.digests(site)}


def test_a_file_put_back_as_it_was_is_an_edit_too(site: Path, folder: Path) -> None:
    settle(site, folder)
    (site / "site.toml").touch()
    settle(site, folder)
    (site / "site.toml").unlink()
    assert settle(site, folder)


def test_a_commands_own_record_counts_and_what_only_looks_like_one_does_not(
    site: Path, folder: Path
) -> None:
    settle(site, folder)
    stated = settled.digests(site, b"\n")
    with Ledger(folder, lambda: NOON) as operations:
        operations.append(Event("party suspend", "ali", "h", "a", detail={"settings": stated}))
        operations.append(Event("party suspend", "ali", "h", '"settings"', detail={"why": "x"}))
        operations.append(Event("x", "ali", "h", "a", detail={"settings": "none"}))
    assert settled.recorded(folder) == stated

    [segment] = folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes() + b'{"event":"settings"}\n')
    assert settled.recorded(folder) == stated
