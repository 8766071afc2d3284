"""`ssps catalog`: shows, makes and copies the databases of a site."""

import json
import re
from collections.abc import Callable
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
    before = [f"{schema}/0001-tables" for schema in ("catalog", "results", "portal", "publishers")]
    before.insert(2, "results/0002-findings-of-a-snapshot")
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


def weak(server: postgres.Server, url: sa.URL) -> sa.URL:
    with postgres.changing(url) as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS weak")
        connection.exec_driver_sql("CREATE ROLE weak LOGIN")
    return url.set(username="weak")


def with_password(server: postgres.Server, url: sa.URL) -> sa.URL:
    with postgres.changing(url) as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS secret")
        connection.exec_driver_sql("CREATE ROLE secret LOGIN PASSWORD 'right'")
    file = server.folder / "data" / "pg_hba.conf"
    if "secret" not in file.read_text():
        file.write_text("local all secret scram-sha-256\n" + file.read_text())
    with postgres.changing(url) as connection:
        connection.exec_driver_sql("SELECT pg_reload_conf()")
    return url.set(username="secret")


def read_only(server: postgres.Server, url: sa.URL) -> sa.URL:
    with postgres.changing(url) as connection:
        setting = "SET default_transaction_read_only = on"
        connection.exec_driver_sql(f"ALTER DATABASE {url.database} {setting}")
    return url


def without_room(server: postgres.Server, url: sa.URL) -> sa.URL:
    """Let every CREATE fail as if the disk of the server was full."""
    with postgres.changing(url) as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION full_disk() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        on_every = "CREATE EVENT TRIGGER full_disk ON ddl_command_end"
        connection.exec_driver_sql(f"{on_every} EXECUTE FUNCTION full_disk()")
    return url


@pytest.mark.parametrize(
    ("made", "cause", "seen_by_check"),
    [
        (weak, "permission denied for database .*: let this role own the database", False),
        (with_password, 'password authentication failed for user "secret"', True),
        (read_only, "cannot execute CREATE SCHEMA in a read-only transaction: it is a r", True),
        (without_room, "No space left on device: make room on the server of PostgreSQL", False),
    ],
)
def test_a_server_that_does_not_do_what_is_asked_is_named_in_one_line(
    site: Path,
    ssps: Ssps,
    postgres_server: postgres.Server,
    tmp_path: Path,
    made: Callable[[postgres.Server, sa.URL], sa.URL],
    cause: str,
    seen_by_check: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "password"))
    (tmp_path / "password").write_text("*:*:*:*:wrong\n")
    (tmp_path / "password").chmod(0o600)
    PageFiler(load.load(site)).file(SHEET, "a page")
    url = made(postgres_server, postgres_server.new_database(empty=True)).render_as_string()

    copied = ssps("catalog", "copy", "sqlite", url, "--site", site, "--why", "x")
    state(site, url)
    migrated = ssps("catalog", "migrate", "--site", site, "--why", "x")
    checked = ssps("check", "--site", site)

    assert (copied.exit_code, migrated.exit_code) == (1, 1)
    assert re.search(
        f"^catalog copy: .*{cause}.* is as it was, give .* again$", copied.output, re.M
    )
    assert re.search(f"^site.toml: catalog.url: .*{cause}", migrated.output, re.M)
    assert seen_by_check == bool(re.search("catalog.url: .*(password|read-only)", checked.output))


def test_a_server_that_does_not_answer_is_named(site: Path, ssps: Ssps, tmp_path: Path) -> None:
    state(site, f"postgresql+psycopg://ssps@/ssps?host={tmp_path}")

    for command in ("status", "verify", "catalog show", "check"):
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
