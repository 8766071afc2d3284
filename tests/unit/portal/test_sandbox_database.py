"""What the portal's confined process reaches if the catalog is in PostgreSQL: the database only."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
import web_site
from confined import Action, outcome

from config import load
from config.settings import Settings
from config.site import SITE_TOML
from keys.kernel import bpf, landlock
from keys.operations.server_state import PORTAL
from portal import server
from portal.broker import Broker, fork
from portal.data.queries.databases import open_catalog

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.EVERYTHING, reason="has a database of its own"),
    pytest.mark.skipif(
        not (landlock.abi() and bpf.supported()), reason="the kernel has no Landlock or no seccomp"
    ),
]


@dataclass
class Confined:
    """A site in PostgreSQL, and actions in the portal's confined process."""

    settings: Settings
    url: sa.URL
    told: Path

    def run(self, *actions: Action) -> list[str]:
        """Return what came of each action, "denied" if the kernel refused it."""
        child = fork(connects=True)
        if child is None:
            with self.told.open("w") as file:
                try:
                    server.confine(self.settings)
                    for action in actions:
                        print(outcome(action), file=file, flush=True)
                finally:
                    file.flush()
                    os._exit(0)
        broker = Broker(self.settings, PORTAL, "access", lambda: None, lambda new: None)
        with child:
            assert broker.run(child, lambda: None) == 0
        return self.told.read_text().splitlines()


@pytest.fixture
def confined(tmp_path: Path, postgres_server: postgres.Server) -> Confined:
    url = postgres_server.new_database()
    postgres.create_reader(url, role := f"reader_{url.database}")
    site = web_site.make(tmp_path / "site")
    reader = url.set(username=role)
    with (site / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url.render_as_string()}"\n')
        file.write(f'reader_url = "{reader.render_as_string()}"\n')
    (site / "ledgers" / "access").mkdir(parents=True, exist_ok=True)
    return Confined(load.load(site), url, tmp_path / "told")


def test_the_catalog_is_read_and_nothing_else_is_reached(confined: Confined) -> None:
    site = confined.settings.site

    def pages() -> int:
        with open_catalog(site) as catalog:
            assert catalog is not None
            return int(catalog.execute("SELECT count(*) FROM filing").fetchone()[0])

    def delete(schema: str, table: str) -> None:
        with open_catalog(site) as catalog:
            assert catalog is not None
            catalog.execute("SET default_transaction_read_only = off")
            catalog.execute(f"DELETE FROM {schema}.{table}")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        found = confined.run(
            pages,
            lambda: delete("catalog", "filing"),
            lambda: delete("portal", "session"),
            lambda: socket.create_connection(listening.getsockname(), 5),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            (site / "parties.toml").read_text,
            Path("/etc/passwd").read_text,
            lambda: os.execv("/bin/sh", ["sh"]),  # noqa: S606 - it must fail
        )

    assert found[0] == "0"
    assert "permission denied for table filing" in found[1]
    assert "permission denied for schema portal" in found[2]
    assert found[3:] == ["denied"] * 5


def test_it_connects_again_when_the_server_has_ended_its_connections(confined: Confined) -> None:
    site = confined.settings.site

    def answer() -> str:
        with open_catalog(site) as catalog:
            return "none" if catalog is None else str(catalog.execute("SELECT 1").fetchone()[0])

    found = confined.run(answer, lambda: ended_by_the_server(site), answer)

    assert found[0] == found[2] == "1"


def ended_by_the_server(site: Path) -> str:
    """End one's own connections, as a server that restarts does."""
    with open_catalog(site) as catalog:
        assert catalog is not None
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user"
        )
        catalog.execute(query)
    return "ended"
