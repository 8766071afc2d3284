import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from office import Ssps

from keys.credentials import ring
from keys.ledger import segments
from keys.server_keys import host


@pytest.fixture
def public(tmp_path: Path) -> Path:
    host.create_key(tmp_path / "id_ed25519", "ayna-1")
    return tmp_path / "id_ed25519.pub"


def ring_file_digest(site: Path) -> str:
    return hashlib.sha256(ring.ring_path(site, "parti-a").read_bytes()).hexdigest()


def test_key_add_stores_the_key_and_records_it(site: Path, ssps: Ssps, public: Path) -> None:
    done = ssps("key", "add", "parti-a", "--public-key", public, "--why", "form 12", "--site", site)

    assert done.exit_code == 0
    (credential,) = ring.load(site, "parti-a").credentials
    assert credential.label == "ayna-1"
    assert credential.valid_at(datetime.now(UTC))
    (record,) = segments.read_records(site / "ledgers/operations")
    assert (record.event.event, record.event.what) == ("key add", "parti-a")
    assert record.event.detail == {
        "kind": "public-key",
        "credential": credential.fingerprint,
        "why": "form 12",
        "before": [],
        "after": ring.describe(ring.load(site, "parti-a")),
        "key_files": [f"keys/parties/parti-a.toml {ring_file_digest(site)}"],
    }


def test_a_generated_password_is_printed_on_stdout_and_stored_as_a_hash(
    site: Path, ssps: Ssps
) -> None:
    done = ssps("key", "add", "parti-a", "--password", "--why", "x", "--site", site)

    assert done.exit_code == 0
    shown = done.stdout.strip()
    held = ring.load(site, "parti-a")
    assert held.by_password(shown, datetime.now(UTC)) is held.credentials[0]
    stored = ring.ring_path(site, "parti-a").read_text() + "".join(
        p.read_bytes().decode(errors="replace") for p in (site / "ledgers/operations").iterdir()
    )
    assert shown not in stored
    assert "argon2" not in (site / "ledgers/operations/000000000000.jsonl").read_text()


def test_a_chosen_password_is_read_from_a_file(site: Path, ssps: Ssps) -> None:
    words = ("key", "add", "parti-a", "--password-file", "-", "--why", "x", "--site", site)

    done = ssps(*words, input="on-iki-karakter\n")
    short = ssps(*words, input="kisa\n")

    assert (done.exit_code, short.exit_code) == (0, 2)
    assert "12 characters at least" in short.stderr
    assert ring.load(site, "parti-a").by_password("on-iki-karakter", datetime.now(UTC))


@pytest.mark.slow
def test_keys_that_operators_add_at_the_same_time_are_all_kept(
    site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    publics = []
    for number in range(6):
        host.create_key(tmp_path / f"k{number}", "")
        publics.append(tmp_path / f"k{number}.pub")
    command = [sys.executable, "-m", "scripts.ssps", "key", "add", "parti-a", "--site", str(site)]
    command += ["--why", "x"]

    running = [
        subprocess.Popen([*command, "--public-key", str(p)], stderr=subprocess.PIPE, text=True)
        for p in publics
    ]
    said = [process.communicate(timeout=120)[1] for process in running]

    assert [process.returncode for process in running] == [0] * 6, said
    assert len(ring.load(site, "parti-a").credentials) == 6
    assert [r.seq for r in segments.read_records(site / "ledgers/operations")] == list(range(6))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["parti-z", "--password"],
            1,
            "parties.toml: parti-z: unknown party, the parties are parti-a",
        ),
        (["parti-a"], 2, "give exactly one of --public-key FILE, --password and --password-file"),
        (["parti-a", "--password", "--public-key", "/dev/null"], 2, "give exactly one of"),
    ],
)
def test_a_usage_error_changes_nothing(
    site: Path, ssps: Ssps, words: list[str], code: int, said: str
) -> None:
    done = ssps("key", "add", *words, "--why", "x", "--site", site)

    assert done.exit_code == code
    assert said in done.stderr
    assert not (site / "keys/parties").exists()
    assert not (site / "ledgers").exists()


def test_a_known_key_and_a_private_key_are_refused(site: Path, ssps: Ssps, public: Path) -> None:
    add = ("key", "add", "parti-a", "--why", "x", "--site", site, "--public-key")
    assert ssps(*add, public).exit_code == 0

    twice = ssps(*add, public)
    private = ssps(*add, public.with_suffix(""))

    assert (twice.exit_code, private.exit_code) == (1, 1)
    assert "already" in twice.stderr
    assert "a private key, which must stay with the party" in private.stderr
    assert len(ring.load(site, "parti-a").credentials) == 1
    done, refused = segments.read_records(site / "ledgers/operations")
    assert (done.event.outcome, refused.event.outcome) == ("ok", "refused")
    assert refused.event.detail["before"] == done.event.detail["after"]
    assert refused.event.detail["after"] is None
    assert "has SHA256:" in str(refused.event.detail["reason"])


def test_party_list_and_show_print_no_secret(site: Path, ssps: Ssps, public: Path) -> None:
    ssps("key", "add", "parti-a", "--public-key", public, "--why", "x", "--site", site)
    ssps("key", "add", "parti-a", "--password", "--why", "x", "--site", site)

    listed = json.loads(ssps("party", "list", "--json", "--site", site).stdout)
    shown = ssps("party", "show", "parti-a", "--site", site).stdout

    assert [(p["id"], p["scope"], len(p["credentials"])) for p in listed] == [
        ("parti-a", "all", 2),
        ("parti-b", "06-ankara-1 35-izmir-2/konak-1", 0),
        ("bagimsiz-c", "34-istanbul-1", 0),
    ]
    assert "SHA256:" in shown
    assert "bilgi@parti-a.example" in shown
    assert "argon2" not in shown + json.dumps(listed)
    assert ssps("party", "show", "parti-z", "--site", site).exit_code == 1
