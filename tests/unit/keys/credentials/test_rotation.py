"""Rotation as a table: the clock, the ring before, the command, the ring after, which are valid."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from keys.credentials import ring, rotation
from keys.credentials.ring import Credential, CredentialKind, Ring

DAY = datetime(2023, 5, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(clock: str) -> datetime:
    return DAY + timedelta(hours=int(clock[:2]), minutes=int(clock[3:]))


def ring_of(text: str) -> Ring:
    """`A 10.00-  p 10.00-17.00`: keys in capitals, passwords in small letters."""
    found = []
    for name, window in zip(text.split()[::2], text.split()[1::2], strict=True):
        begins, _, ends = window.partition("-")
        kind = CredentialKind.PUBLIC_KEY if name.isupper() else CredentialKind.PASSWORD
        until = at(ends) if ends else None
        found.append(Credential(kind, name, f"SHA256:{name}", "", at(begins), until, "operator"))
    return Ring("parti-a", tuple(found))


def as_text(found: Ring) -> str:
    def clock(when: datetime | None) -> str:
        return when.strftime("%H.%M") if when else ""

    return "  ".join(
        f"{c.label} {clock(c.not_before)}-{clock(c.not_after)}" for c in found.credentials
    )


def add(new: str) -> Callable[[Ring], Ring]:
    return lambda old: rotation.add(old, ring_of(new).credentials[0])


def rotate(new: str, overlap: timedelta, *replaces: str) -> Callable[[Ring], Ring]:
    fresh = ring_of(new).credentials[0]
    named = {f"SHA256:{name}" for name in replaces} or None
    return lambda old: rotation.rotate(old, fresh, overlap, named)


def revoke(name: str) -> Callable[[Ring], Ring]:
    return lambda old: rotation.revoke(old, f"SHA256:{name}")


def nothing(old: Ring) -> Ring:
    return old


TO_B, AT_ONCE = rotate("B 12.00-", HOUR), rotate("B 12.00-", 0 * HOUR)
TO_Q = rotate("q 12.00-", HOUR)
LATER, TO_B_FOR_A = rotate("B 16.30-", HOUR), rotate("B 12.00-", HOUR, "A")

TABLE = [
    # clock, ring before, command, ring after, which credentials are valid
    ("12.00", "A 10.00-", nothing, "A 10.00-", "A"),
    ("12.00", "A 10.00-", add("B 12.00-"), "A 10.00-  B 12.00-", "A B"),
    ("12.00", "", add("B 16.30-"), "B 16.30-", ""),
    ("16.30", "", add("B 16.30-"), "B 16.30-", "B"),
    # the replaced one ends after the overlap, to the minute
    ("12.00", "A 10.00-", TO_B, "A 10.00-13.00  B 12.00-", "A B"),
    ("12.59", "A 10.00-", TO_B, "A 10.00-13.00  B 12.00-", "A B"),
    ("13.00", "A 10.00-", TO_B, "A 10.00-13.00  B 12.00-", "B"),
    # no overlap: at no moment are both valid, or neither
    ("11.59", "A 10.00-", AT_ONCE, "A 10.00-12.00  B 12.00-", "A"),
    ("12.00", "A 10.00-", AT_ONCE, "A 10.00-12.00  B 12.00-", "B"),
    # scheduled: nothing changes before it begins
    ("16.29", "A 10.00-", LATER, "A 10.00-17.30  B 16.30-", "A"),
    ("16.30", "A 10.00-", LATER, "A 10.00-17.30  B 16.30-", "A B"),
    ("17.30", "A 10.00-", LATER, "A 10.00-17.30  B 16.30-", "B"),
    # a credential that ends before the overlap keeps its end
    ("12.00", "A 10.00-12.15", TO_B, "A 10.00-12.15  B 12.00-", "A B"),
    # all credentials of the same kind are replaced, or only the named ones
    ("13.00", "A 10.00-  C 10.00-", TO_B, "A 10.00-13.00  C 10.00-13.00  B 12.00-", "B"),
    ("13.00", "A 10.00-  C 10.00-", TO_B_FOR_A, "A 10.00-13.00  C 10.00-  B 12.00-", "C B"),
    ("13.00", "A 10.00-  p 10.00-", TO_B, "A 10.00-13.00  p 10.00-  B 12.00-", "p B"),
    ("13.00", "A 10.00-  p 10.00-", TO_Q, "A 10.00-  p 10.00-13.00  q 12.00-", "A q"),
    ("13.00", "p 10.00-", rotate("B 12.00-", HOUR, "p"), "p 10.00-13.00  B 12.00-", "B"),
    # a credential that is not valid yet is kept
    ("18.00", "A 10.00-  C 18.00-", TO_B, "A 10.00-13.00  C 18.00-  B 12.00-", "C B"),
    ("12.00", "A 10.00-  B 10.00-", revoke("A"), "B 10.00-", "B"),
    ("12.00", "A 10.00-", revoke("A"), "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("clock", "before", "command", "after", "who"), TABLE)
def test_rotation(
    clock: str, before: str, command: Callable[[Ring], Ring], after: str, who: str
) -> None:
    new = command(ring_of(before))

    assert as_text(new) == after
    assert " ".join(c.label for c in new.credentials if c.valid_at(at(clock))) == who


@pytest.mark.parametrize(
    ("before", "command", "message"),
    [
        ("A 10.00-", add("A 12.00-"), "parti-a already has SHA256:A"),
        ("A 10.00-", rotate("A 12.00-", HOUR), "parti-a already has SHA256:A"),
        ("A 10.00-", revoke("B"), "parti-a has no credential SHA256:B"),
        ("", add("B 12.00-12.00"), "before it begins"),
        ("A 18.00-", rotate("B 12.00-", HOUR, "A"), "begins later than its replacement"),
    ],
)
def test_an_impossible_change_is_refused_with_the_cause(
    before: str, command: Callable[[Ring], Ring], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        command(ring_of(before))


@pytest.mark.parametrize(
    ("before", "lapses"),
    [
        ("A 10.00-", None),
        ("A 10.00-13.00", "13.00"),
        ("A 10.00-13.00  B 12.30-14.00", "14.00"),
        ("A 10.00-13.00  B 13.00-", None),
        ("A 10.00-13.00  B 13.01-", "13.00"),
        ("A 10.00-11.00", "12.00"),
        ("A 13.00-", "12.00"),
        ("", "12.00"),
    ],
)
def test_access_ends_with_the_last_credential(before: str, lapses: str | None) -> None:
    assert rotation.access_ends(ring_of(before), at("12.00")) == (at(lapses) if lapses else None)


def test_parties_that_lose_access_soon_are_listed_soonest_first() -> None:
    rings = [
        Ring("parti-a", ring_of("A 10.00-13.00").credentials),
        Ring("parti-b", ring_of("B 10.00-").credentials),
        Ring("parti-c", ring_of("C 10.00-12.30").credentials),
        Ring("parti-d", ring_of("D 10.00-18.00").credentials),
        Ring("parti-e"),
    ]

    found = rotation.expiring(rings, at("12.00"), 2 * HOUR)

    assert list(map(str, found)) == [
        "parti-e: no credential is valid now: `ssps key add parti-e`",
        "parti-c: its last credential ends 2023-05-14T15:30:00+03:00: `ssps key rotate parti-c`",
        "parti-a: its last credential ends 2023-05-14T16:00:00+03:00: `ssps key rotate parti-a`",
    ]


def test_a_credential_is_found_by_a_unique_start_or_label() -> None:
    found = Ring(
        "parti-a",
        tuple(
            Credential(CredentialKind.PASSWORD, label, name, "", DAY, None, "operator")
            for label, name in [
                ("ayna", "SHA256:abcdefgh"),
                ("ofis", "SHA256:abcdexyz"),
                ("ofis", "SHA256:zzzzzzzz"),
            ]
        ),
    )

    for text in ("SHA256:abcdefgh", "abcdef", "SHA256:abcdef", "ayna"):
        assert rotation.find_credential(found, text).fingerprint == "SHA256:abcdefgh"
    for text, message in (
        ("abcde", "is not one of"),
        ("ofis", "matches several"),
        ("", "is not one of"),
    ):
        with pytest.raises(ValueError, match=message):
            rotation.find_credential(found, text)


OLD = ring.password_credential(
    "dogru-sifre-1", label="", not_before=DAY, not_after=None, added_by="operator"
)


def test_a_party_changes_an_operators_password_once() -> None:
    before = Ring("parti-a", (OLD,))
    secret = ring.hash_password("kendi-sifresi-12")
    fresh = ring.chosen_password_credential(
        secret, label="", not_before=at("12.00"), added_by="parti-a"
    )

    after = rotation.change_password(before, OLD.fingerprint, fresh)

    [own] = after.credentials
    assert (own.chosen, own.added_by) == (True, "parti-a")
    assert after.by_password("kendi-sifresi-12", at("12.00")) == own
    assert after.by_password("dogru-sifre-1", at("12.00")) is None
    assert ring.parse_ring(ring.format_ring(after).decode()) == after
    with pytest.raises(ValueError, match="not a password of parti-a"):
        rotation.change_password(after, own.fingerprint, fresh)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "dogru-sifre",
        "$argon2id$v=19$m=4194304,t=3,p=4$" + "A" * 22 + "$" + "A" * 43,
        "$argon2i$v=19$m=65536,t=3,p=4$" + "A" * 22 + "$" + "A" * 43,
        "$argon2id$v=19$m=65536,t=3,p=4$" + "A" * 22 + "$" + "A" * 43 + "\n",
    ],
)
def test_a_hash_that_this_server_would_not_make_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="not a password hash"):
        ring.chosen_password_credential(secret, label="", not_before=DAY, added_by="parti-a")
