import os
from hashlib import sha256
from pathlib import Path

import pytest
from office import Ssps

from config import load
from config.event import Event
from config.fault import Faults
from config.settings import Settings
from keys.ledger import note, segments, writer
from keys.ledger.writer import Ledger
from keys.operations import settings_record as stated
from scripts.daemons import run, settings_record


@pytest.fixture
def folder(site: Path) -> Path:
    return site / "ledgers/operations"


def events(folder: Path) -> list[Event]:
    """Return the events of a ledger, except those about the files under keys/."""
    found = [record.event for record in segments.read_records(folder)]
    return [event for event in found if not event.what.startswith("keys")]


def edit(site: Path) -> None:
    with (site / "parties.toml").open("a", encoding="utf-8") as file:
        file.write("# by hand\n")


def test_an_edit_by_hand_is_recorded_and_signed_when_a_daemon_starts(
    site: Path, folder: Path
) -> None:
    settings_record.record_if_changed(load.load(site), "ssps serve started")
    before = stated.digest_lines(load.load(site).digests)
    edit(site)
    settings_record.record_if_changed(load.load(site), "ssps serve started")

    *_, found = events(folder)
    assert found.detail == {
        "why": "ssps serve started",
        "before": before,
        "after": stated.digest_lines(load.load(site).digests),
    }
    message = segments.read_checkpoint(folder)
    assert message is not None
    assert note.unverified_checkpoint(message).size == len(list(segments.read_records(folder)))


def test_the_record_has_the_settings_that_were_read_even_if_the_file_is_edited_then(
    site: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (site / "parties.toml").read_bytes()
    ready = run.load_ready_settings

    def edited_afterwards(site: Path) -> Settings:
        settings = ready(site)
        edit(site)
        return settings

    monkeypatch.setattr(run, "load_ready_settings", edited_afterwards)
    assert run._accept_new_settings(site)

    after = events(folder)[-1].detail["after"]
    assert isinstance(after, list)
    assert after[0] == f"parties.toml {sha256(content).hexdigest()}"


def test_unchanged_settings_need_no_lock_and_changed_ones_wait_for_it(site: Path) -> None:
    settings_record.record_if_changed(load.load(site), "ssps serve started")
    with Ledger(site / "ledgers/operations"):
        settings_record.record_if_changed(load.load(site), "ssps serve started", wait_seconds=0)
        edit(site)
        with pytest.raises(writer.LedgerBusy):
            settings_record.record_if_changed(load.load(site), "ssps serve started", wait_seconds=0)


def test_a_daemon_does_not_start_if_its_settings_cannot_be_recorded(
    site: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, ssps: Ssps
) -> None:
    settings_record.record_if_changed(load.load(site), "ssps serve started")
    edit(site)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        for act in (run.run_server, run.run_publisher):
            with pytest.raises(Faults, match=r"so they are not applied: .*No space left"):
                act(run.load_ready_settings(site))
        assert not run._accept_new_settings(site)
    assert len(events(folder)) == 1
    assert run._accept_new_settings(site)
    assert events(folder)[-1].detail["why"] == "loaded by ssps run"


def test_a_party_command_records_an_earlier_edit_by_hand_separately(
    site: Path, folder: Path, ssps: Ssps
) -> None:
    settings_record.record_if_changed(load.load(site), "ssps serve started")
    edit(site)
    by_hand = stated.digest_lines(load.load(site).digests)
    assert ssps("party", "suspend", "parti-a", "--why", "call 3", "--site", site).exit_code == 0
    settings_record.record_if_changed(load.load(site), "ssps serve started")

    _, found, suspended = events(folder)
    assert (found.event, found.detail["why"]) == ("settings", "found by party suspend")
    assert found.detail["after"] == by_hand
    assert suspended.detail["settings"] == stated.digest_lines(load.load(site).digests) != by_hand
