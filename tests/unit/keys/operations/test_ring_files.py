"""Rings that a command has written are in force; others are refused, with the command to adopt."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.event import Event, Outcome, Value
from config.fault import Faults
from config.site import RINGS, SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.ring import Credential, CredentialKind, Ring
from keys.ledger import segments
from keys.ledger.writer import Ledger
from keys.operations import key_files, keys_record, ring_files
from keys.operations.key_files import KeyFilesOnRecord
from keys.server_keys import host

NOON = datetime(2023, 5, 14, 12, tzinfo=UTC)


def key(number: int) -> Credential:
    secret = f"$argon2id${number}"
    name = ring.fingerprint(secret.encode())
    return Credential(CredentialKind.PASSWORD, str(number), name, secret, NOON, None, "ali")


OLD, NEW = key(1), key(2)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    host.create_key(tmp_path / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    return tmp_path


def record(site: Path, new: Ring, outcome: Outcome = Outcome.OK, **more: int) -> int:
    """Record a ring as `ssps key` does."""
    detail: dict[str, Value] = {**more, "after": ring.describe(new)}
    if outcome is Outcome.OK:
        detail[key_files.KEY_FILES] = [ring_files.line(site, new)]
    with Ledger(site / "ledgers/operations", lambda: NOON) as operations:
        return operations.append(Event("key add", "ali", "host", new.party, outcome, detail))


def change(site: Path, *credentials: Credential) -> None:
    new = Ring("parti-a", credentials)
    ring_files.stage(site, new)
    record(site, new)
    ring_files.apply(site, new)


def cause(site: Path, party: str = "parti-a") -> str:
    with pytest.raises(Faults) as error:
        ring_files.load(site, party)
    [fault] = error.value.faults
    assert fault.file == f"keys/parties/{party}.toml"
    assert fault.message.endswith(f"accept it as it is with `ssps key adopt {party}`")
    return fault.message


def test_a_ring_that_a_command_wrote_is_in_force(site: Path) -> None:
    change(site, OLD)

    assert ring_files.load(site, "parti-a") == Ring("parti-a", (OLD,))
    assert ring_files.described_on_record(site, "parti-a") == ring.describe(Ring("parti-a", (OLD,)))


def test_a_key_pasted_into_the_file_is_refused(site: Path) -> None:
    change(site, OLD)
    path = ring.ring_path(site, "parti-a")
    pasted = ring.format_ring(Ring("parti-a", (OLD, NEW)))
    path.write_bytes(pasted + path.read_bytes().splitlines(keepends=True)[-1])

    assert "it is not the file that was recorded last" in cause(site)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (lambda text: text.replace(b"ali", b"ayse"), "its signature does not match"),
        (lambda text: text.rpartition(b"# signature")[0], "it has no signature"),
        (lambda text: text + b"\n", "it has no signature"),
        (lambda text: text + b'[[credential]]\nkind = "x"\n', ""),
    ],
)
def test_a_ring_without_the_sites_signature_is_refused_though_nothing_is_recorded_of_it(
    site: Path, edit: Callable[[bytes], bytes], why: str
) -> None:
    record(site, Ring("parti-b"))
    ring_files.apply(site, Ring("parti-a", (OLD,)))
    path = ring.ring_path(site, "parti-a")
    path.write_bytes(edit(path.read_bytes()))

    if why:
        assert why in cause(site)
    else:
        with pytest.raises(Faults, match="missing or unknown"):
            ring_files.load(site, "parti-a")


def test_a_ring_of_another_site_is_refused(
    site: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    host.create_key(other / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    ring_files.apply(other, Ring("parti-a", (NEW,)))
    record(site, Ring("parti-b"))
    (site / RINGS).mkdir(parents=True)
    ring.ring_path(site, "parti-a").write_bytes(ring.ring_path(other, "parti-a").read_bytes())

    assert "its signature does not match" in cause(site)


def test_an_older_ring_that_was_copied_back_is_refused(site: Path) -> None:
    change(site, OLD)
    before = ring.ring_path(site, "parti-a").read_bytes()
    change(site, NEW)
    ring.ring_path(site, "parti-a").write_bytes(before)

    assert "it is not the file that was recorded last" in cause(site)


def test_a_ring_that_was_deleted_is_refused_and_not_empty(site: Path) -> None:
    change(site, OLD)
    ring.ring_path(site, "parti-a").unlink()

    assert "it is not the file that was recorded last" in cause(site)


def test_a_ring_is_still_in_force_after_a_rotation_of_the_signing_key(site: Path) -> None:
    change(site, OLD)
    host.prepare_next(site / SIGNING_KEYS)
    host.promote_next(site / SIGNING_KEYS, NOON)

    assert ring_files.load(site, "parti-a").credentials == (OLD,)


def test_a_kill_between_the_record_and_the_ring_loses_nothing(site: Path) -> None:
    change(site, OLD)
    new = Ring("parti-a", (OLD, NEW))
    ring_files.stage(site, new)
    record(site, new)

    assert ring_files.load(site, "parti-a") == new


def test_a_kill_before_the_record_changes_nothing(site: Path) -> None:
    change(site, OLD)
    ring_files.stage(site, Ring("parti-a", (OLD, NEW)))

    assert ring_files.load(site, "parti-a").credentials == (OLD,)


def test_a_change_that_failed_leaves_the_ring_before_it_in_force(site: Path) -> None:
    change(site, OLD)
    new = Ring("parti-a", (NEW,))
    failed = record(site, new)
    record(site, new, Outcome.FAILED, of=failed)

    assert ring_files.load(site, "parti-a").credentials == (OLD,)


def test_the_rings_of_an_earlier_version_are_signed_and_recorded_once(site: Path) -> None:
    (site / RINGS).mkdir(parents=True)
    ring.ring_path(site, "parti-a").write_bytes(ring.format_ring(Ring("parti-a", (OLD,))))
    assert ring_files.load(site, "parti-a").credentials == (OLD,)

    with Ledger(site / "ledgers/operations", lambda: NOON) as operations:
        assert keys_record.record_if_changed(operations, site, "ali", "host", "started")
        assert not keys_record.record_if_changed(operations, site, "ali", "host", "started")

    assert ring_files.load(site, "parti-a").credentials == (OLD,)
    assert set(KeyFilesOnRecord(site).refresh().digests) == {
        "keys/parties/parti-a.toml",
        "keys/signing/signing_key",
        "keys/signing/signing_key.pub",
    }
    ring.ring_path(site, "parti-b").write_bytes(ring.format_ring(Ring("parti-b", (NEW,))))
    assert "it has no signature" in cause(site, "parti-b")


def test_another_host_key_and_a_planted_former_key_are_recorded_with_before_and_after(
    site: Path,
) -> None:
    with Ledger(site / "ledgers/operations", lambda: NOON) as operations:
        keys_record.record_if_changed(operations, site, "ali", "host", "started")
        assert not keys_record.changed(site)
        before = KeyFilesOnRecord(site).refresh().digests
        public = (site / SIGNING_KEYS / "signing_key.pub").read_bytes()
        host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "other")
        assert not keys_record.changed(site)  # the public key before it is lost
        host.create_key(site / SIGNING_KEYS / "old/signing_key-2022-05-14T000000Z", "")
        (site / SIGNING_KEYS / "old/signing_key-2022-05-14T000000Z.pub").write_bytes(public)
        host.create_key(site / SIGNING_KEYS / "old/signing_key-2023-05-14T000000Z", "planted")

        assert keys_record.changed(site)
        assert keys_record.record_if_changed(operations, site, "ali", "host", "reloaded")

    [*_, last] = (r.event for r in segments.read_records(site / "ledgers/operations"))
    assert last.detail["before"] == key_files.lines(before)
    after = last.detail["after"]
    assert isinstance(after, list)
    assert [line.split()[0] for line in after] == [
        "keys/signing/old/signing_key-2022-05-14T000000Z",
        "keys/signing/old/signing_key-2022-05-14T000000Z.pub",
        "keys/signing/old/signing_key-2023-05-14T000000Z",
        "keys/signing/old/signing_key-2023-05-14T000000Z.pub",
        "keys/signing/signing_key",
        "keys/signing/signing_key.pub",
    ]


@pytest.mark.parametrize("step", ["open", "write", "fchmod", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_ring(
    site: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before, after = Ring("parti-a", (OLD,)), Ring("parti-a")
    ring_files.apply(site, before)

    def dies(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", dies)
        else:
            patch.setattr(os, "fdopen" if step == "write" else step, dies)
        with pytest.raises(OSError, match="No space"):
            ring_files.apply(site, after)

    assert ring.load(site, "parti-a") == before
    assert [p.name for p in (site / RINGS).iterdir()] == ["parti-a.toml"]


def test_the_next_change_removes_the_file_of_a_killed_writer(site: Path) -> None:
    ring_files.apply(site, Ring("parti-a", (OLD,)))
    left = site / RINGS / ".parti-b.toml.4711.new"
    left.write_bytes(b'party = "parti-b"\n\n[[cred')

    ring_files.apply(site, Ring("parti-a"))

    assert [p.name for p in (site / RINGS).iterdir()] == ["parti-a.toml"]


def test_a_ring_is_private_with_any_umask(site: Path) -> None:
    before = os.umask(0)
    try:
        ring_files.apply(site, Ring("parti-a", (OLD,)))
    finally:
        os.umask(before)

    assert ring.ring_path(site, "parti-a").stat().st_mode & 0o777 == 0o600
    assert (site / RINGS).stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_ring_written_by_root_belongs_to_the_owner_of_the_folder(site: Path) -> None:
    folder = site / RINGS
    folder.mkdir(parents=True)
    os.chown(folder, 4711, 4712)

    ring_files.apply(site, Ring("parti-a", (OLD,)))

    seen = ring.ring_path(site, "parti-a").stat()
    assert (seen.st_uid, seen.st_gid) == (4711, 4712)
