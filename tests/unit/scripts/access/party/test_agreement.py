import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from office import Ssps

from config import amend, load
from config.settings import Settings
from keys.credentials import ring
from keys.ledger import segments
from keys.operations import settings_record, user_files
from keys.operations.change_record import ChangeRecord
from scripts.shared import server_reload

FORM = """\
id = "parti-d"
party = "D Partisi"
services = ["sftp"]
static_ips = ["192.0.2.40"]
[contact]
name = "Bilgi Islem"
email = "bilgi@parti-d.example"
phones = ["+90 312 000 00 00"]
"""


@pytest.fixture
def form(tmp_path: Path) -> Path:
    (tmp_path / "form.toml").write_text(FORM, encoding="utf-8")
    return tmp_path / "form.toml"


def operations(site: Path) -> list[tuple[str, str]]:
    found = segments.read_records(site / "ledgers/operations")
    return [(r.event.event, r.event.what) for r in found]


def test_party_add_registers_a_party_from_its_form(site: Path, ssps: Ssps, form: Path) -> None:
    before = (site / "parties.toml").read_text()

    tried = ssps("party", "add", "--form", form, "--dry-run", "--site", site)
    assert (tried.exit_code, (site / "parties.toml").read_text()) == (0, before)
    done = ssps("party", "add", "--form", form, "--why", "form 12", "--site", site)

    assert done.exit_code == 0, done.output
    assert (site / "parties.toml").read_text().startswith(before)
    party = load.load(site).party("parti-d")
    assert party is not None
    assert (party.name, str(party.scope), party.mirrors) == ("D Partisi", "all", True)
    found, added = operations(site)
    assert found == ("settings", "parties.toml site.toml")
    assert added == ("party add", "parti-d")
    assert "no server is running: the change takes effect at its next start" in done.stderr
    assert "tell parti-d" in done.stderr


@pytest.mark.slow
def test_party_add_makes_the_users_of_the_form_and_remove_removes_them(
    site: Path, ssps: Ssps, form: Path
) -> None:
    users = '[[user]]\nname = "ayse"\ncontact = true\n'
    form.write_text(FORM.replace('["sftp"]', '["sftp", "web", "service"]') + users)

    tried = ssps("party", "add", "--form", form, "--dry-run", "--site", site)
    assert "+ parti-d.ayse  representative" in tried.stderr
    assert not (site / "keys/users").exists()
    done = ssps("party", "add", "--form", form, "--why", "form 12", "--site", site)

    assert done.exit_code == 0, done.output
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["parti-d.ayse", "parti-d.servis"]
    password = done.stdout.split()[1]
    held = user_files.load(site, "parti-d").named("ayse")
    assert held is not None and not held.credentials[0].chosen
    assert held.by_password(password, held.credentials[0].not_before) is not None
    assert operations(site)[-2:] == [("user add", "parti-d"), ("user add", "parti-d")]
    removed = ssps("party", "remove", "parti-d", "--why", "x", "--site", site)
    assert removed.exit_code == 0, removed.output
    assert not (site / "keys/users/parti-d.toml").exists()
    again = ssps("party", "add", "--form", form, "--why", "form 13", "--site", site)
    assert again.exit_code == 0, again.output


def test_party_add_refuses_an_invalid_party_and_changes_nothing(
    site: Path, ssps: Ssps, form: Path
) -> None:
    before = (site / "parties.toml").read_bytes()
    form.write_text(FORM.replace("192.0.2.40", "192.0.2.400"))
    wrong = ssps("party", "add", "--form", form, "--site", site)
    form.write_text(FORM.replace("parti-d", "parti-a"))
    twice = ssps("party", "add", "--form", form, "--site", site)

    assert (wrong.exit_code, twice.exit_code) == (1, 1)
    assert "parties.toml: parti-d.static_ips: '192.0.2.400' is not an IPv4" in wrong.stderr
    assert "parties.toml: parti-a.id: is there twice" in twice.stderr
    assert (site / "parties.toml").read_bytes() == before
    found = [r.event for r in segments.read_records(site / "ledgers/operations")]
    assert [(e.event, e.what, e.outcome) for e in found] == [
        ("party add", "parti-d", "refused"),
        ("party add", "parti-a", "refused"),
    ]
    assert found[0].detail["why"] == "form form.toml"
    assert "'192.0.2.400' is not an IPv4" in str(found[0].detail["reason"])


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["suspend", "parti-a"], "suspended", True),
        (["set-ips", "parti-a", "192.0.2.8", "2001:db8::8"], "static_ips", 2),
        (["set-scope", "parti-b", "all"], "scope", "all"),
        (["set-scope", "parti-a", "34-istanbul-1", "35-izmir-2/konak-1"], "scope", 2),
    ],
)
def test_each_party_command_changes_parties_toml_and_records_it(
    site: Path, ssps: Ssps, words: list[str], key: str, value: object
) -> None:
    before = (site / "parties.toml").read_bytes()
    tried = ssps("party", *words, "--why", "call 3", "--dry-run", "--site", site)
    assert (tried.exit_code, (site / "parties.toml").read_bytes()) == (0, before)

    done = ssps("party", *words, "--why", "call 3", "--site", site)
    again = ssps("party", *words, "--why", "call 3", "--site", site)

    assert (done.exit_code, again.exit_code) == (0, 0)
    assert f"no change: {key} of {words[1]} is already " in again.stderr
    found, record = segments.read_records(site / "ledgers/operations")
    assert found.event.event == "settings"
    assert record.event.what == words[1]
    assert record.event.detail["settings"] == settings_record.digest_lines(load.load(site).digests)
    assert record.event.detail["why"] == "call 3"
    told = record.event.detail[key]
    assert (len(told) if isinstance(told, list) else told) == value


def test_an_edit_of_site_toml_during_a_command_stops_the_command(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed, before = amend.set_party_key, (site / "parties.toml").read_bytes()

    def edited_first(*asked: Any) -> str:
        with (site / "site.toml").open("ab") as file:
            file.write(b"# by hand\n")
        return changed(*asked)

    monkeypatch.setattr(amend, "set_party_key", edited_first)
    tried = ssps("party", "suspend", "parti-a", "--why", "x", "--site", site)

    assert (tried.exit_code, (site / "parties.toml").read_bytes()) == (1, before)
    assert "site.toml: the file was edited in the meantime" in tried.stderr
    [refused] = segments.read_records(site / "ledgers/operations")
    assert refused.event.outcome == "refused"


def test_the_record_has_the_digest_of_the_text_that_the_command_read(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sha256((site / "parties.toml").read_bytes()).hexdigest()
    stated = ChangeRecord.manual_edits

    def edited_then(record: ChangeRecord, settings: Settings) -> None:
        with (site / "parties.toml").open("ab") as file:
            file.write(b"# by hand\n")
        stated(record, settings)

    monkeypatch.setattr(ChangeRecord, "manual_edits", edited_then)
    ssps("party", "suspend", "parti-a", "--why", "x", "--site", site)

    found, *_ = segments.read_records(site / "ledgers/operations")
    after = found.event.detail["after"]
    assert isinstance(after, list)
    assert after[0] == f"parties.toml {before}"


def test_suspend_and_resume_keep_crlf_line_ends(site: Path, ssps: Ssps) -> None:
    file = site / "parties.toml"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    before = file.read_bytes()
    for verb in ("suspend", "resume"):
        done = ssps("party", verb, "parti-a", "--why", "x", "--site", site)
        assert done.exit_code == 0, done.stderr
    assert file.read_bytes() == before


def test_resume_restores_parties_toml_byte_for_byte(site: Path, ssps: Ssps) -> None:
    before = (site / "parties.toml").read_bytes()
    ssps("party", "suspend", "parti-a", "--why", "x", "--site", site)
    assert load.load(site).parties[0].suspended
    ssps("party", "resume", "parti-a", "--why", "x", "--site", site)
    assert (site / "parties.toml").read_bytes() == before


def test_party_remove_deletes_the_credentials_too(site: Path, ssps: Ssps) -> None:
    ssps("key", "add", "parti-a", "--password", "--why", "x", "--site", site)
    [held] = ring.load(site, "parti-a").credentials

    done = ssps("party", "remove", "parti-a", "--why", "closed", "--site", site)

    assert done.exit_code == 0
    assert load.load(site).party("parti-a") is None
    assert not ring.ring_path(site, "parti-a").exists()
    *_, record = segments.read_records(site / "ledgers/operations")
    assert record.event.detail == {
        "credentials": [held.fingerprint],
        "why": "closed",
        "before": [
            "name: A Partisi",
            "kind: party",
            "scope: all",
            "static_ips: 127.0.0.1",
            "suspended: no",
            "rate: as the site's",
        ],
        "after": None,
        "settings": settings_record.digest_lines(load.load(site).digests),
        "key_files": ["keys/parties/parti-a.toml -"],
    }


@pytest.mark.parametrize(
    "words",
    [
        ["suspend", "parti-z"],
        ["set-ips", "parti-a", "192.0.2.1", "192.0.2.2", "192.0.2.3"],
        ["set-scope", "parti-a", "34-istanbul-9"],
        ["set-scope", "bagimsiz-c", "all"],
    ],
)
def test_an_impossible_change_changes_nothing(site: Path, ssps: Ssps, words: list[str]) -> None:
    before = (site / "parties.toml").read_bytes()
    done = ssps("party", *words, "--why", "x", "--site", site)
    assert done.exit_code == 1
    assert (site / "parties.toml").read_bytes() == before
    told = [r.event for r in segments.read_records(site / "ledgers/operations")]
    assert [(e.outcome, e.detail["after"]) for e in told] in ([], [("refused", None)])


def test_an_edit_of_parties_toml_during_a_command_is_not_overwritten(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = load.read
    edited = "# edited\n" + (site / "parties.toml").read_text()

    def slow(folder: Path, stated: bytes | None = None) -> object:
        if stated is not None:
            (site / "parties.toml").write_text(edited)
        return read(folder, stated)

    monkeypatch.setattr(load, "read", slow)
    done = ssps("party", "suspend", "parti-a", "--why", "x", "--site", site)

    assert done.exit_code == 1
    assert "the file was edited in the meantime" in done.stderr
    assert (site / "parties.toml").read_text() == edited
    _, done_, failed = segments.read_records(site / "ledgers/operations")
    assert (done_.event.outcome, failed.event.outcome) == ("ok", "failed")
    assert failed.event.detail["of"] == done_.seq


def test_a_server_that_does_not_take_the_change_is_an_error(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keys.operations import server_state

    monkeypatch.setattr(server_reload, "TIMEOUT", 0.2)
    monkeypatch.setattr(
        server_state, "holder", lambda *_: 1 << 22
    )  # running, but it does not react
    monkeypatch.setattr(os, "kill", lambda *_: None)

    done = ssps("party", "suspend", "parti-a", "--why", "x", "--site", site)

    assert done.exit_code == 1
    assert (
        "the settings of parti-a are written, but the running server does NOT use them"
        in done.stderr
    )
