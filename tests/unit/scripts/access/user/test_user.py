"""`ssps user`, as an operator types it."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest
from office import Ssps

from config import times
from config.site import LEDGERS
from keys.credentials.users import State
from keys.ledger import segments, writer
from keys.operations import user_files
from portal.access import own_account
from scripts.shared import console, server_reload


def add(ssps: Ssps, site: Path, name: str, role: str = "web") -> str:
    """Add a user of parti-a; return its initial password."""
    done = ssps("user", "add", "parti-a", name, "--role", role, "--why", "form 3", "--site", site)
    assert done.exit_code == 0, done.output
    return str(done.stdout).strip()


def test_add_prints_the_initial_password_once_and_records_no_secret(site: Path, ssps: Ssps) -> None:
    password = add(ssps, site, "ayse")

    user = user_files.load(site, "parti-a").named("ayse")
    assert user is not None and len(user.credentials) == 1
    [credential] = user.credentials
    assert not credential.chosen
    assert user.by_password(password, credential.not_before) == credential
    records = list(segments.read_records(site / LEDGERS / "operations"))
    assert (records[-1].event.event, records[-1].event.what) == ("user add", "parti-a")
    assert records[-1].event.detail["why"] == "form 3"
    assert password not in str(records) and "argon2" not in str(records)


@pytest.mark.parametrize(
    "words",
    [
        ("user", "add", "parti-a", "banu"),
        ("user", "reset", "parti-a.ayse"),
        ("operator", "add", "banu"),
        ("key", "add", "parti-a", "--password"),
        ("key", "rotate", "parti-a", "--password", "--yes"),
    ],
)
def test_a_new_password_is_printed_also_if_no_server_takes_it_up(
    site: Path, ssps: Ssps, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ssps, site, "ayse")

    def not_in_force(*_: object) -> bool:
        raise console.fault("state/portal.json", "", "does NOT use them")

    monkeypatch.setattr(server_reload, "wait_until_in_force", not_in_force)
    done = ssps(*words, "--why", "x", "--site", site)

    assert done.exit_code == 1
    assert "does NOT use them" in done.stderr
    assert re.fullmatch(r"([a-z0-9]{5}-){4}[a-z0-9]{5}\n", done.stdout)


def test_list_shows_users_without_secrets(site: Path, ssps: Ssps) -> None:
    add(ssps, site, "ayse", "representative")
    add(ssps, site, "servis", "service")

    rows = json.loads(ssps("user", "list", "--json", "--site", site).stdout)
    shown = ssps("user", "list", "parti-a", "--site", site)

    assert [(r["user"], r["role"], r["state"], r["password"]) for r in rows] == [
        ("parti-a.ayse", "representative", "active", "initial"),
        ("parti-a.servis", "service", "active", "initial"),
    ]
    assert "parti-a.ayse" in shown.stdout and "argon2" not in shown.stdout


def test_suspend_resume_reset_and_remove(site: Path, ssps: Ssps) -> None:
    first = add(ssps, site, "ayse")
    states = []
    for words in (("suspend",), ("resume",), ("reset",), ("remove",)):
        done = ssps("user", *words, "parti-a.ayse", "--why", "x", "--site", site)
        assert done.exit_code == 0, done.output
        user = user_files.load(site, "parti-a").named("ayse")
        states.append(user.state if user else None)
        if words == ("reset",) and user is not None:
            begins = user.credentials[0].not_before
            assert user.by_password(done.stdout.strip(), begins) is not None
            assert user.by_password(first, begins) is None

    assert states == [State.SUSPENDED, State.ACTIVE, State.ACTIVE, None]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("suspend", "parti-a.x"), "parti-a has no user x"),
        (("suspend", "ayse"), "write PARTY.NAME, such as parti-a.ayse"),
        (("suspend", "parti-x.ayse"), "unknown party"),
        (("add", "bagimsiz-c", "ayse"), "an independent has no login"),
        (("add", "parti-a", "Ayşe"), "is not a user name"),
        (("add", "parti-a", "10000000146"), "a T.C. kimlik no must not be here"),
        (("remove",), "name one user as PARTY.NAME, or use --all PARTY"),
    ],
)
def test_a_wrong_name_is_named(site: Path, ssps: Ssps, words: tuple[str, ...], said: str) -> None:
    done = ssps("user", *words, "--why", "x", "--site", site)

    assert done.exit_code != 0
    assert said in done.stderr


def test_a_refused_file_is_replaced_by_removing_all_users(site: Path, ssps: Ssps) -> None:
    add(ssps, site, "ayse")
    file = site / "keys/users/parti-a.toml"
    file.write_bytes(file.read_bytes().replace(b"ayse", b"ayce"))
    refused = ssps("user", "list", "--site", site)
    assert (refused.exit_code, "ssps user remove --all parti-a" in refused.stderr) == (1, True)
    checked = ssps("check", "--site", site).stdout
    assert "keys/users/parti-a.toml: was not written by `ssps user`" in checked

    done = ssps("user", "remove", "--all", "parti-a", "--why", "edited", "--site", site)

    assert done.exit_code == 0, done.output
    assert user_files.load(site, "parti-a").users == ()
    add(ssps, site, "ayse")


def test_the_season_makes_web_users_passive(site: Path, ssps: Ssps) -> None:
    add(ssps, site, "ayse")
    add(ssps, site, "temsilci", "representative")

    done = ssps("user", "season", "--why", "election is over", "--site", site)

    assert done.exit_code == 0, done.output
    states = [user.state for user in user_files.load(site, "parti-a").users]
    assert states == [State.PASSIVE, State.ACTIVE]
    add(ssps, site, "ayse")
    assert user_files.load(site, "parti-a").users[0].state is State.ACTIVE


def test_reset_with_an_overlap_says_until_when_the_old_password_works(
    site: Path, ssps: Ssps
) -> None:
    add(ssps, site, "servis", "service")
    own_account.set_password(
        site,
        "parti-a",
        "servis",
        user_files.load(site, "parti-a").users[0].credentials[0].fingerprint,
        "Yedi-Kule-Kapisi-17",
        writer.utc_now,
    )

    words = ("user", "reset", "parti-a.servis", "--overlap", "2h", "--why", "x", "--site", site)
    done = ssps(*words)

    assert done.exit_code == 0, done.output
    old, fresh = user_files.load(site, "parti-a").users[0].credentials
    assert old.not_after == fresh.not_before + timedelta(hours=2)
    [row] = json.loads(ssps("user", "list", "--json", "--site", site).stdout)
    assert row["password"] == f"initial, the old one until {times.format_time(old.not_after)}"
    record = list(segments.read_records(site / LEDGERS / "operations"))[-1]
    assert record.event.detail["overlap"] == "2h"
    bad = ssps("user", "reset", "parti-a.servis", "--overlap", "soon", "--why", "x", "--site", site)
    assert bad.exit_code == 2
