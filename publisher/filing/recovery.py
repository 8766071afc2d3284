"""What a start does first: it finishes what an earlier run began, however that ended.

What is decided is carried out from its row, what the filing ledger has already is not recorded
again, and what was not decided is read anew from the spool. Trees of new parties are filled, and
those of changed scopes brought up to date, before anything else is filed. Catalog and ledger
must agree on what was recorded; where one of them was lost, only its copy can help.
"""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from config import layout
from config.fault import Fault, Faults
from config.party import Party
from config.site import CATALOG, FILING, LEDGERS, SPOOL, TREES
from keys.ledger.writer import read
from publisher.catalog import absences, review
from publisher.catalog.rows import Original
from publisher.catalog.tables import RECEIVED
from publisher.filing.filer import ONE_TREE, Clerk, World
from publisher.intake import spool
from publisher.page import ID_LENGTH, Arrival, Stamp, arrival_id, escaped, safe_name
from publisher.store.quarantine import NOT_OURS, Note

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
        self._spool = world.settings.site / SPOOL
        self._tending: Iterator[None] | None = None
        self.tended: list[str] = []  # the parties whose trees were made complete

    def recover(self, trees: bool = True) -> list[Arrival]:
        """Finish what an earlier run began, and return the arrivals that want reading.

        Without `trees` those of new parties and changed scopes are left to `tend`.
        Raises Faults if the catalog or the filing ledger was lost, or is older than the other.
        """
        self._learn_from_ledger()
        self._step("ledger read")
        for folder in (self._shelf, self._world.quarantine):
            folder.sweep()
        spool.sweep(self._spool)
        self._parties_that_left()
        if trees:
            deque(self._trees_for_parties(), 0)
        self._clerk.mend()
        self._clerk.carry_out()
        for path in sorted(self._spool.iterdir()):
            self._explain(path)
        return self._reclaimed()

    def _learn_from_ledger(self) -> None:
        first, ledger = self._catalog.next_seq(), self._world.ledger.next_seq
        folder = LEDGERS / FILING
        if ledger < first:
            lost = f"ends before number {ledger}, but number {first - 1} was written: "
            raise Faults([Fault(str(folder), "", lost + "restore the ledger from its copy")])
        if ledger == first:
            return
        for record in read(self._world.settings.site / folder, first):
            page, frame = (record.event.detail.get(name) for name in ("page", "frame"))
            if not isinstance(page, str):
                absences.learn(self._catalog.connection, record)
                review.learn(self._catalog.connection, record)
                continue
            if not self._catalog.finish(page, record.seq, frame if isinstance(frame, int) else 1):
                known = self._catalog.settled(page)
                if known is None or not known.done:
                    lost = f"lacks page {page}, number {record.seq} of {folder}: "
                    advice = f"restore {CATALOG} from its copy"
                    raise Faults([Fault(str(CATALOG), "", lost + advice)])
        self._catalog.commit()

    def tend(self, more: Callable[[], bool]) -> bool:
        """Go on with the trees while there may be `more`, and say whether all are complete.

        Each is a page's work. What is filed meanwhile is linked into those trees as well.
        """
        if self._tending is None:
            self._tending = self._trees_for_parties()
        return all(more() for _ in self._tending)

    def _parties_that_left(self) -> None:
        complete = self._catalog.parties()
        parties = {party.id for party in self._world.trees}
        for gone in complete.keys() - parties:
            self._catalog.party_begins(gone)  # what is filed from now on is missing there
        self._catalog.commit()
        for gone in sorted(self._shelf.roots() - parties):
            log.warning("tree-of-no-party", party=gone, advice="move it out of trees/ by hand")
        for party in self._world.trees:
            self._shelf.root(party.id)
        self._world.sync()

    def _trees_for_parties(self) -> Iterator[None]:
        complete = self._catalog.parties()
        changed = [p for p in self._world.trees if complete.get(p.id) != str(p.scope)]
        for party in changed:
            self._catalog.party_begins(party.id)
            self._catalog.commit()
            self._step("party begun")
            hidden, shown = [*self._withdrawn(party)], 0
            for went in self._hidden(party):
                hidden += [went] if went is not None else []
                yield
            for linked in self._back_files(party):
                shown += linked
                yield
            self._world.sync()
            self._step("party linked")
            if not all(hidden):
                advice = "let the publisher write in that tree, then restart it"
                files = hidden.count(False)
                log.error("tree-shows-too-much", party=party.id, places=files, advice=advice)
                continue
            self._catalog.party_complete(party.id, str(party.scope))
            self._catalog.commit()
            self._step("party complete")
            self.tended.append(party.id)
            log.info("tree-complete", party=party.id, files=shown, removed=len(hidden))

    def _withdrawn(self, party: Party) -> Iterator[bool]:
        # Sums and feed of another scope tell what else there is; the feed puts back its own.
        for path in self._shelf.own(party.id):
            try:
                self._shelf.remove(party.id, path)
                yield True
            except OSError as error:
                if error.errno not in ONE_TREE:
                    raise
                log.error("not-hidden", party=party.id, path=path, error=str(error))
                yield False
            self._step("withdrawn")

    def _hidden(self, party: Party) -> Iterator[bool | None]:
        # By what stands in the tree, whatever the catalog knows of it; None for what may stay.
        unlisted: list[OSError] = []
        for path in self._shelf.pages(party.id, unlisted.append):
            if self._world.stopped():
                raise Stopped
            if not _is_for(party, path):
                yield self.hide(party.id, path)
                self._step("hidden")
            else:
                yield None
        for error in unlisted:
            log.error("not-hidden", party=party.id, error=str(error))
            yield False

    def hide(self, party: str, path: str) -> bool:
        """Take something out of a tree, into quarantine unless the store has it; say if it went."""
        try:
            if self._shelf.is_kept(party, path, self._catalog.filed_at(path)):
                self._shelf.remove(party, path)
            else:
                self._set_aside(party, path)
        except OSError as error:
            if error.errno not in ONE_TREE:
                raise
            log.error("not-hidden", party=party, path=escaped(path), error=str(error))
            return False
        return True

    def _set_aside(self, party: str, path: str) -> None:
        now = self._world.clock()
        identity = arrival_id(now, self._world.token())
        name = f"{TREES}/{party}/{escaped(path)}"
        file = f"{identity}-{safe_name(name)}"
        note = Note(identity, name, NOT_OURS, None, (), 1, (), f"{now:%Y-%m-%dT%H:%M:%SZ}")
        self._world.quarantine.note(file, note)
        self._shelf.remove(party, path, lambda shown: self._world.quarantine.take(shown, file))
        log.error("not-ours", path=name, quarantined=file)

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
        known = self._catalog.settled(path.name[:ID_LENGTH])
        if known is None or known.arrival.file != path.name:
            # A catalog was lost or somebody put a file here; either way it is a page.
            self._clerk.take_again(path, path.name, Stamp.of(path.lstat()))
        elif known.done:
            self._clerk.clean(known.arrival, known.stamp, known.reason)

    def _reclaimed(self) -> list[Arrival]:
        claimed, missed = [], []
        for arrival, state in self._catalog.undecided():
            path = self._spool / arrival.file
            if path.exists() or path.is_symlink():
                self._world.quarantine.forget(arrival.file)
                if state == RECEIVED and not spool.settle_claim(arrival):
                    self._clerk.leave(arrival)
                claimed.append(arrival)
            elif state == RECEIVED or spool.still_there(arrival):
                missed.append(arrival)
            else:
                log.error("spool-file-missing", name=arrival.name, arrival=arrival.id)
        self._catalog.withdraw([arrival.id for arrival in missed])
        self._catalog.claimed([arrival.id for arrival in claimed])
        self._catalog.commit()
        self._step("reclaimed")
        return claimed


def _is_for(party: Party, path: str) -> bool:
    try:
        return party.scope.covers(layout.parse(path).sheet)
    except ValueError:
        return False
