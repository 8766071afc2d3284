"""One run of the results process, in this process: the real watch, store, ledger and snapshots."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs
from unit.publisher.filed_site import PageFiler
from unit.publisher.results.results_site import BALLOT, Killed, registry_csv, row

from config import registry
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from config.site import (
    BALLOT_CSV,
    LEDGERS,
    REGISTRY_INDEX,
    RESULTS,
    RESULTS_LEDGER,
    SNAPSHOTS,
    STORE,
)
from keys.ledger.segments import read_records
from publisher.intake import watch
from publisher.results import process
from publisher.results.intake import evidence
from publisher.results.process import ResultsRun
from publisher.results.reading import compare_with_sheets, open_results
from publisher.results.snapshots.folder import latest_number
from publisher.results.snapshots.merge import merge

pytestmark = pytest.mark.slow

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
NOW = datetime(2023, 5, 14, 18, 0, tzinfo=UTC)


@pytest.fixture
def settings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A site with eight boxes in one board and a ballot; snapshots are written in this process."""
    monkeypatch.setattr(process, "merge_apart", merge)
    site = settings.site
    for folder in (RESULTS, STORE):
        (site / folder).mkdir(exist_ok=True)
    (site / "kayit.csv").write_text(registry_csv(), encoding="utf-8")
    registry.import_csv(site / "kayit.csv", site / REGISTRY_INDEX)
    (site / BALLOT_CSV).write_text(BALLOT, encoding="utf-8")
    return replace(settings, results=replace(settings.results, snapshot_seconds=0.01))


def drop(settings: Settings, name: str, *rows: object) -> None:
    """Put a batch into results/ as SEÇSİS does."""
    fresh = settings.site / RESULTS / f".{name}.part"
    fresh.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    fresh.rename(settings.site / RESULTS / name)


@contextmanager
def running(
    settings: Settings,
    clock: Callable[[], datetime] = lambda: NOW,
    step: Callable[[str], None] = lambda step: None,
) -> Iterator[ResultsRun]:
    ticks = iter(range(1_000_000_000))
    with ResultsRun(
        settings, KEY, clock, lambda: float(next(ticks)), threading.Event(), step
    ) as made:
        made._prepare_if_due = lambda: None  # type: ignore[method-assign] # no process
        yield made


def turns(made: ResultsRun, settings: Settings) -> None:
    """Let the process work until nothing waits and a snapshot has everything."""
    for _ in range(200):
        made._wake.set()  # it need not wait
        made.turn()
        waiting = list((settings.site / RESULTS).iterdir())
        with open_results(settings.site) as reader:
            if not waiting and reader.is_published():
                return
    raise AssertionError("still not done")


def recorded(settings: Settings) -> list[tuple[str, str]]:
    ledger = settings.site / LEDGERS / RESULTS_LEDGER
    records = (record.event for record in read_records(ledger))
    return [(event.event, event.what) for event in records if event.event != "anchor"]


BOX = "34-istanbul-1/kadikoy-2/sandik-{}"


def test_a_dropped_batch_becomes_a_snapshot(settings: Settings) -> None:
    with running(settings) as made:
        drop(settings, "a.ndjson", row(1), row(2))
        turns(made, settings)

    assert latest_number(settings.site) == 1
    assert recorded(settings) == [
        ("result", BOX.format(1)),
        ("result", BOX.format(2)),
        ("snapshot", "1"),
    ]


STEPS = (
    "received",
    "claimed",
    "kept",
    "decided",
    "recorded",
    "noted",
    "finished",
    "written",
    "renamed",
    "shown",
)


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_batch_or_snapshot_everything_is_there_exactly_once(
    settings: Settings, step: str
) -> None:
    def kill(done: str) -> None:
        if done == step:
            raise Killed(done)

    drop(settings, "a.ndjson", row(1), row(2), row(77))
    with running(settings, step=kill) as made, pytest.raises(Killed):
        turns(made, settings)
    with running(settings) as made:
        drop(settings, "b.ndjson", row(3))
        turns(made, settings)

    events = recorded(settings)
    assert sorted(e for e in events if e[0] == "result") == [
        ("result", BOX.format(n)) for n in (1, 2, 3)
    ]
    assert [e for e in events if e[0] == "result-rejected"] == [("result-rejected", BOX.format(77))]
    numbers = [int(what) for event, what in events if event == "snapshot"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert latest_number(settings.site) == numbers[-1]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_the_checks_find_what_they_find_otherwise(
    settings: Settings, step: str
) -> None:
    def kill(done: str) -> None:
        if done == step and armed:
            raise Killed(done)

    aggregate: dict[str, object] = {
        name: value for name, value in row(1).items() if not name.startswith("sandik")
    } | {"belge": "ilce-birlestirme", "gecerli": 1}
    armed: list[bool] = []
    with running(settings, step=kill) as made:
        drop(settings, "a.ndjson", row(1))
        turns(made, settings)
        armed.append(True)
        drop(settings, "b.ndjson", row(2, gecersiz=6), row(3), aggregate)
        with pytest.raises(Killed):
            turns(made, settings)
    with running(settings) as made:
        turns(made, settings)

    with open_results(settings.site) as reader:
        found = {(f.check.value, f.places[0]) for f in reader.findings()}
    assert found == {
        ("ballots-not-voted", BOX.format(2)),
        ("board-not-sum", "34-istanbul-1/kadikoy-2"),
        *(("result-without-sheet", BOX.format(n)) for n in (1, 2, 3)),
    }


def test_a_clock_that_is_set_back_changes_no_order(settings: Settings) -> None:
    times = iter(NOW - timedelta(minutes=n) for n in range(1_000_000))
    with running(settings, clock=lambda: next(times)) as made:
        for number in range(1, 4):
            versions = {"surum": number, "neden": "itiraz kabul", "gecersiz": 5 + number}
            drop(settings, f"{number}.ndjson", row(1, **versions))
            turns(made, settings)

    closed = [
        json.loads((folder / "manifest.json").read_bytes())["closed_at"]
        for folder in sorted((settings.site / SNAPSHOTS).glob("0*"))
    ]
    assert len(closed) == 3
    assert closed == sorted(closed)
    with open_results(settings.site) as reader:
        versions_of = [s.result.version for s in reader.history("34-istanbul-1", "kadikoy-2", "1")]
    assert versions_of == [1, 2, 3]


def test_the_oldest_batch_is_taken_in_first_also_if_the_first_scan_takes_long(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_SCAN_SLICE", 2)
    for box in range(1, 9):
        drop(settings, f"{box}.ndjson", row(box))
    listed = [entry.name for entry in os.scandir(settings.site / RESULTS)]
    for age, name in enumerate(reversed(listed)):
        os.utime(settings.site / RESULTS / name, (1_700_000_000 + age,) * 2)

    with running(settings) as made:
        turns(made, settings)

    results = [what for event, what in recorded(settings) if event == "result"]
    assert results == [BOX.format(name.partition(".")[0]) for name in reversed(listed)]


class _ImpatientEvent(threading.Event):
    """An event for which nobody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), OSError("a table: No space left")],
)
def test_a_full_disk_halts_the_intake_and_loses_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    stop, keep, failures = _ImpatientEvent(), evidence.keep, [error, error]

    def failing(*args: object) -> dict[str, str]:
        if failures:
            raise failures.pop()
        return keep(*args)  # type: ignore[arg-type]

    def poll() -> None:
        with open_results(settings.site) as reader:
            if reader.is_published():
                stop.set()

    monkeypatch.setattr(evidence, "keep", failing)
    monkeypatch.setattr(ResultsRun, "_prepare_if_due", lambda self: None)
    drop(settings, "a.ndjson", row(1), row(2))
    with capture_logs() as logs:
        process.run(settings, KEY, stop=stop, clock=lambda: NOW, poll_signer=poll)

    halted = [entry["cause"] for entry in logs if entry["event"] == "results-halted"]
    assert len(halted) == 2
    assert all("No space left" in cause for cause in halted)
    assert [e for e in recorded(settings) if e[0] == "result"] == [
        ("result", BOX.format(1)),
        ("result", BOX.format(2)),
    ]


def test_the_ballot_may_be_replaced_while_a_batch_is_taken_in(settings: Settings) -> None:
    more = BALLOT + "mv,,9,parti-c,parti,C Partisi,\n"
    new = row(2, oylar={"parti-c": 245})

    def replace_ballot(done: str) -> None:
        if done == "kept" and not (settings.site / "yeni").exists():
            (settings.site / "yeni").touch()
            fresh = settings.site / "ballot.new"
            fresh.write_text(more, encoding="utf-8")
            fresh.replace(settings.site / BALLOT_CSV)

    with running(settings, step=replace_ballot) as made:
        drop(settings, "a.ndjson", row(1), new)
        turns(made, settings)

    assert [e for e in recorded(settings) if e[0] == "result"] == [
        ("result", BOX.format(1)),
        ("result", BOX.format(2)),
    ]


@pytest.mark.slow
def test_very_many_waiting_batches_are_taken_in_with_the_same_effort_each(
    settings: Settings,
) -> None:
    """The effort for each batch must not grow with how many there are: count the statements."""
    statements: list[int] = []
    for size in (64, 512):
        with running(settings) as made:
            engine = made._store.connection.engine
            count = [0]
            sa.event.listen(engine, "after_cursor_execute", lambda *_, count=count: count.append(0))
            for number in range(size):
                drop(settings, f"{size}-{number:05}.ndjson", row(1 + number % 8))
            turns(made, settings)
            statements.append(len(count) // size)

    assert statements[1] <= statements[0] + 2


def test_a_sheet_without_a_result_is_noted_until_the_result_arrives(settings: Settings) -> None:
    filer = PageFiler(settings)
    sheet = Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "2", 1)
    path = filer.file(sheet, "iki")

    def lacking() -> list[tuple[str, ...]]:
        with open_results(settings.site) as reader:
            found = [f for f in reader.findings() if f.check == "sheet-without-result"]
        return [(*f.places, *f.sheets) for f in found]

    with running(settings) as made:
        drop(settings, "a.ndjson", row(1))
        turns(made, settings)
        made.turn()
        assert lacking() == [(BOX.format(2), path)]
        drop(settings, "b.ndjson", row(2))
        turns(made, settings)
        assert lacking() == []


def test_findings_name_the_sheets(settings: Settings) -> None:
    filer = PageFiler(settings)
    paths = [
        filer.file(Sheet(s, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1", 1), s.value)
        for s in (Secim.CB, Secim.MV)
    ]
    summed = Sheet(Secim.MV, Belge.ILCE_BIRLESTIRME, "34-istanbul-1", "kadikoy-2", None, 1)
    path_of_sum = filer.file(summed, "birlestirme")
    cb = row(1, secim="cb", oy_kullanan=249, gecersiz=4, oylar={"aday-1": 245})
    aggregate: dict[str, object] = {
        name: value for name, value in row(1).items() if not name.startswith("sandik")
    } | {"belge": "ilce-birlestirme", "gecerli": 1}

    with running(settings) as made:
        drop(settings, "a.ndjson", row(1), cb, aggregate)
        turns(made, settings)

    with open_results(settings.site) as reader:
        findings = list(reader.findings())
    assert [f.sheets for f in findings if f.check == "board-not-sum"] == [(path_of_sum,)]
    (finding,) = [f for f in findings if f.check == "contests-differ"]
    assert sorted(finding.sheets) == sorted(paths)
    assert dict(finding.numbers) == {"cb": 249, "mv": 250}


def test_a_finding_about_two_contests_stays_until_a_correction_ends_it(settings: Settings) -> None:
    def differ() -> list[tuple[str, ...]]:
        with open_results(settings.site) as reader:
            return [f.places for f in reader.findings() if f.check == "contests-differ"]

    with running(settings) as made:
        drop(settings, "a.ndjson", row(1), row(2))
        turns(made, settings)
        assert differ() == []
        fewer = {"secim": "cb", "oy_kullanan": 249, "gecersiz": 4, "oylar": {"aday-1": 245}}
        drop(settings, "b.ndjson", row(1, **fewer))
        turns(made, settings)
        assert differ() == [(BOX.format(1),)]
        drop(settings, "c.ndjson", row(2, secim="cb", oylar={"aday-1": 245}))
        turns(made, settings)
        assert differ() == [(BOX.format(1),)]
        more = {"surum": 2, "neden": "sayım hatası", "oy_kullanan": 250, "gecersiz": 5}
        drop(settings, "d.ndjson", row(1, **fewer | more))
        turns(made, settings)
        assert differ() == []


def test_boxes_are_counted_by_result_and_sheet_also_those_that_are_not_expected(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    for box in ("1", "2", "99"):  # the registry does not have box 99 any more
        place = ("34-istanbul-1", "kadikoy-2", box)
        filer.file(Sheet(Secim.MV, Belge.SANDIK_SONUC, *place, 1), box)
    with running(settings) as made:
        drop(settings, "a.ndjson", row(1), row(3))
        turns(made, settings)

    counts = {"both": 1, "result_only": 1, "sheet_only": 2, "neither": 12}
    assert compare_with_sheets(settings.site) == {"34-istanbul-1": counts}
    assert compare_with_sheets(settings.site, "kurul") == {"34-istanbul-1/kadikoy-2": counts}
