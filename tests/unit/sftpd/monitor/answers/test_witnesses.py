import json
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs
from unit.keys.ledger.signed_ledgers import KEY, NOON, write, write_public_key

from config.event import Event, Outcome
from config.settings import Settings
from keys.ledger import cosignature, cosigned, merkle, note
from keys.ledger.cosignature import Witness
from keys.ledger.note import Checkpoint, decode_base64, encode_base64
from keys.ledger.signer import Signer
from keys.ledger.writer import Ledger
from sftpd.monitor.answers.witnesses import Witnesses
from sftpd.monitor.monitor import ConnectionState

MINE = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
VKEY = str(Witness("parti-a", MINE.public_key()))
SECONDS = int(NOON.timestamp())


class Site:
    """A site with a ledger, and the witnesses of its parties."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "keys/signing").mkdir(parents=True)
        write_public_key(folder / "keys/signing/signing_key.pub")
        self.ledger = folder / "ledgers/filing"
        self.now = 1000.0
        self.events: list[Event] = []
        self.recordable = True
        self.witnesses = Witnesses(self.record, lambda: SECONDS, lambda: self.now)
        self.states = {party: self.state(party) for party in ("parti-a", "parti-b")}

    def record(self, event: Event) -> bool:
        self.events.append(event)
        return self.recordable

    def state(self, party: str) -> ConnectionState:
        found = ConnectionState(7, ip_address("192.0.2.7"), "192.0.2.7", None, "a", 0.0, 0.0)
        found.party = party
        settings = SimpleNamespace(site=self.folder, rehearsals=())
        found.settings = cast(Settings, settings)
        return found

    def grow(self, count: int, start: int) -> bytes:
        """Append signed records; return the newest checkpoint."""
        write(self.ledger, count, start)
        with Signer(self.ledger, KEY, lambda: NOON, token=lambda: "0" * 16) as signer:
            signer.sign(last=True)
        return (self.ledger / "checkpoint").read_bytes()

    def ask(self, *words: str, party: str = "parti-a", wait: float = 60.0) -> dict[str, Any]:
        verb, ledger, *rest = words
        key, text = rest if len(rest) == 2 else ("", *rest)
        self.now += wait
        texts = tuple(word.encode() for word in (verb, ledger, key, text))
        found: dict[str, Any] = json.loads(self.witnesses.answer(self.states[party], texts))
        return found

    def add(self, message: bytes, key: str = VKEY, **how: Any) -> dict[str, Any]:
        return self.ask("add", "filing", key, encode_base64(message), **how)

    def kept(self) -> dict[str, int]:
        folder = self.folder / "state/cosigned"
        found = cosigned.read_all(folder, [KEY.public_key()])
        return {each.path.relative_to(folder).as_posix(): each.checkpoint.size for each in found}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


def mine(message: bytes, key: Ed25519PrivateKey = MINE, seconds: int = SECONDS) -> bytes:
    return cosignature.cosign(message, "parti-a", key, seconds)


def signed(size: int, root: bytes, origin: str = f"ssps/filing/{'0' * 16}") -> bytes:
    return note.sign_checkpoint(Checkpoint(origin, size, root, NOON), KEY)


def test_a_ledger_proves_that_it_extends_what_the_witness_knows(site: Site) -> None:
    old, new = note.unverified_checkpoint(site.grow(5, 0)), site.grow(8, 5)

    answer = site.ask("show", "filing", "5")

    head, _, message = answer["out"].partition("\n\n")
    first, *lines = head.splitlines()
    found = note.unverified_checkpoint(message.encode())
    assert (answer["status"], first, message.encode()) == (0, "old 5", new)
    proof = [decode_base64(line) for line in lines]
    assert merkle.verify_consistency(5, old.root, found.size, found.root, proof)


def test_a_ledger_that_is_behind_the_witness_says_so(site: Site) -> None:
    newest = site.grow(5, 0)

    answer = site.ask("show", "filing", "9")

    assert (answer["status"], answer["out"].encode()) == (1, newest)
    assert answer["error"] == "behind: the ledger has 5 records\n"


def test_a_cosigned_checkpoint_is_kept_and_on_record(site: Site) -> None:
    message = mine(site.grow(5, 0))

    assert site.add(message) == {"out": "ok 5\n", "error": "", "status": 0}

    assert site.kept() == {"parti-a/filing": 5}
    assert (site.folder / "state/cosigned/parti-a/filing").read_bytes() == message
    [event] = site.events
    assert (event.event, event.who, event.what, event.outcome) == (
        "witness", "parti-a", "filing", Outcome.OK,
    )  # fmt: skip
    assert (event.detail["key"], event.detail["registered"]) == (VKEY, True)
    assert event.detail["checkpoint"] == f"ssps/filing/{'0' * 16} 5 " + (
        encode_base64(note.unverified_checkpoint(message).root)
    )
    # Nothing is written again for the same checkpoint, or an older one.
    assert site.add(message)["out"] == "ok 5\n"
    assert site.add(mine(site.grow(3, 5)))["out"] == "ok 8\n"
    assert site.add(message)["out"] == "ok 8\n"
    assert len(site.events) == 2
    assert "registered" not in site.events[1].detail


OF = "0" * 16
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda message: (message, VKEY), "not-cosigned"),
        (lambda message: (mine(message, OTHER), VKEY), "not-cosigned"),
        (lambda message: (mine(message, seconds=SECONDS + 3600), VKEY), "clock"),
        (lambda message: (b"x" * 100, VKEY), "not-ours"),
        (lambda message: (mine(message)[:-5], VKEY), "not-ours"),
        (lambda message: (mine(note.sign("a\n1\nb\n", "a", OTHER)), VKEY), "not-ours"),
        (lambda _: (mine(signed(5, b"r" * 32, f"ssps/transfer/{OF}")), VKEY), "not-ours"),
        (lambda message: (mine(message), "ssps/witness/parti-a"), "bad-key"),
        (lambda message: (mine(message), str(Witness("parti-b", MINE.public_key()))), "bad-key"),
        (lambda message: (mine(message) + b"\x2d" * 4000, VKEY), "bad-note"),
    ],
    ids=["not cosigned", "by another key", "from the future", "no note", "cut", "another signer",
         "another ledger", "no key", "another party's key", "too long"],
)  # fmt: skip
def test_anything_else_is_refused_and_leaves_nothing(site: Site, change: Any, word: str) -> None:
    message, key = change(site.grow(5, 0))

    answer = site.add(message, key)

    assert (answer["status"], answer["error"].partition(":")[0]) == (1, word)
    assert site.events == []
    assert not (site.folder / "state/cosigned").exists()


def test_a_party_writes_only_to_its_own_folder(site: Site) -> None:
    message = mine(site.grow(5, 0))
    site.add(message)
    before = list((site.folder / "state/cosigned").rglob("*"))

    answer = site.add(message, party="parti-b")

    assert answer["error"] == "bad-key: its name is not ssps/witness/parti-b\n"
    assert list((site.folder / "state/cosigned").rglob("*")) == before


def test_the_first_key_stays_until_it_is_forgotten(site: Site) -> None:
    site.add(mine(site.grow(5, 0)))
    newer = site.grow(3, 5)
    theirs = str(Witness("parti-a", OTHER.public_key()))

    assert site.add(mine(newer, OTHER), theirs)["error"].startswith("another-key: ssps/witness/")
    cosigned.forget_key(site.folder / "state/cosigned/parti-a")
    assert site.add(mine(newer, OTHER), theirs)["out"] == "ok 8\n"
    assert site.events[-1].detail["registered"] is True


def test_a_checkpoint_of_lost_records_is_kept_as_proof(site: Site) -> None:
    site.grow(5, 0)
    lost = mine(signed(9, b"r" * 32))

    with capture_logs() as logs:
        answer = site.add(lost)

    assert (answer["status"], answer["error"].partition(":")[0]) == (1, "behind")
    assert site.kept() == {"parti-a/filing.against": 9}
    assert (site.events[0].outcome, site.events[0].detail["reason"]) == (
        Outcome.FAILED, "the ledger does not extend it",
    )  # fmt: skip
    assert [log["event"] for log in logs] == ["ledger-behind-witness"]
    # The proof is neither written nor recorded again, and does not give way to a smaller one.
    assert site.add(lost)["error"].startswith("behind: ")
    assert site.add(mine(signed(7, b"r" * 32)))["error"].startswith("behind: ")
    assert len(site.events) == 1


def test_another_root_or_origin_is_proof_as_well(site: Site) -> None:
    site.grow(9, 0)
    with capture_logs():
        for odd in (signed(5, b"r" * 32), signed(6, b"r" * 32, f"ssps/filing/{'1' * 16}")):
            assert site.add(mine(odd))["error"].startswith("behind: ")

    assert site.kept() == {"parti-a/filing.against": 6}


def test_hashes_that_a_power_loss_emptied_are_no_proof(site: Site) -> None:
    old = site.grow(5, 0)
    site.grow(8, 5)
    stored = site.ledger / "000000000000.hashes"
    stored.write_bytes(bytes(stored.stat().st_size))

    answers = [site.add(mine(old)), site.ask("show", "filing", "5")]

    wrong = "later: the hashes of that ledger are missing or damaged\n"
    assert answers == [{"out": "", "error": wrong, "status": 1}] * 2
    assert (site.kept(), site.events) == ({}, [])


def test_an_accepted_loss_is_not_held_against_the_ledger(site: Site) -> None:
    before = mine(site.grow(9, 0))
    site.add(before)
    lost = note.unverified_checkpoint(before)
    for path in site.ledger.iterdir():
        path.unlink()
    newest = site.grow(5, 0)
    folder = site.folder / "ledgers/operations"
    with Ledger(folder, lambda: NOON) as operations:
        detail = {"accepted": [f"{lost.origin} 5 9"]}
        operations.append(Event("recover", "ayse", "host", "ledgers", detail=detail))
    with Signer(folder, KEY, lambda: NOON) as signer:
        signer.sign(last=True)

    assert site.add(before)["error"].startswith("lost: ")
    assert site.add(mine(newest))["out"] == "ok 5\n"
    assert site.kept() == {"parti-a/filing": 5}


def test_a_checkpoint_that_cannot_be_recorded_is_not_kept(site: Site) -> None:
    site.recordable = False

    assert site.add(mine(site.grow(5, 0)))["error"].startswith("later: ")
    assert not (site.folder / "state/cosigned").exists()


def test_what_a_party_can_cause_is_limited(site: Site) -> None:
    site.add(mine(site.grow(5, 0)))

    assert site.add(mine(site.grow(3, 5)), wait=10)["error"].startswith("too-often: ")
    asked = [site.ask("show", "filing", "1", wait=0) for _ in range(40)]
    assert asked[-1]["error"].startswith("too-often: ")
    assert site.ask("show", "filing", "1", party="parti-b")["status"] == 0


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("show", "secret", "0"), "no-ledger"),
        (("show", "../keys", "0"), "no-ledger"),
        (("show", "transfer", "0"), "no-checkpoint"),
        (("show", "filing", "-1"), "bad-size"),
        (("show", "filing", "9" * 17), "bad-size"),
        (("show", "filing", "x"), "bad-size"),
        (("add", "filing", VKEY, "%%%%"), "bad-note"),
    ],
)  # fmt: skip
def test_odd_requests_get_an_answer(site: Site, words: tuple[str, ...], word: str) -> None:
    site.grow(5, 0)

    answer = site.ask(*words)

    assert (answer["status"], answer["error"].partition(":")[0]) == (1, word)
