"""Gives the files that a test writes into a tree the mode that the publisher gives them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keys import digest
from keys.digest import Digests

MODE = 0o444


@pytest.fixture(autouse=True)
def published_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make `write_bytes`, `write_text` and `touch` leave a file below `trees/` with mode 0444."""
    for name in ("write_bytes", "write_text", "touch"):
        monkeypatch.setattr(Path, name, _publishing(getattr(Path, name)))
    yield


def _publishing(write: Callable[..., Any]) -> Callable[..., Any]:
    def written(self: Path, *words: object, **named: object) -> object:
        in_tree = "trees" in self.parts
        if in_tree and self.is_file():
            self.chmod(0o644)
        found = write(self, *words, **named)
        if in_tree:
            self.chmod(MODE)
        return found

    return written


def stamp(file: Path, digests: Digests, key: bytes | None = None) -> None:
    """Store a file's digests with it, as the publisher does while it can still write to it."""
    file.chmod(0o644)
    with file.open("rb") as opened:
        assert digest.stamp(opened.fileno(), digests, key)
    file.chmod(MODE)
