"""A site whose ledgers have the records of a short night, and a runner of audit commands."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from office import Ssps
from unit.keys.ledger.signed_ledgers import KEY, write_public_key

from config.event import Event, Outcome, Value
from config.site import SIGNING_KEYS
from keys.ledger.signer import Signer
from keys.ledger.writer import Ledger

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
ONE = "2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg"
TWO = "2023-05-14-cb-mv/35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.jpg"
SHA = "ab" * 32


class RecordedNight:
    """A site's ledgers, with records at given seconds after 17.00."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOON

    def clock(self) -> datetime:
        return self.now

    def record(self, ledger: str, seconds: float, event: Event) -> None:
        self.now = NOON + timedelta(seconds=seconds)
        with Ledger(self.folder / ledger, self.clock) as writer:
            writer.append(event)

    def filed(self, seconds: float, path: str, parties: int = 2) -> None:
        detail: dict[str, Value] = {"sha256": SHA, "karekod": "1093717526", "parties": parties}
        detail |= {"page": "20230514T140001000000-9f3c21ab", "engine": "zbar", "ms": 80}
        self.record(
            "filing", seconds, Event("filed", "publisher", "tarama.jpg", path, detail=detail)
        )

    def served(
        self, seconds: float, party: str, path: str, session: int = 1, whole: bool = True
    ) -> None:
        detail: dict[str, Value] = {"session": session, "handle": 4, "size": 1000}
        self.record(
            "transfer", seconds, Event("open", party, "192.0.2.7", f"/{path}", detail=detail)
        )
        detail = {"session": session, "handle": 4, "bytes": 1000, "complete": whole, "ms": 2500}
        detail |= {"sha256": SHA}
        event = Event("close", party, "192.0.2.7", f"/{path}", detail=detail)
        self.record("transfer", seconds + 0.5, event)

    def sign(self) -> None:
        for each in self.folder.iterdir():
            with Signer(each, KEY, self.clock) as notary:
                notary.sign(last=True)


def make(site: Path) -> RecordedNight:
    """parti-a (scope: all) has both sheets, parti-b (two places) none and one failed login."""
    write_public_key(site / SIGNING_KEYS / "recorded.pub")
    recorded = RecordedNight(site / "ledgers")
    recorded.filed(10, ONE, parties=1)
    recorded.filed(20, TWO)
    login: dict[str, Value] = {"session": 1, "method": "publickey", "client": "OpenSSH_9.2"}
    login |= {"credential": "SHA256:abc", "cipher": "aes256-gcm@openssh.com", "kex": "mlkem"}
    recorded.record("transfer", 30, Event("login", "parti-a", "192.0.2.7", "", detail=login))
    recorded.served(31, "parti-a", ONE, whole=False)
    recorded.served(40, "parti-a", ONE)
    recorded.served(80, "parti-a", TWO)
    refused: dict[str, Value] = {"session": 2, "method": "password", "reason": "credential"}
    event = Event("login-refused", "parti-b", "192.0.2.66", "", Outcome.REFUSED, refused)
    recorded.record("transfer", 90, event)
    recorded.record("operations", 200, Event("party suspend", "ayse", "ysk-1", "parti-b"))
    recorded.served(400, "parti-a", ONE, session=3)
    recorded.sign()
    return recorded


def run(ssps: Ssps, *words: object) -> list[str]:
    done = ssps("audit", *words)
    assert done.exit_code == 0, done.output
    return str(done.stdout).splitlines()
