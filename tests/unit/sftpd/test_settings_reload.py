from dataclasses import replace
from pathlib import Path

import office
import pytest

from config import load
from config.settings import Settings
from sftpd.settings_reload import reload_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load.load(office.site(tmp_path / "site"))


def rewrite(settings: Settings, file: str, old: str, new: str) -> None:
    path = settings.site / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_reload_returns_the_changed_settings(settings: Settings) -> None:
    rewrite(settings, "parties.toml", '"127.0.0.1", "2001:db8::7"', '"192.0.2.7"')
    rewrite(settings, "site.toml", "[sftp]", "[sftp]\nmax_sessions = 9")
    result = reload_settings(settings)

    assert result.settings is not None
    party = result.settings.party("parti-b")
    assert party is not None
    assert [str(address) for address in party.static_ips] == ["192.0.2.7"]
    assert result.settings.sftp.max_sessions == 9
    assert (result.faults, result.restart) == ((), ())


def test_a_reload_of_a_faulty_file_returns_every_fault_and_no_settings(settings: Settings) -> None:
    rewrite(settings, "parties.toml", 'kind = "party"', 'kind = "partei"')
    result = reload_settings(settings)

    assert result.settings is None
    assert [fault.key for fault in result.faults] == ["parti-a.kind", "parti-b.kind"]


def test_a_reload_keeps_and_names_the_settings_that_need_a_restart(settings: Settings) -> None:
    rewrite(settings, "site.toml", "2023-05-14-cb-mv", "2024-03-31-bb")
    rewrite(settings, "site.toml", "14 Mayıs", "15 Mayıs")
    rewrite(settings, "site.toml", ":2222", ':22"\nmetrics = "127.0.0.1:9100')
    path = settings.site / "site.toml"
    path.write_text(path.read_text() + '\n[ledger]\nsync = "always"\n', encoding="utf-8")
    result = reload_settings(settings)

    assert result.restart == ("election.id", "sftp.listen", "sftp.metrics", "ledger.sync")
    assert result.settings is not None
    title = result.settings.election.title
    assert title.startswith("15 Mayıs")
    assert replace(result.settings.election, title=settings.election.title) == settings.election
    assert result.settings.sftp == settings.sftp
    assert result.settings.ledger == settings.ledger
