"""Keeps originals by their digest, and links them into the trees of the parties.

Each original is stored once, as `store/ab/cd/<sha256>` with mode 0444; its mtime is the filing
time in whole seconds, and it is stamped with its digests (keys/digest). It is a new file, never
the file of the scanner, which another process may still have open for writing: `stage` writes it
as `store/.staged-<arrival>`, `keep` renames it into place. A file in a tree is a hard link to an
original, so it appears complete. While links are made, the original has another mode, with which
the server shows it to no client: `seal` ends that, when all links are there. Every operation can be
repeated with the same result. Nothing that a client can see is ever changed.
"""

import errno
import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from config import layout
from config.fault import Fault, Faults
from config.site import STORE, TREES, original_file
from keys import digest
from keys.digest import Digests
from keys.files import sync_file_system
from keys.kernel import file_system
from keys.operations import site_keys

STAGED = ".staged-"
_PAGES = tuple(f".{extension}" for extension in layout.EXTENSIONS)
_FOLDER_MODE, FILE_MODE = 0o755, 0o444
_UNSEALED_MODE = 0o644  # an attribute is set only on a file that may be written
_MAX_DIGESTS = 4096


class CannotLink(Exception):
    """A link cannot be made: its path is taken by something else, or the original is missing."""


class Store:
    """The store and the trees of one site; changes are durable after `sync`."""

    def __init__(self, site: Path) -> None:
        """Create both folders; raise Faults if hard links between them are impossible."""
        self._site = site
        self._originals = site / STORE
        self._trees = site / TREES
        self.stamp_key = site_keys.stamp_key_on_record(site, create=True)
        # Of the files that were staged and not sealed yet, so that they are not hashed again.
        self._digests: dict[str, Digests] = {}
        self._digests_lock = threading.Lock()
        # Changes of an earlier run may not be durable yet, but this run relies on them.
        self._dirty = True
        # The folder that the last `link` had to create. The next trees lack it too, so `link`
        # creates it there without trying first.
        self._last_missing_folder = ""
        # The publisher runs with a umask that leaves folders at 0755. With any other umask each new
        # folder needs a chmod.
        self._needs_chmod = bool(_umask() & _FOLDER_MODE)
        for folder in (self._originals, self._trees):
            self._make_folder(str(folder))
        if self._originals.stat().st_dev != self._trees.stat().st_dev:
            wrong = "is on another file system than store/, hard links need both on one"
            raise Faults([Fault(str(TREES), "", wrong)])
        self._sync_each = not _has_syncfs(self._originals)

    def make_root(self, party: str) -> None:
        """Create the root folder of a party's tree."""
        self._make_folder(str(self._trees / party))
        self._dirty = True

    def tree_names(self) -> set[str]:
        """Return the names of all trees, including those of parties that were removed."""
        return {path.name for path in self._trees.iterdir() if not path.name.startswith(".")}

    def stage(self, arrival: str, content: bytes) -> Path:
        """Write the bytes of an arrival to a new file in the store; any thread may call this."""
        path = self._originals / f"{STAGED}{arrival}"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            found = digest.digests_of(content)
            digest.stamp(descriptor, found, self.stamp_key)
            with self._digests_lock:
                self._digests[found.sha256] = found
                if len(self._digests) > _MAX_DIGESTS:
                    del self._digests[next(iter(self._digests))]
            os.fchmod(descriptor, FILE_MODE)
            if self._sync_each:
                os.fsync(descriptor)
        self._dirty = True
        return path

    def take_digests(self, sha256: str) -> Digests | None:
        """Return and forget the digests of a file that was staged."""
        with self._digests_lock:
            return self._digests.pop(sha256, None)

    def adopt(self, staged_as: str, arrival: str, digests: Digests | None) -> None:
        """Take over what was staged under another name; `digests` if another process did it.

        Raises FileNotFoundError if it is not there.
        """
        self.staged_path(staged_as).rename(self.staged_path(arrival))
        if digests is not None:
            with self._digests_lock:
                self._digests[digests.sha256] = digests
        self._dirty = True

    def staged_path(self, arrival: str) -> Path:
        """Return the path to which `stage` writes the bytes of an arrival."""
        return self._originals / f"{STAGED}{arrival}"

    def discard(self, arrival: str) -> None:
        """Remove staged bytes that are not needed because they are stored already."""
        self.staged_path(arrival).unlink(missing_ok=True)

    def sweep(self, names: str = "*") -> None:
        """Remove what was staged under such names and not kept; the spool still has these files."""
        for path in self.staged_files(names):
            path.unlink(missing_ok=True)

    def staged_files(self, names: str = "*") -> list[Path]:
        """Return what is staged under such names and not kept."""
        return list(self._originals.glob(f"{STAGED}{names}"))

    def keep(self, arrival: str, sha256: str, filed_at: int) -> int:
        """Move a staged file to its place in the store, and return its mtime in seconds.

        The mtime is `filed_at`. After a crash the original may already be there, without a row in
        the catalog; if its bytes are right, it keeps its mtime.
        """
        staged, original = self.staged_path(arrival), self.original(sha256)
        if _has_digest(original, sha256):
            staged.unlink(missing_ok=True)
            return int(original.stat().st_mtime)
        os.utime(staged, (filed_at, filed_at))
        self._make_folders(str(original.parent))
        staged.rename(original)
        self._dirty = True
        return filed_at

    def unseal(self, sha256: str) -> None:
        """Prepare an original for links: until `seal`, the server shows it to no client."""
        descriptor = self._open(sha256)
        if descriptor is not None:
            os.fchmod(descriptor, _UNSEALED_MODE)
            os.close(descriptor)

    def seal(self, sha256: str) -> None:
        """Seal an original that has all its links, so that the server believes its stamp.

        Other bytes than those of `sha256` are not sealed.
        """
        with self._digests_lock:
            known = self._digests.pop(sha256, None)
        descriptor = self._open(sha256)
        if descriptor is None:
            return  # `ssps verify` names it
        try:
            actual = known or digest.compute(descriptor)
            if self.stamp_key is not None and actual.sha256 == sha256:
                os.fchmod(descriptor, _UNSEALED_MODE)
                digest.reseal(descriptor, actual, self.stamp_key)
        finally:
            os.fchmod(descriptor, FILE_MODE)
            os.close(descriptor)

    def _open(self, sha256: str) -> int | None:
        try:
            return os.open(self._place(sha256), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return None
            raise

    def restore_from_tree(self, sha256: str, party: str, path: str) -> bool:
        """Restore a missing original from a tree; return False if the tree has other bytes."""
        shown, original = self._trees / party / path, self.original(sha256)
        if shown.is_symlink() or not _has_digest(shown, sha256):
            return False
        self._make_folders(str(original.parent))
        original.hardlink_to(shown)
        self._dirty = True
        return True

    def restore_metadata(self, sha256: str, filed_at: int) -> bool:
        """Reset mode, mtime and stamp of an original; return False if its bytes are wrong."""
        original = self.original(sha256)
        if original.is_symlink() or not _has_digest(original, sha256):
            return False
        if original.stat().st_mtime_ns != filed_at * 1_000_000_000:
            os.utime(original, (filed_at, filed_at))
        return self.stamp_again(sha256)

    def stamp_again(self, sha256: str) -> bool:
        """Stamp and seal an original unless it is; return False if its bytes are wrong."""
        descriptor = self._open(sha256)
        if descriptor is None:
            return False
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return False
            actual = digest.compute(descriptor)
            if actual.sha256 != sha256:
                return False
            if not digest.is_stamped(descriptor, actual, self.stamp_key):
                os.fchmod(descriptor, _UNSEALED_MODE)
                digest.stamp(descriptor, actual, self.stamp_key)
                os.fchmod(descriptor, FILE_MODE)
            elif stat.S_IMODE(status.st_mode) != FILE_MODE:
                os.fchmod(descriptor, FILE_MODE)
        finally:
            os.close(descriptor)
        self._dirty = True
        return True

    def original(self, sha256: str) -> Path:
        """Return the path of the original with that digest."""
        return self._site / original_file(sha256)

    def link(self, sha256: str, party: str, path: str) -> None:
        """Link an original into a party's tree.

        Raises CannotLink if something else is at that path, or the original is missing.
        """
        # Called for each page and party, and a Path takes longer than the link itself.
        source = self._place(sha256)
        place = f"{self._trees}/{party}/{path}"
        try:
            self._link(source, place, path.rpartition("/")[0])
        except FileExistsError:
            original, target = Path(source), Path(place)
            if not target.parent.is_dir() or not _is_same_inode(original, target):
                raise CannotLink(f"{place} is not the original {sha256}") from None
        except NotADirectoryError:
            raise CannotLink(f"{Path(place).parent} is not a folder") from None
        except FileNotFoundError:
            original = Path(source)
            if original.exists():
                raise
            raise CannotLink(f"{original} is missing, restore it from a backup") from None
        self._dirty = True

    def pages_in_tree(self, party: str, refused: Callable[[OSError], None]) -> Iterator[str]:
        """Yield the path of every file in a party's tree whose name ends like that of a page.

        This includes files that the publisher did not put there. `refused` is called with the
        error for each folder that cannot be listed.
        """
        root = self._trees / party
        for folder, _, names in os.walk(root, onerror=refused):
            for name in names:
                if name.lower().endswith(_PAGES):
                    yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118

    def own_files(self, party: str) -> list[str]:
        """Return the paths of sums, feed and other files of the publisher in a party's tree."""
        root = self._trees / party
        files = (path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
        found = (path.relative_to(root).as_posix() for path in files)
        return sorted(filter(layout.is_publisher_file, found))

    def is_stored(self, party: str, path: str, sha256: str | None) -> bool:
        """Return True if the store has the bytes of a file in a tree.

        `sha256` is the digest that the file should have, None if it is not known.
        """
        shown = self._trees / party / path
        if not stat.S_ISREG(shown.lstat().st_mode):
            return False
        original = self.original(sha256) if sha256 is not None else None
        if original is not None and original.exists() and _is_same_inode(original, shown):
            return True
        with shown.open("rb") as file:
            shown_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return _has_digest(self.original(shown_sha256), shown_sha256)

    def remove(
        self, party: str, path: str, dispose: Callable[[Path], None] = lambda shown: shown.unlink()
    ) -> None:
        """Remove a file from a party's tree, and the folders that become empty.

        `dispose` is called with the path to remove the file; by default it unlinks it.
        """
        root, shown = self._trees / party, self._trees / party / path
        dispose(shown)
        folder = shown.parent
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
        self._dirty = True

    def sync(self) -> None:
        """Make all changes to the store and the trees durable."""
        if self._dirty:
            self._dirty = False  # first, because another thread may stage a page during the sync
            sync_file_system(self._originals)

    def _place(self, sha256: str) -> str:
        return f"{self._originals}/{sha256[:2]}/{sha256[2:4]}/{sha256}"

    def _link(self, source: str, place: str, within: str) -> None:
        if within == self._last_missing_folder and not self._make_folders(place.rpartition("/")[0]):
            self._last_missing_folder = ""
        try:
            os.link(source, place)
        except FileNotFoundError:
            self._last_missing_folder = within
            self._make_folders(place.rpartition("/")[0])
            os.link(source, place)

    def _make_folders(self, folder: str) -> bool:
        try:
            return self._make_folder(folder)
        except FileNotFoundError:
            self._make_folders(folder.rpartition("/")[0])
            return self._make_folder(folder)

    def _make_folder(self, folder: str) -> bool:
        try:
            os.mkdir(folder, _FOLDER_MODE)  # noqa: PTH102 - see `link`
        except FileExistsError:
            if not Path(folder).is_dir():
                raise NotADirectoryError(f"{folder} is not a folder") from None
            return False
        if self._needs_chmod:
            os.chmod(folder, _FOLDER_MODE)  # noqa: PTH101 - see `link`
        return True


def _has_syncfs(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return file_system.has_syncfs(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    # os.umask would change the umask of every thread for a moment.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("\nUmask:")[2].split()[0], 8)


def _is_same_inode(original: Path, target: Path) -> bool:
    one, other = original.lstat(), target.lstat()
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _has_digest(original: Path, sha256: str) -> bool:
    try:
        with original.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False
