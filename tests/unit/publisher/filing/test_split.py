"""Files of several pages: each page is filed, or quarantined, as a file of its own."""

import hashlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pikepdf
import pytest
from PIL import Image
from unit.publisher import hostile
from unit.publisher.consistency import assert_consistent
from unit.publisher.filing.test_filer import (
    CB,
    KONAK,
    MV,
    Crash,
    copied,
    crash_at_step,
    drop,
    run,
)

from config.settings import Settings
from publisher.catalog.queries import counts
from publisher.fsck.verify import verify
from publisher.publish import publish

pytestmark = pytest.mark.both_databases

BATCH = f"split| {CB} | {KONAK} | nothing | {MV}"


def test_pages_of_several_boards_go_where_they_belong(settings: Settings) -> None:
    drop(settings, {"batch.png": BATCH})

    run(settings)

    history = assert_consistent(settings)
    whole = hashlib.sha256(BATCH.encode()).hexdigest()
    pages = [part.strip().encode() for part in BATCH.split("|")[1:]]
    digests = [hashlib.sha256(page).hexdigest() for page in pages]
    (split,) = [event for event in history.events if event.event == "split"]
    assert (split.origin, split.what) == ("batch.png", f"store/{whole[:2]}/{whole[2:4]}/{whole}")
    assert (split.detail["sha256"], split.detail["extracts"]) == (whole, digests)
    others = [event for event in history.events if event.event != "split"]
    assert {
        (e.event, e.origin, e.detail["original"], e.detail["original_page"], e.detail["sha256"])
        for e in others
    } == {
        (event, f"batch.page-{number}.png", whole, number, digests[number - 1])
        for number, event in ((1, "filed"), (2, "filed"), (3, "quarantined"), (4, "filed"))
    }
    assert {event.detail.get("frames") for event in others if event.event == "filed"} == {1}


def test_a_batch_that_is_sent_again_files_nothing_twice(settings: Settings) -> None:
    drop(settings, {"a.png": BATCH, "b.png": BATCH, "c.png": f"{BATCH} | 4000000001"})

    run(settings)

    history = assert_consistent(settings)
    tally = Counter(event.event for event in history.events)
    assert tally == {"split": 3, "filed": 4, "quarantined": 1, "duplicate": 8}


@pytest.mark.slow
@pytest.mark.no_cover
def test_a_crash_at_any_step_of_splitting_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    steps: list[str] = []
    site = copied(settings, tmp_path / "all")
    drop(site, {"batch.png": BATCH})
    run(site, steps.append)
    assert "extracted" in steps

    for boundary in range(len(steps)):
        site = copied(settings, tmp_path / str(boundary))
        drop(site, {"batch.png": BATCH})
        with pytest.raises(Crash):
            run(site, crash_at_step(boundary))
        run(site)
        history = assert_consistent(site)
        tally = Counter(event.event for event in history.events)
        assert tally == {"split": 1, "filed": 3, "quarantined": 1}, steps[boundary]
        pages = [e.detail["original_page"] for e in history.events if e.event != "split"]
        assert sorted(map(str, pages)) == ["1", "2", "3", "4"]


@pytest.fixture
def published(settings: Settings) -> Callable[[int], None]:
    def until(done: int) -> None:
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(0.05):
                found = counts.counts(settings.site)
                settled = found.filed + found.versions + found.quarantined + found.duplicates
                if settled >= done and not list((settings.site / "state" / "spool").iterdir()):
                    stop.set()

        limit = threading.Timer(90, stop.set)
        limit.start()
        watching = threading.Thread(target=watch)
        watching.start()
        publish(settings, stop=stop, workers=1)
        limit.cancel()
        watching.join()

    return until


@pytest.mark.slow
def test_real_batches_are_split_without_touching_their_pictures(
    settings: Settings,
    draw: Callable[..., Image.Image],
    encode: Callable[..., bytes],
    published: Callable[[int], None],
) -> None:
    drawn = [draw(CB, CB), draw(KONAK, KONAK), draw()]
    intake = settings.site / "intake"
    (intake / "one.pdf").write_bytes(hostile.pdf(drawn))
    later = [page.convert("1") for page in (draw(MV, MV), draw(CB, CB, note="later"))]
    (intake / "two.tif").write_bytes(
        encode(later[0], "TIFF", compression="group4", save_all=True, append_images=later[1:])
    )

    published(5)

    history = assert_consistent(settings)
    outcomes = {event.origin: event.event for event in history.events}
    assert outcomes == {
        "one.pdf": "split",
        "one.page-1.pdf": "filed",
        "one.page-2.pdf": "filed",
        "one.page-3.pdf": "quarantined",
        "two.tif": "split",
        "two.page-1.tif": "filed",
        "two.page-2.tif": "filed",
    }
    filed = [event for event in history.events if event.event == "filed"]
    for event in filed:
        original = str(event.detail["original"])
        store = settings.site / "store" / original[:2] / original[2:4] / original
        command = [sys.executable, "-m", "publisher.reading.extract", str(store)]
        copy = subprocess.run(
            [*command, str(event.detail["original_page"])], capture_output=True, check=True
        ).stdout
        assert hashlib.sha256(copy).hexdigest() == event.detail["sha256"]
    with pikepdf.open(intake.parent / "trees" / "parti-a" / filed[0].what) as page:
        assert len(page.pages) == 1
    assert [str(finding) for finding in verify(settings, pause=lambda seconds: None)] == []
