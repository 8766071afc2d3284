"""Finishes what an earlier run began, after a normal stop or a crash; runs first at every start.

    decided, not carried out     carried out from its catalog row
    recorded in the ledger       not recorded again; its row is marked as done
    claimed, not decided         read again from the spool
    a new party                  its tree is filled with everything it may see
    a changed scope              files outside the scope are removed from the tree, missing ones
                                 are linked

Catalog and ledger must agree on what was recorded. If one of them was lost or is older than the
other, recovery stops with an error, because only a backup can restore it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from config import layout, times
from config.fault import Fault, Faults
from config.party import Party
from config.site import CATALOG, FILING, LEDGERS, SPOOL, TREES
from publisher.catalog.decisions import absences, review
from publisher.catalog.rows import ArrivalState, Original
from publisher.catalog.tables import RECEIVED
from publisher.database import name_of
from publisher.filing.filer import ONE_TREE_ERRORS, Filer, FilingContext
from publisher.intake import spool
from publisher.page import (
    ID_LENGTH,
    Arrival,
    Stamp,
    arrival_id,
    escaped,
    extracted_id,
    safe_name,
)
from publisher.reading.protocol import MAX_FRAMES
from publisher.store.quarantine import FOUND_IN_TREE, QuarantineNote

log = structlog.get_logger()


class Stopped(Exception):
    """The publisher was told to stop during recovery; the next start continues."""


class Recovery:
    """The recovery of one run."""

    def __init__(self, context: FilingContext, filer: Filer) -> None:
        self._context = context
        self._filer = filer
        self._catalog = context.catalog
        self._store = context.store
        self._step = context.step_done
        self._spool = context.settings.site / SPOOL
        self._tree_work: Iterator[None] | None = None
        self.completed: list[str] = []  # the parties whose trees were made complete

    def recover(self, trees: bool = True) -> list[Arrival]:
        """Finish what an earlier run began, and return the arrivals that must be read.

        With `trees=False` the trees of new parties and changed scopes are left to
        `continue_trees`. Raises Faults if the catalog or the filing ledger was lost or is older
        than the other.
        """
        self._catch_up_with_ledger()
        self._step("ledger read")
        for folder in (self._store, self._context.quarantine):
            folder.sweep()
        spool.sweep(self._spool)
        self._note_removed_parties()
        if trees:
            deque(self._update_trees(), 0)
        self._filer.retry_gaps()
        self._filer.carry_out()
        # Pages of files that were not completely split: they are split again.
        unfinished = {
            extracted_id(arrival, number)
            for arrival, _ in self._catalog.undecided()
            for number in range(1, MAX_FRAMES + 1)
        }
        files = sorted(self._spool.iterdir())
        known = self._known(files)
        for path in files:
            self._handle_spool_file(path, known.get(path.name[:ID_LENGTH]), unfinished)
        return self._reclaim()

    def _known(self, files: Sequence[Path]) -> dict[str, ArrivalState]:
        """Return what the catalog knows of files of the spool, by the id of their arrival."""
        return self._catalog.arrival_states([path.name[:ID_LENGTH] for path in files])

    def _catch_up_with_ledger(self) -> None:
        first, ledger = self._catalog.next_seq(), self._context.ledger.next_seq
        folder = LEDGERS / FILING
        if ledger < first:
            lost = f"ends before number {ledger}, but number {first - 1} was written: "
            raise Faults([Fault(str(folder), "", lost + "restore the ledger from a backup")])
        if ledger == first:
            return
        for record in self._context.ledger.records(first):
            page, frame = (record.event.detail.get(name) for name in ("page", "frame"))
            if not isinstance(page, str):
                absences.apply_record(self._catalog.connection, record)
                review.apply_record(self._catalog.connection, record)
                continue
            if not self._catalog.mark_recorded(
                page, record.seq, frame if isinstance(frame, int) else 1
            ):
                known = self._catalog.arrival_state(page)
                if known is None or not known.done:
                    lost = f"lacks page {page}, number {record.seq} of {folder}: "
                    advice = "restore the catalog from a backup"
                    name = name_of(self._context.settings.site, CATALOG)
                    raise Faults([Fault(name, "", lost + advice)])
        self._catalog.commit()

    def adopt_strays(self) -> list[Arrival]:
        """Make arrivals of the files in the spool that the catalog does not know, and return them.

        The filing thread calls this between two batches, when it has no such file itself.
        """
        files = sorted(path for path in self._spool.iterdir() if not path.name.startswith("."))
        known = self._known(files)
        return [
            self._filer.reclaim(path, path.name, Stamp.of(path.lstat()))
            for path in files
            if path.name[:ID_LENGTH] not in known
        ]

    def continue_trees(self, more: Callable[[], bool]) -> bool:
        """Continue with the trees while `more()` returns True; return True once all are complete.

        One step takes about as long as filing a page. Pages that are filed in the meantime are
        linked into these trees as well.
        """
        if self._tree_work is None:
            self._tree_work = self._update_trees()
        return all(more() for _ in self._tree_work)

    def _note_removed_parties(self) -> None:
        complete = self._catalog.completed_trees()
        parties = {party.id for party in self._context.mirroring_parties}
        for removed in complete.keys() - parties:
            # Its tree will not get the pages that are filed from now on.
            self._catalog.mark_tree_incomplete(removed)
        self._catalog.commit()
        for removed in sorted(self._store.tree_names() - parties):
            log.warning("tree-without-party", party=removed, advice="move it out of trees/ by hand")
        for party in self._context.mirroring_parties:
            self._store.make_root(party.id)
        self._context.sync()

    def _update_trees(self) -> Iterator[None]:
        complete = self._catalog.completed_trees()
        changed = [p for p in self._context.mirroring_parties if complete.get(p.id) != str(p.scope)]
        for party in changed:
            self._catalog.mark_tree_incomplete(party.id)
            self._catalog.commit()
            self._step("party begun")
            removed, files = [*self._remove_own_files(party)], 0
            for done in self._remove_out_of_scope(party):
                removed += [done] if done is not None else []
                yield
            for linked in self._link_earlier_originals(party):
                files += linked
                yield
            self._context.sync()
            self._step("party linked")
            if not all(removed):
                advice = "let the publisher write to that tree, then restart it"
                left = removed.count(False)
                log.error("tree-exceeds-scope", party=party.id, files=left, advice=advice)
                continue
            self._catalog.mark_tree_complete(party.id, str(party.scope))
            self._catalog.commit()
            self._step("party complete")
            self.completed.append(party.id)
            log.info("tree-complete", party=party.id, files=files, removed=len(removed))

    def _remove_own_files(self, party: Party) -> Iterator[bool]:
        # Sums and feed list files of the former scope. The feed writes new ones.
        for path in self._store.own_files(party.id):
            try:
                self._store.remove(party.id, path)
                yield True
            except OSError as error:
                if error.errno not in ONE_TREE_ERRORS:
                    raise
                log.error("not-removed-from-tree", party=party.id, path=path, cause=str(error))
                yield False
            self._step("withdrawn")

    def _remove_out_of_scope(self, party: Party) -> Iterator[bool | None]:
        # Lists the tree itself, not the catalog. Yields None for a file that may stay.
        unlisted: list[OSError] = []
        for path in self._store.pages_in_tree(party.id, unlisted.append):
            if self._context.stopped():
                raise Stopped
            if not _may_see(party, path):
                yield self.remove_from_tree(party.id, path)
                self._step("hidden")
            else:
                yield None
        for error in unlisted:
            log.error("not-removed-from-tree", party=party.id, cause=str(error))
            yield False

    def remove_from_tree(self, party: str, path: str) -> bool:
        """Remove a file from a tree; move it to quarantine if the store does not have its bytes.

        Returns False, and logs an error, if that fails.
        """
        try:
            if self._store.is_stored(party, path, self._catalog.digest_at(path)):
                self._store.remove(party, path)
            else:
                self._set_aside(party, path)
        except OSError as error:
            if error.errno not in ONE_TREE_ERRORS:
                raise
            log.error("not-removed-from-tree", party=party, path=escaped(path), cause=str(error))
            return False
        return True

    def _set_aside(self, party: str, path: str) -> None:
        now = self._context.clock()
        identity = arrival_id(now, self._context.token())
        name = f"{TREES}/{party}/{escaped(path)}"
        file = f"{identity}-{safe_name(name)}"
        note = QuarantineNote(identity, name, FOUND_IN_TREE, None, (), 1, (), times.format_utc(now))
        self._context.quarantine.write_note(file, note)
        self._store.remove(party, path, lambda shown: self._context.quarantine.add(shown, file))
        log.error("foreign-file-in-tree", path=name, quarantined=file)

    def _link_earlier_originals(self, party: Party) -> Iterator[bool]:
        for original in self._originals():
            if party.scope.covers(layout.parse(original.path).sheet):
                shown = self._filer.link_into_tree(party, original)
                if not shown:
                    self._catalog.add_gap(party.id, original.id)
                yield shown
                self._step("back file")

    def _originals(self) -> Iterator[Original]:
        for original in self._catalog.all_filings():
            if self._context.stopped():
                raise Stopped
            yield original

    def _handle_spool_file(
        self, path: Path, known: ArrivalState | None, unfinished: set[str]
    ) -> None:
        if known is None and path.name[:ID_LENGTH] in unfinished:
            path.unlink()
        elif known is None or known.arrival.file != path.name:
            # The catalog was lost, or a person put the file here. In both cases it is a page.
            self._filer.reclaim(path, path.name, Stamp.of(path.lstat()))
        elif known.done:
            self._filer.clean(known.arrival, known.stamp)

    def _reclaim(self) -> list[Arrival]:
        claimed, missed = [], []
        for arrival, state in self._catalog.undecided():
            path = self._spool / arrival.file
            if path.exists() or path.is_symlink():
                self._context.quarantine.remove(arrival.file)
                if state == RECEIVED and spool.is_source_unchanged(arrival):
                    self._filer.note_left_behind(arrival)
                claimed.append(arrival)
            elif state == RECEIVED or spool.is_source_unchanged(arrival):
                missed.append(arrival)
            else:
                log.error("spool-file-missing", name=arrival.name, arrival=arrival.id)
        self._catalog.remove_arrivals([arrival.id for arrival in missed])
        self._catalog.mark_claimed([arrival.id for arrival in claimed])
        self._catalog.commit()
        self._step("reclaimed")
        return claimed


def _may_see(party: Party, path: str) -> bool:
    try:
        return party.scope.covers(layout.parse(path).sheet)
    except ValueError:
        return False
