from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest

from publisher.catalog import catalog
from publisher.catalog.catalog import Catalog


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for the whole run; tests that need it are skipped without one."""
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb")
    with postgres.running(binaries) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """A new catalog in each of the two databases that a site may use."""
    if request.param == "postgresql":
        server: postgres.Server = request.getfixturevalue("postgres_server")
        url = server.new_database()
    else:
        (tmp_path / "state").mkdir()
        url = catalog.url(tmp_path)
    with Catalog(url) as found:
        yield found
