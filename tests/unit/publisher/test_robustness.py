import os
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import office
import pytest
from structlog.testing import capture_logs
from unit.publisher.consistency import assert_consistent
from unit.publisher.filing.test_filer import CB, MV, candidates, drop, open_context, read, run

from config import registry
from config.settings import Settings
from config.site import REGISTRY_INDEX
from publisher.catalog.catalog import Catalog
from publisher.filing.filer import Filer
from publisher.filing.recovery import Recovery
from publisher.intake.watch import Intake
from publisher.store import store


def test_the_same_page_from_two_scanners_at_once_is_filed_once(settings: Settings) -> None:
    drop(settings, {"scanner-1.png": CB, "scanner-2.png": CB})
    run(settings, batch=2)

    outcomes = assert_consistent(settings).outcomes()

    assert sorted(map(str, outcomes.values())) == ["['duplicate']", "['filed']"]


def test_with_a_clock_that_steps_back_every_page_is_filed_once(settings: Settings) -> None:
    ticks = count()
    noon = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)

    def backwards() -> datetime:
        return noon - timedelta(minutes=next(ticks))

    drop(settings, {"a.png": CB, "b.png": MV, "c.png": f"{CB}; rescan"})
    with open_context(settings, lambda step: None) as context:
        odd = replace(context, clock=backwards)
        filer = Filer(odd)
        waiting = Recovery(odd, filer).recover()
        waiting += filer.claim(candidates(settings.site / "intake"))
        filer.file([read(settings, one, context.store, None) for one in waiting])

    assert assert_consistent(settings).outcomes() == {
        "a.png": ["filed"],
        "b.png": ["filed"],
        "c.png": ["filed"],
    }


def test_a_new_registry_is_used_from_the_next_page_on(settings: Settings) -> None:
    new = "9999999999,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,1235,,1"
    with ExitStack() as stack:
        context = stack.enter_context(open_context(settings, lambda step: None))
        filer = Filer(context)
        Recovery(context, filer).recover()
        for name, content in (("a.png", "9999999999"), ("b.png", "9999999999; once more")):
            drop(settings, {name: content})
            claimed = filer.claim(candidates(settings.site / "intake"))
            filer.file([read(settings, one, context.store, None) for one in claimed])
            source = settings.site / "new.csv"
            source.write_text(office.registry_csv(*office.ROWS, new), encoding="utf-8")
            registry.import_csv(source, settings.site / REGISTRY_INDEX)

    assert assert_consistent(settings).outcomes() == {"a.png": ["quarantined"], "b.png": ["filed"]}


def test_a_folder_without_inotify_events_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(observer: object) -> None:
        raise OSError(28, "inotify watch limit reached")

    monkeypatch.setattr("publisher.intake.folder_events.InotifyObserver.start", refuse)
    wake: Callable[[], None] = lambda: None  # noqa: E731
    with capture_logs() as logs:
        intake = Intake((tmp_path,), 2.0, 30.0, 0.0, wake)
    assert [entry["event"] for entry in logs] == ["intake-not-watched"]
    intake.ready(0.0, 10)
    (tmp_path / "a.jpg").write_bytes(b"a page")

    assert intake.ready(29.0, 10) == []
    assert intake.ready(30.0, 10) == []
    assert [Path(found.path).name for found in intake.ready(33.0, 10)] == ["a.jpg"]


@pytest.mark.parametrize("pages", [1, 6])
def test_a_batch_of_many_pages_is_synced_as_often_as_a_batch_of_one(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    """Each sync waits for the disk; one more per page would make filing too slow."""
    for number, row in enumerate(office.ROWS[:pages]):
        drop(settings, {f"{number}.png": row[:10]})
    waits: Counter[str] = Counter()

    def counted(module: object, name: str) -> None:
        real = getattr(module, name)

        def once_more(*given: object, **named: object) -> object:
            waits[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(module, name, once_more)

    with open_context(settings, lambda step: None) as context:
        filer = Filer(context)
        Recovery(context, filer).recover()
        for module, name in (
            (os, "fsync"), (os, "fdatasync"), (store, "sync_file_system"), (Catalog, "commit"),
        ):  # fmt: skip
            counted(module, name)
        claimed = filer.claim(candidates(settings.site / "intake"))
        claiming = dict(waits)
        waits.clear()
        filer.file([read(settings, one, context.store, None) for one in claimed])
        filing = dict(waits)

    assert len(claimed) == pages
    assert claiming == {"commit": 2, "fsync": 1}
    assert filing == {"sync_file_system": 2, "commit": 2, "fdatasync": 1}
    assert list(assert_consistent(settings).outcomes().values()) == [["filed"]] * pages
