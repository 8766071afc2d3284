"""`ssps catalog`: shows, makes and copies the databases of a site."""

import json
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from office import Ssps
from unit.publisher.filed_site import PageFiler

from config import load
from config.sheet import Belge, Secim, Sheet
from config.site import FILING, LEDGERS, OPERATIONS, SITE_TOML
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from publisher.fsck import copying

SHEET = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "9", 1)

pytestmark = [pytest.mark.slow, postgres.own_database]


@pytest.fixture
def url(postgres_server: postgres.Server) -> str:
    return postgres_server.new_database(empty=True).render_as_string()


def state(site: Path, url: str) -> None:
    with (site / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url}"\n')


def test_a_site_moves_to_postgresql(site: Path, ssps: Ssps, url: str) -> None:
    PageFiler(load.load(site)).file(SHEET, "a page")
    words = ("catalog", "copy", "sqlite", url, "--site", site, "--why", "more hosts")

    tried = ssps(*words, "--dry-run")
    copied = ssps(*words)

    assert (tried.exit_code, copied.exit_code) == (0, 0), tried.output + copied.output
    assert "copy catalog.filing: 1 rows" in tried.output
    assert "catalog.filing: 1 rows, sha256 " in copied.output
    assert f'now write under [catalog] of site.toml: url = "{url}"' in copied.output
    state(site, url)
    shown = json.loads(ssps("catalog", "show", "--json", "--site", site).output)
    assert (shown["place"], shown["rows"]["catalog.filing"]) == (url, 1)
    *_, record = read_records(site / LEDGERS / OPERATIONS)
    assert (record.event.event, record.event.what) == ("catalog copy", f"sqlite {url}")


def test_the_tables_of_a_new_site_are_made_once(site: Path, ssps: Ssps, url: str) -> None:
    refused = ssps("catalog", "migrate", "--site", site, "--why", "x")
    state(site, url)

    tried = ssps("catalog", "migrate", "--site", site, "--why", "x", "--dry-run")
    checked = ssps("check", "--site", site)
    made = ssps("catalog", "migrate", "--site", site, "--why", "x")
    again = ssps("catalog", "migrate", "--site", site, "--why", "x")

    assert refused.exit_code == 1 and "catalog.url: is not stated" in refused.output
    assert [tried.exit_code, made.exit_code, again.exit_code] == [0, 0, 0], made.output
    assert "apply catalog/0001-tables" in tried.output
    assert "of results are missing or of an earlier version: run `ssps catalog" in checked.output
    assert "run `ssps catalog" not in ssps("check", "--site", site).output
    assert ssps("verify", "--site", site).output.endswith("OK: no findings\n")
    assert "apply results/0001-tables" in made.output
    assert "no change: the tables are those of this version" in again.output
    records = [record.event for record in read_records(site / LEDGERS / OPERATIONS)]
    schemas = ("catalog", "results", "portal", "publishers")
    before = [f"{schema}/0001-tables" for schema in schemas]
    (detail,) = [event.detail for event in records if event.event == "catalog migrate"]
    assert (detail["why"], detail["before"], detail["after"]) == ("x", before, [])


def test_nothing_is_done_while_a_publisher_runs(site: Path, ssps: Ssps, url: str) -> None:
    state(site, url)
    with Ledger(site / LEDGERS / FILING):
        copied = ssps("catalog", "copy", "sqlite", url, "--site", site, "--why", "x")
        migrated = ssps("catalog", "migrate", "--site", site, "--why", "x")

    for refused in (copied, migrated):
        assert refused.exit_code == 1
        assert "the publisher runs, stop it first" in refused.output


def test_a_password_is_neither_taken_nor_repeated(site: Path, ssps: Ssps, url: str) -> None:
    secret = url.replace("@", ":geheim@", 1)
    refused = ssps("catalog", "copy", "sqlite", secret, "--site", site, "--why", "x")

    assert refused.exit_code == 2
    assert "has a password" in refused.output and "geheim" not in refused.output


def test_a_server_that_does_not_answer_is_named(site: Path, ssps: Ssps, tmp_path: Path) -> None:
    state(site, f"postgresql+psycopg://ssps@/ssps?host={tmp_path}")

    for command in ("status", "verify", "catalog show"):
        refused = ssps(*command.split(), "--site", site)
        assert refused.exit_code == 1, command
        assert "site.toml: catalog.url: connection" in refused.output, command


def test_a_copy_whose_database_goes_away_can_be_given_again(
    site: Path, ssps: Ssps, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    PageFiler(load.load(site)).file(SHEET, "a page")
    place = postgres_server.new_database(empty=True)
    words = ("catalog", "copy", "sqlite", place.render_as_string(), "--site", site, "--why", "x")
    digest = copying._digest

    def ended(connection: sa.Connection, table: sa.Table) -> tuple[int, str]:
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return digest(connection, table)

    with monkeypatch.context() as patched:
        patched.setattr(copying, "_digest", ended)
        lost = ssps(*words)
    again = ssps(*words)

    assert lost.exit_code == 1
    assert "catalog copy: terminating connection" in lost.output
    assert "is as it was, give the command again" in lost.output
    assert again.exit_code == 0, again.output
