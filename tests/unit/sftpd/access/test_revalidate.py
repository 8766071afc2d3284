from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import office
import pytest
from structlog.testing import capture_logs

from config import load
from config.party import parse_address
from keys.credentials import ring, rotation
from keys.credentials.ring import Credential, CredentialKind, Ring
from sftpd.access.revalidate import Revalidator, Rings

NOW = datetime(2023, 5, 14, 15, tzinfo=UTC)
HOME = parse_address("127.0.0.1")
HASHES = "$argon2id$one", "$argon2id$two"
NAMES = tuple(ring.fingerprint(hashed.encode()) for hashed in HASHES)
ONE = Credential(CredentialKind.PASSWORD, "", NAMES[0], HASHES[0], NOW, None, "t")
TWO = Credential(
    CredentialKind.PASSWORD, "", NAMES[1], HASHES[1], NOW, NOW + timedelta(hours=1), "t"
)


class Site:
    """parti-a with two credentials, and somebody's session of each."""

    def __init__(self, folder: Path) -> None:
        self.folder = office.site(folder)
        self.now = NOW
        rotation.apply(self.folder, Ring("parti-a", (ONE, TWO)))
        self.revalidator = Revalidator(load.load(self.folder), lambda: self.now, Rings(self.folder))

    def verdicts(self) -> tuple[str | None, str | None]:
        one, two = (self.revalidator.reason_to_end("parti-a", name, HOME) for name in NAMES)
        return one, two

    def change(self, old: str, new: str) -> None:
        path = self.folder / "parties.toml"
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
        self.revalidator.settings = load.load(self.folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def test_who_was_let_in_may_stay(site: Site) -> None:
    assert site.verdicts() == (None, None)
    assert site.revalidator.reason_to_refuse("parti-a", NAMES[0], HOME) is None


def test_a_revoked_key_ends_its_own_sessions_alone(site: Site) -> None:
    site.verdicts()
    rotation.apply(site.folder, Ring("parti-a", (TWO,)))
    assert site.verdicts() == ("key revoked", None)
    assert site.revalidator.reason_to_refuse("parti-a", NAMES[0], HOME) == "wrong credential"


def test_a_ring_that_was_removed_is_one_without_keys(site: Site) -> None:
    site.verdicts()
    ring.ring_path(site.folder, "parti-a").unlink()
    assert site.verdicts() == ("key revoked", "key revoked")


def test_a_key_ends_at_its_hour(site: Site) -> None:
    site.now = NOW + timedelta(minutes=59, seconds=59)
    assert site.verdicts() == (None, None)
    site.now = NOW + timedelta(hours=1)
    assert site.verdicts() == (None, "key expired")


def test_a_damaged_ring_leaves_the_last_good_one_in_force_and_is_shouted_about(
    site: Site,
) -> None:
    site.verdicts()
    ring.ring_path(site.folder, "parti-a").write_text("[[credential]")
    with capture_logs() as logs:
        assert site.verdicts() == (None, None)
        assert site.revalidator.reason_to_refuse("parti-a", NAMES[0], HOME) is None
        assert (
            site.revalidator.reason_to_refuse("parti-a", "SHA256:other", HOME) == "wrong credential"
        )
        assert site.verdicts() == (None, None)
    assert [(log["log_level"], log["party"]) for log in logs] == [("error", "parti-a")]

    rotation.apply(site.folder, Ring("parti-a", (ONE,)))
    assert site.verdicts() == (None, "key revoked")


def test_a_ring_that_was_never_good_lets_nobody_in(site: Site) -> None:
    ring.ring_path(site.folder, "parti-a").write_text("[[credential]")
    assert site.revalidator.reason_to_refuse("parti-a", NAMES[0], HOME) == "key file unreadable"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('id = "parti-a"', 'id = "parti-a"\nsuspended = true', "party suspended"),
        ('id = "parti-a"', 'id = "parti-z"', "party removed"),
        ('static_ips = ["127.0.0.1"]', 'static_ips = ["192.0.2.1"]', "address withdrawn"),
    ],
)
def test_what_the_parties_file_says_ends_sessions(
    site: Site, old: str, new: str, reason: str
) -> None:
    site.verdicts()
    site.change(old, new)
    assert site.verdicts() == (reason, reason)


def test_the_elections_close_ends_them_all(site: Site) -> None:
    election = replace(site.revalidator.settings.election, closes=NOW + timedelta(minutes=1))
    site.revalidator.settings = replace(site.revalidator.settings, election=election)
    assert site.verdicts() == (None, None)
    site.now = NOW + timedelta(minutes=1)
    assert site.verdicts() == ("access closed", "access closed")


def test_a_child_cannot_have_any_file_read(site: Site) -> None:
    (site.folder / "keys" / "evil.toml").write_text("not TOML")
    with capture_logs() as logs:
        found = site.revalidator.reason_to_refuse("../evil", NAMES[0], HOME)
    assert found == "unknown user"
    assert logs == []


def test_a_session_ends_when_its_party_is_to_see_something_else(site: Site) -> None:
    agreed = site.revalidator.settings
    assert (
        site.revalidator.reason_to_end("parti-a", NAMES[0], HOME, settings_at_start=agreed) is None
    )

    site.change('scope = "all"', 'scope = ["35-izmir-2"]')

    assert (
        site.revalidator.reason_to_end("parti-a", NAMES[0], HOME, settings_at_start=agreed)
        == "scope changed"
    )
    assert site.verdicts() == (None, None)
