from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from config.election import Election, Rehearsal
from config.fault import Fault, Faults
from config.party import Contact, Party, PartyKind, parse_address
from config.scope import parse
from config.settings import IntakeSettings, Settings, SftpSettings
from keys.credentials import ring
from keys.credentials.admission import (
    Admitted,
    Key,
    Password,
    Proof,
    Reason,
    Refused,
    decide,
    recheck,
)
from keys.credentials.ring import Credential, Ring

OPENS = datetime.fromisoformat("2023-05-14T17:00:00+03:00")
CLOSES = datetime.fromisoformat("2023-05-28T17:00:00+03:00")
INSTANT, SECOND = timedelta(0), timedelta(seconds=1)
KEY_LINE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43
KEY = Key(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32))
OTHER = Key(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(31) + b"\1")
WORD = Password("Yedi-Kule")


def party(id_: str, kind: PartyKind = PartyKind.PARTY, scope: str | list[str] = "all") -> Party:
    ips = (parse_address("192.0.2.7"), parse_address("2001:db8::7"))
    return Party(id_, id_, kind, parse(scope), ips, Contact())


SETTINGS = Settings(
    Path("/nowhere"),
    Election("2023-05-14-cb-mv", "Prova", OPENS, CLOSES),
    SftpSettings("127.0.0.1", 0, 9, 9),
    IntakeSettings((), 0, 1),
    (
        party("a"),
        party("bad-ring"),
        party("bagimsiz", PartyKind.INDEPENDENT, ["01-adana"]),
        replace(party("halted"), suspended=True),
    ),
)


@cache
def credentials() -> tuple[Credential, ...]:
    until = CLOSES + timedelta(days=1)
    times = {"not_before": OPENS - timedelta(hours=2), "not_after": until, "added_by": "test"}
    return (
        ring.key_credential(KEY_LINE, label="k", **times),  # type: ignore[arg-type]
        ring.password_credential("Yedi-Kule", label="p", **times),  # type: ignore[arg-type]
    )


def ring_of(id_: str) -> Ring:
    if id_ == "bad-ring":
        raise Faults([Fault("keys/parties/bad-ring.toml", "", "not TOML")])
    return Ring(id_, credentials())


HOME, AWAY = "192.0.2.7", "192.0.2.8"
DAY = timedelta(days=1)
TABLE: list[tuple[str, Proof, str, timedelta, Reason | None]] = [
    # user      proof  from           after opening     outcome
    ("a", KEY, HOME, INSTANT, None),
    ("a", WORD, HOME, INSTANT, None),
    ("a", KEY, "2001:db8::7", DAY, None),
    ("a", KEY, "::ffff:192.0.2.7", DAY, None),
    ("a", KEY, HOME, -SECOND, Reason.NOT_YET_OPEN),
    ("a", WORD, HOME, -SECOND, Reason.NOT_YET_OPEN),
    ("a", KEY, HOME, CLOSES - OPENS - SECOND, None),
    ("a", KEY, HOME, CLOSES - OPENS, Reason.CLOSED),
    ("a", OTHER, HOME, DAY, Reason.CREDENTIAL),
    ("a", OTHER, HOME, -SECOND, Reason.CREDENTIAL),
    ("a", Password("Yedi"), HOME, DAY, Reason.CREDENTIAL),
    ("a", Password(""), HOME, DAY, Reason.CREDENTIAL),
    ("a", KEY, HOME, -3 * timedelta(hours=1), Reason.CREDENTIAL_TIME),
    ("a", KEY, HOME, CLOSES - OPENS + DAY, Reason.CREDENTIAL_TIME),
    ("a", KEY, AWAY, DAY, Reason.ADDRESS),
    ("a", KEY, AWAY, -SECOND, Reason.ADDRESS),
    ("a", OTHER, AWAY, DAY, Reason.CREDENTIAL),
    ("halted", KEY, HOME, DAY, Reason.SUSPENDED),
    ("halted", WORD, HOME, DAY, Reason.SUSPENDED),
    ("halted", KEY, HOME, -SECOND, Reason.SUSPENDED),
    ("halted", KEY, AWAY, DAY, Reason.ADDRESS),
    ("halted", OTHER, HOME, DAY, Reason.CREDENTIAL),
    ("A", KEY, HOME, DAY, Reason.UNKNOWN_USER),
    ("", KEY, HOME, DAY, Reason.UNKNOWN_USER),
    ("../a", WORD, HOME, DAY, Reason.UNKNOWN_USER),
    ("bagimsiz", KEY, HOME, DAY, Reason.NO_LOGIN),
    ("bad-ring", KEY, HOME, DAY, Reason.KEYS_UNREADABLE),
]


@pytest.mark.parametrize(("user", "proof", "origin", "after", "reason"), TABLE)
def test_a_login_is_decided_by_credential_address_suspension_and_time(
    user: str, proof: Proof, origin: str, after: timedelta, reason: Reason | None
) -> None:
    decision = decide(SETTINGS, ring_of, user, proof, parse_address(origin), OPENS + after)
    if reason is None:
        number = 0 if isinstance(proof, Key) else 1
        assert decision == Admitted(SETTINGS.parties[0], credentials()[number])
    else:
        assert isinstance(decision, Refused)
        assert decision.reason is reason


@pytest.mark.parametrize(
    ("user", "which", "origin", "after", "reason"),
    [
        ("a", 0, HOME, INSTANT, None),
        ("a", 1, HOME, DAY, None),
        ("gone", 0, HOME, DAY, Reason.UNKNOWN_USER),
        ("bagimsiz", 0, HOME, DAY, Reason.NO_LOGIN),
        ("a", None, HOME, DAY, Reason.CREDENTIAL),
        ("a", 0, HOME, CLOSES - OPENS + DAY, Reason.CREDENTIAL_TIME),
        ("a", 0, HOME, -3 * timedelta(hours=1), Reason.CREDENTIAL_TIME),
        ("a", 0, AWAY, DAY, Reason.ADDRESS),
        ("halted", 0, HOME, DAY, Reason.SUSPENDED),
        ("a", 0, HOME, -SECOND, Reason.NOT_YET_OPEN),
        ("a", 0, HOME, CLOSES - OPENS, Reason.CLOSED),
    ],
)
def test_a_session_is_rechecked_by_the_same_rules(
    user: str, which: int | None, origin: str, after: timedelta, reason: Reason | None
) -> None:
    name = "SHA256:revoked" if which is None else credentials()[which].fingerprint
    ring = Ring(user, credentials())
    assert recheck(SETTINGS, ring, user, name, parse_address(origin), OPENS + after) is reason


def test_an_initial_password_only_serves_to_set_a_new_one_if_the_site_says_so() -> None:
    strict = replace(SETTINGS, sftp=replace(SETTINGS.sftp, must_change_password=True))
    key, word = credentials()
    home, chosen = parse_address(HOME), replace(word, chosen=True)

    for now in (OPENS, OPENS - SECOND):
        assert decide(strict, ring_of, "a", WORD, home, now) == Refused(Reason.MUST_CHANGE, word)
    away = decide(strict, ring_of, "a", WORD, parse_address(AWAY), OPENS)
    assert away == Refused(Reason.ADDRESS, word)
    assert decide(strict, ring_of, "a", KEY, home, OPENS) == Admitted(SETTINGS.parties[0], key)
    other = decide(strict, lambda party: Ring(party, (chosen,)), "a", WORD, home, OPENS)
    assert other == Admitted(SETTINGS.parties[0], chosen)
    # A session that began before the site said so does not last.
    found = [
        recheck(strict, Ring("a", (one,)), "a", one.fingerprint, home, OPENS)
        for one in (word, key, chosen)
    ]
    assert found == [Reason.MUST_CHANGE, None, None]


def test_a_damaged_key_file_is_named_as_the_cause() -> None:
    decision = decide(SETTINGS, ring_of, "bad-ring", KEY, parse_address(HOME), OPENS)
    assert isinstance(decision, Refused)
    assert decision.cause == "keys/parties/bad-ring.toml: not TOML"


def test_the_password_of_an_unknown_user_is_hashed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed_for: list[str] = []
    plain = Ring.by_password

    def counted(self: Ring, password: str, now: datetime) -> Credential | None:
        hashed_for.append(self.party)
        return plain(self, password, now)

    monkeypatch.setattr(Ring, "by_password", counted)
    decide(SETTINGS, ring_of, "unknown", WORD, parse_address(HOME), OPENS)
    decide(SETTINGS, ring_of, "bagimsiz", WORD, parse_address(HOME), OPENS)
    assert hashed_for == ["unknown", "bagimsiz"]


def test_a_password_does_not_appear_in_its_repr() -> None:
    assert "Yedi" not in repr(WORD)


REHEARSAL = Rehearsal(
    "prova-1", "Prova", OPENS - timedelta(days=7), OPENS - timedelta(days=6), Path("/prova")
)
LATE = Rehearsal("prova-2", "Prova", OPENS - SECOND, CLOSES, Path("/prova"))
STAGED = replace(SETTINGS, rehearsals=(REHEARSAL, LATE))


@pytest.mark.parametrize(
    ("now", "stage"),
    [
        (REHEARSAL.opens - SECOND, None),
        (REHEARSAL.opens, "prova-1"),
        (REHEARSAL.closes - SECOND, "prova-1"),
        (REHEARSAL.closes, None),
        (OPENS - SECOND, "prova-2"),
        (OPENS, "2023-05-14-cb-mv"),
        (CLOSES, None),
    ],
)
def test_the_election_goes_before_a_rehearsal(now: datetime, stage: str | None) -> None:
    found = STAGED.stage(now)
    assert (found.id if found else None) == stage


@pytest.mark.parametrize(
    ("rehearsal", "now", "ends"),
    [
        ("prova-1", REHEARSAL.opens, None),
        ("prova-1", REHEARSAL.closes, Reason.REHEARSAL),
        ("prova-1", OPENS, Reason.REHEARSAL),
        ("prova-2", OPENS - SECOND, None),
        ("prova-2", OPENS, Reason.REHEARSAL),
        ("prova-1", LATE.opens, Reason.REHEARSAL),
        ("", REHEARSAL.opens, Reason.NOT_YET_OPEN),
        ("", OPENS, None),
        ("", CLOSES, Reason.CLOSED),
    ],
)
def test_a_session_ends_when_another_stage_begins(
    rehearsal: str, now: datetime, ends: Reason | None
) -> None:
    held = ring_of("a")
    name = held.credentials[0].fingerprint
    always = replace(held.credentials[0], not_before=OPENS - timedelta(days=30), not_after=None)
    held = Ring("a", (always,))
    found = recheck(STAGED, held, "a", name, parse_address("192.0.2.7"), now, rehearsal)
    assert found is ends
