"""Saves what a representative types and sends, through the broker if the portal has one.

A confined portal writes no form, and does not read the credentials of a party (portal/broker).
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from config.party import Party
from keys.access_requests import store
from keys.access_requests.store import AccessRequest, Draft, State
from keys.operations import ring_files, user_files
from portal import broker_client
from portal.party.sipport import fields as typed
from portal.party.sipport.fields import Fields


def in_force(site: Path, party: Party) -> Fields:
    """Return a draft that asks for what is in force; raise Faults if a file cannot be used."""
    if broker_client.in_use():
        found: Fields = broker_client.ask("in_force", party.id)
        return found
    users, held = user_files.load(site, party.id), ring_files.load(site, party.id)
    return typed.in_force(party, users, held)


def save_draft(
    site: Path, party: str, version: int, fields: Mapping[str, Any], now: datetime
) -> Draft:
    """Replace the draft; raises as keys/access_requests/store does."""
    if broker_client.in_use():
        saved: Draft = broker_client.ask("save_draft", party, version, dict(fields))
        return saved
    return store.save_draft(site, party, version, fields, now)


def submit(
    site: Path,
    party: str,
    form: bytes,
    version: int,
    fields: Mapping[str, Any],
    by: str,
    now: datetime,
) -> AccessRequest:
    """Keep a form that is sent; raises as keys/access_requests/store does."""
    if broker_client.in_use():
        made: AccessRequest = broker_client.ask("submit", party, form, version, dict(fields), by)
        return made
    return store.submit(site, party, form, version, fields, by, now)


def withdraw(site: Path, found: AccessRequest, by: str, now: datetime) -> None:
    """Withdraw a form; raise Conflict if an operator has already accepted or returned it."""
    if broker_client.in_use():
        broker_client.ask("withdraw", found.party, found.number, found.form, by)
        return
    with store.locked(site, found.party):
        store.decide(site, found, State.WITHDRAWN, by, now)
