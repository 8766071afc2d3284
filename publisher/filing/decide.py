"""Decides what becomes of a file: filed, a duplicate, or quarantined. Does no I/O.

Rule 1. A page is filed if every karekod on it that is in the registry belongs to the same sheet,
        there is no karekod on it that is not in the registry, and as many readings agree on the
        karekod as the site asks for (publisher/reading/codes/agreement). Other codes, such as a
        link or a serial number of the printer, are ignored.
Rule 2. A file of several pages is split: each page becomes a file, and is decided on alone. So a
        party gets no page that it may not see, and a page that cannot be identified holds nothing
        back. The file itself stays in the store, as evidence.
Rule 3. A page with the same bytes as one that is filed is a duplicate, and so is a page with the
        same pixels in another container (publisher/reading/formats/pixels). If any pixel differs,
        it is a version of its own.
Rule 4. If only one copy of the karekod was read, print must not reach further from it than it does
        on the pages of the same sheet type on which both copies were read: otherwise the code may
        be that of another sheet beside the page.
Rule 5. If both copies were read, the print on the page must be where it usually is on pages of the
        same contest and sheet type, and must not fit better beside it (as above).
Rule 6. Otherwise the file goes to quarantine, where nothing is lost and a person decides.
Rule 7. If a file of several pages was read as a whole, it is filed as a whole or not at all: each
        page must be a sheet that could be filed alone, and all sheets must belong to the same
        board, or all to the district itself, because scopes distinguish districts and boards. A
        sheet that is on two of its pages is filed once, with the first of them.
"""

from collections.abc import Sequence
from typing import Protocol

from config import layout
from config.registry import RegistryEntry, is_karekod
from config.sheet import Belge, Sheet
from publisher.catalog.forms import UsualExtent
from publisher.outcome import Decision, Duplicate, Filed, FiledSheet, Lookup, Quarantined, Split
from publisher.page import EXTENSION, Page, Reading, Reason
from publisher.print_map import UsualPrint, is_beside_its_code
from publisher.reading.codes.agreement import agreement_on
from publisher.reading.codes.outline import Extent

_LEARNED_PAGES = 30  # pages of a sheet type from which on its print is known
_TOLERANCE = 0.6  # widths of a code by which print may reach further than usual


class Facts(Protocol):
    """What the catalog knows about earlier files."""

    def path_of_bytes(self, sha256: str) -> str | None:
        """Return the path under which these bytes are filed, None if they are not."""

    def path_of_pixels(self, digest: str, sheet: Sheet) -> str | None:
        """Return the path at which a sheet is filed with these pixels, None if it is not."""

    def usual_extent(self, belge: Belge, copy: str) -> UsualExtent | None:
        """Return how far print reaches from a copy of the karekod on pages of a sheet type."""

    def usual_print(self, election: str, sheet: Sheet) -> UsualPrint | None:
        """Return where print usually is on pages like this sheet, None if that is not known."""

    def usual_prints(self, election: str) -> Sequence[UsualPrint]:
        """Return where print usually is on the pages of every sheet type that is known."""

    def quarantined_path(self, sha256: str, reason: Reason) -> str | None:
        """Return the file in quarantine that has these bytes and this reason, None if none has."""

    def latest_version(self, sheet: Sheet) -> int:
        """Return the number of the latest version of a sheet, 0 if there is none."""


def decide(
    page: Page, election: str, lookup: Lookup, facts: Facts, needed_readings: int
) -> Decision:
    """Decide on one file. The decision must be in `facts` before the next file is decided on."""
    if page.sha256 is not None and (filed := facts.path_of_bytes(page.sha256)):
        return Duplicate(filed)
    if page.extracts and not page.result.fault:
        return Split(page.extracts)
    found = page.result.fault or sheets(page, lookup, needed_readings)
    if isinstance(found, Reason):
        # All empty files have the same bytes, but each is another scan that failed.
        same = page.sha256 if found is not Reason.EMPTY else None
        before = same and facts.quarantined_path(same, found)
        return Duplicate(before) if before else Quarantined(found)
    pixels = page.result.pixels
    if pixels and len(found) == 1 and (path := facts.path_of_pixels(pixels, found[0][1].sheet)):
        return Duplicate(path, pixels)
    if len(found) == 1 and not _is_usual(page, election, found[0][1], facts):
        return Quarantined(Reason.CODE_OUT_OF_PLACE)
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


def measured_extent(readings: Sequence[Reading]) -> Extent | None:
    """Return how far print reaches from the code on a page, if that was measured."""
    return next((found for reading in readings if (found := Extent.parse(reading.text))), None)


def _is_usual(page: Page, election: str, entry: RegistryEntry, facts: Facts) -> bool:
    """Return whether the code is where it usually is on sheets of its type (rules 4 and 5)."""
    readings, print_map = page.result.readings, page.result.print_map
    if print_map and (place := facts.usual_print(election, entry.sheet)):
        return not is_beside_its_code(print_map, place, facts.usual_prints(election))
    extent = measured_extent(readings)
    if extent is None or agreement_on(entry.karekod, readings).copies > 1:
        return True
    usual = facts.usual_extent(entry.sheet.belge, extent.copy)
    if usual is None or usual.pages < _LEARNED_PAGES:
        return True
    sides = zip(extent, usual.means, usual.deviations, strict=True)
    return all(side <= mean + max(_TOLERANCE, 4 * spread) for side, mean, spread in sides)


def sheets(
    page: Page, lookup: Lookup, needed_readings: int
) -> list[tuple[int, RegistryEntry]] | Reason:
    """Return the sheets of a file, each with its frame, or the reason why it is not filed."""
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
    """Return the registry entry that the readings of a page identify, or the reason why none."""
    texts = dict.fromkeys(reading.text for reading in readings)
    # Each text is looked up only once, because the registry may be replaced at any moment.
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
