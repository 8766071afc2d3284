import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from office import Ssps

from keys.credentials import ring
from keys.ledger import segments
from keys.operations import ring_files
from keys.server_keys import host


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new key for each of the two parties that log in."""
    for party in ("parti-a", "parti-b"):
        host.create_key(tmp_path / "new" / party, f"{party} 2")
    return tmp_path / "new"


@pytest.fixture
def two(site: Path, ssps: Ssps, tmp_path: Path) -> Path:
    for party in ("parti-a", "parti-b"):
        host.create_key(tmp_path / "old" / party, f"{party} 1")
        public = tmp_path / "old" / f"{party}.pub"
        done = ssps("key", "add", party, "--public-key", public, "--why", "x", "--site", site)
        assert done.exit_code == 0, done.output
    return site


def labels(site: Path, party: str) -> list[tuple[str, bool]]:
    now = datetime.now(UTC)
    return [(c.label, c.valid_at(now)) for c in ring.load(site, party).credentials]


def rotated(site: Path) -> list[str]:
    found = segments.read_records(site / "ledgers/operations")
    return [r.event.what for r in found if r.event.event == "key rotate"]


def test_rotate_shows_the_change_and_makes_it_after_confirmation(
    two: Path, ssps: Ssps, folder: Path
) -> None:
    words = ("key", "rotate", "parti-a", "--public-key", folder / "parti-a.pub", "--site", two)
    more = ("--overlap", "30m", "--not-before", "2033-05-14T16:30", "--why", "form 31")

    planned = ssps(*words, *more)
    assert (planned.exit_code, rotated(two)) == (0, [])
    assert "2033-05-14T16:30:00+03:00 .. -" in planned.stderr
    assert ".. 2033-05-14T17:00:00+03:00 (was -)" in planned.stderr
    assert "nothing has changed: give --yes to apply this" in planned.stderr

    applied = ssps(*words, *more, "--yes")
    assert (applied.exit_code, rotated(two)) == (0, ["parti-a"])
    assert labels(two, "parti-a") == [("parti-a 1", True), ("parti-a 2", False)]
    assert "no server is running: the change takes effect at its next start" in applied.stderr
    assert "tell parti-a" in applied.stderr
    *_, record = segments.read_records(two / "ledgers/operations")
    assert record.event.detail["overlap"] == "30m"
    assert record.event.detail["why"] == "form 31"


def test_rotate_all_rotates_every_party_that_has_a_new_key(
    two: Path, ssps: Ssps, folder: Path
) -> None:
    words = ("key", "rotate", "--all", "--public-keys", folder, "--overlap", "0", "--site", two)
    why = ("--why", "yearly")

    assert (ssps(*words, *why).exit_code, rotated(two)) == (0, [])
    done = ssps(*words, *why, "--apply")

    assert done.exit_code == 0
    assert rotated(two) == ["parti-a", "parti-b"]
    for party in ("parti-a", "parti-b"):
        assert labels(two, party) == [(f"{party} 1", False), (f"{party} 2", True)]
    assert "2 rotated now, 2 in this rotation in all" in done.stdout
    assert not (two / "state/rotation.json").exists()


def test_an_interrupted_rotation_continues_with_its_own_times(
    two: Path, ssps: Ssps, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("key", "rotate", "--all", "--public-keys", folder, "--overlap", "1h", "--site", two)
    apply, left = ring_files.apply, [1]

    def dies(site: Path, new: ring.Ring) -> None:
        if not left:
            raise OSError(28, "No space left on device")
        left.pop()
        apply(site, new)

    with monkeypatch.context() as patch:
        patch.setattr(ring_files, "apply", dies)
        cut = ssps(*words, "--not-before", "2033-05-14T16:30", "--why", "yearly", "--apply")
    assert cut.exit_code == 1
    assert json.loads((two / "state/rotation.json").read_text())["overlap"] == 3600
    assert [len(labels(two, p)) for p in ("parti-a", "parti-b")] == [2, 1]

    other = ssps(
        "key", "rotate", "--all", "--public-keys", folder / "..", "--why", "x", "--site", two
    )
    assert other.exit_code == 1
    done = ssps(*words, "--why", "again", "--apply")

    assert done.exit_code == 0
    assert (
        "continues the rotation of 2033-05-14T16:30:00+03:00, which was interrupted" in done.stderr
    )
    assert "parti-a: already rotated" in done.stdout
    begins = {
        c.not_before for p in ("parti-a", "parti-b") for c in ring.load(two, p).credentials[1:]
    }
    assert begins == {datetime.fromisoformat("2033-05-14T16:30:00+03:00")}
    assert not (two / "state/rotation.json").exists()


def test_a_file_that_belongs_to_no_party_stops_the_whole_rotation(
    two: Path, ssps: Ssps, folder: Path
) -> None:
    (folder / "parti-z.pub").write_text((folder / "parti-a.pub").read_text())
    (folder / "parti-b.pub").write_text("ssh-dss AAAAB3NzaC1kc3M=")

    done = ssps(
        "key", "rotate", "--all", "--public-keys", folder, "--why", "x", "--apply", "--site", two
    )

    assert (done.exit_code, rotated(two)) == (1, [])
    assert "parti-z.pub: no party of this name logs in" in done.stderr
    assert "parti-b.pub: 'ssh-dss' is not a key type that is served" in done.stderr


def test_a_key_that_the_party_already_has_is_refused(two: Path, ssps: Ssps, folder: Path) -> None:
    (folder / "parti-b.pub").write_bytes((two.parent / "old" / "parti-b.pub").read_bytes())

    done = ssps(
        "key", "rotate", "--all", "--public-keys", folder, "--why", "x", "--apply", "--site", two
    )

    assert (done.exit_code, rotated(two)) == (1, [])
    assert f"{folder}/parti-b.pub: the party already has this key" in done.stderr


def test_a_rotation_that_another_operator_starts_first_wins(
    two: Path, ssps: Ssps, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = two / "state/rotation.json"
    theirs = '{"parties": {}, "overlap": 0, "start": "2033-05-14T16:30:00+03:00", "why": "y"}'

    def another_starts(*_: object) -> None:
        journal.parent.mkdir(exist_ok=True)
        journal.write_text(theirs)

    monkeypatch.setattr("scripts.shared.change.show", another_starts)
    done = ssps(
        "key", "rotate", "--all", "--public-keys", folder, "--why", "x", "--apply", "--site", two
    )

    assert (done.exit_code, labels(two, "parti-a")) == (1, [("parti-a 1", True)])
    assert "another operator has just started a rotation" in done.stderr
    assert journal.read_text() == theirs


@pytest.mark.parametrize(
    "words",
    [
        ["parti-a"],
        ["--all"],
        ["parti-a", "--all", "--password"],
        ["--all", "--public-keys", ".", "--password"],
        ["parti-a", "--password", "--overlap", "soon"],
        ["parti-a", "--password", "--not-before", "25.00"],
    ],
)
def test_contradicting_options_are_a_usage_error(site: Path, ssps: Ssps, words: list[str]) -> None:
    done = ssps("key", "rotate", *words, "--why", "x", "--site", site)
    assert done.exit_code == 2


def test_rotate_needs_a_reason(site: Path, ssps: Ssps) -> None:
    done = ssps("key", "rotate", "parti-a", "--password", "--site", site)
    assert done.exit_code == 2
    assert "--why" in done.stderr


def test_revoke_warns_if_the_party_cannot_log_in_any_more(two: Path, ssps: Ssps) -> None:
    name = ring.load(two, "parti-a").credentials[0].fingerprint

    tried = ssps("key", "revoke", "parti-a", name, "--why", "lost", "--dry-run", "--site", two)
    assert len(labels(two, "parti-a")) == 1
    done = ssps("key", "revoke", "parti-a", "parti-a 1", "--why", "lost", "--site", two)
    again = ssps("key", "revoke", "parti-a", name, "--why", "lost", "--site", two)

    assert (tried.exit_code, done.exit_code, again.exit_code) == (0, 0, 1)
    assert labels(two, "parti-a") == []
    assert "WARNING: parti-a has no valid credential now" in done.stderr
    assert "is not one of its credentials: none" in again.stderr
    *_, record, refused = segments.read_records(two / "ledgers/operations")
    assert (record.event.event, record.event.detail["credential"]) == ("key revoke", name)
    assert refused.event.outcome == "refused"


def test_a_sealed_password_is_encrypted_to_the_partys_own_key(
    two: Path, ssps: Ssps, tmp_path: Path
) -> None:
    pyrage = pytest.importorskip("pyrage")
    out = tmp_path / "parola.age"

    done = ssps("key", "add", "parti-a", "--password", "--seal", out, "--why", "x", "--site", two)

    assert done.exit_code == 0, done.output
    identity = pyrage.ssh.Identity.from_buffer((tmp_path / "old" / "parti-a").read_bytes())
    opened = pyrage.decrypt(out.read_bytes(), [identity]).decode().strip()
    assert ring.load(two, "parti-a").by_password(opened, datetime.now(UTC))
    assert opened not in done.output
