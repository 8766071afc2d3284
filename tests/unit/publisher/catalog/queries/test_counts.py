from pathlib import Path

import postgres
import sqlalchemy as sa
from unit.publisher.catalog.test_catalog import arrival

from config.site import CATALOG
from publisher.catalog import catalog, tables
from publisher.catalog.catalog import Catalog
from publisher.catalog.queries import counts
from publisher.catalog.queries.counts import Counts


@postgres.sqlite_only
def test_a_site_without_catalog_counts_zero_and_gets_no_catalog(tmp_path: Path) -> None:
    assert counts.counts(tmp_path) == Counts()
    assert list(tmp_path.iterdir()) == []


@postgres.sqlite_only
def test_a_catalog_without_all_tables_counts_zero(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    made: set[str] = set()
    engine = sa.create_engine(catalog.url(tmp_path))
    for table in tables.METADATA.sorted_tables:
        table.create(engine)
        made.add(table.name)
        assert counts.counts(tmp_path) == Counts(), made
    engine.dispose()


@postgres.sqlite_only
def test_a_site_folder_may_have_any_name(tmp_path: Path) -> None:
    site = tmp_path / "what? 100%#&x=y"
    (site / "state").mkdir(parents=True)
    with Catalog(catalog.url(site)) as opened:
        opened.add_arrivals([arrival(1)])
        opened.commit()

    assert (site / CATALOG).stat().st_size > 0
    assert counts.counts(site).waiting == 1
    assert list(tmp_path.iterdir()) == [site]
