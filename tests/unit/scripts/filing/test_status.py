"""`ssps status` opens with what is wrong now, and a monitor asks for that alone."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import office
import pytest
from office import Ssps

from keys.credentials import rotation
from keys.operations import server_state
from keys.operations.publisher_state import PublisherState, StateFile, read
from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog
from publisher.outcome import Quarantined
from publisher.page import Arrival, Page, ReadResult, Reason, Stamp, arrival_id
from publisher.source import Source
from publisher.store.quarantine import Quarantine, QuarantineNote

pytestmark = pytest.mark.both_databases

GUN_1 = ("/srv/tarama/gun-1", "Permission denied", "chmod 755", "2023-05-14T14:00:00+00:00")


@pytest.fixture
def imported(site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with a registry, and parties whose credentials are valid for long."""
    monkeypatch.setattr(rotation, "expiring", lambda rings, now, notice: ())
    source = site.parent / "kayit.csv"
    source.write_text(office.registry_csv(), encoding="utf-8")
    assert ssps("registry", "import", source, "--why", "x", "--site", site).exit_code == 0
    return site


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be the running publisher."""
    monkeypatch.setattr(server_state, "holder", lambda site, part, host="": os.getpid())


@pytest.mark.usefixtures("running")
def test_a_file_that_cannot_be_read_is_named_first_and_a_monitor_gets_exit_code_3(
    imported: Path, ssps: Ssps
) -> None:
    quiet = ssps("status", "--check", "--site", imported)
    StateFile(imported).update(PublisherState(os.getpid(), troubles=(GUN_1,), trouble_count=1))

    checked = ssps("status", "--check", "--site", imported)
    shown = ssps("status", "--site", imported)

    line = "/srv/tarama/gun-1: Permission denied, since 2023-05-14T14:00:00+00:00: chmod 755"
    assert (quiet.exit_code, quiet.stdout) == (0, "")
    assert (checked.exit_code, checked.stdout) == (3, f"{line}\n")
    assert " ".join(shown.stdout.split()).startswith(line)
    assert json.loads(ssps("status", "--json", "--site", imported).stdout)["warnings"] == [line]


@pytest.mark.usefixtures("running")
def test_a_publisher_that_halts_is_wrong_and_folders_without_events_are_a_note(
    imported: Path, ssps: Ssps
) -> None:
    folder = ("/srv/tarama", "it is a share")
    StateFile(imported).update(PublisherState(os.getpid(), by_rescan_only=(folder,), held=2))
    noted = ssps("status", "--site", imported)
    assert ssps("status", "--check", "--site", imported).exit_code == 0
    StateFile(imported).update(PublisherState(os.getpid(), ("disk full", "2023-05-14T14:00:00Z")))

    halted = ssps("status", "--check", "--site", imported)

    text = " ".join(noted.stdout.split())
    assert "/srv/tarama: new files are found by rescan only: it is a share" in text
    assert "2 filed pages stay in the intake" in text
    assert (halted.exit_code, halted.stdout) == (
        3,
        "the publisher has filed nothing since 2023-05-14T14:00:00Z: disk full\n",
    )


def test_what_a_publisher_left_that_has_ended_does_not_count(imported: Path, ssps: Ssps) -> None:
    StateFile(imported).update(PublisherState(os.getpid(), troubles=(GUN_1,), trouble_count=1))

    assert read(imported) is None
    assert ssps("status", "--check", "--site", imported).exit_code == 0


def test_litter_is_counted_and_does_not_wait(imported: Path, ssps: Ssps) -> None:
    (imported / "intake" / "@eaDir").mkdir()
    (imported / "intake" / "@eaDir" / "a.jpg").write_bytes(b"a thumbnail")
    (imported / "intake" / "._a.jpg").write_bytes(b"a resource fork")

    counted = json.loads(ssps("status", "--json", "--site", imported).stdout)

    assert (counted["ignored"], counted["in_intake"], counted["warnings"]) == (2, 0, [])


def test_a_blank_back_is_ignored_and_nothing_to_review(imported: Path, ssps: Ssps) -> None:
    """It stays in quarantine, where an operator who looks for it finds it."""
    now = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
    with Catalog(catalog.url(imported)) as opened:
        for number, reason in enumerate((Reason.BLANK_BACK, Reason.BLANK_BACK, Reason.NO_KAREKOD)):
            source = Source("in", f"{number}.jpg")
            name = arrival_id(now, f"{number:08x}")
            arrived = Arrival(name, source.path, source, Stamp(number, 1, 1), now)
            page = Page(arrived, Stamp(number, 1, 1), f"{number:064}", ReadResult("JPEG", 9, 9))
            opened.add_arrivals([arrived])
            opened.add_unfiled(page, Quarantined(reason), now)
            opened.mark_recorded(arrived.id, number)
            note = QuarantineNote(arrived.id, arrived.name, reason, page.sha256, (), 1, (), "")
            Quarantine(imported).write_note(arrived.file, note)
            (imported / "quarantine" / arrived.file).write_bytes(b"a page")
        opened.commit()

    counted = json.loads(ssps("status", "--json", "--site", imported).stdout)
    listed = ssps("desk", "list", "--site", imported).stdout
    everything = ssps("desk", "list", "--all", "--site", imported).stdout
    blank = ssps("desk", "list", "--reason", "blank-back", "--site", imported).stdout

    assert (counted["ignored"], counted["quarantined"], counted["ruled"]) == (2, 1, 0)
    assert [line.split()[1] for line in listed.splitlines()] == ["no-karekod"]
    assert len(everything.splitlines()) == 3
    assert [line.split()[1] for line in blank.splitlines()] == ["blank-back"] * 2
