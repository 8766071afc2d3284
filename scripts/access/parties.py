"""Which party a command means."""

from pathlib import Path

from config import load
from config.party import Party
from config.site import PARTIES_TOML
from scripts.shared import console


def find(site: Path, party_id: str) -> Party:
    """Return the party of that id; raise Faults naming those that there are."""
    settings = load.load(site)
    found = settings.party(party_id)
    if found is None:
        ids = ", ".join(p.id for p in settings.parties) or "nobody yet"
        raise console.fault(PARTIES_TOML, party_id, f"no such party, there is {ids}")
    return found


def describe(party: Party) -> list[str]:
    """Return what a record says of the agreement with a party, its contact excepted."""
    rate = f"{party.rate_mbit} Mbit/s" if party.rate_mbit else "as the site's"
    return [
        f"name: {party.name}",
        f"kind: {party.kind}",
        f"scope: {party.scope}",
        f"static_ips: {' '.join(map(str, party.static_ips))}",
        f"suspended: {'yes' if party.suspended else 'no'}",
        f"rate: {rate}",
    ]


def find_with_login(site: Path, party_id: str) -> Party:
    """Return the party of that id if it may log in; raise Faults if not, with the reason."""
    found = find(site, party_id)
    if not found.mirrors:
        message = "is an independent, which receives an export and has no login (Genelge md. 3/c)"
        raise console.fault(PARTIES_TOML, party_id, message)
    return found
