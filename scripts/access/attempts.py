"""`ssps party test`: how a party's last attempts looked from here, and what to say to it.

All of it comes from the transfer ledger, read from its end backwards and never further than
`MAX_RECORDS` records.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from itertools import islice
from pathlib import Path
from typing import Any

import click

from config import load
from config.event import TransferEvent
from config.fault import visible
from config.party import Party
from config.settings import Settings
from config.site import LEDGERS, TRANSFER
from keys.credentials import ring
from keys.ledger import segments
from keys.ledger.record import Record
from scripts.access import parties
from scripts.shared import console, times

MAX_RECORDS = 200_000
_CHUNK_RECORDS = 4096
_MAX_STRANGERS = 5  # addresses that knocked of late and are nobody's

# By the reason on record: in English for the operator, in Turkish to be read out.
ADVICE = {
    "address": (
        "this address is nobody's: a proxy or another line of theirs? `ssps party set-ips`",
        "Kayitli adresinizden baglanmiyorsunuz; cikis adresinizi bildirin.",
    ),
    "unknown user": (
        "the user name is none of ours: it is the party's id, in small letters",
        "Kullanici adi yanlis.",
    ),
    "receives an export, has no login": (
        "an independent receives an export and has no login (Genelge md. 3/c)",
        "Bagimsizlar icin SFTP girisi yoktur.",
    ),
    "key file unreadable": (
        "our fault: its key file is damaged, see `ssps check`",
        "Sorun bizde, birazdan yeniden deneyin.",
    ),
    "wrong credential": (
        "the key or password is none that is registered: compare the fingerprint with "
        "`ssh-keygen -lf KEY.pub`, or have the right key sent",
        "Anahtariniz kayitli degil: ssh-keygen -lf ANAHTAR.pub ciktisini okuyun; dogru anahtari "
        "-i ile secin.",
    ),
    "credential not valid now": (
        "the key is registered, but not for now: see its dates in `ssps party show`",
        "Anahtarinizin suresi baslamadi ya da doldu; yenisini kullanin.",
    ),
    "wrong address": (
        "the credential is right, the address is another party's",
        "Dogru anahtar, yanlis adres: kayitli adresinizden baglanin.",
    ),
    "suspended": ("suspended by us: `ssps party resume`", "Erisiminiz durdurulmus durumda."),
    "not yet open": (
        "all is well: it was only too early",
        "Hersey dogru; erisim henuz acilmadi.",
    ),
    "rehearsal over": (
        "all is well: the rehearsal ended just then",
        "Hersey dogru; prova o anda sona erdi.",
    ),
    "closed": ("all is well: it was only too late", "Erisim suresi sona erdi."),
    "wrong signature": (
        "the public key is registered, but the client has not its private key",
        "Acik anahtar dogru, ozel anahtar ona ait degil.",
    ),
    "method not offered": (
        "the client offers what is not served: an old DSA or SHA-1 key, or another method",
        "Istemciniz eski: ed25519 anahtar ve guncel bir istemci kullanin.",
    ),
    "too many sessions": (
        "all of its sessions are in use: fewer at once (rclone --transfers 2 --checkers 2)",
        "Ayni anda cok fazla baglanti: sayiyi azaltin.",
    ),
    "password must be changed": (
        "the initial password is good only for setting a new one: with `sftp` or PuTTY, by hand",
        "Ilk parola yalniz yeni parola belirlemek icindir: sftp ile baglanip degistirin.",
    ),
    "rate": ("too many connections in a short time", "Cok sik baglaniyorsunuz; yavaslatin."),
    "penalty": (
        "slowed after failures; it passes within seconds",
        "Basarisiz denemeler yuzunden birkac saniye bekleyin.",
    ),
    "sessions": ("the server is full: `sftp.max_sessions`", "Sunucu dolu, yeniden deneyin."),
    "resources": ("this machine is short of something, see its log", "Sorun bizde."),
    "proxy header": ("the balancer sent no good header: its settings", "Sorun bizde."),
    "no login in time": (
        "connected and did not log in: a firewall, or a client that waits for a passphrase",
        "Baglanip giris yapmadi: istemci parola ya da anahtar bekliyor olabilir.",
    ),
    "protocol error": (
        "no SSH client, or no common algorithm: see which it has, and `sftp.algorithms`",
        "Istemciniz gerekli algoritmalari desteklemiyor; guncelleyin.",
    ),
}


@dataclass(frozen=True)
class Attempt:
    """One record, and what there is to say about it."""

    record: Record
    credential: str

    @property
    def reason(self) -> str:
        """Why it was refused; empty if it was not."""
        return str(self.record.event.detail.get("reason", ""))

    def as_dict(self, zone: tzinfo | None) -> dict[str, Any]:
        """Return it as `--json` has it."""
        event = self.record.event
        english, turkish = ADVICE.get(self.reason, ("", ""))
        told = ("client", "method", "cipher", "kex", "count", "via", "rehearsal")
        return {
            "time": times.format_time(self.record.time, zone),
            "event": event.event,
            "from": event.origin,
            **{key: event.detail[key] for key in told if key in event.detail},
            "credential": self.credential,
            "reason": self.reason,
            "advice": english,
            "tavsiye": turkish,
        }


def read_backwards(folder: Path, limit: int = MAX_RECORDS) -> Iterator[Record]:
    """Yield the records of a ledger, the newest first."""
    if not folder.exists():
        return
    end = segments.next_seq(folder)
    last = max(0, end - limit)
    while end > last:
        begin = max(last, end - _CHUNK_RECORDS)
        found = [
            r for r in islice(segments.read_records(folder, begin), end - begin) if r.seq < end
        ]
        yield from reversed(found)
        end = begin


def last_used(site: Path, party_id: str) -> dict[str, dict[str, str]]:
    """Return when and from where each credential of a party last opened, by its fingerprint."""
    zone = load.load(site).election.opens.tzinfo
    wanted = {c.fingerprint for c in ring.load(site, party_id).credentials}
    found: dict[str, dict[str, str]] = {}
    for record in read_backwards(site / LEDGERS / TRANSFER):
        if not wanted:
            break
        event = record.event
        name = event.detail.get("credential")
        if event.event == TransferEvent.LOGIN and event.who == party_id and name in wanted:
            at = times.format_time(record.time, zone)
            found[str(name)] = {"time": at, "from": event.origin}
            wanted.discard(str(name))
    return found


@click.command()
@click.argument("party_id", metavar="PARTY")
@click.option("--last", default=5, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="For a script: one JSON object.")
@console.with_site
def test(party_id: str, last: int, as_json: bool, site: Path) -> None:
    """Show how PARTY's last attempts looked from here, and what to tell it.

    Also which addresses knocked of late that nobody registered: one may be theirs.
    """
    party = parties.find_with_login(site, party_id)
    settings = load.load(site)
    zone = settings.election.opens.tzinfo
    own, strangers = _find_attempts(site, settings, party, last)
    if as_json:
        stated = {
            "attempts": [a.as_dict(zone) for a in own],
            "strangers": [a.as_dict(zone) for a in strangers],
        }
        click.echo(json.dumps(stated, ensure_ascii=False))
        return
    registered = " ".join(map(str, party.static_ips))
    click.echo(f"{party.id}: registered from {registered}{' SUSPENDED' * party.suspended}")
    for attempt in own:
        _print(attempt.as_dict(zone))
    if not own:
        click.echo("  nothing has come from it: a firewall, a wrong address or port?")
    if strangers:
        click.echo("addresses that nobody registered, and that were not answered:")
        for attempt in strangers:
            stated = attempt.as_dict(zone)
            click.echo(f"  {stated['time']}  {stated['from']}  {stated.get('count', 1)} times")
        click.echo(f"  if one is theirs: ssps party set-ips {party.id} ADDRESS --why …")


def _print(stated: dict[str, Any]) -> None:
    outcome = (
        "LOGGED IN" if stated["event"] == TransferEvent.LOGIN else f"refused: {stated['reason']}"
    )
    click.echo(f"  {stated['time']}  from {stated['from']}  {outcome}")
    told = ("client", "method", "credential", "cipher", "kex", "via", "rehearsal")
    line = "  ".join(f"{key} {stated[key]}" for key in told if stated.get(key))
    if line:
        click.echo(f"      {visible(line)}")  # the client's name and method are its own words
    for text in filter(None, (stated["advice"], stated["tavsiye"])):
        click.echo(f"      > {text}")


def _find_attempts(
    site: Path, settings: Settings, party: Party, last: int
) -> tuple[list[Attempt], list[Attempt]]:
    labels = {c.fingerprint: c.label for c in ring.load(site, party.id).credentials}
    own_addresses = {str(a) for a in party.static_ips}
    registered_addresses = {str(a) for p in settings.parties for a in p.static_ips}
    own: list[Attempt] = []
    strangers: dict[str, Attempt] = {}
    for record in read_backwards(site / LEDGERS / TRANSFER):
        event = record.event
        name = str(event.detail.get("credential", ""))
        label = labels.get(name)
        known = f" ({label or 'registered'})" if name in labels else ""
        attempt = Attempt(record, f"{name}{known}")
        if (
            event.event == TransferEvent.CONNECTION_REFUSED
            and event.origin not in registered_addresses
        ):
            if len(strangers) < _MAX_STRANGERS:
                strangers.setdefault(event.origin, attempt)
        elif _is_attempt(record, settings, party, own_addresses):
            own.append(attempt)
        if len(own) >= last:
            break
    return own, list(strangers.values())


def _is_attempt(record: Record, settings: Settings, party: Party, own_addresses: set[str]) -> bool:
    event = record.event
    match event.event:
        case TransferEvent.LOGIN:
            return event.who == party.id
        case TransferEvent.LOGIN_REFUSED:
            # A wrong user name from the party's own address is most likely theirs.
            unknown_user = settings.party(event.who) is None
            return event.who == party.id or (unknown_user and event.origin in own_addresses)
        case TransferEvent.CONNECTION_REFUSED:
            return event.origin in own_addresses
        case TransferEvent.SESSION_END:
            odd = event.detail.get("reason") in ("no login in time", "protocol error")
            return odd and event.who in ("", party.id) and event.origin in own_addresses
    return False
