"""What keeps a daemon from starting on the site as it is."""

from dataclasses import replace
from pathlib import Path

import web_site

from config import load
from config.settings import CatalogSettings, Settings
from scripts.daemons import obstacles


def faults(settings: Settings) -> list[str]:
    return [fault.key for fault in obstacles.shared_faults(settings)]


def test_the_portal_of_a_named_host_needs_postgresql(tmp_path: Path) -> None:
    alone = load.load(web_site.make(tmp_path / "site"))
    named = replace(alone, host="web1", catalog=CatalogSettings())
    url = "postgresql+psycopg://ssps@db.example/ssps"

    assert faults(replace(alone, catalog=CatalogSettings())) == []
    assert faults(named) == ["catalog.url"]
    assert faults(replace(named, catalog=CatalogSettings(url))) == []
    assert faults(replace(named, portal=None, staff=None)) == []
