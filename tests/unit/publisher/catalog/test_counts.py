from pathlib import Path

import sqlalchemy as sa
from unit.publisher.catalog.test_catalog import arrival

from config.site import CATALOG
from publisher.catalog import catalog, counts, tables
from publisher.catalog.catalog import Catalog
from publisher.catalog.counts import Counts


def test_a_missing_catalog_counts_nothing_and_is_not_made(tmp_path: Path) -> None:
    assert counts.counts(tmp_path) == Counts()
    assert list(tmp_path.iterdir()) == []


def test_a_catalog_that_is_being_made_counts_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    made: set[str] = set()
    engine = sa.create_engine(catalog.url(tmp_path))
    for table in tables.METADATA.sorted_tables:
        table.create(engine)
        made.add(table.name)
        assert counts.counts(tmp_path) == Counts(), made
    engine.dispose()


def test_a_site_may_have_any_name(tmp_path: Path) -> None:
    site = tmp_path / "what? 100%#&x=y"
    (site / "state").mkdir(parents=True)
    with Catalog(catalog.url(site)) as opened:
        opened.receive([arrival(1)])
        opened.commit()

    assert (site / CATALOG).stat().st_size > 0
    assert counts.counts(site).waiting == 1
    assert list(tmp_path.iterdir()) == [site]
