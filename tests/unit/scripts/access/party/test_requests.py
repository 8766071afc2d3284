"""`ssps party invite` and `ssps party requests`: a form from the browser comes into force."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import office
import pytest
from office import Ssps

from config import load
from config.event import Event
from keys.access_requests import store
from keys.credentials.users import Role
from keys.ledger import segments
from keys.operations import ring_files, user_files
from keys.server_keys import host
from scripts.shared import console

NOW = datetime(2023, 5, 2, 11, tzinfo=UTC)
FORM = """\
id = "d-partisi"
party = "D Partisi"
services = ["sftp", "web", "service"]
static_ips = ["192.0.2.40", "192.0.2.41"]
approver = "Zeynep Onay"
date = 2023-05-02
[contact]
name = "Çağrı Işık"
email = "bilgi@d.example"
phones = ["+90 312 000 00 00"]
[[user]]
name = "temsilci"
contact = true
[[user]]
name = "ayse"
person = "Ayşe Yılmaz"
"""


@pytest.fixture
def invited(site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with an invited party."""
    monkeypatch.setattr(console, "operator", lambda: "ayse")
    words = ("party", "invite", "D Partisi", "temsilci", "--why", "letter 12", "--site", site)
    done = ssps(*words)
    assert done.exit_code == 0, done.output
    assert len(done.stdout.strip().split("-")) == 5  # the initial password
    return site


def key(folder: Path, name: str) -> str:
    host.create_key(folder / name, name)
    line = (folder / f"{name}.pub").read_text().strip()
    return f'[[key]]\nlabel = "{name}"\npublic_key = "{line}"\n'


def send(site: Path, form: str, party: str = "d-partisi") -> int:
    before = store.draft(site, party)
    version = before.version if before else 0
    return store.submit(site, party, form.encode(), version, {}, f"{party}.temsilci", NOW).number


def accept(ssps: Ssps, site: Path, number: int, *more: str, party: str = "d-partisi") -> Any:
    words = ("party", "requests", "accept", party, number, "--yes", "--why", "paper 7", *more)
    return ssps(*words, "--site", site)


def events(site: Path) -> list[Event]:
    return [record.event for record in segments.read_records(site / "ledgers/operations")]


def roles(site: Path, party: str = "d-partisi") -> dict[str, Role]:
    return {user.name: user.role for user in user_files.load(site, party).users}


def test_an_invited_party_has_a_representative_and_nothing_else(invited: Path) -> None:
    party = load.load(invited).party("d-partisi")

    assert party is not None and party.invited and party.has_users
    assert (party.static_ips, party.mirrors) == ((), False)
    assert roles(invited) == {"temsilci": Role.REPRESENTATIVE}
    assert [e.event for e in events(invited)][-2:] == ["party invite", "user add"]


@pytest.mark.parametrize("words", [("key", "add"), ("user", "add")])
def test_an_invited_party_gets_no_login_before_its_request_is_accepted(
    invited: Path, ssps: Ssps, words: tuple[str, str]
) -> None:
    more = ("--password",) if words[0] == "key" else ("mehmet",)
    done = ssps(*words, "d-partisi", *more, "--why", "x", "--site", invited)

    assert done.exit_code == 1
    assert "is only invited" in done.stderr


def test_accepting_registers_the_party_with_users_and_keys(
    invited: Path, ssps: Ssps, tmp_path: Path
) -> None:
    send(invited, FORM + key(tmp_path, "mirror"))
    before = len(events(invited))

    done = accept(ssps, invited, 1, "--json")

    assert done.exit_code == 0, done.output
    party = load.load(invited).party("d-partisi")
    assert party is not None and party.mirrors and not party.invited
    assert list(map(str, party.static_ips)) == ["192.0.2.40", "192.0.2.41"]
    assert party.contact.name == "Çağrı Işık"
    assert roles(invited) == {
        "temsilci": Role.REPRESENTATIVE,
        "ayse": Role.WEB,
        "servis": Role.SERVICE,
    }
    (held,) = ring_files.load(invited, "d-partisi").credentials
    assert (held.label, held.added_by) == ("mirror", "ayse")
    found = events(invited)[before:]
    names = ["party add", "user add", "user add", "key add", "party requests accept"]
    assert [e.event for e in found if e.event != "settings"] == names
    assert {e.detail["request"] for e in found if e.event in names} == {1}
    assert found[-1].detail["why"] == "paper 7"
    printed = json.loads(done.stdout)
    assert set(printed["passwords"]) == {"d-partisi.ayse", "d-partisi.servis"}
    assert not any(secret in str(events(invited)) for secret in printed["passwords"].values())
    (request,) = store.requests_of(invited, "d-partisi")
    assert (request.state, request.decided_by) == ("accepted", "ayse")


def test_a_later_form_changes_only_what_differs(invited: Path, ssps: Ssps, tmp_path: Path) -> None:
    first, second = key(tmp_path, "one"), key(tmp_path, "two")
    send(invited, FORM + first)
    accept(ssps, invited, 1)
    later = FORM.replace('name = "ayse"', 'name = "mehmet"').replace("Çağrı", "Çiğdem")
    send(invited, later.replace(', "service"]', "]") + second)
    before = len(events(invited))

    done = accept(ssps, invited, 2)

    assert done.exit_code == 0, done.output
    assert roles(invited) == {"temsilci": Role.REPRESENTATIVE, "mehmet": Role.WEB}
    assert [c.label for c in ring_files.load(invited, "d-partisi").credentials] == ["two"]
    assert [e.event for e in events(invited)[before:]] == [
        "party set-contact",
        "user remove",
        "user remove",
        "user add",
        "key revoke",
        "key add",
        "party requests accept",
    ]
    assert done.stdout.startswith("d-partisi.mehmet ")


def test_another_contact_becomes_the_representative(invited: Path, ssps: Ssps) -> None:
    send(invited, FORM)
    accept(ssps, invited, 1)
    swapped = FORM.replace('"temsilci"\ncontact = true', '"ayse"\ncontact = true')
    send(invited, swapped.replace('name = "ayse"\nperson', 'name = "temsilci"\nperson'))

    done = accept(ssps, invited, 2)

    assert done.exit_code == 0, done.output
    assert roles(invited)["ayse"] is Role.REPRESENTATIVE
    assert roles(invited)["temsilci"] is Role.WEB
    assert done.stdout == ""  # no new password


def test_frozen_addresses_change_only_if_an_operator_overrides(invited: Path, ssps: Ssps) -> None:
    send(invited, FORM)
    accept(ssps, invited, 1)
    send(invited, FORM.replace("192.0.2.41", "192.0.2.42"))
    before = office.listing(invited)

    refused = accept(ssps, invited, 2)

    assert refused.exit_code == 1
    assert "frozen until the results are final (Genelge md. 4/b-2)" in refused.stderr
    assert office.listing(invited) == before
    assert accept(ssps, invited, 2, "--override-addresses").exit_code == 0
    party = load.load(invited).party("d-partisi")
    assert party is not None and str(party.static_ips[1]) == "192.0.2.42"
    assert events(invited)[-1].detail["addresses"] == "changed although they are frozen"


def test_a_returned_request_has_its_reason_and_the_next_one_may_come(
    invited: Path, ssps: Ssps
) -> None:
    send(invited, FORM)
    words = (
        "party",
        "requests",
        "return",
        "d-partisi",
        "1",
        "--why",
        "no stamp",
        "--site",
        invited,
    )

    assert ssps(*words).exit_code == 0

    (request,) = store.requests_of(invited, "d-partisi")
    assert (request.state, request.reason) == ("returned", "no stamp")
    assert events(invited)[-1].event == "party requests return"
    assert accept(ssps, invited, 1).exit_code == 1
    assert send(invited, FORM) == 2


def test_another_form_than_the_one_on_the_paper_is_not_accepted(invited: Path, ssps: Ssps) -> None:
    send(invited, FORM)
    done = accept(ssps, invited, 1, "--sha256=0123456789abcdef")

    assert done.exit_code == 1
    assert "compare it again" in done.stderr
    assert roles(invited) == {"temsilci": Role.REPRESENTATIVE}


def test_a_form_that_was_changed_on_the_disk_is_not_used(invited: Path, ssps: Ssps) -> None:
    send(invited, FORM)
    file = invited / "state/requests/d-partisi/1.toml"
    file.write_text(FORM.replace("192.0.2.40", "203.0.113.1"))

    done = accept(ssps, invited, 1)

    assert done.exit_code == 1
    assert "is damaged (its form is not the one that was sent)" in done.stderr


def test_a_key_of_another_party_stops_the_whole_request(
    invited: Path, ssps: Ssps, tmp_path: Path
) -> None:
    taken = key(tmp_path, "mirror")
    add = ("key", "add", "parti-a", "--public-key", tmp_path / "mirror.pub", "--why", "x")
    assert ssps(*add, "--site", invited).exit_code == 0
    send(invited, FORM + taken)

    done = accept(ssps, invited, 1)

    assert done.exit_code == 1
    assert "is the key of parti-a already" in done.stderr
    party = load.load(invited).party("d-partisi")
    assert party is not None and party.invited


def test_after_a_crash_in_between_the_rest_is_done(
    invited: Path, ssps: Ssps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scripts.access.party import acceptance

    send(invited, FORM + key(tmp_path, "mirror"))
    carry_out, done = acceptance._carry_out, []

    def until_the_second(site: Path, step: Any, *more: Any) -> Any:
        done.append(step.command)
        if len(done) == 3:
            raise KeyboardInterrupt
        return carry_out(site, step, *more)

    monkeypatch.setattr(acceptance, "_carry_out", until_the_second)
    assert accept(ssps, invited, 1).exit_code == 1
    assert done == ["party add", "user add", "user add"]
    monkeypatch.setattr(acceptance, "_carry_out", carry_out)

    again = accept(ssps, invited, 1)

    assert again.exit_code == 0, again.output
    assert set(roles(invited)) == {"temsilci", "ayse", "servis"}
    assert len(ring_files.load(invited, "d-partisi").credentials) == 1


def test_a_step_that_fails_leaves_the_passwords_that_are_in_force_on_the_screen(
    invited: Path, ssps: Ssps, tmp_path: Path
) -> None:
    send(invited, FORM + key(tmp_path, "mirror"))
    ring = invited / "keys/parties/d-partisi.toml"
    ring.parent.mkdir(parents=True, exist_ok=True)
    ring.with_name(".d-partisi.toml.next").mkdir()  # the ring cannot be written

    failed = accept(ssps, invited, 1, "--json")

    assert failed.exit_code == 1
    told = json.loads(failed.stdout)
    assert (told["accepted"], told["changed"]) == (False, True)
    assert told["steps"] == ["party add", "user add d-partisi.ayse", "user add d-partisi.servis"]
    users = user_files.load(invited, "d-partisi")
    for login, password in told["passwords"].items():
        user = users.named(login.removeprefix("d-partisi."))
        assert user is not None and user.by_password(password, datetime.now(UTC)) is not None
    assert "request 1 is NOT accepted" in failed.stderr
    assert "accept the request again: that does the rest" in failed.stderr
    (request,) = store.requests_of(invited, "d-partisi")
    assert request.state == "submitted"


def test_list_and_show_say_what_waits_and_what_would_change(invited: Path, ssps: Ssps) -> None:
    send(invited, FORM)
    listed = ssps("party", "requests", "list", "--open", "--json", "--site", invited)
    shown = ssps("party", "requests", "show", "d-partisi", "--site", invited)
    printed = ssps("party", "requests", "show", "d-partisi", "--form", "--site", invited)

    (row,) = json.loads(listed.stdout)
    assert (row["party"], row["number"], row["state"]) == ("d-partisi", 1, "submitted")
    assert "      + 192.0.2.40" in shown.stdout.splitlines()
    assert "state: submitted" in shown.stdout
    assert printed.stdout == FORM


def test_a_damaged_request_is_named_and_hides_no_other(invited: Path, ssps: Ssps) -> None:
    send(invited, FORM, "parti-a")
    send(invited, FORM)
    (invited / "state/requests/parti-a/1.json").write_text("")

    listed = ssps("party", "requests", "list", "--json", "--site", invited)

    assert listed.exit_code == 1
    assert [row["party"] for row in json.loads(listed.stdout)] == ["d-partisi"]
    assert "state/requests/parti-a/1.json: is damaged" in listed.stderr


def test_the_form_that_was_sent_is_one_that_party_add_reads(
    invited: Path, ssps: Ssps, tmp_path: Path
) -> None:
    text = FORM.replace('"d-partisi"', '"e-partisi"').replace('"D Partisi"', '"E Partisi"')
    (tmp_path / "form.toml").write_text(text + key(tmp_path, "mirror"))

    done = ssps("party", "add", "--form", tmp_path / "form.toml", "--site", invited)

    assert done.exit_code == 0, done.output
    assert set(roles(invited, "e-partisi")) == {"temsilci", "ayse", "servis"}
    assert len(ring_files.load(invited, "e-partisi").credentials) == 1
