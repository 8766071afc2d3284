import errno
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import office
import pytest
from structlog.testing import capture_logs

from config import load
from config.party import parse_address
from config.site import SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.admission import CheckedPassword, Refused
from keys.credentials.ring import Credential, CredentialKind, Ring
from keys.operations import ring_files
from keys.server_keys import host
from sftpd.access.revalidate import Revalidator, Rings

NOW = datetime(2023, 5, 14, 15, tzinfo=UTC)
HOME = parse_address("127.0.0.1")
HASHES = "$argon2id$one", "$argon2id$two"
NAMES = tuple(ring.fingerprint(hashed.encode()) for hashed in HASHES)
ONE = Credential(CredentialKind.PASSWORD, "", NAMES[0], HASHES[0], NOW, None, "t")
HOUR = timedelta(hours=1)
TWO = Credential(CredentialKind.PASSWORD, "", NAMES[1], HASHES[1], NOW, NOW + HOUR, "t")


class Site:
    """A site with a party that has two credentials, and a session with each."""

    def __init__(self, folder: Path) -> None:
        self.folder = office.site(folder)
        self.now = NOW
        self.ring_file = ring.ring_path(self.folder, "parti-a")
        host.create_key(self.folder / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
        ring_files.apply(self.folder, Ring("parti-a", (ONE, TWO)))
        self.revalidator = Revalidator(load.load(self.folder), lambda: self.now, Rings(self.folder))

    def reasons_to_end(self) -> tuple[str | None, str | None]:
        """Return why the session with each credential has to end."""
        one, two = (self.revalidator.reason_to_end("parti-a", name, HOME) for name in NAMES)
        return one, two

    def reason_to_refuse(self, user: str, name: str) -> str | None:
        """Return why a login with the password of that name is refused."""
        decision = self.revalidator.decide(user, CheckedPassword(name), HOME)
        return decision.reason if isinstance(decision, Refused) else None

    def edit_parties(self, old: str, new: str) -> None:
        path = self.folder / "parties.toml"
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
        self.revalidator.settings = load.load(self.folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def test_a_valid_session_may_begin_and_go_on(site: Site) -> None:
    assert site.reason_to_refuse("parti-a", NAMES[0]) is None
    assert site.reasons_to_end() == (None, None)


def test_a_revoked_key_ends_only_its_own_sessions(site: Site) -> None:
    site.reasons_to_end()
    ring_files.apply(site.folder, Ring("parti-a", (TWO,)))

    assert site.reasons_to_end() == ("key revoked", None)
    assert site.reason_to_refuse("parti-a", NAMES[0]) == "wrong credential"


def test_a_removed_ring_is_a_ring_without_keys(site: Site) -> None:
    site.reasons_to_end()
    site.ring_file.unlink()

    assert site.reasons_to_end() == ("key revoked", "key revoked")


def test_a_key_expires_at_its_end(site: Site) -> None:
    site.now = NOW + HOUR - timedelta(seconds=1)
    assert site.reasons_to_end() == (None, None)

    site.now = NOW + HOUR
    assert site.reasons_to_end() == (None, "key expired")


def test_a_damaged_ring_leaves_the_last_good_one_in_force_and_is_logged_once(site: Site) -> None:
    site.reasons_to_end()
    site.ring_file.write_text("[[credential]")

    with capture_logs() as logs:
        assert site.reasons_to_end() == (None, None)
        assert site.reason_to_refuse("parti-a", NAMES[0]) is None
        assert site.reason_to_refuse("parti-a", "SHA256:other") == "wrong credential"
        assert site.reasons_to_end() == (None, None)

    assert [(log["event"], log["log_level"], log["party"]) for log in logs] == [
        ("keys-unreadable", "error", "parti-a")
    ]
    ring_files.apply(site.folder, Ring("parti-a", (ONE,)))
    assert site.reasons_to_end() == (None, "key revoked")


def test_a_ring_that_cannot_be_read_now_is_read_again_at_the_next_look(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    site.reasons_to_end()
    ring_files.apply(site.folder, Ring("parti-a", (TWO,)))
    with monkeypatch.context() as exhausted, capture_logs() as logs:
        exhausted.setattr(Path, "read_bytes", fail)
        assert site.reasons_to_end() == (None, None)
        assert site.reason_to_refuse("parti-a", NAMES[0]) is None
    assert [(log["event"], "Too many open files" in log["cause"]) for log in logs] == [
        ("keys-unreadable", True)
    ]

    assert site.reasons_to_end() == ("key revoked", None)


def test_a_ring_that_was_never_good_admits_no_one(site: Site) -> None:
    site.ring_file.write_text("[[credential]")

    reason = site.reason_to_refuse("parti-a", NAMES[0])

    assert reason == "key file unreadable"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('id = "parti-a"', 'id = "parti-a"\nsuspended = true', "party suspended"),
        ('id = "parti-a"', 'id = "parti-z"', "party removed"),
        ('static_ips = ["127.0.0.1"]', 'static_ips = ["192.0.2.1"]', "address withdrawn"),
    ],
)
def test_a_change_in_the_parties_file_ends_sessions(
    site: Site, old: str, new: str, reason: str
) -> None:
    site.reasons_to_end()

    site.edit_parties(old, new)

    assert site.reasons_to_end() == (reason, reason)


def test_the_end_of_the_election_ends_all_sessions(site: Site) -> None:
    settings = site.revalidator.settings
    election = replace(settings.election, closes=NOW + timedelta(minutes=1))
    site.revalidator.settings = replace(settings, election=election)
    assert site.reasons_to_end() == (None, None)

    site.now = NOW + timedelta(minutes=1)

    assert site.reasons_to_end() == ("access closed", "access closed")


def test_a_party_id_from_a_child_never_becomes_part_of_a_path(site: Site) -> None:
    (site.folder / "keys" / "evil.toml").write_text("not TOML")

    with capture_logs() as logs:
        reason = site.reason_to_refuse("../evil", NAMES[0])

    assert reason == "unknown user"
    assert logs == []


def test_a_session_ends_when_its_party_s_scope_changes(site: Site) -> None:
    at_start = site.revalidator.settings
    name = NAMES[0]
    assert site.revalidator.reason_to_end("parti-a", name, HOME, settings_at_start=at_start) is None

    site.edit_parties('scope = "all"', 'scope = ["35-izmir-2"]')

    reason = site.revalidator.reason_to_end("parti-a", name, HOME, settings_at_start=at_start)
    assert reason == "scope changed"
    assert site.reasons_to_end() == (None, None)


def test_the_end_of_each_party_s_access_is_known_in_seconds(site: Site) -> None:
    ring_files.apply(site.folder, Ring("parti-a", (TWO,)))
    ring.ring_path(site.folder, "parti-b").write_text("[[credential]")

    left, damaged = site.revalidator.credential_lifetimes()

    assert left["parti-a"] == 3600.0
    assert damaged == 1
