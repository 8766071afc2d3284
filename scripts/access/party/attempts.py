"""`ssps party test`: shows a party's last connection attempts and what to tell the party.

Everything comes from the transfer ledgers, which are read backwards from its end, `MAX_RECORDS`
records at most.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from config import load, times
from config.event import TransferEvent
from config.fault import visible
from config.party import Party
from config.settings import Settings
from config.site import LEDGERS, TRANSFER
from keys.ledger import merged
from keys.ledger.record import Record
from keys.operations import ring_files
from scripts.access import parties
from scripts.shared import console

MAX_RECORDS = 200_000
_MAX_STRANGERS = 5  # unregistered addresses to show

# The reason on record -> advice in English for the operator, in Turkish to read out to the party.
ADVICE = {
    "address": (
        "not a registered address: do they use a proxy or another line? `ssps party set-ips`",
        "Kayitli adresinizden baglanmiyorsunuz; cikis adresinizi bildirin.",
    ),
    "unknown user": (
        "wrong user name: it is the party's id, in lower case",
        "Kullanici adi yanlis.",
    ),
    "receives an export, has no login": (
        "an independent receives an export and has no login (Genelge md. 3/c)",
        "Bagimsizlar icin SFTP girisi yoktur.",
    ),
    "key file unreadable": (
        "our fault: the party's key file is damaged, see `ssps check`",
        "Sorun bizde, birazdan yeniden deneyin.",
    ),
    "wrong credential": (
        "this key or password is not registered: compare the fingerprint with "
        "`ssh-keygen -lf KEY.pub`, or ask for the right key",
        "Anahtariniz kayitli degil: ssh-keygen -lf ANAHTAR.pub ciktisini okuyun; dogru anahtari "
        "-i ile secin.",
    ),
    "credential not valid now": (
        "the key is registered but not valid now: see its dates in `ssps party show`",
        "Anahtarinizin suresi baslamadi ya da doldu; yenisini kullanin.",
    ),
    "wrong address": (
        "the credential is right, but the address belongs to another party",
        "Dogru anahtar, yanlis adres: kayitli adresinizden baglanin.",
    ),
    "suspended": ("we have suspended this party: `ssps party resume`", "Erisiminiz durduruldu."),
    "not yet open": (
        "everything is correct, only too early: access is not open yet",
        "Her sey dogru; erisim henuz acilmadi.",
    ),
    "rehearsal over": (
        "everything is correct: the rehearsal ended at that moment",
        "Her sey dogru; prova o anda sona erdi.",
    ),
    "closed": ("everything is correct, only too late: access is closed", "Erisim suresi bitti."),
    "wrong signature": (
        "the public key is registered, but the client does not have its private key",
        "Acik anahtar dogru, ozel anahtar ona ait degil.",
    ),
    "credential of another service": (
        "this user has the password of the other service (Genelge md. 3/d)",
        "Bu kullanici baska bir SSPS hizmeti icindir.",
    ),
    "user suspended or passive": (
        "the user is suspended, or passive since the last election: `ssps user list`",
        "Kullanici etkin degil; partinizin irtibat kisisi bizi arasin.",
    ),
    "method not offered": (
        "the client uses what the server does not accept: an old DSA or SHA-1 key, or another "
        "method",
        "Istemciniz eski: ed25519 anahtar ve guncel bir istemci kullanin.",
    ),
    "too many sessions": (
        "the party already has its maximum of sessions: use fewer at the same time (rclone "
        "--transfers 2 --checkers 2)",
        "Ayni anda cok fazla baglanti: sayiyi azaltin.",
    ),
    "password must be changed": (
        "the initial password only works for setting a new one: by hand, with `sftp` or PuTTY",
        "Ilk parola yalniz yeni parola belirlemek icindir: sftp ile baglanip degistirin.",
    ),
    "rate": ("too many connections in a short time", "Cok sik baglaniyorsunuz; yavaslatin."),
    "penalty": (
        "blocked for a few seconds after failed logins",
        "Basarisiz denemeler yuzunden birkac saniye bekleyin.",
    ),
    "cpu": (
        "its logins have used too much processor time: fewer connections, or one that stays open",
        "Cok sik giris yapiyorsunuz; baglantiyi acik tutun.",
    ),
    "unfinished": (
        "too many connections of this address have not logged in yet",
        "Girisi bitmemis cok baglantiniz var; once onlari kapatin.",
    ),
    "sessions": ("the server is full: see `sftp.max_sessions`", "Sunucu dolu, yeniden deneyin."),
    "resources": ("this machine ran out of a resource: see the server's log", "Sorun bizde."),
    "proxy header": ("our balancer sent no valid PROXY header: check its settings", "Sorun bizde."),
    "no login in time": (
        "connected but did not log in: a firewall, or a client that waits for a passphrase",
        "Baglandi ama giris yapmadi: istemci parola ya da anahtar bekliyor olabilir.",
    ),
    "protocol error": (
        "what it sent is not valid SSH: see its name here, and the server's log",
        "Istemciniz gerekli algoritmalari desteklemiyor; guncelleyin.",
    ),
}

_KINDS_IN_TURKISH = {
    "key exchange": "anahtar degisimi (kex)",
    "host key": "sunucu anahtari turu",
    "cipher": "sifreleme (cipher)",
    "MAC": "butunluk denetimi (MAC)",
}


@dataclass(frozen=True)
class Attempt:
    """One attempt to connect or log in: its record, and the credential with its label."""

    record: Record
    credential: str

    @property
    def reason(self) -> str:
        """Why it was refused, or an empty string."""
        return str(self.record.event.detail.get("reason", ""))

    def as_dict(self, zone: tzinfo | None) -> dict[str, Any]:
        """Return the fields that `--json` prints."""
        event = self.record.event
        english, turkish = ADVICE.get(self.reason, ("", ""))
        if missing := str(event.detail.get("missing", "")):
            english, turkish = advice_on_algorithms(missing)
        copied = ("client", "missing", "method", "cipher", "kex", "count", "via", "rehearsal")
        return {
            "time": times.format_time(self.record.time, zone),
            "event": event.event,
            "from": event.origin,
            **{key: event.detail[key] for key in copied if key in event.detail},
            "credential": self.credential,
            "reason": self.reason,
            "advice": english,
            "tavsiye": turkish,
        }


def advice_on_algorithms(missing: str) -> tuple[str, str]:
    """Return the advice if client and server have no algorithm in common.

    `missing` has what the client offers, such as `key exchange: NAME,NAME; MAC: NAME`.
    """
    from sftpd.ssh import algorithms  # it imports paramiko, which takes a moment

    kinds = dict(kind.split(": ", 1) for kind in missing.split("; ") if ": " in kind)
    named = " and ".join(f"no {kind} in common (it has only {n})" for kind, n in kinds.items())
    setting = algorithms.setting_for(kinds)
    admit = f", or admit it with {setting} in site.toml" if setting else ""
    turkish = " ve ".join(f"{_KINDS_IN_TURKISH.get(kind, kind)}" for kind in kinds)
    return (
        f"client and server have {named}: the party must update its client{admit}",
        f"Istemcinizin destekledigi {turkish} eski; istemcinizi guncelleyin.",
    )


def _newest_transfers(site: Path) -> Iterator[Record]:
    folders = merged.folders_of_kind(site / LEDGERS, TRANSFER)
    return merged.read_backwards(*folders, limit=MAX_RECORDS)


def last_used(site: Path, party_id: str) -> dict[str, dict[str, str]]:
    """Return when and from where each credential last logged in, by fingerprint."""
    zone = load.load(site).election.opens.tzinfo
    wanted = {c.fingerprint for c in ring_files.load(site, party_id).credentials}
    found: dict[str, dict[str, str]] = {}
    for record in _newest_transfers(site):
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
@click.option(
    "--last",
    default=5,
    show_default=True,
    type=click.IntRange(1, 1000),
    metavar="N",
    help="How many attempts to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_site
def test(party_id: str, last: int, as_json: bool, site: Path) -> None:
    """Show PARTY's last attempts to connect, with advice.

    Unregistered addresses that tried to connect recently are listed too: one
    of them may belong to the party.
    """
    settings = load.load(site)
    party = parties.find_with_login(settings, party_id)
    zone = settings.election.opens.tzinfo
    own, strangers = _find_attempts(site, settings, party, last)
    if as_json:
        fields = {
            "attempts": [a.as_dict(zone) for a in own],
            "strangers": [a.as_dict(zone) for a in strangers],
        }
        click.echo(json.dumps(fields, ensure_ascii=False))
        return
    registered = " ".join(map(str, party.static_ips))
    click.echo(f"{party.id}: registered from {registered}{' SUSPENDED' * party.suspended}")
    for attempt in own:
        _print(attempt.as_dict(zone))
    if not own:
        click.echo("  no attempts on record: a firewall, or a wrong address or port?")
    if strangers:
        click.echo("unregistered addresses that were refused:")
        for attempt in strangers:
            fields = attempt.as_dict(zone)
            click.echo(f"  {fields['time']}  {fields['from']}  {fields.get('count', 1)} times")
        click.echo(f"  if one belongs to the party: ssps party set-ips {party.id} ADDRESS --why …")


def _print(fields: dict[str, Any]) -> None:
    outcome = (
        "LOGGED IN" if fields["event"] == TransferEvent.LOGIN else f"refused: {fields['reason']}"
    )
    click.echo(f"  {fields['time']}  from {fields['from']}  {outcome}")
    listed = ("client", "missing", "method", "credential", "cipher", "kex", "via", "rehearsal")
    line = "  ".join(f"{key} {fields[key]}" for key in listed if fields.get(key))
    if line:
        click.echo(f"      {visible(line)}")  # the client chose these texts: escape control codes
    for text in filter(None, (fields["advice"], fields["tavsiye"])):
        click.echo(f"      > {text}")


def _find_attempts(
    site: Path, settings: Settings, party: Party, last: int
) -> tuple[list[Attempt], list[Attempt]]:
    labels = {c.fingerprint: c.label for c in ring_files.load(site, party.id).credentials}
    own_addresses = {str(a) for a in party.static_ips}
    registered_addresses = {str(a) for p in settings.parties for a in p.static_ips}
    own: list[Attempt] = []
    strangers: dict[str, Attempt] = {}
    for record in _newest_transfers(site):
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
            # An unknown user name from the party's own address is most likely its mistake.
            unknown_user = settings.party(event.who) is None
            return event.who == party.id or (unknown_user and event.origin in own_addresses)
        case TransferEvent.CONNECTION_REFUSED:
            return event.origin in own_addresses
        case TransferEvent.SESSION_END:
            no_login = event.detail.get("reason") in ("no login in time", "protocol error")
            return no_login and event.who in ("", party.id) and event.origin in own_addresses
    return False
