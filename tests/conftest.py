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

else:

    def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
        """Run the tests of a module that is marked `both_databases` with each of the two."""
        if metafunc.definition.get_closest_marker("both_databases"):
            places = ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
            metafunc.parametrize("catalog_of_sites", places, indirect=True)

    @pytest.fixture(autouse=True)
    def catalog_of_sites(request: pytest.FixtureRequest) -> Iterator[None]:
        """Keep the catalog of the test's sites in the database that the test is run with."""
        if getattr(request, "param", "sqlite") == "sqlite":
            yield
            return
        server: postgres.Server = request.getfixturevalue("postgres_server")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(load, "catalog", postgres.Sites(server).catalog)
            yield
        postgres.close_pools()


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A running site with a small election, all of it filed. Tests must only read from it.

    Two modules use it, mostly in two processes. Its daemons end with the module: until the end of
    the run they would take processor time from all other tests.
    """
    with running_site.running_rehearsal(tmp_path_factory.mktemp("rehearsal"), boxes=4) as found:
        found.scan()
        yield found
