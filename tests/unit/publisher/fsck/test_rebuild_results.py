"""`ssps rebuild --catalog` rebuilds the results from their ledger and the batches in the store."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from unit.publisher.filed_site import PageFiler
from unit.publisher.fsck.test_rebuild_catalog import Tables
from unit.publisher.results import test_process
from unit.publisher.results.results_site import Killed, row
from unit.publisher.results.test_process import NOW, drop, running, turns

from config.fault import Faults
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from config.site import (
    CATALOG,
    FILING,
    LEDGERS,
    RESULTS_DATABASE,
    RESULTS_LEDGER,
    RESULTS_SPOOL,
    SNAPSHOTS,
    STORE,
)
from keys.ledger.writer import Ledger
from publisher.catalog import catalog
from publisher.catalog import tables as catalog_tables
from publisher.database import SQLITE, writing_engine
from publisher.fsck import copying, rebuild_catalog, rebuild_results
from publisher.fsck.rebuilt_file import kept_file, new_file
from publisher.fsck.results import verify_results
from publisher.results import tables as t
from publisher.results.intake import take_in
from publisher.results.snapshots.folder import latest_number
from publisher.results.store import url
from scripts.ssps import main

settings = test_process.settings
pytestmark = pytest.mark.slow
ELECTION = "2023-05-14-cb-mv"
# What no ledger holds (publisher/fsck/rebuild_results); `id` of findings is a number of its own.
NOT_ON_RECORD = {
    "batch": {"id", "received_at", "finished_at"},
    "result": {"batch", "accepted_at"},
    "set_aside": {"batch", "set_aside_at"},
    "snapshot": {"closed_at"},
    "finding": {"id"},
    "left_behind": {"source", "stamp", "batch"},
}


@pytest.fixture
def results(settings: Settings) -> Settings:
    """A site with versions, duplicates, rejected rows, sheets, findings and two snapshots."""
    filer = PageFiler(settings)
    for box in ("1", "2"):
        place = ("34-istanbul-1", "kadikoy-2", box)
        filer.file(Sheet(Secim.MV, Belge.SANDIK_SONUC, *place, 1), box)
    wrong = row(3, secim="cb", oylar={"aday-1": 9}, gecerli=8)
    with running(settings) as made:
        drop(settings, "a.ndjson", row(1), row(77), "no row", wrong)
        turns(made, settings)
        made.turn()
        drop(settings, "b.ndjson", row(1), row(1, surum=2, neden="itiraz kabul", gecersiz=6))
        turns(made, settings)
        drop(settings, "b.ndjson", row(1), row(1, surum=2, neden="itiraz kabul", gecersiz=6))
        turns(made, settings)
        for _ in range(9):  # the same file again has only duplicates, and makes no snapshot
            made._wake.set()
            made.turn()
    return settings


def tables(settings: Settings) -> Tables:
    """Return the rows of every table, without what no ledger holds."""
    found: Tables = {}
    with database(settings) as opened:
        for name, unknown in NOT_ON_RECORD.items():
            kept = [one for one in t.METADATA.tables[name].columns if one.name not in unknown]
            if kept:
                found[name] = sorted(map(tuple, opened.execute(sa.select(*kept))), key=repr)
    return found


def database(settings: Settings) -> AbstractContextManager[sa.Connection]:
    return postgres.changing(url(settings.site))


def lose(settings: Settings) -> None:
    """Lose the whole database of the results."""
    (settings.site / RESULTS_DATABASE).unlink(missing_ok=True)
    if url(settings.site).drivername != SQLITE:
        with database(settings) as opened:
            for table in reversed(t.METADATA.sorted_tables):
                opened.execute(sa.delete(table))


def catalog_file(settings: Settings) -> Path:
    """Return the catalog as a file, with the sheets against which the results are checked."""
    file, place = settings.site / CATALOG, catalog.url(settings.site)
    if place.drivername == SQLITE:
        return file
    copied = file.with_name("copied.sqlite")
    copied.unlink(missing_ok=True)
    new = writing_engine(sa.URL.create(SQLITE, database=str(copied)), catalog_tables.METADATA)
    with new.begin() as connection:
        copying.copy_tables(place, connection, "catalog", catalog_tables.METADATA)
    new.dispose()
    return copied


def rebuild(settings: Settings, step: Callable[[str], None] = lambda step: None) -> None:
    assert rebuild_results.build(settings.site, ELECTION, catalog_file(settings)) is not None
    rebuild_results.put_in_place(settings.site, step)


def recorded(settings: Settings) -> Tables:
    """Return the rows without findings: the sheets of this site are not in the filing ledger."""
    return {name: rows for name, rows in tables(settings).items() if name != "finding"}


def problems(settings: Settings) -> list[str]:
    return [str(found) for found in verify_results(settings.site, ELECTION, False, lambda *_: None)]


def test_lost_results_are_rebuilt_row_by_row(results: Settings) -> None:
    before = tables(results)
    assert [len(before[name]) for name in ("batch", "result", "set_aside", "snapshot")] == [
        3, 3, 5, 2
    ]  # fmt: skip
    assert before["finding"] != [] and problems(results) == []
    lose(results)

    rebuild(results)

    assert tables(results) == before
    assert problems(results) == []
    with database(results) as opened:
        first, *_, last = opened.scalars(sa.select(t.batch.c.name).order_by(t.batch.c.id))
        assert (first, last) == ("a.ndjson", "b.ndjson")
        late = str(opened.scalar(sa.select(sa.func.max(t.result.c.accepted_at))))
        assert timedelta(0) <= datetime.fromisoformat(late) - NOW < timedelta(seconds=1)


def test_the_next_snapshot_is_the_same_as_without_a_rebuild(
    results: Settings, tmp_path: Path
) -> None:
    other = replace(results, site=tmp_path / "other")
    shutil.copytree(results.site, other.site)
    url(other.site)  # a database in PostgreSQL is copied when it is first asked for
    found = []

    for each in (results, other):
        if each is results:
            rebuild(each)
        with running(each) as made:
            drop(each, "c.ndjson", row(2), row(1, surum=3, neden="itiraz kabul", gecersiz=7))
            turns(made, each)
        manifest = json.loads((each.site / SNAPSHOTS / "00000003/manifest.json").read_bytes())
        found.append((manifest["contests"], manifest["last_result"], manifest["files"]))
        assert problems(each) == []

    assert found[0] == found[1]
    assert found[0][0]["mv"] == {"aggregates": 0, "boxes": 2, "changes": 2}


def test_a_batch_that_is_not_done_goes_on_after_a_rebuild(
    results: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_in, "CHUNK_ROWS", 1)
    before = len(tables(results)["result"])

    def kill(step: str) -> None:
        if step == "shown" and latest_number(results.site) == 3:  # it has the first line
            raise Killed

    drop(results, "c.ndjson", row(4), row(5), row(6))
    with pytest.raises(Killed), running(results, step=kill) as made:
        turns(made, results)
    (spooled,) = (results.site / RESULTS_SPOOL).iterdir()

    rebuild(results)

    assert problems(results) == []
    with database(results) as opened:
        unfinished = sa.select(t.batch.c.id, t.batch.c.done_lines).where(
            t.batch.c.finished_at.is_(None)
        )
        assert opened.execute(unfinished).all() == [(spooled.name, 1)]
    with running(results) as made:
        turns(made, results)
    assert len(tables(results)["result"]) == before + 3
    assert len(tables(results)["set_aside"]) == 5
    assert list((results.site / RESULTS_SPOOL).iterdir()) == []
    assert problems(results) == []


@pytest.mark.parametrize("damage", ["lost", "other numbers"])
def test_a_batch_that_does_not_say_what_was_recorded_stops_the_rebuild(
    results: Settings, damage: str
) -> None:
    with database(results) as opened:
        sha256 = str(opened.scalar(sa.select(t.batch.c.sha256).where(t.batch.c.name == "a.ndjson")))
    kept = results.site / STORE / sha256[:2] / sha256[2:4] / sha256
    content = kept.read_bytes()
    kept.unlink()
    if damage == "other numbers":
        kept.write_bytes(content.replace(b"245", b"246"))

    with pytest.raises(Faults, match=rf"{sha256}: line 1 of the batch a\.ndjson"):
        rebuild(results)


def test_a_site_without_results_gets_none(settings: Settings) -> None:
    assert rebuild_results.build(settings.site, ELECTION, settings.site / CATALOG) is None
    rebuild_results.put_in_place(settings.site)

    assert not (settings.site / RESULTS_DATABASE).exists()


def test_the_command_rebuilds_the_results_only_while_no_publisher_runs(
    results: Settings,
) -> None:
    site, before = results.site, recorded(results)
    Ledger(site / LEDGERS / FILING).close()
    words = ["--site", str(site), "rebuild", "--catalog", "--why", "lost"]
    with Ledger(site / LEDGERS / RESULTS_LEDGER):
        refused = CliRunner().invoke(main, words)
    lose(results)

    done = CliRunner().invoke(main, words)

    assert refused.exit_code == 1 and "the publisher runs, stop it first" in refused.output
    assert done.exit_code == 0, done.output
    assert "results: 3" in done.output
    assert recorded(results) == before


STEPS = [f"{name}: built" for name in ("catalog", "results")]
if not postgres.EVERYTHING:  # in PostgreSQL the rows are replaced in one transaction
    STEPS += [
        f"{name}: {step}"
        for step in ("kept", "logs removed", "replaced")
        for name in ("catalog", "results")
    ]


@pytest.mark.parametrize("fatal", STEPS)
def test_a_rebuild_that_is_killed_leaves_usable_databases_and_the_next_one_finishes(
    results: Settings, fatal: str
) -> None:
    site, before = results.site, recorded(results)
    Ledger(site / LEDGERS / FILING).close()
    child = os.fork()
    if child == 0:
        killed_at(results, fatal)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    assert recorded(results) == before
    assert problems(results) == []
    with running(results) as made:
        drop(results, "c.ndjson", row(8))
        turns(made, results)

    words = ["--site", str(site), "rebuild", "--catalog", "--why", "killed"]
    done = CliRunner().invoke(main, words)

    assert done.exit_code == 0, done.output
    assert problems(results) == [] and len(tables(results)["result"]) == 4
    for path in (site / CATALOG, site / RESULTS_DATABASE):
        assert kept_file(path).exists() and not new_file(path).exists()


def killed_at(settings: Settings, fatal: str) -> None:
    """Rebuild everything, and be killed with SIGKILL after a step; for a child process."""
    site = settings.site

    def after(step: str) -> None:
        if step == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        rebuild_catalog.build(settings)
        after("catalog: built")
        rebuild_results.build(site, ELECTION, new_file(site / CATALOG))
        after("results: built")
        rebuild_catalog.put_in_place(site, lambda step: after(f"catalog: {step}"))
        rebuild_results.put_in_place(site, lambda step: after(f"results: {step}"))
    finally:
        os._exit(1)
