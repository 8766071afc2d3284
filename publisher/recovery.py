"""What a start does first: it finishes what an earlier run began, however that ended.

What is decided is carried out from its row, what the filing ledger has already is not recorded
again, and what was not decided is read anew from the spool. Trees of new parties are filled, and
those of changed scopes brought up to date, before anything else is filed.
"""

from collections.abc import Iterator
from pathlib import Path

import structlog

from config import layout
from config.party import Party
from keys.ledger import FILING, FOLDER, read
from publisher import catalog as states
from publisher import spool
from publisher.catalog import Original
from publisher.clerk import Clerk, World
from publisher.page import Arrival, Stamp

_ID_LENGTH = len("20230514T140003000041-9f3c21ab")

log = structlog.get_logger()


class Stopped(Exception):
    """Told to stop in the middle of a long recovery, which goes on at the next start."""


class Recovery:
    """Of one clerk's world, done once."""

    def __init__(self, world: World, clerk: Clerk) -> None:
        self._world = world
        self._clerk = clerk
        self._catalog = world.catalog
        self._shelf = world.shelf
        self._step = world.checkpoint
        self._spool = world.settings.site / spool.FOLDER

    def recover(self) -> list[Arrival]:
        """Finish what an earlier run began, and return the arrivals that want reading."""
        for folder in (self._shelf, self._world.quarantine):
            folder.sweep()
        spool.sweep(self._spool)
        self._learn_from_ledger()
        self._step("ledger read")
        self._trees_for_parties()
        self._clerk.mend()
        self._clerk.carry_out()
        for path in sorted(self._spool.iterdir()):
            self._explain(path)
        return self._reclaimed()

    def _learn_from_ledger(self) -> None:
        first = self._catalog.next_seq()
        if self._world.ledger.next_seq == first:
            return
        for record in read(self._world.settings.site / FOLDER / FILING, first):
            page = record.event.detail.get("page")
            if isinstance(page, str):
                self._catalog.finish(page, record.seq)
        self._catalog.commit()

    def _trees_for_parties(self) -> None:
        complete = self._catalog.parties()
        for gone in sorted(complete.keys() - {party.id for party in self._world.trees}):
            log.warning("tree-of-no-party", party=gone, advice="move it out of trees/ by hand")
        for party in self._world.trees:
            self._shelf.root(party.id)
            if complete.get(party.id) == str(party.scope):
                continue
            self._catalog.party_begins(party.id)
            self._catalog.commit()
            self._step("party begun")
            hidden = sum(self._hidden(party))
            shown = sum(self._back_files(party))
            self._shelf.sync()
            self._step("party linked")
            self._catalog.party_complete(party.id, str(party.scope))
            self._catalog.commit()
            self._step("party complete")
            log.info("tree-complete", party=party.id, files=shown, removed=hidden)
        self._shelf.sync()

    def _hidden(self, party: Party) -> Iterator[bool]:
        for original in self._unhurried():
            if not party.scope.covers(layout.parse(original.path).sheet):
                yield self._shelf.unlink(original.sha256, party.id, original.path)
                self._step("hidden")

    def _back_files(self, party: Party) -> Iterator[bool]:
        for original in self._unhurried():
            if party.scope.covers(layout.parse(original.path).sheet):
                shown = self._clerk.show(party, original)
                if not shown:
                    self._catalog.add_gap(party.id, original.id)
                yield shown
                self._step("back file")

    def _unhurried(self) -> Iterator[Original]:
        for original in self._catalog.originals():
            if self._world.stopped():
                raise Stopped
            yield original

    def _explain(self, path: Path) -> None:
        known = self._catalog.settled(path.name[:_ID_LENGTH])
        if known is None or known[0].file != path.name:
            # A catalog was lost or somebody put a file here; either way it is a page.
            self._clerk.take_again(path, path.name, Stamp.of(path.lstat()))
        elif known[2]:
            self._clerk.clean(known[0], known[1])

    def _reclaimed(self) -> list[Arrival]:
        claimed, missed = [], []
        for arrival, state in self._catalog.undecided():
            path = self._spool / arrival.file
            if path.exists() or path.is_symlink():
                self._world.quarantine.forget(arrival.file)
                if state == states.RECEIVED:
                    spool.settle_claim(arrival)
                claimed.append(arrival)
            elif state == states.RECEIVED or spool.still_there(arrival):
                missed.append(arrival)
            else:
                log.error("spool-file-missing", name=arrival.name, arrival=arrival.id)
        self._catalog.withdraw([arrival.id for arrival in missed])
        self._catalog.claimed([arrival.id for arrival in claimed])
        self._catalog.commit()
        self._step("reclaimed")
        return claimed
