import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import office
import pytest
from unit.publisher.filing.test_filer import ANKARA, CB, KONAK, MV, drop, run

from config import registry
from config.settings import Settings
from config.site import COVERAGE_CACHE, REGISTRY_INDEX
from publisher.catalog.queries import coverage
from publisher.catalog.queries.coverage import CoverageLine


def lines(settings: Settings, by: str | None = None) -> list[CoverageLine]:
    with coverage.open_coverage(settings.site) as opened:
        return opened.lines(by)


def test_sheets_are_counted_by_contest_form_district_and_board(settings: Settings) -> None:
    drop(settings, {"a.png": CB, "b.png": f"{CB}; rescan", "c.png": MV, "d.png": KONAK})
    run(settings)

    assert lines(settings) == [CoverageLine("all", 6, 3, 0)]
    assert lines(settings, "secim") == [CoverageLine("cb", 5, 2, 0), CoverageLine("mv", 1, 1, 0)]
    assert lines(settings, "belge") == [
        CoverageLine("il-birlestirme", 1, 0, 0),
        CoverageLine("ilce-birlestirme", 1, 0, 0),
        CoverageLine("sandik-sonuc", 3, 3, 0),
        CoverageLine("ulkeler-ve-gumruk-kapilari-birlestirme", 1, 0, 0),
    ]
    assert lines(settings, "cevre") == [
        CoverageLine("-", 1, 0, 0),
        CoverageLine("06-ankara-1", 2, 0, 0),
        CoverageLine("34-istanbul-1", 2, 2, 0),
        CoverageLine("35-izmir-2", 1, 1, 0),
    ]
    assert lines(settings, "kurul")[1:3] == [
        CoverageLine("06-ankara-1/-", 1, 0, 0),
        CoverageLine("06-ankara-1/cankaya-1", 1, 0, 0),
    ]


def test_missing_sheets_are_listed_by_place(settings: Settings) -> None:
    drop(settings, {"a.png": CB})
    run(settings)

    with coverage.open_coverage(settings.site) as opened:
        named = [missing.karekod for missing in opened.missing()]
        here = [missing.karekod for missing in opened.missing("34-istanbul-1/kadikoy-2/1234")]

    assert named == ["5000000001", ANKARA, "3000000001", MV, KONAK]
    assert here == [MV]


def test_a_filed_sheet_that_the_registry_lacks_does_not_count_as_filed(settings: Settings) -> None:
    drop(settings, {"a.png": CB, "b.png": MV})
    run(settings)
    assert lines(settings) == [CoverageLine("all", 6, 2, 0)]
    smaller = settings.site / "smaller.csv"
    smaller.write_text(office.registry_csv(office.ROWS[0]), encoding="utf-8")

    registry.import_csv(smaller, settings.site / REGISTRY_INDEX)

    assert lines(settings) == [CoverageLine("all", 1, 1, 0)]
    assert lines(settings) == [CoverageLine("all", 1, 1, 0)], "the same when it is remembered"
    (settings.site / COVERAGE_CACHE).write_text("rubbish")
    assert lines(settings) == [CoverageLine("all", 1, 1, 0)]


def test_a_process_that_may_not_write_remembers_what_it_has_searched(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(settings, {"a.png": CB, "b.png": MV})
    run(settings)

    def denied(path: Path, content: bytes) -> None:
        raise PermissionError

    monkeypatch.setattr(coverage, "replace", denied)
    with coverage.open_coverage(settings.site) as opened:
        assert opened.unexpected() == 0
        statements: list[str] = []
        opened._database.set_trace_callback(statements.append)
        assert opened.unexpected() == 0

    assert not any("registry.sheet" in statement for statement in statements)


def test_a_site_without_catalog_or_registry_has_zero_coverage(settings: Settings) -> None:
    assert lines(settings) == [CoverageLine("all", 6, 0, 0)]
    (settings.site / REGISTRY_INDEX).unlink()

    assert lines(settings) == [CoverageLine("all", 0, 0, 0)]
    assert lines(settings, "cevre") == []
    with coverage.open_coverage(settings.site) as opened:
        assert list(opened.missing()) == []


def test_a_registry_index_of_an_older_version_is_counted_sheet_by_sheet(settings: Settings) -> None:
    index = sqlite3.connect(settings.site / REGISTRY_INDEX)
    index.execute("DROP TABLE expected")
    index.commit()
    index.close()

    assert lines(settings) == [CoverageLine("all", 6, 0, 0)]


def test_the_filing_rate_is_of_the_last_minute_and_the_oldest_page_may_be_in_the_intake(
    settings: Settings,
) -> None:
    drop(settings, {"a.png": CB, "b.png": MV, "c.png": KONAK})
    run(settings)
    soon = datetime(2023, 5, 14, 14, 0, 30, tzinfo=UTC)
    folders = settings.intake.folders

    with coverage.open_coverage(settings.site) as opened:
        flow = opened.filing_rate(folders, soon)
        assert (flow.pages_a_second, flow.in_intake, flow.oldest_seconds) == (3 / 60, 0, None)
        assert opened.filing_rate(folders, soon + timedelta(minutes=2)).pages_a_second == 0
        drop(settings, {"d.png": ANKARA})
        waiting = (settings.site / "intake" / "d.png").stat().st_ctime
        later = datetime.fromtimestamp(waiting + 7, UTC)
        assert opened.filing_rate(folders, later).in_intake == 1
        assert round(opened.filing_rate(folders, later).oldest_seconds or 0) == 7
