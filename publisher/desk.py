"""What becomes of a page: the decisions, and no I/O.

A page is filed where every karekod on it that the registry knows stands for one and the same
sheet, and no other karekod contradicts that. Both printed copies carry one text and count as
one. Codes of another form (a link, a serial of the printer's) say nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from config import layout
from config.registry import Entry, is_karekod
from config.sheet import Sheet
from publisher.page import Page, Reason

EXTENSION = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif"}


@dataclass(frozen=True, slots=True)
class Filed:
    """It is filed, as this version of this entry's sheet, at this path of each tree."""

    entry: Entry
    version: int
    extension: str
    path: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Its very bytes were here before: a path in the trees, or a file in quarantine."""

    of: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """No rule files it."""

    reason: Reason


Decision = Filed | Duplicate | Quarantined


class Facts(Protocol):
    """What the catalog knows already."""

    def filed_as(self, sha256: str) -> str | None:
        """Return the path at which these bytes are filed."""

    def quarantined_as(self, sha256: str, reason: Reason) -> str | None:
        """Return the file in quarantine that holds these bytes for that reason."""

    def latest_version(self, sheet: Sheet) -> int:
        """Return the number of the latest version filed, 0 if there is none."""


def decide(
    page: Page, election: str, lookup: Callable[[str], Entry | None], facts: Facts
) -> Decision:
    """Decide on one page; pages are decided one after the other, each known to the next."""
    if page.sha256 is not None and (filed := facts.filed_as(page.sha256)):
        return Duplicate(filed)
    found = page.look.fault or identified(page.look.texts, lookup)
    if isinstance(found, Reason):
        before = page.sha256 and facts.quarantined_as(page.sha256, found)
        return Duplicate(before) if before else Quarantined(found)
    version = facts.latest_version(found.sheet) + 1
    extension = EXTENSION[page.look.format or ""]
    path = layout.path(election, found.sheet, version, extension)
    return Filed(found, version, extension, path)


def identified(texts: tuple[str, ...], lookup: Callable[[str], Entry | None]) -> Entry | Reason:
    """Return the one entry that the texts of a page stand for, or why there is none."""
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
    return entry
