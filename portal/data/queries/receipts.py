"""Makes the receipt of a result or of a filed sheet, and says which place it is about."""

from pathlib import Path

from config.event import Event, FilingEvent, ResultsEvent
from config.layout import parse as parse_path
from config.site import LEDGERS
from keys.ledger.receipt import NotSignedYet, Receipt, format_receipt, make_receipt
from keys.ledger.record import parse_record
from keys.ledger.tiles import HashesMissing
from portal import broker_client
from publisher.election import terms


def receipt(site: Path, ledger: str, seq: int) -> tuple[bytes, tuple[str, str]] | None:
    """Return a receipt with district and board of its record; the caller checks the scope.

    None if there is no such record, if it is not signed yet, or if it is about something else.
    """
    try:
        made = _made(site, ledger, seq)
        place = _place_of(parse_record(made.line).event)
    except (NotSignedYet, HashesMissing, StopIteration, OSError, ValueError):
        return None
    return (format_receipt(made), place) if place is not None else None


def _made(site: Path, ledger: str, seq: int) -> Receipt:
    if broker_client.in_use():  # a confined portal reads no ledger
        found: Receipt = broker_client.ask("receipt", str(site), ledger, seq)
        return found
    name, number = terms.find(site, ledger, seq)
    return make_receipt(site / LEDGERS / name, number)


def _place_of(event: Event) -> tuple[str, str] | None:
    """Return the district and board that a record is about; None if it is no result or sheet."""
    if event.event == ResultsEvent.ACCEPTED:
        parts = [] if event.what == "-" else event.what.split("/")
        return (*parts, "", "")[0], (*parts, "", "")[1]
    if event.event == FilingEvent.FILED:
        sheet = parse_path(event.what).sheet
        return sheet.cevre or "", sheet.kurul or ""
    return None
