from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest

from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A new catalog in each of the two databases that a site may use."""
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        url = postgres.in_schema(server.new_database(), "catalog")
    else:
        (tmp_path / "state").mkdir()
        url = catalog.url(tmp_path)
    with Catalog(url) as found:
        yield found
