import sqlite3
from contextlib import closing

import postgres
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from unit.publisher.filing.test_filer import ANKARA, CB, KONAK, MV, drop, run
from unit.publisher.requests.test_handler import answer_to

from config.event import Event
from config.fault import Faults
from config.settings import Settings
from config.site import CATALOG, FILING, LEDGERS, OPERATIONS
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from publisher.catalog import catalog
from publisher.catalog import tables as t
from publisher.database import name_of
from publisher.fsck import rebuild_catalog
from publisher.fsck.rebuilt_file import kept_file
from publisher.fsck.verify import verify
from scripts.ssps import main

BOX = "34-istanbul-1/kadikoy-2/1234"
# What no ledger holds (publisher/fsck/rebuild_catalog).
NOT_ON_RECORD = {"arrival": {"evidence", "source"}, "naming": {"named_at"}, "rescan": {"asked_at"}}
Tables = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def site_with_decisions(settings: Settings) -> Settings:
    """A site with filings, versions, duplicates, quarantine, decisions about it, and absences."""
    pages = {"a.png": CB, "b.png": MV, "c.png": KONAK, "e.png": f"{CB}; rescan"}
    drop(settings, {**pages, "f.png": "9999999999", "g.png": "%PDF-1; a", "h.png": "%PDF-1; b"})
    run(settings)
    drop(settings, {"again.png": CB})
    run(settings)
    held = sorted(
        path.name.removesuffix(".json") for path in (settings.site / "quarantine").glob("*.json")
    )
    assert len(held) == 3
    assert answer_to(settings, "reject", file=held[0]).done
    for who in ("ayse", "veli"):
        assert answer_to(settings, "identify", who, file=held[1], sheets=ANKARA).done
    assert answer_to(settings, "absent", place=BOX, reason="burnt").done
    assert answer_to(settings, "absent", place=MV, reason="joined").done
    assert answer_to(settings, "expected", place=MV).done
    assert answer_to(settings, "identify", "zeki", file=held[2], sheets=f"1:{KONAK}").done
    rows = tables(settings)["naming"]
    assert len(rows) == 1
    with postgres.changing(catalog.url(settings.site)) as opened:
        errand = str(opened.scalar(sa.select(t.identification.c.id)))
    record_desk(settings, "desk identify", "zeki", errand, file=held[2], sheets=f"1:{KONAK}")
    board = {"file": held[2], "cevre": "35-izmir-2", "kurul": "konak-1", "karekod": KONAK}
    assert answer_to(settings, "rescan", "zeki", **board).done
    with postgres.changing(catalog.url(settings.site)) as opened:
        errand = str(opened.scalar(sa.select(t.rescan.c.id)))
    record_desk(settings, "desk rescan", "zeki", errand, **board)
    return settings


def record_desk(settings: Settings, command: str, who: str, errand: str, **detail: str) -> None:
    """Record a request of the desk, and that the publisher has carried it out."""
    named = {"errand": errand, "why": "by eye"}
    with Ledger(settings.site / LEDGERS / OPERATIONS) as operations:
        asked = {**named, "command": command, **detail}
        operations.append(Event("asked", who, "h", detail["file"], detail=asked))
        operations.append(Event(command, who, "h", detail["file"], detail=named))


def tables(settings: Settings) -> Tables:
    """Return the rows of every table, without what no ledger holds."""
    found: Tables = {}
    with postgres.changing(catalog.url(settings.site)) as opened:
        for table in t.METADATA.sorted_tables:
            unknown = NOT_ON_RECORD.get(table.name, set())
            kept = [column for column in table.columns if column.name not in unknown]
            rows = map(tuple, opened.execute(sa.select(*kept)))
            found[table.name] = sorted(rows, key=repr)
    return found


def rebuild(settings: Settings) -> rebuild_catalog.Rebuilt:
    built = rebuild_catalog.build(settings)
    rebuild_catalog.put_in_place(settings.site)
    return built


def test_a_lost_catalog_is_rebuilt_row_by_row(site_with_decisions: Settings) -> None:
    before = tables(site_with_decisions)
    assert [str(found) for found in verify(site_with_decisions)] == []
    (site_with_decisions.site / CATALOG).unlink(missing_ok=True)

    built = rebuild(site_with_decisions)

    assert built.reviews == 2 and built.absences == 2 and built.identifications == 1
    assert {**tables(site_with_decisions), "form": []} == {**before, "form": []}
    assert [str(found) for found in verify(site_with_decisions)] == []
    drop(site_with_decisions, {"later.png": f"{CB}; third"})
    run(site_with_decisions)
    assert [str(found) for found in verify(site_with_decisions)] == []


def test_what_accounts_did_at_the_desk_of_the_staff_site_is_rebuilt(
    site_with_decisions: Settings,
) -> None:
    site = site_with_decisions.site
    held = sorted(path.name.removesuffix(".json") for path in (site / "quarantine").glob("*.json"))
    page, board = held[2], {"cevre": "35-izmir-2", "kurul": "konak-1", "karekod": KONAK}
    asked_for: list[tuple[str, str, dict[str, str], str]] = [
        ("desk identify", "staff:ayse", {"sheets": f"1:{KONAK}"}, "named"),
        ("desk reject", "staff:veli", {}, "contradicted"),
        ("desk rescan", "staff:veli", board, "named"),
        ("desk reread", "staff:veli", {"settings": "1 0 -"}, ""),
    ]
    for command, who, fields, cause in asked_for:
        detail = {"file": page, **fields}
        if command != "desk reread":
            answer = answer_to(site_with_decisions, command[5:], who, **detail)
            assert (answer.done, answer.cause) == (True, cause)
        with postgres.changing(catalog.url(site)) as opened:
            table = t.rescan if command == "desk rescan" else t.identification
            errand = str(opened.scalar(sa.select(table.c.id).where(table.c.who == who)))
        named = {"errand": errand, "why": "by eye"}
        with Ledger(site / LEDGERS / OPERATIONS) as operations:
            asked = {**named, "command": command, **detail}
            operations.append(Event("asked", who, "192.0.2.1", page, detail=asked))
            done = {**named, "cause": cause}
            operations.append(Event(command, who, "192.0.2.1", page, detail=done))
    before = tables(site_with_decisions)
    assert len(before["naming"]) == 3 and len(before["rescan"]) == 1

    rebuild(site_with_decisions)

    assert {**tables(site_with_decisions), "form": []} == {**before, "form": []}


def test_the_old_catalog_stays_beside_the_new_one(site_with_decisions: Settings) -> None:
    with postgres.changing(catalog.url(site_with_decisions.site)) as opened:
        opened.execute(sa.update(t.filing).values(kurul="x"))

    rebuild(site_with_decisions)

    assert [str(found) for found in verify(site_with_decisions)] == []
    rebuild(site_with_decisions)
    first, second = (kept_file(site_with_decisions.site / CATALOG, n) for n in (1, 2))
    for file, changed in ((first, True), (second, False)):
        with closing(sqlite3.connect(file)) as kept:
            found = kept.execute("SELECT DISTINCT kurul FROM filing").fetchall()
        assert (found == [("x",)]) == changed


def test_a_rebuild_that_is_killed_before_the_end_leaves_the_old_catalog(
    site_with_decisions: Settings,
) -> None:
    before = tables(site_with_decisions)

    rebuild_catalog.build(site_with_decisions)

    assert tables(site_with_decisions) == before
    rebuild(site_with_decisions)
    assert [str(found) for found in verify(site_with_decisions)] == []


def test_a_record_that_makes_no_row_is_named(site_with_decisions: Settings) -> None:
    with Ledger(site_with_decisions.site / LEDGERS / FILING) as ledger:
        number = ledger.append(Event("filed", "publisher", "x", "no/path", detail={"page": "x"}))

    with pytest.raises(Faults, match=f"number {number} makes no row"):
        rebuild_catalog.build(site_with_decisions)


def test_the_command_rebuilds_only_while_no_publisher_runs(
    site_with_decisions: Settings,
) -> None:
    site, before = site_with_decisions.site, tables(site_with_decisions)
    words = ["--site", str(site), "rebuild", "--catalog", "--why", "lost"]
    with Ledger(site / LEDGERS / FILING):
        refused = CliRunner().invoke(main, words)
    (site / CATALOG).unlink(missing_ok=True)  # it is not there if the catalog is in PostgreSQL
    tried = CliRunner().invoke(main, [*words, "--dry-run"])
    assert not (site / CATALOG).exists()

    done = CliRunner().invoke(main, words)

    assert refused.exit_code == 1
    assert "the publisher runs, stop it first" in refused.output
    assert (tried.exit_code, done.exit_code) == (0, 0), tried.output + done.output
    assert {**tables(site_with_decisions), "form": []} == {**before, "form": []}
    *_, record = read_records(site / LEDGERS / OPERATIONS)
    assert (record.event.event, record.event.what) == ("rebuild", name_of(site, CATALOG))
