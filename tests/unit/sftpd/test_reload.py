from dataclasses import replace
from pathlib import Path

import office
import pytest

from config import load
from config.settings import Settings
from sftpd import reload


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load.load(office.site(tmp_path / "site"))


def rewrite(settings: Settings, file: str, old: str, new: str) -> None:
    path = settings.site / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_what_changed_is_in_the_new_settings(settings: Settings) -> None:
    rewrite(settings, "parties.toml", '"127.0.0.1", "2001:db8::7"', '"192.0.2.7"')
    rewrite(settings, "site.toml", "[sftp]", "[sftp]\nmax_sessions = 9")
    found = reload.read(settings)
    assert found.settings is not None
    party = found.settings.party("parti-b")
    assert party is not None
    assert [str(address) for address in party.static_ips] == ["192.0.2.7"]
    assert found.settings.sftp.max_sessions == 9
    assert (found.faults, found.restart) == ((), ())


def test_a_bad_file_gives_no_settings_but_every_fault(settings: Settings) -> None:
    rewrite(settings, "parties.toml", 'kind = "party"', 'kind = "partei"')
    found = reload.read(settings)
    assert found.settings is None
    assert [fault.key for fault in found.faults] == ["parti-a.kind", "parti-b.kind"]


def test_what_needs_a_restart_is_kept_and_named(settings: Settings) -> None:
    rewrite(settings, "site.toml", "2023-05-14-cb-mv", "2024-03-31-bb")
    rewrite(settings, "site.toml", "14 Mayıs", "15 Mayıs")
    rewrite(settings, "site.toml", ":2222", ':22"\nmetrics = "127.0.0.1:9100')
    path = settings.site / "site.toml"
    path.write_text(path.read_text() + '\n[ledger]\nsync = "always"\n', encoding="utf-8")
    found = reload.read(settings)
    assert found.restart == ("election.id", "sftp.listen", "sftp.metrics", "ledger.sync")
    assert found.settings is not None
    title = found.settings.election.title
    assert title.startswith("15 Mayıs")
    assert replace(found.settings.election, title=settings.election.title) == settings.election
    assert found.settings.sftp == settings.sftp
    assert found.settings.ledger == settings.ledger
