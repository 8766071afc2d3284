"""Compares a party's request form with what is in force (keys/access_requests/comparison)."""

from datetime import datetime
from pathlib import Path

from config import load
from keys.access_requests import comparison
from keys.access_requests.comparison import Comparison
from keys.access_requests.store import AccessRequest
from keys.operations import ring_files, user_files

_CONTACT = "temsilci, irtibat"  # beside the name of the user who is both


def compare(site: Path, request: AccessRequest, now: datetime) -> Comparison:
    """Return the comparison; raises Faults if the form or a file of the site is damaged."""
    users, held = user_files.load(site, request.party), ring_files.load(site, request.party)
    return comparison.compare(load.load(site), request, users, held, _CONTACT, now)
