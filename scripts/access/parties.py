"""Finds the party that a command names, and describes its agreement for the record."""

from config.party import Party
from config.settings import Settings
from config.site import PARTIES_TOML
from scripts.shared import console


def find(settings: Settings, party_id: str) -> Party:
    """Return the party with that id; if there is none, raise Faults with the ids that exist."""
    found = settings.party(party_id)
    if found is None:
        ids = ", ".join(p.id for p in settings.parties)
        message = f"unknown party, the parties are {ids}" if ids else "there are no parties yet"
        raise console.fault(PARTIES_TOML, party_id, message)
    return found


def find_with_login(settings: Settings, party_id: str) -> Party:
    """Return the party with that id; raise Faults if it does not exist or may not log in."""
    found = find(settings, party_id)
    if found.invited:
        message = (
            "is only invited: it gets a login when its request is accepted "
            f"(`ssps party requests accept {party_id}`)"
        )
        raise console.fault(PARTIES_TOML, party_id, message)
    if not found.mirrors:
        message = "an independent has no login: it receives an export (Genelge md. 3/c)"
        raise console.fault(PARTIES_TOML, party_id, message)
    return found


def find_with_users(settings: Settings, party_id: str) -> Party:
    """Return the party with that id; raise Faults if it does not exist or may not have users."""
    found = find(settings, party_id)
    return found if found.invited else find_with_login(settings, party_id)


def describe(party: Party) -> list[str]:
    """Return what the record says of the agreement with a party; its contact is left out."""
    rate = f"{party.rate_mbit} Mbit/s" if party.rate_mbit else "as the site's"
    return [
        f"name: {party.name}",
        f"kind: {party.kind}",
        f"scope: {party.scope}",
        f"static_ips: {' '.join(map(str, party.static_ips))}",
        *(["invited: yes"] if party.invited else []),
        f"suspended: {'yes' if party.suspended else 'no'}",
        f"rate: {rate}",
    ]
