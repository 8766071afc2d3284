"""The pace of a site and of each scanner, counted from the catalog."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog
from publisher.outcome import Quarantined
from publisher.page import Arrival, Page, ReadResult, Reason, Stamp, arrival_id
from publisher.source import Source
from publisher.status import pace
from publisher.status.pace import FolderPace, Minute, Pace

NOW = datetime(2023, 5, 14, 18, 30, 20, tzinfo=UTC)


class Night:
    """A site in which pages of scanners are set aside."""

    def __init__(self, site: Path) -> None:
        self.site = site
        (site / "state").mkdir()
        self._count = 0

    def page(self, path: str, at: datetime, reason: Reason = Reason.NO_KAREKOD) -> None:
        self._count += 1
        source = Source(str(self.site / "intake"), path)
        stamp = Stamp(self._count, 1, 1)
        arrived = Arrival(arrival_id(at, f"{self._count:08x}"), path, source, stamp, at)
        page = Page(arrived, stamp, f"{self._count:064}", ReadResult("JPEG", 9, 9))
        with Catalog(catalog.url(self.site)) as opened:
            opened.add_arrivals([arrived])
            opened.add_unfiled(page, Quarantined(reason), at)
            opened.mark_recorded(arrived.id, self._count)
            opened.commit()


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def test_pages_are_counted_by_minute_and_a_blank_back_is_not_set_aside(night: Night) -> None:
    night.page("a/1.jpg", NOW - timedelta(minutes=2))
    night.page("a/2.jpg", NOW - timedelta(minutes=2), Reason.BLANK_BACK)
    night.page("a/3.jpg", NOW)
    found = Pace(night.site)

    found.update(NOW)

    first = NOW.replace(second=0) - timedelta(minutes=2)
    assert found.minutes(NOW) == (
        Minute(first, 2, 1),
        Minute(first + timedelta(minutes=1), 0, 0),
        Minute(first + timedelta(minutes=2), 1, 1),
    )


def test_an_update_goes_on_where_the_last_one_stopped_and_forgets_what_is_old(night: Night) -> None:
    night.page("a/old.jpg", NOW - timedelta(hours=2))
    night.page("a/1.jpg", NOW - timedelta(minutes=50))
    found = Pace(night.site)
    found.update(NOW)
    assert [f.pages_last_hour for f in found.folders(NOW)] == [1]

    night.page("a/2.jpg", NOW + timedelta(minutes=20))
    found.update(NOW + timedelta(minutes=20))

    assert sum(m.pages for m in found.minutes(NOW + timedelta(minutes=20))) == 1
    (folder,) = found.folders(NOW + timedelta(minutes=20))
    assert (folder.pages_last_hour, folder.last) == (1, NOW + timedelta(minutes=20))


def test_each_scanner_is_a_folder_and_what_it_names_is_escaped(night: Night) -> None:
    night.page("tarayici-1/gun/1.jpg", NOW - timedelta(minutes=1))
    night.page("tarayici-1/2.jpg", NOW, Reason.BLANK_BACK)
    night.page("3.jpg", NOW)
    night.page("\x1b[31m<b>/4.jpg", NOW)
    found = Pace(night.site)

    found.update(NOW)

    assert found.folders(NOW) == (
        FolderPace("intake", NOW, 0, 1, 1),
        FolderPace("intake/\\x1b[31m<b>", NOW, 0, 1, 1),
        FolderPace("intake/tarayici-1", NOW, 1, 2, 1),
    )


def test_a_site_without_a_catalog_has_no_pace(tmp_path: Path) -> None:
    found = Pace(tmp_path)
    found.update(NOW)
    assert (found.minutes(NOW), found.folders(NOW)) == ((), ())


def test_the_expected_pace_is_read_back_and_damage_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert pace.read_expected(tmp_path) is None
    pace.write_expected(tmp_path, NOW, [1.0, 59.9, 125.0])
    found = pace.read_expected(tmp_path)
    assert found is not None and (found.began, found.pages) == (NOW, (2, 0, 1))
    (tmp_path / "state" / "expected-pace.json").write_text("[]")
    assert pace.read_expected(tmp_path) is None
