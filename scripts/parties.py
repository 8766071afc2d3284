"""Which party a command means."""

from pathlib import Path

from config import load
from config.party import Party
from scripts import console


def known(site: Path, party_id: str) -> Party:
    """Return the party of that id; raise Faults naming those that there are."""
    settings = load.load(site)
    found = settings.party(party_id)
    if found is None:
        ids = ", ".join(p.id for p in settings.parties) or "nobody yet"
        raise console.fault(load.PARTIES, party_id, f"no such party, there is {ids}")
    return found


def admitted(site: Path, party_id: str) -> Party:
    """Return the party of that id if it may log in; raise Faults if not, with the reason."""
    found = known(site, party_id)
    if not found.mirrors:
        message = "is an independent, which receives an export and has no login (Genelge md. 3/c)"
        raise console.fault(load.PARTIES, party_id, message)
    return found
