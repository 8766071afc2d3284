"""Repairs problems whose solution the catalog proves, for example a missing link.

A repair is one line, such as `link parti-a 2023-05-14-cb-mv/…/cb-sandik-sonuc-s1.jpg`:

    original <sha256>         restore an original from a tree that still shows it
    times <sha256>            set the mode, the filing time and the stamp of an original
    link <party> <path>       link a filing into a tree
    replace <party> <path>    the same, after moving the file that is there to quarantine
    hide <party> <path>       move a file that the party may not see to quarantine
    note <file>               write the note of a file in quarantine again
    seal <xx>                 stamp and seal the originals in store/xx/ again (keys/digest);
                              `seal all`: those in all of the store

A repair deletes no evidence. It is checked against the catalog before it is carried out, whoever
asks for it.
"""

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from config import layout
from config.party import Party
from config.site import STORE
from publisher.catalog.rows import Original
from publisher.filing.filer import Filer, FilingContext
from publisher.filing.recovery import Recovery


class Repair(NamedTuple):
    """One repair; `where` is a digest, a party or a file, depending on the kind."""

    kind: str
    where: str
    path: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))

    @classmethod
    def parse(cls, line: str) -> "Repair":
        """Parse a repair line; raise ValueError if it is not one."""
        kind, _, rest = line.partition(" ")
        where, _, path = rest.partition(" ")
        wants_path = kind in ("link", "replace", "hide")
        if kind not in ORDER or not where or bool(path) != wants_path:
            raise ValueError(f"not a repair: {line!r}")
        return cls(kind, where, path)


# Originals come first, because links are made to them.
SEAL = "seal"
ORDER = ("original", "times", "replace", "link", "hide", "note", SEAL)
ALL = "all"  # instead of xx: every folder of the store
_HEX = "[0-9a-f][0-9a-f]"


def failed_line(repair: Repair) -> str:
    """Return the line of the publisher's answer that names a repair which failed."""
    return f"not repaired: {repair}"


class Repairer:
    """Carries out repairs, in the thread of the filer."""

    def __init__(self, context: FilingContext, filer: Filer, recovery: Recovery) -> None:
        self._context = context
        self._filer = filer
        self._recovery = recovery
        self._parties = {party.id: party for party in context.mirroring_parties}
        self._methods: dict[str, Callable[[Repair], bool]] = {
            "original": self._original,
            "times": self._times,
            "link": self._link,
            "replace": self._replace,
            "hide": self._hide,
            "note": self._note,
            SEAL: self._seal,
        }

    def repair_all(self, repairs: list[Repair]) -> list[Repair]:
        """Carry out the repairs that the catalog proves; return those that failed."""
        ordered = sorted(repairs, key=lambda repair: ORDER.index(repair.kind))
        failed = [repair for repair in ordered if not self._methods[repair.kind](repair)]
        self._context.store.sync()
        self._context.catalog.commit()
        return failed

    def _original(self, repair: Repair) -> bool:
        filed = self._context.catalog.filing_of_bytes(repair.where)
        if filed is None:
            return False
        for party in self._parties:
            if self._context.store.restore_from_tree(repair.where, party, filed.path):
                return self._times(repair)
        return False

    def _times(self, repair: Repair) -> bool:
        filed_at = self._context.catalog.filing_time(repair.where)
        return filed_at is not None and self._context.store.restore_metadata(repair.where, filed_at)

    def _link(self, repair: Repair) -> bool:
        link = self._proven_link(repair)
        if link is None or not self._filer.link_into_tree(*link):
            return False
        self._context.catalog.close_gap(link[0].id, link[1].id)
        return True

    def _replace(self, repair: Repair) -> bool:
        link = self._proven_link(repair)
        if link is None or not os.path.lexists(self._context.store.original(link[1].sha256)):
            return False
        return self._recovery.remove_from_tree(repair.where, repair.path) and self._link(repair)

    def _hide(self, repair: Repair) -> bool:
        if repair.where not in self._parties or self._proven_link(repair) is not None:
            return False
        return self._recovery.remove_from_tree(repair.where, repair.path)

    def _proven_link(self, repair: Repair) -> tuple[Party, Original] | None:
        """Return the party and the filing if the catalog says that its tree must show it."""
        party = self._parties.get(repair.where)
        filed = self._context.catalog.filing_at(repair.path)
        if party is None or filed is None:
            return None
        covers = party.scope.covers(layout.parse(filed.path).sheet)
        return (party, filed) if covers else None

    def _seal(self, repair: Repair) -> bool:
        folder = _HEX if repair.where == ALL else repair.where
        if not re.fullmatch("[0-9a-f]{2}", folder) and folder != _HEX:
            return False
        known, complete = self._context.catalog.keeps, True
        for path in sorted((self._context.settings.site / STORE).glob(f"{folder}/{_HEX}/*")):
            if known(path.name):
                complete &= self._context.store.stamp_again(path.name)
        return complete

    def _note(self, repair: Repair) -> bool:
        row = self._context.catalog.quarantine_decision(repair.where)
        if row is None or not self._context.quarantine.holds(repair.where):
            return False
        self._filer.write_note(row)
        return True
