"""A file under keys/ that is not the one on record is not used, and its command is named."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.event import Event, Value
from config.fault import Faults
from config.site import HOST_KEYS, KEYS, OPERATORS, SIGNING_KEYS, TLS, ring_file, users_file
from keys.ledger.writer import Ledger
from keys.operations import key_files, keys_record, ring_files, site_keys, user_files
from keys.operations.site_keys import KeyWatch, Unrecorded
from keys.server_keys import host, sshsig, stamp_key

NOON = datetime(2023, 5, 14, 12, tzinfo=UTC)
SIGNING = SIGNING_KEYS / host.SIGNING_KEY
OLD = SIGNING_KEYS / "old/signing_key-2023-05-14T000000Z.pub"
ED25519 = HOST_KEYS / "ssh_host_ed25519_key"
STAMP = KEYS / "stamps/stamp_key"
CERTIFICATE = TLS / "portal.crt"
RING, USER = ring_file("parti-a"), users_file("parti-a")


def record_files(site: Path) -> None:
    with Ledger(site / "ledgers/operations", lambda: NOON) as operations:
        keys_record.record_if_changed(operations, site, "ali", "host", "started")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site that has a file of each kind under keys/, all of them on record but for users."""
    for name in (SIGNING, ED25519, HOST_KEYS / "next/ssh_host_ed25519_key", OLD.with_suffix("")):
        host.create_key(tmp_path / name, "ssps")
    stamp_key.load_or_create(tmp_path)
    for name, text in {CERTIFICATE: "certificate", RING: 'party = "parti-a"\n'}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    record_files(tmp_path)
    return tmp_path


def use_signing_key(site: Path) -> object:
    return site_keys.signing_key(site)


def use_host_keys(site: Path) -> object:
    return site_keys.require(site, HOST_KEYS)


def use_certificate(site: Path) -> object:
    return site_keys.require(site, TLS)


def use_former_key(site: Path) -> object:
    lines = [sshsig.public_key((site / OLD).read_text()).public_bytes_raw()]
    used = [key.public_bytes_raw() for key in site_keys.public_signing_keys(site)]
    if not set(lines) <= set(used):
        raise Unrecorded([])
    return used


def use_stamp_key(site: Path) -> object:
    if site_keys.stamp_key_on_record(site, create=True) is None:
        raise Unrecorded([])
    return None


def use_ring(site: Path) -> object:
    return ring_files.load(site, "parti-a")


def use_users(site: Path) -> object:
    return user_files.load(site, "parti-a")


def use_operators(site: Path) -> object:
    return user_files.load(site, "")


ADOPT = "ssps key adopt --site-keys"
KINDS: dict[Path, tuple[Callable[[Path], object], str]] = {
    SIGNING: (use_signing_key, ADOPT),
    OLD: (use_former_key, ADOPT),
    ED25519: (use_host_keys, ADOPT),
    HOST_KEYS / "next/ssh_host_ed25519_key": (use_host_keys, ADOPT),
    HOST_KEYS / "ssh_host_ed25519_key.pub": (use_host_keys, ADOPT),
    STAMP: (use_stamp_key, ADOPT),
    CERTIFICATE: (use_certificate, ADOPT),
    RING: (use_ring, "ssps key adopt parti-a"),
    USER: (use_users, "ssps user remove --all parti-a"),
    OPERATORS: (use_operators, "ssps operator remove --all"),
}


@pytest.mark.parametrize("name", KINDS, ids=str)
def test_a_file_that_is_changed_by_hand_is_not_used_and_its_command_is_named(
    site: Path, name: Path
) -> None:
    use, command = KINDS[name]
    use(site)
    watch = KeyWatch(site)
    watch.look()
    assert watch.look() == []

    other = site / "other"
    host.create_key(other, "by hand")
    content = other.with_name("other.pub") if name.suffix == ".pub" else other
    text = "11" * 32 + "\n" if name == STAMP else content.read_text()
    (site / name).parent.mkdir(exist_ok=True)
    (site / name).write_text(text)

    with pytest.raises(Faults):
        use(site)
    assert watch.look() == []  # a command may just be moving it
    [fault] = watch.look()
    assert fault.file == str(name)
    assert f"`{command}`" in fault.message
    assert watch.look() == []  # logged once


@pytest.mark.parametrize("name", [SIGNING, ED25519, RING, OLD, CERTIFICATE], ids=str)
def test_a_file_that_is_removed_by_hand_is_named(site: Path, name: Path) -> None:
    (site / name).unlink()

    assert [fault.file for fault in site_keys.unrecorded(site)] == [str(name)]


def test_a_planted_former_key_is_left_out(site: Path) -> None:
    host.create_key(site / SIGNING_KEYS / "old/signing_key-2024-01-01T000000Z", "planted")

    assert len(site_keys.public_signing_keys(site)) == 2


def test_a_difference_is_named_although_a_look_at_it_failed(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = KeyWatch(site)
    watch.look()
    (site / CERTIFICATE).write_text("by hand")

    with monkeypatch.context() as patch:
        patch.setattr(key_files, "server_key_files", Mock(side_effect=OSError("full disk")))
        with pytest.raises(OSError, match="full disk"):
            watch.look()

    assert watch.look() == []
    assert [fault.file for fault in watch.look()] == [str(CERTIFICATE)]


def test_a_file_that_is_renamed_during_a_look_does_not_fail_it(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / CERTIFICATE.with_name(".portal.crt.7.new")).write_text("certificate")
    lstat = Path.lstat

    def lstat_of_renamed(path: Path) -> os.stat_result:
        if path.name.endswith(".new"):
            raise FileNotFoundError(path)
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", lstat_of_renamed)

    assert KeyWatch(site).look() == []


def test_a_recorded_file_is_used_again_and_the_next_difference_is_named(site: Path) -> None:
    watch = KeyWatch(site)
    host.create_key(site / ED25519, "renewed")
    watch.look()
    assert {fault.file for fault in watch.look()} == {str(ED25519), f"{ED25519}.pub"}

    record_files(site)

    site_keys.require(site, HOST_KEYS)
    assert watch.look() == watch.look() == []
    host.create_key(site / ED25519, "by hand again")
    watch.look()
    assert len(watch.look()) == 2


def test_a_signing_key_is_not_recorded_while_a_public_key_on_record_is_missing(site: Path) -> None:
    public = (site / f"{SIGNING}.pub").read_bytes()
    host.create_key(site / SIGNING, "by hand")
    record_files(site)
    with pytest.raises(Unrecorded):
        site_keys.signing_key(site)

    kept = site / SIGNING_KEYS / "old/signing_key-2024-01-01T000000Z.pub"
    kept.write_bytes(public)
    record_files(site)

    site_keys.signing_key(site)
    assert list(site_keys.unrecorded(site)) == []


def test_a_rotation_is_on_record_before_and_after_each_file_is_moved(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.prepare_next(site / SIGNING_KEYS)
    record_files(site)
    following = host.read_public_key(site / SIGNING_KEYS / "next/signing_key").blob
    changed = host.promoted_files(site / SIGNING_KEYS, NOON)
    digests = {
        str(SIGNING_KEYS / name): key_files.digest_of(text) for name, text in changed.items()
    }

    with Ledger(site / "ledgers/operations", lambda: NOON) as operations:
        stated: dict[str, Value] = {"key_files": list(key_files.lines(digests))}
        operations.append(Event("key signing rotate", "ali", "host", "keys/signing", detail=stated))
        assert public(site_keys.signing_key(site)) == following  # it is read from next/
        assert ring_files.load(site, "parti-a").party == "parti-a"  # the old key has signed it
        host.promote_next(site / SIGNING_KEYS, NOON)

    assert public(site_keys.signing_key(site)) == following
    assert list(site_keys.unrecorded(site)) == []


def public(key: Ed25519PrivateKey) -> str:
    return sshsig.allowed_signers(key.public_key()).split()[-1]


def test_a_site_of_an_earlier_version_uses_its_keys_until_they_are_recorded(tmp_path: Path) -> None:
    host.create_key(tmp_path / SIGNING, "ssps")

    site_keys.signing_key(tmp_path)

    assert list(site_keys.unrecorded(tmp_path)) == []
