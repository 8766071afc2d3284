"""Checks that catalog, store, trees, filing ledger, quarantine and spool agree.

The check only reads, and it may run beside a publisher. The steps:

1. Copy what the catalog says is recorded, as of one moment (publisher/fsck/snapshot).
2. Store: every original is there with its bytes, mode, filing time and stamp (keys/digest), and
   nothing else is.
3. Trees: every party's tree shows exactly the originals in its scope, and the publisher's own files
   there have stamps of their bytes. Each SHA256SUMS is signed, and its label is of it.
4. Trees that belong to no party.
5. Filing ledger: it has exactly the records that the catalog has numbers for, with the same fields
   (publisher/fsck/rows).
6. Absences, reviews, identifications and requests for a new scan are those in the ledgers
   (publisher/fsck/decisions), and every gap is of a page that the tree does not show.
7. Quarantine: every file is there with its bytes and its note, and nothing else is.
8. Spool: every file there is a known arrival.

Everything in the copy must be on disk. What is on disk but not in the copy may be a page that was
filed since, so it is looked up in the current catalog. A finding that can be repaired from the
catalog names the repair (publisher/fsck/repair).

The cost grows linearly with the number of filings. No listing is held in memory: the copy is in a
temporary file, and folders are read one at a time. The steps are in one module because each uses
the copy and what the earlier ones found.
"""

import hashlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa
import structlog

from config import layout
from config.event import FilingEvent
from config.fault import Faults
from config.party import Party
from config.settings import Settings
from config.site import (
    CATALOG,
    FEED,
    FILING,
    LEDGERS,
    QUARANTINE,
    RESULTS_DATABASE,
    SPOOL,
    STORE,
    TREES,
    ledgers_of_kind,
    original_file,
    result_view,
)
from keys import digest
from keys.digest import Digests, Proof
from keys.operations import site_keys
from publisher.catalog import catalog
from publisher.database import Reader, name_of, open_reader
from publisher.election import terms
from publisher.fsck import snapshot, sums
from publisher.fsck.decisions import compare_decisions
from publisher.fsck.finding import Finding, PossibleFinding, publisher_is_running
from publisher.fsck.merging import merge_sorted, walk_sorted
from publisher.fsck.rebuild_catalog import ADVICE
from publisher.fsck.repair import ALL, SEAL, Repair
from publisher.fsck.results import verify_results
from publisher.fsck.rows import compare_record, compare_totals, has_same, is_unfinished
from publisher.page import ID_LENGTH, escaped
from publisher.results.intake import evidence
from publisher.results.reading import is_batch
from publisher.store import quarantine
from publisher.store.quarantine import parse_note
from publisher.store.store import FILE_MODE, STAGED

_log = structlog.get_logger()

_NEXT_START = "the publisher's next start removes it"
_ARRIVALS = frozenset(
    (FilingEvent.FILED, FilingEvent.DUPLICATE, FilingEvent.QUARANTINED, FilingEvent.SPLIT)
)
_MAX_ROWS = 1000  # findings about single rows; more mean that this is another site's catalog
_CONFIRM_SECONDS = 2.0  # a running publisher finishes the pages in flight within this time

_REBUILD = "rebuild the catalog with `ssps rebuild --catalog`"
_GAPS = "restart the publisher, which looks at all gaps again"
# What a value of another type than the publisher writes leads to.
_UNREADABLE = (
    ValueError, TypeError, AttributeError, KeyError, OverflowError, sqlite3.Error,
    sa.exc.SQLAlchemyError, Faults,
)  # fmt: skip

Progress = Callable[[str, int, int], None]  # name of the step, how many are done, of how many


def verify(
    settings: Settings,
    *,
    quick: bool = False,
    progress: Progress = lambda what, done, total: None,
    pause: Callable[[float], None] = time.sleep,
    relinked: bool = False,
) -> Iterator[Finding]:
    """Yield the problems of a site; `quick` skips hashing the originals.

    `pause` waits some seconds while a publisher finishes the pages in flight. With `relinked`, a
    note counts the originals that were linked after they were sealed too.
    """
    names = {str(file): name_of(settings.site, file) for file in (CATALOG, RESULTS_DATABASE)}
    with open_reader(catalog.url(settings.site)) as live:
        if live is None:
            if any((settings.site / STORE).glob("*")):
                advice = "restore it from a backup"
                yield Finding(names[str(CATALOG)], "is missing, but pages are in the store", advice)
            return
        if _is_new(settings.site, live):
            return
        with closing(sqlite3.connect("")) as copy:  # a temporary file of SQLite's own
            check = _SiteCheck(settings, live, copy, quick, progress, pause, relinked)
            for found in check.all():
                yield replace(found, place=names.get(found.place, found.place))


def _is_new(site: Path, live: Reader) -> bool:
    """Return whether no publisher has started yet; in PostgreSQL the tables are made before."""
    names = ledgers_of_kind(site / LEDGERS, FILING)
    begun = any((site / LEDGERS / name).exists() for name in names)
    begun = begun or any((site / STORE).glob("*"))
    return not begun and live.execute("SELECT 1 FROM arrival LIMIT 1").fetchone() is None


class _SiteCheck:
    """One check of a site; `live` is its catalog, `copy` an empty database that it may fill."""

    def __init__(
        self,
        settings: Settings,
        live: Reader,
        copy: sqlite3.Connection,
        quick: bool,
        progress: Progress,
        pause: Callable[[float], None],
        relinked: bool,
    ) -> None:
        self._settings = settings
        self._site = settings.site
        self._live = live
        self._copy = copy
        self._quick = quick
        self._progress = progress
        self._pause = pause
        self._publisher_runs = publisher_is_running(self._site)
        self._stamp_key = site_keys.stamp_key_on_record(self._site)
        self._notable = {Proof.WRONG, Proof.MISSING} | ({Proof.RELINKED} if relinked else set())
        self._unsealed = 0
        self._checked_stamps: set[int] = set()  # inodes of the publisher's own files
        self._checked_sums: set[tuple[int, str]] = set()  # inode and path
        self._public_keys = site_keys.public_signing_keys(self._site)
        self._unlisted: list[Finding] = []
        self._different_rows: list[Finding] = []

    def all(self) -> Iterator[Finding]:
        self._filings, self._complete = snapshot.take_snapshot(self._live, self._copy)
        yield from self._confirmed(self._guarded(self._store()))
        for party in self._settings.parties:
            if party.mirrors:
                yield from self._confirmed(self._guarded(self._tree(party)))
        yield from self._trees_of_no_party()
        yield from self._confirmed(self._guarded(self._ledger()))
        yield from self._confirmed(self._guarded(self._decisions()))
        yield from self._confirmed(self._guarded(self._gaps()))
        yield from self._confirmed(self._guarded(self._quarantine()))
        yield from self._confirmed(self._guarded(self._spool()))
        yield from verify_results(
            self._site, self._settings.election.id, self._quick, self._progress
        )
        yield from self._unlisted

    def _confirmed(self, found: Iterator[Finding | PossibleFinding]) -> Iterator[Finding]:
        """Yield the findings; those that a page in flight may explain only if they persist."""
        possible = []
        for one in found:
            if isinstance(one, Finding):
                yield one
            else:
                possible.append(one)
        if possible and self._publisher_runs and any(one.still_true() for one in possible):
            self._pause(_CONFIRM_SECONDS)
        yield from (one.finding for one in possible if one.still_true())

    def _refused(self, error: OSError) -> None:
        name = escaped(os.path.relpath(error.filename, self._site))
        problem = f"cannot be listed ({error.strerror})"
        self._unlisted.append(Finding(name, problem, "give the publisher's user access"))

    # The store.

    def _store(self) -> Iterator[Finding | PossibleFinding]:
        root = str(self._site / STORE)
        rows = self._copy.execute("SELECT sha256, filed_at FROM original ORDER BY sha256")
        expected = (
            (f"{sha256[:2]}/{sha256[2:4]}/{sha256}".encode(), (sha256, filed_at))
            for sha256, filed_at in rows
        )
        inodes: list[tuple[str, int]] = []
        for number, (key, wanted, entry) in enumerate(
            merge_sorted(expected, walk_sorted(root, self._refused))
        ):
            self._progress("store", min(number, self._filings), self._filings)
            place = f"{STORE}/{escaped(os.fsdecode(key))}"
            if entry is None and wanted is not None:
                repair = Repair("original", wanted[0])
                yield Finding(place, "is missing", "restore it from a backup", repair)
            elif entry is not None and wanted is None:
                yield from self._extra_original(place, entry)
            elif entry is not None and wanted is not None:
                sha256, filed_at = wanted
                inodes.append((sha256, snapshot.inode_number(entry.inode())))
                yield from self._original(place, entry, sha256, filed_at)
                if len(inodes) >= 10_000:
                    self._copy.executemany("INSERT INTO inode VALUES (?, ?)", inodes)
                    inodes.clear()
        self._copy.executemany("INSERT INTO inode VALUES (?, ?)", inodes)
        yield from self._unsealed_originals()
        # Join once for all trees, because looking up digests in random order is slow.
        self._copy.execute(
            "INSERT INTO shown SELECT path, cevre, kurul, ifnull(number, 0) FROM filing f "
            "LEFT JOIN inode i ON i.sha256 = f.sha256 ORDER BY path"
        )
        self._copy.commit()

    def _original(
        self, place: str, entry: os.DirEntry[str], sha256: str, filed_at: int
    ) -> Iterator[Finding]:
        status = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            advice = "keep it as evidence, restore the file from a backup"
            yield Finding(place, "is not a regular file", advice)
            return
        actual = None if self._quick else _digests(entry.path)
        if not self._quick and (actual is None or actual.sha256 != sha256):
            advice = "keep it as evidence, restore the file from a backup"
            yield Finding(place, "has other bytes than were filed", advice)
            return
        yield from self._stamp(place, entry.path, sha256, actual)
        if stat.S_IMODE(status.st_mode) != FILE_MODE:
            problem = f"has mode {stat.S_IMODE(status.st_mode):04o}, not {FILE_MODE:04o}"
            yield Finding(place, problem, "", Repair("times", sha256))
        elif status.st_mtime_ns != filed_at * 1_000_000_000:
            yield Finding(place, "its mtime is not the filing time", "", Repair("times", sha256))

    def _stamp(
        self, place: str, path: str, sha256: str, actual: Digests | None
    ) -> Iterator[Finding]:
        """Yield a finding if a file is stamped with other digests than its bytes have.

        `actual` are the digests of the bytes, None if only the SHA-256 of the filing is known.
        Files that are right but not sealed are counted.
        """
        try:
            descriptor = _open_no_follow(path, os.O_RDONLY)
        except OSError:
            return  # the mode is wrong, which is a finding of its own
        try:
            stamped, any_there = digest.read_stamp(descriptor), digest.has_attributes(descriptor)
            claim = digest.Claim.of(descriptor)
        finally:
            os.close(descriptor)
        if stamped is None and not claim.seal and not any_there:
            wrong = False  # from an earlier version, or without attributes: hashed when asked
        else:
            both = {stamped, claim.digests} if claim.seal else {stamped}
            if actual is not None:
                wrong = both != {actual}
            else:
                wrong = None in both or {one.sha256 for one in both if one} != {sha256}
        if wrong:
            problem = "is stamped with other digests than its bytes have"
            yield Finding(place, problem, "", Repair("times", sha256))
        elif self._stamp_key is not None and actual is not None:
            self._unsealed += digest.check(claim, self._stamp_key) in self._notable

    def _unsealed_originals(self) -> Iterator[Finding]:
        if self._unsealed and digest.supported(self._site / STORE):
            files = "original is" if self._unsealed == 1 else "originals are"
            problem = f"{self._unsealed} {files} not sealed: the server hashes what it opens"
            advice = "run `ssps verify --repair`"
            yield Finding(str(STORE), problem, advice, Repair(SEAL, ALL), note=True)

    def _extra_original(
        self, place: str, entry: os.DirEntry[str]
    ) -> Iterator[Finding | PossibleFinding]:
        if entry.name.startswith((STAGED, evidence.STAGED)):
            if not self._publisher_runs:
                yield Finding(place, "is unfinished", _NEXT_START, note=True)
            return
        advice = "keep it, and search the filing ledger for its digest"
        finding = Finding(place, "belongs to no filing", advice)
        filing = "SELECT 1 FROM filing WHERE sha256 = ?"
        split = "SELECT 1 FROM extract WHERE original = ?"

        def still_true() -> bool:
            known = (
                self._knows(filing, entry.name)
                or ("extract" in self._live.tables() and self._knows(split, entry.name))
                or is_batch(self._site, entry.name)
            )
            return os.path.lexists(entry.path) and not known

        if is_batch(self._site, entry.name):
            return
        yield PossibleFinding(finding, still_true)

    def _knows(self, query: str, *values: str) -> bool:
        return self._live.execute(query, values).fetchone() is not None

    # The trees.

    def _tree(self, party: Party) -> Iterator[Finding | PossibleFinding]:
        if self._complete.get(party.id) != str(party.scope):
            advice = "start the publisher, or send SIGHUP to `ssps run`, and verify again"
            problem = "is not complete for the party's scope"
            yield Finding(f"{TREES}/{party.id}", problem, advice)
            return
        root = str(self._site / TREES / party.id)
        rows = self._copy.execute("SELECT path, cevre, kurul, inode FROM shown ORDER BY path")
        both = merge_sorted(self._covered(party, rows), walk_sorted(root, self._refused))
        for number, (key, wanted, entry) in enumerate(both):
            self._progress(f"tree of {party.id}", min(number, self._filings), self._filings)
            path = os.fsdecode(key)
            place = f"{TREES}/{party.id}/{escaped(path)}"
            if entry is None:
                yield Finding(place, "is missing", "", Repair("link", party.id, path))
            elif wanted is None:
                yield from self._extra_in_tree(party, path, place, entry)
            elif wanted != snapshot.inode_number(entry.inode()) and wanted:
                problem = "is not the original that was filed"
                yield Finding(place, problem, "", Repair("replace", party.id, path))

    def _covered(self, party: Party, rows: sqlite3.Cursor) -> Iterator[tuple[bytes, int]]:
        known: dict[tuple[str, str], bool] = {}
        for path, cevre, kurul, inode in rows:
            covers = known.get((cevre, kurul))
            if covers is None:
                covers = known[cevre, kurul] = party.scope.covers(layout.parse(path).sheet)
            if covers:
                yield path.encode(), inode

    def _extra_in_tree(
        self, party: Party, path: str, place: str, entry: os.DirEntry[str]
    ) -> Iterator[Finding | PossibleFinding]:
        if layout.is_publisher_file(path) and entry.is_file(follow_symlinks=False):
            yield from self._stamp_of_own_file(place, entry)
            yield from self._of_results(party, path, place, entry)
            yield from self._of_tools(path, place, entry)
            yield from self._sums(path, place, entry)
            return
        if entry.name.startswith("."):
            if not self._publisher_runs:
                advice = "examine it and remove it"
                finding = Finding(place, "is a hidden file that the publisher did not make", advice)
                yield PossibleFinding(finding, lambda: os.path.lexists(entry.path))
            return
        try:
            in_scope = party.scope.covers(layout.parse(path).sheet)
        except ValueError:
            in_scope = False
        problem = "was never filed" if in_scope else "is not for this party"
        finding = Finding(place, problem, "", Repair("hide", party.id, path))
        query = "SELECT 1 FROM filing WHERE path = ?"

        def still_true() -> bool:
            return os.path.lexists(entry.path) and not (in_scope and self._knows(query, path))

        yield PossibleFinding(finding, still_true)

    def _stamp_of_own_file(self, place: str, entry: os.DirEntry[str]) -> Iterator[Finding]:
        if self._quick or entry.inode() in self._checked_stamps:
            return
        self._checked_stamps.add(entry.inode())
        try:
            descriptor = _open_no_follow(entry.path, os.O_RDONLY)
        except OSError:
            return  # it was replaced, or its mode is wrong: then the server does not show it
        try:
            if digest.has_attributes(descriptor):
                stamped, claim = digest.read_stamp(descriptor), digest.Claim.of(descriptor)
                actual = digest.compute(descriptor)
                if stamped != actual or (claim.seal and claim.digests != actual):
                    advice = "keep a copy, and restart the publisher; then run `ssps audit verify`"
                    problem = "is stamped with other digests than its bytes have"
                    yield Finding(place, problem, advice)
        finally:
            os.close(descriptor)

    def _sums(
        self, path: str, place: str, entry: os.DirEntry[str]
    ) -> Iterator[Finding | PossibleFinding]:
        """Check signature and label of a SHA256SUMS, once if several trees have the same file."""
        if not sums.has_label(path) or (entry.inode(), path) in self._checked_sums:
            return
        file = Path(entry.path)
        if (wrong := sums.problem(file, path, self._public_keys)) is None:
            self._checked_sums.add((entry.inode(), path))
            return
        note = wrong == sums.NO_LABEL
        finding = Finding(place, wrong, sums.REWRITTEN, note=note)
        yield PossibleFinding(
            finding, lambda: sums.problem(file, path, self._public_keys) is not None
        )

    def _of_tools(
        self, path: str, place: str, entry: os.DirEntry[str]
    ) -> Iterator[PossibleFinding]:
        """Yield a finding if a tool is not the one that was published."""
        if not path.startswith(f"{layout.TOOLS}/"):
            return
        published = self._site / FEED / path

        def still_true() -> bool:
            try:
                return published.stat().st_ino != Path(entry.path).stat().st_ino
            except FileNotFoundError:
                return os.path.lexists(entry.path)

        advice = "restart the publisher, which links it again; examine what is there"
        yield PossibleFinding(
            Finding(place, "is not the file that was published", advice), still_true
        )

    def _of_results(
        self, party: Party, path: str, place: str, entry: os.DirEntry[str]
    ) -> Iterator[PossibleFinding]:
        """Yield a finding if a file of a snapshot is not the one that was prepared."""
        parts = path.split("/")
        if len(parts) != 4 or parts[1] != layout.RESULTS:
            return
        prepared = self._site / result_view(int(parts[2]), party.scope) / parts[3]

        def still_true() -> bool:
            try:
                return prepared.stat().st_ino != Path(entry.path).stat().st_ino
            except FileNotFoundError:
                return os.path.lexists(entry.path)

        advice = "restart the publisher, which links it again; examine what is there"
        finding = Finding(place, "is not the file that was published", advice)
        yield PossibleFinding(finding, still_true)

    def _trees_of_no_party(self) -> Iterator[Finding]:
        parties = {party.id for party in self._settings.parties if party.mirrors}
        for path in sorted((self._site / TREES).glob("*")):
            if path.name not in parties and not path.name.startswith("."):
                problem = "belongs to no party"
                yield Finding(f"{TREES}/{path.name}", problem, "move it out by hand", note=True)

    # The filing ledger.

    def _ledger(self) -> Iterator[Finding]:
        ordered = terms.scan(self._site, FILING)
        (last,) = self._copy.execute("SELECT max(seq) FROM record").fetchone()
        rows = self._copy.execute("SELECT seq, event, page, what FROM record ORDER BY seq")
        expected = ((_number(seq), (event, page, what)) for seq, event, page, what in rows)
        try:
            for key, wanted, found in merge_sorted(expected, self._ledger_records(ordered, last)):
                name, number = terms.place_of(ordered, int.from_bytes(key, "big"))
                place = f"{LEDGERS}/{name}: number {number}"
                if found is None and wanted is not None:
                    yield Finding(place, f"is missing: {wanted[2]}", "restore it from a backup")
                elif wanted is None and found is not None:
                    advice = "restore the catalog from a backup"
                    yield Finding(place, f"is not in the catalog: {found[2]}", advice)
                elif wanted != found:
                    problem = f"has {found and found[2]}, but the catalog {wanted and wanted[2]}"
                    yield Finding(place, problem, "compare both with their backups")
            yield from self._late_records(ordered)
        except ValueError as error:
            yield Finding(f"{LEDGERS}/{FILING}", str(error), ADVICE)
        yield from self._different_rows
        yield from compare_totals(self._live)

    def _late_records(self, ordered: tuple[terms.Term, ...]) -> Iterator[Finding]:
        """Yield the late records of former leaders that say something else than those in order."""
        for name, record in terms.late_records(self._site, ordered):
            if record.event.event in _ARRIVALS and not has_same(self._live, record):
                place = f"{LEDGERS}/{name}: number {record.seq}"
                problem = f"came after another publisher was elected: {record.event.what}"
                yield Finding(place, f"{problem}, and is not in the catalog", ADVICE)

    def _decisions(self) -> Iterator[Finding]:
        try:
            found = list(compare_decisions(self._settings, self._live))
            if found and self._publisher_runs:  # one may be between its record and its row
                self._pause(_CONFIRM_SECONDS)
                again = set(compare_decisions(self._settings, self._live))
                found = [finding for finding in found if finding in again]
        except Faults as error:  # of a ledger; a catalog must not be rebuilt from it
            found = [
                Finding(fault.file, fault.message.removesuffix(f": {ADVICE}"), ADVICE)
                for fault in error.faults
            ]
        yield from found

    def _gaps(self) -> Iterator[PossibleFinding]:
        """Yield the gaps of trees that show the page: the feed and the sums leave it out."""
        query = (
            "SELECT g.party, f.path, f.sha256, g.filing FROM gap g "
            "LEFT JOIN filing f ON f.id = g.filing"
        )
        parties = {party.id for party in self._settings.parties if party.mirrors}
        for party, path, sha256, filing in self._live.execute(query).fetchall():
            place = f"{TREES}/{escaped(str(party))}/{escaped(str(path))}"
            shown = self._site / TREES / str(party) / str(path)
            known = party in parties and path is not None
            finding = Finding(place, f"is noted as a gap, filing {filing}, but is there", _GAPS)

            def still_true(known: bool = known, shown: Path = shown, sha256: str = sha256) -> bool:
                try:
                    original = (self._site / original_file(sha256)).lstat()
                    return not known or os.path.samestat(shown.lstat(), original)
                except (OSError, TypeError):
                    return not known

            yield PossibleFinding(finding, still_true)

    def _guarded(
        self, step: Iterator[Finding | PossibleFinding]
    ) -> Iterator[Finding | PossibleFinding]:
        """Yield the findings of a step; a value that it cannot read is a finding too."""
        try:
            yield from step
        except _UNREADABLE as error:
            if isinstance(error, (AttributeError, KeyError, TypeError)):  # or it is our own mistake
                _log.exception("check-failed")
            problem = f"has a value that cannot be read ({type(error).__name__}: {error})"
            yield Finding(str(CATALOG), problem, _REBUILD)

    def _ledger_records(
        self, ordered: tuple[terms.Term, ...], last: int | None
    ) -> Iterator[tuple[bytes, tuple[str, object, str]]]:
        last = -1 if last is None else last
        for record in terms.records(self._site, ordered):
            if record.seq > last:
                if self._publisher_runs:
                    return  # filed since
                if not is_unfinished(self._live, record):
                    self._different_rows += compare_record(self._live, record)
                continue
            self._progress("ledger", record.seq, last)
            event = record.event
            if event.event in _ARRIVALS:
                what = event.what.removeprefix(f"{QUARANTINE}/")
                if event.event == FilingEvent.DUPLICATE:
                    what = event.what
                if len(self._different_rows) < _MAX_ROWS:
                    self._different_rows += compare_record(self._live, record)
                yield _number(record.seq), (str(event.event), event.detail.get("page"), what)

    # Quarantine and spool.

    def _quarantine(self) -> Iterator[Finding | PossibleFinding]:
        folder = self._site / QUARANTINE
        rows = self._copy.execute("SELECT file, sha256, reason FROM held ORDER BY file")
        expected = ((os.fsencode(file), (sha256, reason)) for file, sha256, reason in rows)
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        known = set(names)
        notes = {name for name in names if name.endswith(".json")}
        files = (
            (os.fsencode(name), name)
            for name in names
            if not (name in notes and name.removesuffix(".json") in known)
        )
        for number, (key, wanted, name) in enumerate(merge_sorted(expected, files)):
            self._progress("quarantine", number, len(names))
            file = os.fsdecode(key)
            place = f"{QUARANTINE}/{escaped(file)}"
            if name is None:
                yield Finding(place, "is missing", "restore it from a backup")
            elif wanted is None:
                yield from self._extra_quarantined(place, folder / file)
            else:
                yield from self._quarantined(place, folder / file, *wanted)

    def _quarantined(
        self, place: str, path: Path, sha256: str | None, reason: str
    ) -> Iterator[Finding]:
        if sha256 is not None and not self._quick and _digest(path) != sha256:
            yield Finding(
                place, "has other bytes than were quarantined", "restore it from a backup"
            )
        try:
            note = parse_note(path.with_name(f"{path.name}.json").read_bytes())
        except (OSError, ValueError):
            yield Finding(
                f"{place}.json", "is missing or not a note", "", Repair("note", path.name)
            )
            return
        if (note.arrival, note.reason) != (path.name[:ID_LENGTH], reason):
            yield Finding(
                f"{place}.json", "is the note of another page", "", Repair("note", path.name)
            )

    def _extra_quarantined(self, place: str, path: Path) -> Iterator[Finding | PossibleFinding]:
        if path.name.startswith("."):
            if not self._publisher_runs:
                yield Finding(place, "is unfinished", _NEXT_START, note=True)
            return
        if _is_note_of_found_file(path.with_name(f"{path.name}.json")):
            return  # it was found in a tree, and its note says so
        if path.suffix == ".json" and _is_note_of_found_file(path):
            yield Finding(place.removesuffix(".json"), "is missing", "restore it from a backup")
            return
        advice = "examine it, and drop it into intake"
        finding = Finding(place, "was not put there by the publisher", advice)
        yield PossibleFinding(finding, partial(self._is_unknown, path.name))

    def _spool(self) -> Iterator[PossibleFinding]:
        folder = self._site / SPOOL
        here = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        for name in here:
            problem = "is not in the catalog"
            advice = "the publisher's next start files it as a page"
            finding = Finding(f"{SPOOL}/{escaped(name)}", problem, advice, note=True)
            yield PossibleFinding(finding, partial(self._is_unknown, name))
        claimed = "SELECT id, name FROM arrival WHERE seq IS NULL AND state = 'claimed'"
        for identity, name in self._live.execute(claimed).fetchall():
            finding = Finding(escaped(name), "was claimed and is lost", "have it scanned again")
            yield PossibleFinding(finding, partial(self._is_lost, folder, identity))

    def _is_unknown(self, file: str) -> bool:
        return not self._knows("SELECT 1 FROM arrival WHERE id = ?", file[:ID_LENGTH])

    def _is_lost(self, folder: Path, identity: str) -> bool:
        claimed = "SELECT 1 FROM arrival WHERE id = ? AND seq IS NULL AND state = 'claimed'"
        return not any(folder.glob(f"{identity}-*")) and self._knows(claimed, identity)


def _is_note_of_found_file(note: Path) -> bool:
    """Return whether a note is of a file found in a tree, which the catalog does not know."""
    try:
        return parse_note(note.read_bytes()).reason == quarantine.FOUND_IN_TREE
    except (OSError, ValueError):
        return False


def _number(seq: int) -> bytes:
    return seq.to_bytes(8, "big")


def _digest(path: str | Path) -> str | None:
    try:
        with open(path, "rb", opener=_open_no_follow) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _digests(path: str) -> Digests | None:
    try:
        descriptor = _open_no_follow(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return digest.compute(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _open_no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
