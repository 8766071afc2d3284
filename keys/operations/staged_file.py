"""Writes a file of credentials in three steps, so that a crash leaves the old one or the new one.

1. `stage` writes the new file beside the one in force, as `.NAME.next`.
2. The caller records its digest in the operations ledger (keys/operations/key_files).
3. `apply` moves it into place.

After a crash before the third step, a reader finds on record the digest of the staged file, and
reads that one (keys/operations/ring_files, keys/operations/user_files).
"""

from pathlib import Path

from keys import files


def read(path: Path) -> bytes | None:
    """Return the content of a file, None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def staged(path: Path) -> Path:
    """Return the place of the file that will replace the one at `path`."""
    return path.with_name(f".{path.name}.next")


def stage(path: Path, content: bytes) -> None:
    """Write a file beside the one in force, before its line is recorded."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.remove_unfinished(path.parent)
    files.replace(staged(path), content)


def apply(path: Path, content: bytes) -> None:
    """Put a staged file in force; write it first if it is not staged."""
    if read(staged(path)) != content:
        stage(path, content)
    staged(path).replace(path)
    files.sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file and what is staged for it; call it after the removal is recorded."""
    path.unlink(missing_ok=True)
    staged(path).unlink(missing_ok=True)
