"""What becomes of a file: the decisions, and no I/O.

A page is filed where every karekod on it that the registry knows stands for one and the same
sheet, no other karekod contradicts that, and it has the witnesses that the site asks for
(publisher/reading/agreement). Codes of another form (a link, a serial of the printer's) say
nothing.

A file of several pages is filed as a whole or not at all: its bytes are one original, and who may
see one of its sheets gets them all. So each page must be a sheet that could be filed by itself,
and all of them must stand under one board of one district (or all be the district's own), since
that is what scopes tell apart. Otherwise the file goes to quarantine, where nothing is lost and a
person decides. In particular a page on which no code was read, were it but the empty back of a
sheet, could be anybody's: to file the others would show it to whoever sees those. A sheet that
is on two pages of a file is filed once, as the first of them.
"""

from collections.abc import Sequence
from typing import Protocol

from config import layout
from config.registry import RegistryEntry, is_karekod
from config.sheet import Sheet
from publisher.outcome import Decision, Duplicate, Filed, FiledSheet, Lookup, Quarantined
from publisher.page import EXTENSION, Page, Reading, Reason
from publisher.reading.agreement import agreement_on


class Facts(Protocol):
    """What the catalog knows already."""

    def path_of_bytes(self, sha256: str) -> str | None:
        """Return the path at which these bytes are filed."""

    def quarantined_path(self, sha256: str, reason: Reason) -> str | None:
        """Return the file in quarantine that holds these bytes for that reason."""

    def latest_version(self, sheet: Sheet) -> int:
        """Return the number of the latest version filed, 0 if there is none."""


def decide(
    page: Page, election: str, lookup: Lookup, facts: Facts, needed_readings: int
) -> Decision:
    """Decide on one file; files are decided one after the other, each known to the next."""
    if page.sha256 is not None and (filed := facts.path_of_bytes(page.sha256)):
        return Duplicate(filed)
    found = page.result.fault or sheets(page, lookup, needed_readings)
    if isinstance(found, Reason):
        before = page.sha256 and facts.quarantined_path(page.sha256, found)
        return Duplicate(before) if before else Quarantined(found)
    extension = EXTENSION[page.result.format or ""]
    return Filed(
        tuple(
            FiledSheet(
                frame, entry, version, layout.path(election, entry.sheet, version, extension)
            )
            for frame, entry in found
            for version in (facts.latest_version(entry.sheet) + 1,)
        ),
        needed_readings,
    )


def sheets(
    page: Page, lookup: Lookup, needed_readings: int
) -> list[tuple[int, RegistryEntry]] | Reason:
    """Return the sheets of a file and the page that each is on, or why it cannot be filed."""
    found: dict[Sheet, tuple[int, RegistryEntry]] = {}
    for frame in range(1, page.result.frames + 1):
        entry = identified(page.result.readings_on(frame), lookup, needed_readings)
        if isinstance(entry, Reason):
            return entry
        found.setdefault(entry.sheet, (frame, entry))
    if len({(sheet.cevre, sheet.kurul) for sheet in found}) > 1:
        return Reason.SEVERAL_BOARDS
    return list(found.values())


def identified(
    readings: Sequence[Reading], lookup: Lookup, needed_readings: int
) -> RegistryEntry | Reason:
    """Return the one entry that the readings of a page stand for, or why there is none."""
    texts = dict.fromkeys(reading.text for reading in readings)
    # Each is looked up once: the registry may be replaced at any moment.
    found = [lookup(text) for text in texts if is_karekod(text)]
    known = {entry.sheet: entry for entry in found if entry}
    if not found:
        return Reason.NO_KAREKOD
    if not known:
        return Reason.UNKNOWN_KAREKOD
    if len(known) > 1:
        return Reason.SEVERAL_SHEETS
    if None in found:
        return Reason.CONFLICTING_KAREKODS
    (entry,) = known.values()
    if agreement_on(entry.karekod, readings).agreeing < needed_readings:
        return Reason.TOO_FEW_READINGS
    return entry
