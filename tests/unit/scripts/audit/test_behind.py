"""`ssps audit behind`, and the timeline of a box."""

import json

from office import Ssps
from unit.scripts.audit.recorded_night import ONE, SHA, TWO, RecordedNight, run

from config.event import Event


def test_a_party_is_behind_by_the_age_of_the_oldest_page_that_it_lacks(
    night: RecordedNight, ssps: Ssps
) -> None:
    site = night.folder.parent

    (printed,) = run(ssps, "behind", "--json", "--site", site)

    found = {each["party"]: each for each in json.loads(printed)}
    assert (found["parti-a"]["pages"], found["parti-a"]["taken"]) == (2, 2)
    assert found["parti-a"]["behind_seconds"] == 0.0
    assert found["parti-a"]["last_fetch"].startswith("2023-05-14")
    # Its scope is a board and a district: only the second sheet.
    assert (found["parti-b"]["pages"], found["parti-b"]["taken"]) == (1, 0)
    assert found["parti-b"]["behind_seconds"] > 86_400
    assert found["parti-b"]["last_fetch"] is None
    assert "bagimsiz-c" not in found


def test_a_transfer_that_was_cut_off_does_not_count(night: RecordedNight, ssps: Ssps) -> None:
    night.served(500, "parti-b", TWO, session=9, whole=False)
    (printed,) = run(ssps, "behind", "--json", "--site", night.folder.parent)
    assert {each["party"]: each["taken"] for each in json.loads(printed)}["parti-b"] == 0


def test_a_box_has_the_timeline_of_its_sheets_and_results(night: RecordedNight, ssps: Ssps) -> None:
    place = "34-istanbul-1/kadikoy-2/sandik-1234"
    night.record(
        "results", 600, Event("result", "publisher", "b.ndjson", place, detail={"version": 1})
    )
    viewed = {"user": "parti-a.ayse", "sha256": SHA}
    night.record("access", 700, Event("sheet", "parti-a", "192.0.2.7", f"/{ONE}", detail=viewed))

    lines = run(
        ssps, "timeline", "34-istanbul-1/kadikoy-2/1234", "--json", "--site", night.folder.parent
    )

    steps = [json.loads(line)["step"] for line in lines]
    assert steps == ["scanned", "filed", "opened", "fetched", "result", "viewed"]


def test_every_download_is_shown_if_it_is_asked_for(night: RecordedNight, ssps: Ssps) -> None:
    words = ("timeline", ONE, "--json", "--site", night.folder.parent)
    first = [json.loads(line)["step"] for line in run(ssps, *words)]
    every = [json.loads(line)["step"] for line in run(ssps, *words, "--every")]
    assert (first.count("fetched"), every.count("fetched")) == (1, 2)
    assert (first.count("opened"), every.count("opened")) == (1, 3)
