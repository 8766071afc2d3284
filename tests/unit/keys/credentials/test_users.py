"""A party's users: the format of their file, and what may change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from keys.credentials import ring, user_changes, users
from keys.credentials.ring import Credential
from keys.credentials.users import Role, Service, State, User, Users

NOW = datetime(2023, 5, 14, 12, 0, tzinfo=UTC)
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@cache
def password(text: str = "Yedi-Kule") -> Credential:
    return ring.password_credential(text, label="", not_before=NOW, not_after=None, added_by="ayse")


def held(*found: User) -> Users:
    return Users("parti-a", found)


def test_a_file_of_users_is_read_back_as_it_was_written() -> None:
    full = User("ayse", Role.REPRESENTATIVE, (password(),), State.SUSPENDED, NOW, SECRET)
    written = held(full, User("servis", Role.SERVICE))

    text = users.format_users(written).decode()

    assert users.parse_users(text) == written
    assert 'name = "ayse"' in text and 'role = "representative"' in text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"ayse"', '"Ayse"', "name: 'Ayse' is not a user name"),
        ('"web"', '"boss"', "'boss' is not a valid Role"),
        ('"active"', '"gone"', "'gone' is not a valid State"),
        ('state = "active"', 'state = "active"\ntotp = "not base32"', "totp: is not base32"),
        ('state = "active"', 'state = "active"\nterms = 2023-05-14T17:00:00', "time with a zone"),
        ('state = "active"', 'state = "active"\nadmin = true', "missing or unknown: admin"),
        ('state = "active"', "", "missing or unknown: state"),
        ('party = "parti-a"', 'party = "parti-a"\nx = 1', "not a file of users"),
    ],
)
def test_a_file_that_is_no_file_of_users_is_refused(old: str, new: str, said: str) -> None:
    text = users.format_users(held(User("ayse", Role.WEB, (password(),)))).decode()

    with pytest.raises(ValueError, match=said):
        users.parse_users(text.replace(old, new))


def test_two_users_with_one_name_and_a_public_key_are_refused() -> None:
    twice = users.format_users(held(User("ayse", Role.WEB), User("ayse", Role.WEB))).decode()
    with pytest.raises(ValueError, match="two users have the same name"):
        users.parse_users(twice)
    line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
    key = ring.key_credential(line, label="k", not_before=NOW, not_after=None, added_by="x")
    with pytest.raises(ValueError, match="a user has passwords only"):
        users.parse_users(users.format_users(held(User("ayse", Role.WEB, (key,)))).decode())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("parti-a.ayse", ("parti-a", "ayse")),
        (" Parti-A.AYSE ", ("parti-a", "ayse")),
        ("ayse", ("", "")),
        ("", ("", "")),
        ("parti-a.İpek", ("", "")),
        ("a.b.c", ("a.b", "c")),
    ],
)
def test_a_login_name_is_party_and_name(text: str, found: tuple[str, str]) -> None:
    assert users.split_login_name(text) == found


def test_each_role_has_one_service() -> None:
    web, staff = [Service.WEB] * 2, [Service.STAFF] * 3
    assert [role.service for role in Role] == [*web, Service.API, *staff]


def test_a_party_has_ten_web_users_and_one_of_the_web_service() -> None:
    found = held(*(User(f"u{n}", Role.WEB) for n in range(10)), User("s", Role.SERVICE))

    with pytest.raises(ValueError, match="at most 10 are allowed"):
        user_changes.add(found, "ayse", Role.WEB, password())
    with pytest.raises(ValueError, match="at most 10 are allowed"):
        user_changes.add(found, "ayse", Role.REPRESENTATIVE, password())
    with pytest.raises(ValueError, match="at most 1 are allowed"):
        user_changes.add(found, "t", Role.SERVICE, password())
    passive = replace(found, users=(replace(found.users[0], state=State.PASSIVE), *found.users[1:]))
    assert len(user_changes.add(passive, "ayse", Role.WEB, password()).users) == 12
    with pytest.raises(ValueError, match="already has a representative"):
        user_changes.add(held(User("r", Role.REPRESENTATIVE)), "q", Role.REPRESENTATIVE, password())
    with pytest.raises(ValueError, match="already has the user u0"):
        user_changes.add(held(User("u0", Role.WEB)), "u0", Role.WEB, password())
    with pytest.raises(ValueError, match="is not a user name"):
        user_changes.add(held(), "Ayşe", Role.WEB, password())


def test_the_season_ends_for_web_users_but_not_for_representatives() -> None:
    found = held(
        User("ayse", Role.WEB, (password(),), terms=NOW, totp=SECRET),
        User("temsilci", Role.REPRESENTATIVE, (password(),)),
        User("servis", Role.SERVICE, (password(),)),
    )

    ended = user_changes.end_season(found)

    assert ended.users[0] == User("ayse", Role.WEB, state=State.PASSIVE)
    assert ended.users[1:] == found.users[1:]
    with pytest.raises(ValueError, match="passive since the last election"):
        user_changes.set_state(ended, "ayse", State.ACTIVE)
    with pytest.raises(ValueError, match="ayse is passive"):
        user_changes.reset(ended, "ayse", password())
    again = user_changes.add(ended, "ayse", Role.WEB, password())
    assert again.users[0] == User("ayse", Role.WEB, (password(),))


def test_a_new_password_ends_the_others_and_takes_the_place_of_the_one_it_replaces() -> None:
    initial = password()
    other = password("Topkapi-Sarayi")
    chosen = ring.chosen_password_credential(
        password("Galata").secret, label="", not_before=NOW, added_by="parti-a.ayse"
    )
    found = held(User("ayse", Role.WEB, (initial, other)))

    changed = user_changes.change_password(found, "ayse", initial.fingerprint, chosen)

    assert [c.fingerprint for c in changed.users[0].credentials] == [chosen.fingerprint]
    early = replace(chosen, not_before=NOW - timedelta(days=1))
    for wrong, fresh in (("SHA256:x", chosen), (initial.fingerprint, early)):
        with pytest.raises(ValueError, match="is not a valid password of ayse"):
            user_changes.change_password(found, "ayse", wrong, fresh)
    suspended = user_changes.set_state(found, "ayse", State.SUSPENDED)
    with pytest.raises(ValueError, match="ayse is suspended"):
        user_changes.change_password(suspended, "ayse", initial.fingerprint, chosen)


def test_a_reset_ends_all_passwords_and_the_second_factor_if_asked() -> None:
    found = held(User("ayse", Role.WEB, (password(),), terms=NOW, totp=SECRET))
    fresh = password("Topkapi-Sarayi")

    assert user_changes.reset(found, "ayse", fresh).users[0].totp == SECRET
    without = user_changes.reset(found, "ayse", fresh, totp=True).users[0]
    assert (without.credentials, without.totp, without.terms) == ((fresh,), "", NOW)


def test_a_service_user_keeps_its_own_password_for_an_overlap_until_then_both_are_valid() -> None:
    own = replace(password(), chosen=True)
    forgotten = password("Galata-Kulesi")  # an initial one that was never used
    fresh = replace(password("Topkapi-Sarayi"), not_before=NOW + timedelta(hours=1))
    found = held(User("servis", Role.SERVICE, (own, forgotten)))

    reset = user_changes.reset(found, "servis", fresh, overlap=timedelta(hours=2))

    kept, initial = reset.users[0].credentials
    assert (kept.fingerprint, kept.not_after) == (own.fingerprint, NOW + timedelta(hours=3))
    assert initial == fresh
    chosen = replace(fresh, fingerprint="SHA256:chosen", secret="x", chosen=True)
    changed = user_changes.change_password(reset, "servis", fresh.fingerprint, chosen)
    assert [c.fingerprint for c in changed.users[0].credentials] == [
        own.fingerprint,
        "SHA256:chosen",
    ]
    last = replace(chosen, fingerprint="SHA256:last")
    alone = user_changes.change_password(changed, "servis", "SHA256:chosen", last)
    assert [c.fingerprint for c in alone.users[0].credentials] == ["SHA256:last"]


def test_only_a_service_user_has_an_overlap() -> None:
    with pytest.raises(ValueError, match="ayse is no user of the web service"):
        user_changes.reset(
            held(User("ayse", Role.WEB, (password(),))),
            "ayse",
            password("Topkapi-Sarayi"),
            overlap=timedelta(hours=1),
        )


def test_a_change_of_an_unknown_user_names_those_that_exist() -> None:
    with pytest.raises(ValueError, match="has no user banu, its users are: ayse"):
        user_changes.remove(held(User("ayse", Role.WEB)), "banu")


def test_what_is_recorded_of_users_has_no_secret() -> None:
    user = User("ayse", Role.WEB, (password(),), totp=SECRET)
    [line] = users.describe(held(user))

    assert line.startswith("ayse web active totp yes terms -: SHA256:")
    assert SECRET not in line + repr(user) and "argon2" not in line + repr(user)
    assert users.users_digest(held(user)) != users.users_digest(held(replace(user, terms=NOW)))
