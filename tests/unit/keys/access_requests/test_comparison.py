"""What a form would change, beside what is in force."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest

from config.election import Election
from config.party import Contact, Party, PartyKind
from config.scope import ALL
from keys.access_requests import comparison
from keys.access_requests.comparison import Changes, InForce, Topic
from keys.access_requests.form import AskedKey, Form
from keys.credentials import ring, rotation
from keys.credentials.ring import Ring
from keys.credentials.users import Role, State, User, Users

OPENS = datetime(2023, 5, 14, 14, tzinfo=UTC)
PARTY = Party(
    "parti-a",
    "A Partisi",
    PartyKind.PARTY,
    ALL,
    (ip_address("192.0.2.7"),),
    Contact("B", "b@a.example", "1"),
)
USERS = Users(
    "parti-a",
    (
        User("temsilci", Role.REPRESENTATIVE),
        User("ayse", Role.WEB),
        User("eski", Role.WEB, state=State.PASSIVE),
    ),
)
HELD = InForce(PARTY, USERS, Ring("parti-a"))
SAME = Form(
    {
        "id": "parti-a",
        "static_ips": ["192.0.2.7"],
        "contact": {"name": "B", "email": "b@a.example", "phone": "1"},
    },
    ("web",),
    (("temsilci", Role.REPRESENTATIVE), ("ayse", Role.WEB)),
)


def test_a_form_that_asks_for_what_is_in_force_changes_nothing() -> None:
    assert comparison.changes(SAME, HELD, OPENS) == Changes()
    assert not any(row.differs for row in comparison.rows(SAME, HELD, "contact", OPENS))


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        ((("temsilci", Role.REPRESENTATIVE),), Changes(removed_users=("ayse",))),
        (
            (("temsilci", Role.REPRESENTATIVE), ("ayse", Role.WEB), ("eski", Role.WEB)),
            Changes(added_users=(("eski", Role.WEB),)),  # a passive user is defined again
        ),
        (
            (("ayse", Role.REPRESENTATIVE),),
            Changes(removed_users=("temsilci",), representative="ayse"),
        ),
        ((), Changes(removed_users=("ayse",))),  # the representative stays: it sends the forms
    ],
)
def test_users_become_those_of_the_form(
    users: tuple[tuple[str, Role], ...], expected: Changes
) -> None:
    assert comparison.changes(replace(SAME, users=users), HELD, OPENS) == expected


def test_addresses_are_the_same_in_any_order() -> None:
    both = ("192.0.2.7", "2001:db8::7")
    held = replace(HELD, party=replace(PARTY, static_ips=tuple(map(ip_address, both))))
    form = replace(SAME, party={**SAME.party, "static_ips": ["2001:DB8::7", "192.0.2.7"]})
    assert comparison.changes(form, held, OPENS).static_ips is None


@pytest.mark.parametrize(
    ("invited", "closes", "now", "frozen"),
    [
        (False, None, OPENS, True),
        (False, OPENS, OPENS, False),
        (False, OPENS.replace(day=15), OPENS, True),
        (True, None, OPENS, False),
    ],
)
def test_addresses_are_frozen_until_the_access_closes(
    invited: bool, closes: datetime | None, now: datetime, frozen: bool
) -> None:
    party, election = replace(PARTY, invited=invited), Election("x", "x", OPENS, closes)
    assert comparison.addresses_frozen(party, election, now) is frozen


def test_the_rows_name_the_contact_and_the_approver() -> None:
    found = {row.topic: row for row in comparison.rows(SAME, HELD, "contact", OPENS)}

    assert list(found) == list(Topic)
    assert found[Topic.USERS].in_force == ("temsilci (contact)", "ayse")
    assert found[Topic.SERVICES].asked == ("web",)


LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"


@pytest.mark.parametrize(
    ("not_after", "asked", "expected"),
    [
        (None, True, ()),
        (OPENS + timedelta(seconds=1), True, ()),
        (OPENS, True, ("revoked", "added")),
        (OPENS, False, ()),
        (None, False, ("revoked",)),
    ],
)
def test_a_key_that_has_ended_is_not_in_force(
    not_after: datetime | None, asked: bool, expected: tuple[str, ...]
) -> None:
    key = ring.key_credential(
        LINE, label="", not_before=OPENS - timedelta(days=1), not_after=not_after, added_by="ali"
    )
    held = replace(HELD, ring=Ring("parti-a", (key,)))
    form = replace(SAME, services=("web", "sftp"), keys=(AskedKey("", LINE),) if asked else ())

    found = comparison.changes(form, held, OPENS)

    assert found == Changes(
        revoked_keys=(key.fingerprint,) if "revoked" in expected else (),
        added_keys=form.keys if "added" in expected else (),
    )
    rows = {row.topic: row for row in comparison.rows(form, held, "contact", OPENS)}
    assert rows[Topic.KEYS].differs is (expected != ())
    assert rows[Topic.SERVICES].in_force == (("web",) if not_after == OPENS else ("sftp", "web"))


def test_a_key_that_has_ended_can_be_added_again_after_the_comparison() -> None:
    key = ring.key_credential(
        LINE, label="", not_before=OPENS - timedelta(days=1), not_after=OPENS, added_by="ali"
    )
    held = replace(HELD, ring=Ring("parti-a", (key,)))
    found = comparison.changes(replace(SAME, keys=(AskedKey("", LINE),)), held, OPENS)

    new = held.ring
    for name in found.revoked_keys:
        new = rotation.revoke(new, name)
    new = rotation.add(new, replace(key, not_after=None))

    assert [c.valid_at(OPENS) for c in new.credentials] == [True]
