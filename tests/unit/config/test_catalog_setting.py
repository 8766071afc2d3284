"""Where the catalog is: stated in site.toml, and never with a password."""

from pathlib import Path

import office
import pytest

from config import load
from config.fault import Faults
from config.settings import CatalogSettings
from config.site import SITE_TOML

URL = "postgresql+psycopg://ssps@db.example:5432/ssps"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return office.site(tmp_path)


def stated(site: Path, *lines: str) -> None:
    file = site / SITE_TOML
    text = file.read_text().partition("[catalog]")[0]
    file.write_text("\n".join([text, "[catalog]", *lines, ""]))


def faults(site: Path) -> list[tuple[str, str]]:
    return [(fault.key, fault.message) for fault in load.read(site)[1]]


def test_a_site_without_the_table_has_sqlite_files(site: Path) -> None:
    assert load.load(site).catalog == load.catalog(site) == CatalogSettings()
    assert load.catalog(site / "nowhere") == CatalogSettings()


def test_a_database_and_its_password_file_are_read(site: Path) -> None:
    (site / "catalog.pgpass").touch(0o600)
    stated(site, f'url = "{URL}"', 'password_file = "catalog.pgpass"')

    found = load.load(site).catalog

    assert found == load.catalog(site) == CatalogSettings(URL, site / "catalog.pgpass")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ssps:geheim@db.example/ssps",
        "postgresql+psycopg://ssps@db.example/ssps?password=geheim",
        "postgresql+psycopg://ssps@db.example/ssps?sslkey=k&sslpassword=geheim",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_repeated(site: Path, url: str) -> None:
    stated(site, f'url = "{url}"')

    ((key, message),) = faults(site)

    assert key == "catalog.url" and message.startswith("has a password, which every reader")
    assert "geheim" not in message
    with pytest.raises(Faults) as refused:
        load.catalog(site)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "sqlite:///geheim", "postgresql://h/geheim", URL[:-5], "postgresql+psycopg://h:x/g"]
)
def test_what_is_no_database_of_postgresql_is_refused(site: Path, url: str) -> None:
    stated(site, f'url = "{url}"')

    ((key, message),) = faults(site)

    assert key == "catalog.url" and message.startswith("write a database such as")
    assert "geheim" not in message


def test_a_password_file_that_others_may_read_is_refused(site: Path) -> None:
    file = site / "catalog.pgpass"
    stated(site, f'url = "{URL}"', 'password_file = "catalog.pgpass"')
    missing = faults(site)
    file.touch(0o640)
    file.chmod(0o640)

    readable = faults(site)

    assert [key for key, _ in missing + readable] == ["catalog.password_file"] * 2
    assert missing[0][1].startswith("cannot be read (No such file")
    assert readable[0][1] == "other users may read it: make it a file with mode 0600"


def test_a_change_is_noticed_and_a_file_that_cannot_be_read_means_no_other_database(
    site: Path,
) -> None:
    stated(site, f'url = "{URL}"')
    assert load.catalog(site).url == URL
    stated(site, f'url = "{URL}2"')
    assert load.catalog(site).url == f"{URL}2"
    (site / SITE_TOML).write_text("[catalog")

    with pytest.raises(Faults, match="is not TOML"):
        load.catalog(site)
