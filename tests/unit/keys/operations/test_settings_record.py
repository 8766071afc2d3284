from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import office
import pytest

from config import load
from config.event import Event
from config.settings import Settings
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from keys.operations import settings_record

NOON = datetime(2023, 5, 14, 14, tzinfo=UTC)
A, B, C = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return stating(load.load(office.site(tmp_path)), A, B)


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.site / "ledgers/operations"


def stating(settings: Settings, parties: str, site: str) -> Settings:
    """The same, as if read from files of those hashes."""
    return replace(settings, digests=(("parties.toml", parties), ("site.toml", site)))


def settle(settings: Settings, folder: Path) -> bool:
    with Ledger(folder, lambda: NOON) as operations:
        return settings_record.record_if_changed(operations, settings, "ali", "host", "started")


def test_each_file_is_named_with_the_hash_of_the_bytes_that_were_read(tmp_path: Path) -> None:
    site = office.site(tmp_path)
    parties, agreed = (
        sha256((site / name).read_bytes()).hexdigest() for name in ("parties.toml", "site.toml")
    )
    read = load.load(site)
    (site / "site.toml").write_text("# edited since")

    assert settings_record.digest_lines(read.digests) == [
        f"parties.toml {parties}",
        f"site.toml {agreed}",
    ]


def test_what_stands_is_recorded_once_and_again_when_it_was_edited(
    settings: Settings, folder: Path
) -> None:
    edited = stating(settings, A, C)
    assert settle(settings, folder)
    assert not settle(settings, folder)
    assert settle(edited, folder)
    assert not settle(edited, folder)

    one, two = (record.event for record in read_records(folder))
    assert (one.event, one.who, one.origin, one.what) == (
        "settings", "ali", "host", "parties.toml site.toml",
    )  # fmt: skip
    first, second = ([f"parties.toml {A}", f"site.toml {site}"] for site in (B, C))
    assert one.detail == {"why": "started", "before": None, "after": first}
    assert two.detail == {"why": "started", "before": first, "after": second}


def test_a_file_put_back_as_it_was_is_an_edit_too(settings: Settings, folder: Path) -> None:
    settle(settings, folder)
    settle(stating(settings, A, C), folder)
    assert settle(settings, folder)


def test_a_commands_own_record_counts_and_what_only_looks_like_one_does_not(
    settings: Settings, folder: Path
) -> None:
    settle(settings, folder)
    stated = [f"parties.toml {C}", f"site.toml {B}"]
    with Ledger(folder, lambda: NOON) as operations:
        operations.append(Event("party suspend", "ali", "h", "a", detail={"settings": stated}))
        operations.append(Event("party suspend", "ali", "h", '"settings"', detail={"why": "x"}))
        operations.append(Event("x", "ali", "h", "a", detail={"settings": "none"}))
    assert settings_record.last_recorded(folder) == stated

    [segment] = folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes() + b'{"event":"settings"}\n')
    assert settings_record.last_recorded(folder) == stated
