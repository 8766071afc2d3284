import json
from collections.abc import Iterator
from pathlib import Path

import office
import pytest
from office import Ssps

from config.event import Event, Outcome, TransferEvent, Value
from keys.credentials import ring
from keys.credentials.admission import Reason
from keys.credentials.ring import Ring
from keys.ledger import merged, writer
from keys.operations import ring_files
from scripts.access.party import attempts

KEY = ring.password_credential(
    "Yedi-Kule-Kapisi", label="ayna", not_before=office.OPENS, not_after=None, added_by="op"
)


@pytest.fixture
def transfers(site: Path) -> Iterator[writer.Ledger]:
    ring_files.apply(site, Ring("parti-a", (KEY,)))
    with writer.Ledger(site / "ledgers/transfer", lambda: office.OPENS) as found:
        yield found


def refused(who: str, origin: str, reason: str, **more: Value) -> Event:
    detail: dict[str, Value] = {"reason": reason, **more}
    event = TransferEvent.LOGIN_REFUSED if who else TransferEvent.CONNECTION_REFUSED
    return Event(event, who, origin, "", Outcome.REFUSED, detail)


def test_party_test_shows_the_last_attempts_with_advice(
    site: Path, ssps: Ssps, transfers: writer.Ledger
) -> None:
    client = "SSH-2.0-WinSCP_release_6.3"
    name = KEY.fingerprint
    login: dict[str, Value] = {"credential": name, "client": client, "kex": "mlkem"}
    transfers.append(Event(TransferEvent.LOGIN, "parti-a", "127.0.0.1", "", detail=login))
    transfers.append(refused("parti-b", "127.0.0.1", "suspended"))
    transfers.append(refused("parti-A", "127.0.0.1", "unknown user", client=client))
    transfers.append(refused("", "192.0.2.77", "address", count=3))
    transfers.append(refused("parti-a", "127.0.0.1", "wrong credential", credential="SHA256:x"))

    said = ssps("party", "test", "parti-a", "--site", site).stdout
    found = json.loads(ssps("party", "test", "parti-a", "--json", "--site", site).stdout)

    assert [(a["reason"], a["from"]) for a in found["attempts"]] == [
        ("wrong credential", "127.0.0.1"),
        ("unknown user", "127.0.0.1"),
        ("", "127.0.0.1"),
    ]
    assert [s["from"] for s in found["strangers"]] == ["192.0.2.77"]
    assert found["attempts"][2]["credential"] == f"{name} (ayna)"
    assert "LOGGED IN" in said
    assert "2023-05-14T17:00:00+03:00  from 127.0.0.1  refused: wrong credential" in said
    assert "192.0.2.77  3 times" in said
    assert "ssh-keygen -lf" in said


def test_party_test_names_the_client_and_the_algorithm_that_was_missing(
    site: Path, ssps: Ssps, transfers: writer.Ledger
) -> None:
    missing = "key exchange: ecdh-sha2-nistp256,diffie-hellman-group1-sha1; MAC: hmac-md5"
    for more in (missing, "MAC: hmac-sha1,hmac-sha2-256"):
        detail: dict[str, Value] = {"reason": "protocol error", "client": "SSH-2.0-JSCH-0.1.55"}
        detail["missing"] = more
        ended = Event(TransferEvent.SESSION_END, "", "127.0.0.1", "", Outcome.OK, detail)
        transfers.append(ended)

    said = ssps("party", "test", "parti-a", "--site", site).stdout
    found = json.loads(ssps("party", "test", "parti-a", "--json", "--site", site).stdout)

    assert "client SSH-2.0-JSCH-0.1.55  missing MAC: hmac-sha1,hmac-sha2-256" in said
    newest, oldest = (attempt["advice"] for attempt in found["attempts"])
    assert newest == (
        "client and server have no MAC in common (it has only hmac-sha1,hmac-sha2-256): the party "
        'must update its client, or admit it with `algorithms = "compatible"` in site.toml'
    )
    assert "no key exchange in common (it has only ecdh-sha2-nistp256,d" in oldest
    assert "site.toml" not in oldest  # hmac-md5 is in no setting
    assert found["attempts"][0]["tavsiye"].isascii()


def test_every_refusal_reason_has_advice_in_ascii() -> None:
    assert set(Reason) <= set(attempts.ADVICE)
    for english, turkish in attempts.ADVICE.values():
        assert english
        assert turkish
        assert (english + turkish).isascii()


def test_party_show_says_when_and_from_where_a_credential_was_last_used(
    site: Path, ssps: Ssps, transfers: writer.Ledger
) -> None:
    assert "not used recently" in ssps("party", "show", "parti-a", "--site", site).stdout
    for origin in ("127.0.0.1", "127.0.0.2"):
        detail: dict[str, Value] = {"credential": KEY.fingerprint}
        transfers.append(Event(TransferEvent.LOGIN, "parti-a", origin, "", detail=detail))

    said = ssps("party", "show", "parti-a", "--site", site).stdout

    assert "last used 2023-05-14T17:00:00+03:00 from 127.0.0.2" in said


def test_a_ledger_is_read_backwards_up_to_a_limit(
    site: Path, transfers: writer.Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged, "_CHUNK_RECORDS", 4)
    for number in range(11):
        transfers.append(Event(TransferEvent.LIST, "parti-a", "", str(number)))

    found = [r.event.what for r in merged.read_backwards(site / "ledgers/transfer", limit=6)]

    assert found == ["10", "9", "8", "7", "6", "5"]


def test_party_test_says_so_if_there_are_no_attempts(site: Path, ssps: Ssps) -> None:
    said = ssps("party", "test", "parti-a", "--site", site).stdout
    assert "no attempts on record: a firewall, or a wrong address or port?" in said


def test_control_codes_in_a_client_name_are_escaped(
    site: Path, ssps: Ssps, transfers: writer.Ledger
) -> None:
    told: dict[str, Value] = {"client": "SSH-2.0-\x9b2J", "method": "\x1b]0;x\x07"}
    transfers.append(refused("parti-a", "127.0.0.1", "method not offered", **told))

    said = ssps("party", "test", "parti-a", "--site", site, color=True).stdout

    assert r"client SSH-2.0-\x9b2J  method \x1b]0;x\x07" in said
