"""A public key belongs to one party: with a shared one, a party could log in as another."""

import json
import shutil
from pathlib import Path

import pytest
from office import Ssps

from keys.credentials import ring
from keys.server_keys import host


@pytest.fixture
def public(tmp_path: Path) -> Path:
    host.create_key(tmp_path / "id", "ayna")
    return tmp_path / "id.pub"


@pytest.fixture
def given(site: Path, ssps: Ssps, public: Path) -> Path:
    """A site where parti-a has the key."""
    words = ("--public-key", public, "--why", "x", "--site", site)
    assert ssps("key", "add", "parti-a", *words).exit_code == 0
    return site


def test_key_add_and_rotate_refuse_the_key_of_another_party(
    given: Path, ssps: Ssps, public: Path
) -> None:
    for command in (("add",), ("rotate", "--yes")):
        done = ssps("key", *command, "parti-b", "--public-key", public, "--why", "x",
                    "--site", given)  # fmt: skip

        assert done.exit_code == 1
        assert "is the key of parti-a already: each party needs a key of its own" in done.stderr
    assert ring.load(given, "parti-b").credentials == ()


def test_rotating_all_refuses_one_key_in_two_files(
    given: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    host.create_key(tmp_path / "fresh", "fresh")
    for party in ("parti-a", "parti-b"):
        shutil.copy(tmp_path / "fresh.pub", folder / f"{party}.pub")

    done = ssps("key", "rotate", "--all", "--public-keys", folder, "--yes", "--why", "x",
                "--site", given)  # fmt: skip

    assert done.exit_code == 1
    assert "parti-a.pub has the same key: each party needs a key of its own" in done.stderr
    assert len(ring.load(given, "parti-a").credentials) == 1


def test_a_key_file_that_was_copied_to_another_party_is_not_adopted_and_is_named_by_check(
    given: Path, ssps: Ssps
) -> None:
    text = (given / "keys/parties/parti-a.toml").read_text()
    (given / "keys/parties/parti-b.toml").write_text(text.replace("parti-a", "parti-b"))

    adopted = ssps("key", "adopt", "parti-b", "--yes", "--why", "x", "--site", given)
    checked = ssps("check", "--site", given)

    assert adopted.exit_code == 1
    assert "is the key of parti-a already" in adopted.stderr
    assert "is the key of parti-a and parti-b: each party needs a key of its own" in checked.stdout


def test_key_list_shows_the_credentials_of_all_parties_or_of_one(given: Path, ssps: Ssps) -> None:
    ssps("key", "add", "parti-b", "--password", "--label", "ofis", "--why", "x", "--site", given)

    everything = ssps("key", "list", "--site", given)
    one = ssps("key", "list", "parti-b", "--json", "--site", given)

    lines = everything.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["parti-a", "parti-b"]
    assert lines[0].split()[1].startswith("SHA256:")
    assert "T" in lines[0].split()[4]
    [row] = json.loads(one.stdout)
    assert (row["party"], row["kind"], row["label"], row["valid"]) == (
        "parti-b", "password", "ofis", True,
    )  # fmt: skip
    assert "argon2" not in everything.stdout + one.stdout
