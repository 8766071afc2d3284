"""Files of users: in force only if this site has written and recorded them."""

from pathlib import Path

import pytest
from web_site import write_users

from config.fault import Faults
from config.site import LEDGERS, SIGNING_KEYS
from keys.credentials.ring import Ring
from keys.credentials.users import Role, User, Users
from keys.ledger.writer import Ledger
from keys.operations import key_files, ring_files, user_files
from keys.operations.change_record import record_change
from keys.server_keys import host

OLD = Users("parti-a", (User("ayse", Role.WEB),))
NEW = Users("parti-a", (User("ayse", Role.WEB), User("banu", Role.WEB)))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    host.create_key(tmp_path / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    write_users(tmp_path, OLD)
    return tmp_path


def file(site: Path) -> Path:
    return site / "keys/users/parti-a.toml"


def test_users_that_were_written_are_in_force_and_private(site: Path) -> None:
    assert user_files.load(site, "parti-a") == OLD
    assert user_files.load(site, "parti-b") == Users("parti-b")
    assert list(user_files.on_disk(site)) == ["parti-a"]
    assert file(site).stat().st_mode & 0o777 == 0o600


def test_an_edited_an_older_and_a_deleted_file_are_refused(site: Path) -> None:
    older = file(site).read_bytes()
    write_users(site, NEW)

    for content in (older, file(site).read_bytes().replace(b"banu", b"canan"), b"x = ["):
        file(site).write_bytes(content)
        with pytest.raises(Faults, match="was not written by `ssps user`"):
            user_files.load(site, "parti-a")
    file(site).unlink()
    with pytest.raises(Faults, match="is not the file that was recorded last"):
        user_files.load(site, "parti-a")


def test_a_file_that_was_copied_to_another_party_is_refused(site: Path) -> None:
    file(site).with_name("parti-b.toml").write_bytes(file(site).read_bytes())

    with pytest.raises(Faults, match="is not the file that was recorded last"):
        user_files.load(site, "parti-b")


def test_a_signature_of_a_ring_does_not_make_a_file_of_users(site: Path) -> None:
    as_ring = ring_files._signed(site, Ring("parti-a"))
    with (
        Ledger(site / LEDGERS / "operations") as operations,
        record_change(operations, "x", "op", "here", "parti-a", "x") as record,
    ):
        named = f"keys/users/parti-a.toml {key_files.digest_of(as_ring)}"
        record.done(None, {"key_files": [named]})
        file(site).write_bytes(as_ring)

    with pytest.raises(Faults, match="its signature does not match"):
        user_files.load(site, "parti-a")


def test_after_a_crash_the_users_on_record_are_in_force(site: Path) -> None:
    user_files.stage(site, NEW)
    assert user_files.load(site, "parti-a") == OLD  # staged, but not on record
    with (
        Ledger(site / LEDGERS / "operations") as operations,
        record_change(operations, "user add", "op", "here", "parti-a", "x") as record,
    ):
        record.done(None, {"key_files": [user_files.line(site, NEW)]})

    assert user_files.load(site, "parti-a") == NEW
    user_files.apply(site, NEW)
    assert user_files.load(site, "parti-a") == NEW
    assert list(file(site).parent.glob(".*")) == []


def test_server_keys_on_record_do_not_name_users(site: Path) -> None:
    named = key_files.server_key_files(site)

    assert [name for name in named if "users" in name] == []
    assert key_files.holds_credentials("keys/users/parti-a.toml")
