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
    """The same settings, with those digests of their files."""
    return replace(settings, digests=(("parties.toml", parties), ("site.toml", site)))


def record(settings: Settings, folder: Path) -> bool:
    with Ledger(folder, lambda: NOON) as operations:
        return settings_record.record_if_changed(operations, settings, "ali", "host", "started")


def test_each_line_has_the_digest_of_the_bytes_that_were_read(tmp_path: Path) -> None:
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


def test_settings_are_recorded_once_and_again_after_an_edit(
    settings: Settings, folder: Path
) -> None:
    edited = stating(settings, A, C)
    assert record(settings, folder)
    assert not record(settings, folder)
    assert record(edited, folder)
    assert not record(edited, folder)

    one, two = (record.event for record in read_records(folder))
    assert (one.event, one.who, one.origin, one.what) == (
        "settings", "ali", "host", "parties.toml site.toml",
    )  # fmt: skip
    first, second = ([f"parties.toml {A}", f"site.toml {site}"] for site in (B, C))
    assert one.detail == {"why": "started", "before": None, "after": first}
    assert two.detail == {"why": "started", "before": first, "after": second}


def test_restoring_a_file_is_an_edit_too(settings: Settings, folder: Path) -> None:
    record(settings, folder)
    record(stating(settings, A, C), folder)
    assert record(settings, folder)


def test_the_record_of_a_command_counts_and_a_damaged_line_does_not(
    settings: Settings, folder: Path
) -> None:
    record(settings, folder)
    stated = [f"parties.toml {C}", f"site.toml {B}"]
    with Ledger(folder, lambda: NOON) as operations:
        operations.append(Event("party suspend", "ali", "h", "a", detail={"settings": stated}))
        operations.append(Event("party suspend", "ali", "h", '"settings"', detail={"why": "x"}))
        operations.append(Event("x", "ali", "h", "a", detail={"settings": "none"}))
    assert settings_record.last_recorded(folder) == stated

    [segment] = folder.glob("*.jsonl")
    segment.write_bytes(segment.read_bytes() + b'{"event":"settings"}\n')
    assert settings_record.last_recorded(folder) == stated
