from collections.abc import Iterator

import postgres
import pytest
import running_site
from running_site import RunningSite

from config import load


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    """A PostgreSQL server for the whole run; tests that need it are skipped without one."""
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed")
    binaries = postgres.programs()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed: no /usr/lib/postgresql/*/bin/initdb")
    with postgres.running(binaries) as server:
        yield server


if postgres.EVERYTHING:

    @pytest.fixture(scope="session", autouse=True)
    def sites_on_postgresql(postgres_server: postgres.Server) -> Iterator[None]:
        """Keep the catalog of every site in PostgreSQL."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(load, "catalog", postgres.Sites(postgres_server).catalog)
            yield

    @pytest.fixture(autouse=True)
    def no_connection_left() -> Iterator[None]:
        """Close the connections that a test's readers share, since each site has its own."""
        yield
        postgres.close_pools()


@pytest.fixture(scope="session")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A running site with a small election, all of it filed. Tests must only read from it."""
    with running_site.running_rehearsal(tmp_path_factory.mktemp("rehearsal")) as found:
        found.scan()
        yield found
