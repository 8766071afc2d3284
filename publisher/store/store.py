"""Originals by content, and hard links to them in the parties' trees.

An original stands once, at `store/ab/cd/<sha256>`, mode 0444, its mtime the filing time in
whole seconds, its digests kept with it (keys/digest). It is a fresh file, never the scanner's
own, which may still be open for writing elsewhere: `stage` writes it beside the store's folders
as `.staged-<arrival>`, `keep` renames it into place. A tree's file is a hard link to it, so it
appears whole. Everything here may be done twice with the same result; nothing that a client can
see is ever changed.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from config import layout
from config.fault import Fault, Faults
from config.site import STORE, TREES
from keys import digest
from keys.files import sync_file_system

STAGED = ".staged-"
_PAGES = tuple(f".{extension}" for extension in layout.EXTENSIONS)
_FOLDER_MODE, FILE_MODE = 0o755, 0o444


class CannotLink(Exception):
    """A link cannot be: its place or its original is not as we left it."""


class Store:
    """The store and the trees of one site; links last once `sync` has returned."""

    def __init__(self, site: Path) -> None:
        """Make both folders; raise Faults if they cannot be linked to one another."""
        self._originals = site / STORE
        self._trees = site / TREES
        # What an earlier run had made may not last yet, and is about to be relied on.
        self._dirty = True
        self._last_missing_folder = (
            ""  # the folder that the last tree lacked, which others will lack too
        )
        # With a umask that lets others in, as the publisher's does, a folder has its mode at once.
        self._umask_hides = bool(_umask() & _FOLDER_MODE)
        for folder in (self._originals, self._trees):
            self._make_folder(str(folder))
        if self._originals.stat().st_dev != self._trees.stat().st_dev:
            wrong = "is on another file system than store/, hard links need both on one"
            raise Faults([Fault(str(TREES), "", wrong)])

    def make_root(self, party: str) -> None:
        """Make the root of a party's tree."""
        self._make_folder(str(self._trees / party))
        self._dirty = True

    def tree_names(self) -> set[str]:
        """Return the parties, of today or of before, that have a tree."""
        return {path.name for path in self._trees.iterdir() if not path.name.startswith(".")}

    def stage(self, arrival: str, content: bytes) -> Path:
        """Write a page's bytes into a fresh file of the store; any thread may."""
        path = self._originals / f"{STAGED}{arrival}"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            digest.stamp(descriptor, digest.digests_of(content))
            os.fchmod(descriptor, FILE_MODE)
        self._dirty = True
        return path

    def staged_path(self, arrival: str) -> Path:
        """Return where `stage` wrote an arrival's bytes."""
        return self._originals / f"{STAGED}{arrival}"

    def discard(self, arrival: str) -> None:
        """Remove a staged page whose bytes stand somewhere else already."""
        self.staged_path(arrival).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what was staged and not kept when a run ended; the spool still has it."""
        for path in self._originals.glob(f"{STAGED}*"):
            path.unlink()

    def keep(self, arrival: str, sha256: str, filed_at: int) -> int:
        """Put a staged page in its place as filed at `filed_at`, and return its mtime.

        An original that is there already (a crash came before its catalog row) stays, mtime and
        all, if it is sound.
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

    def restore_from_tree(self, sha256: str, party: str, path: str) -> bool:
        """Bring a lost original back from a tree that shows it; False if that shows other bytes."""
        shown, original = self._trees / party / path, self.original(sha256)
        if shown.is_symlink() or not _has_digest(shown, sha256):
            return False
        self._make_folders(str(original.parent))
        original.hardlink_to(shown)
        self._dirty = True
        return True

    def restore_metadata(self, sha256: str, filed_at: int) -> bool:
        """Give an original its mode and its filing time again; False if its bytes are others."""
        original = self.original(sha256)
        if original.is_symlink() or not _has_digest(original, sha256):
            return False
        original.chmod(FILE_MODE)
        os.utime(original, (filed_at, filed_at))
        self._dirty = True
        return True

    def original(self, sha256: str) -> Path:
        """Return where the bytes of that digest belong."""
        return self._originals / sha256[:2] / sha256[2:4] / sha256

    def link(self, sha256: str, party: str, path: str) -> None:
        """Show an original in a party's tree.

        Raises CannotLink if something else is there, or the original is not.
        """
        # Done for each page and party, so as text: a Path costs more than the link itself.
        source = f"{self._originals}/{sha256[:2]}/{sha256[2:4]}/{sha256}"
        place = f"{self._trees}/{party}/{path}"
        try:
            self._link(source, place, path.rpartition("/")[0])
        except FileExistsError:
            original, target = Path(source), Path(place)
            if not target.parent.is_dir() or not _is_same_inode(original, target):
                raise CannotLink(f"{place} is not the original {sha256}") from None
        except NotADirectoryError:
            raise CannotLink(f"{Path(place).parent} is no folder") from None
        except FileNotFoundError:
            original = Path(source)
            if original.exists():
                raise
            raise CannotLink(f"{original} is missing, restore it from a copy") from None
        self._dirty = True

    def pages_in_tree(self, party: str, refused: Callable[[OSError], None]) -> Iterator[str]:
        """Yield the path of all that is named like a page in a party's tree, whoever put it there.

        `refused` is told of a folder that cannot be listed.
        """
        root = self._trees / party
        for folder, _, names in os.walk(root, onerror=refused):
            for name in names:
                if name.lower().endswith(_PAGES):
                    yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118

    def own_files(self, party: str) -> list[str]:
        """Return the path of all in a party's tree that is the publisher's own, and no page."""
        root = self._trees / party
        files = (path for path in root.rglob("*") if path.is_symlink() or not path.is_dir())
        found = (path.relative_to(root).as_posix() for path in files)
        return sorted(filter(layout.is_publisher_file, found))

    def is_stored(self, party: str, path: str, sha256: str | None) -> bool:
        """Say whether the store has what stands in a tree; `sha256` is what ought to be there."""
        shown = self._trees / party / path
        if not stat.S_ISREG(shown.lstat().st_mode):
            return False
        original = self.original(sha256) if sha256 is not None else None
        if original is not None and original.exists() and _is_same_inode(original, shown):
            return True
        with shown.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return _has_digest(self.original(digest), digest)

    def remove(
        self, party: str, path: str, dispose: Callable[[Path], None] = lambda shown: shown.unlink()
    ) -> None:
        """Take something out of a party's tree, with folders that it leaves empty."""
        root, shown = self._trees / party, self._trees / party / path
        dispose(shown)
        folder = shown.parent
        while folder != root and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
        self._dirty = True

    def sync(self) -> None:
        """Make what was staged, kept, linked and unlinked survive a loss of power."""
        if self._dirty:
            self._dirty = False  # before, since a page may be staged meanwhile
            sync_file_system(self._originals)

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
                raise NotADirectoryError(f"{folder} is no folder") from None
            return False
        if self._umask_hides:
            os.chmod(folder, _FOLDER_MODE)  # noqa: PTH101 - see `link`
        return True


def _umask() -> int:
    # Without setting it for a moment, as os.umask does, and for every thread.
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
