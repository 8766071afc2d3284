"""Signs a ledger: reads its lines, hashes them, and signs the root of their Merkle tree.

The signer holds the private key and the writer does not. They share only the ledger's files. The
signer signs only what it has read and hashed itself, and its tree only grows, so no one can make
it sign a smaller tree or a different one. Before it signs, it syncs the lines to the disk, so that
a loss of power cannot make an honest ledger look shortened.

At a start it continues from the newest checkpoint:

1. Open the newest checkpoint with the present key or a former one.
2. Compute the root from the stored hashes. If it equals the checkpoint's root, and the stored roots
   of subtrees are those of their parts, continue from there. Of subtrees of lines, only those that
   may not have been synced are compared.
3. Otherwise hash all lines again. If their root equals the checkpoint's, replace the stored hashes.
4. Otherwise raise LedgerMismatch: the ledger has changed, and nothing more is signed.

A log's origin is `ssps/<ledger>/<16 hexadecimal digits>`. The digits are random and chosen when
the first checkpoint is signed, so no two ledgers, of other gateways or other years, share one.
"""

import fcntl
import gzip
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import IO

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from keys import files
from keys.ledger import merkle, note, segments, tiles
from keys.ledger.anchors import LineRoots
from keys.ledger.merkle import MerkleTree
from keys.ledger.note import Checkpoint
from keys.ledger.record import seq_of
from keys.ledger.segments import CHECKPOINT, CHECKPOINTS, HASH_SIZE, HASHES, Segment
from keys.ledger.signed_copies import SignedCopy
from keys.ledger.tiles import HashReader, HashWriter, Progress, Report
from keys.ledger.writer import Clock, utc_now

_UNFINISHED = ".new"
_CHUNK = 16 << 20  # bytes that are read and synced at a time
_HISTORY_INTERVAL = timedelta(seconds=60)  # between two checkpoints in the history
_ADVICE = "do not change its files, and restore the ledger from a backup"


class LedgerMismatch(Exception):
    """The ledger does not match its newest checkpoint, so nothing more is signed."""


class Signer:
    """Signs one ledger; close it, or use it in a `with`.

    A lock (flock) allows one signer per ledger; a second one waits until the first is closed.
    """

    def __init__(
        self,
        folder: Path,
        key: Ed25519PrivateKey,
        clock: Clock = utc_now,
        *,
        former: Iterable[Ed25519PublicKey] = (),
        token: Callable[[], str] = lambda: secrets.token_hex(8),
        wait: bool = True,
        copy: Path | None = None,
        report: Report = lambda folder, hashed, records: None,
    ) -> None:
        """Open the ledger in `folder`; its checkpoints may be signed by `key` or by `former` keys.

        `copy` is the file that gets each checkpoint too (keys/ledger/signed_copies). `report` is
        called when all lines have to be hashed again, and every ten seconds until that is done.
        Raises LedgerMismatch if the ledger does not match its newest checkpoint, and without `wait`
        BlockingIOError if another signer works on it.
        """
        self._folder = folder
        self._key = key
        self._clock = clock
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._history = os.open(folder / CHECKPOINTS, flags, 0o600)
        self._copy: SignedCopy | None = None
        self._copied: Checkpoint | None = None
        self._report = report
        self._progress: Progress | None = None  # while all lines are hashed again
        known = [key.public_key(), *former]
        try:
            fcntl.flock(self._history, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            self._newest = self._open_newest(known)
            self._origin = self._newest.origin if self._newest else f"ssps/{folder.name}/{token()}"
            self._in_history = self._open_last_in_history()
            self._tree_files = self._resume()
            if copy is not None:
                self._copy = SignedCopy(copy, folder, known, LineRoots(report))
        except BaseException:
            self.close()
            raise

    def sign(self, last: bool = False) -> Checkpoint | None:
        """Sign the records added since the last call; return the new checkpoint or None.

        The history gets one checkpoint per minute. With `last`, at the end of a run, it gets this
        one in any case.
        """
        self._catch_up(self._tree_files, durable=True)
        tree, before = self._tree_files.tree, self._newest
        if tree.size > (before.size if before else 0):
            fresh = Checkpoint(self._origin, tree.size, tree.root(), self._clock())
            files.replace(self._folder / CHECKPOINT, note.sign_checkpoint(fresh, self._key))
            self._newest = fresh
        self._append_to_history(last)
        if self._copy is not None and self._newest is not self._copied:
            self._copy.keep(segments.read_checkpoint(self._folder) or b"")
            self._copied = self._newest
        return self._newest if self._newest is not before else None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        return self._newest

    def compress_next(self) -> Segment | None:
        """Compress the oldest sealed segment that is not compressed yet; return it, or None."""
        for segment, following in pairwise(segments.list_segments(self._folder)):
            pending = not segment.compressed and not segment.path.is_symlink()
            if pending and following.first <= self._tree_files.tree.size:
                _compress(segment)
                return segment
        return None

    def close(self) -> None:
        """Release the lock."""
        with suppress(OSError):
            os.close(self._history)

    def __enter__(self) -> "Signer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open_newest(self, keys: list[Ed25519PublicKey]) -> Checkpoint | None:
        message = segments.read_checkpoint(self._folder)
        if message is None:
            kept = note.split_notes((self._folder / CHECKPOINTS).read_bytes())
            message = kept[-1] if kept else None
        if message is None:
            return None
        path = self._folder / CHECKPOINT
        try:
            return note.open_checkpoint(message, keys)
        except note.UnknownSigner:
            raise LedgerMismatch(f"{path}: not signed by a key of this site: {_ADVICE}") from None
        except (note.WrongSignature, ValueError) as error:
            raise LedgerMismatch(f"{path}: {error}: {_ADVICE}") from None

    def _open_last_in_history(self) -> Checkpoint | None:
        raw = (self._folder / CHECKPOINTS).read_bytes()
        kept = note.split_notes(raw)
        complete = sum(map(len, kept))
        if complete < len(raw):  # a crash left the last one incomplete
            os.ftruncate(self._history, complete)
        return note.unverified_checkpoint(kept[-1]) if kept else None

    def _append_to_history(self, last: bool) -> None:
        signed, kept = self._newest, self._in_history
        if signed is None or (kept is not None and signed.size == kept.size):
            return
        if not last and kept is not None and kept.time is not None:
            assert signed.time is not None  # noqa: S101 - we write one into each
            if timedelta() <= signed.time - kept.time < _HISTORY_INTERVAL:
                return
        message = segments.read_checkpoint(self._folder)
        if message is not None:
            self._tree_files.sync()  # so the hashes up to a checkpoint of the history are on disk
            before = os.fstat(self._history).st_size
            if os.write(self._history, message) != len(message):
                os.ftruncate(self._history, before)
                raise OSError(28, os.strerror(28), str(self._folder / CHECKPOINTS))
            os.fsync(self._history)
            self._in_history = signed

    def _resume(self) -> HashWriter:
        signed = self._newest
        if signed is None:
            return self._rebuild_hashes(Checkpoint("", 0, merkle.EMPTY_ROOT))
        if segments.next_seq(self._folder) < signed.size:
            records = segments.next_seq(self._folder)
            short = f"has {records} records, but {signed.size} were signed"
            raise LedgerMismatch(f"{self._folder}: {short}: {_ADVICE}")
        found = HashReader(self._folder)
        try:
            synced = self._in_history.size if self._in_history is not None else 0
            if (
                found.size >= signed.size
                and merkle.root_hash(signed.size, found.node) == signed.root
                and found.has_roots(synced, signed.size)
            ):
                peaks = merkle.peaks(signed.size, found.node)
                return HashWriter(self._folder, MerkleTree(signed.size, peaks), synced=synced)
        except tiles.HashesMissing:
            pass
        return self._rebuild_hashes(signed)

    def _rebuild_hashes(self, signed: Checkpoint) -> HashWriter:
        """Hash all lines again; use the stored hashes of segments that were moved or removed."""
        self._remove_unfinished()
        tree_files = HashWriter(self._folder, MerkleTree(), _UNFINISHED)
        if signed.size:
            self._progress = Progress(self._report, self._folder, signed.size, time.monotonic)
        self._catch_up(tree_files, until=signed.size)
        self._progress = None
        if tree_files.tree.size != signed.size or tree_files.tree.root() != signed.root:
            self._remove_unfinished()
            raise LedgerMismatch(
                f"{self._folder}: does not match its newest checkpoint, `ssps audit verify` names "
                f"the record: {_ADVICE}"
            )
        tree_files.sync()
        for path in sorted(self._folder.glob(f"*{_UNFINISHED}")):
            path.replace(path.with_name(path.name.removesuffix(_UNFINISHED)))
        files.sync(self._folder)
        return HashWriter(self._folder, tree_files.tree)

    def _remove_unfinished(self) -> None:
        for path in self._folder.glob(f"*{_UNFINISHED}"):
            path.unlink()

    def _catch_up(
        self, tree_files: HashWriter, until: int | None = None, durable: bool = False
    ) -> None:
        """Add the lines after the end of the tree, up to record `until` if that is given.

        With `durable` it syncs lines before it adds them.
        """
        here = {segment.first: segment for segment in segments.list_segments(self._folder)}
        ordered = sorted({*here, *(n for n, _ in segments.list_files(self._folder, HASHES))})
        for index, first in enumerate(ordered):
            end = ordered[index + 1] if index + 1 < len(ordered) else until
            if end is not None and end <= tree_files.tree.size:
                continue
            if until is not None and tree_files.tree.size >= until:
                break
            stop = end if until is None else min(until, end if end is not None else until)
            if tree_files.tree.size < first:
                missing = f"record {tree_files.tree.size} is missing"
                raise LedgerMismatch(f"{self._folder}: {missing}: {_ADVICE}")
            if first in here:
                self._add_lines(tree_files, here[first], stop, durable)
            else:
                self._add_stored_hashes(tree_files, first, stop)

    def _add_lines(
        self, tree_files: HashWriter, segment: Segment, end: int | None, durable: bool
    ) -> None:
        with segment.open() as file:
            left = sys.maxsize
            if not isinstance(file, gzip.GzipFile):
                file.seek(segments.find_offset(file.fileno(), tree_files.tree.size))
                # Lines that the writer adds from now on are read in the next call; otherwise this
                # loop might never end.
                left = os.fstat(file.fileno()).st_size - file.tell()
            begun, rest = False, b""
            while end is None or tree_files.tree.size < end:
                read = file.read(min(_CHUNK, left))
                if not read:
                    return
                left -= len(read)
                if durable and not segment.compressed and not _sync_read(file):
                    return
                # Do not use readlines: it could split a line that is being written into two.
                *bare, rest = (rest + read).split(b"\n")
                found = [line + b"\n" for line in bare]
                if not begun:  # find_offset may return the offset of an earlier line
                    found = list(
                        dropwhile(lambda line: _comes_before(line, tree_files.tree.size), found)
                    )
                    begun = bool(found)
                tree_files.add(segment.first, found[: end - tree_files.tree.size if end else None])
                if self._progress is not None:
                    self._progress.show(tree_files.tree.size)

    def _add_stored_hashes(self, tree_files: HashWriter, first: int, end: int | None) -> None:
        raw = (self._folder / segments.file_name(first, HASHES)).read_bytes()
        start = tree_files.tree.size - first
        stop = len(raw) // HASH_SIZE if end is None else end - first
        hashes = [raw[n * HASH_SIZE : (n + 1) * HASH_SIZE] for n in range(start, stop)]
        tree_files.add_hashes(first, hashes)


def _sync_read(file: IO[bytes]) -> bool:
    """Sync what was read so far; False if the writer has since truncated part of it."""
    os.fdatasync(file.fileno())
    return os.fstat(file.fileno()).st_size >= file.tell()


def _comes_before(line: bytes, number: int) -> bool:
    return -1 < seq_of(line) < number


def _compress(segment: Segment) -> None:
    packed = segment.path.with_name(segments.file_name(segment.first, segments.COMPRESSED))
    fresh = packed.with_name(packed.name + _UNFINISHED)
    with segment.path.open("rb") as plain, fresh.open("wb") as raw:
        os.fchmod(raw.fileno(), 0o600)
        # Without a timestamp, so that the same lines always compress to the same bytes.
        with gzip.GzipFile("", "wb", 6, raw, 0) as file:
            shutil.copyfileobj(plain, file, 1 << 20)
        raw.flush()
        os.fsync(raw.fileno())
        stat = os.fstat(plain.fileno())
    os.utime(fresh, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    fresh.replace(packed)
    files.sync(packed.parent)
    segment.path.unlink()
