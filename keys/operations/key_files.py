"""The files under keys/ that the operations ledger names, each with the SHA-256 of its bytes.

A command that writes a ring has the ring's line in `key_files` of its record, for example

    keys/parties/parti-a.toml 9f64844533fd90928620bad8f9711bbaf0435eccdb5928b442268e48df425d20

with `-` instead of a digest if it removes the file. A `keys` record (keys/operations/keys_record)
has such lines in `before` and `after`, of the files that changed and of no others. The newest line
about a file counts; the lines of a change that then failed do not.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from config.event import Outcome
from config.site import KEYS as FOLDER
from config.site import LEDGERS, OPERATIONS, RINGS, SIGNING_KEYS, USERS
from config.site import OPERATORS as OPERATORS_FILE
from keys.ledger import segments
from keys.ledger.record import Record, parse_record, seq_of
from keys.operations import staged_file

KEYS, KEY_FILES = "keys", "key_files"
REMOVED = "-"
_MARKS = (f'"{KEY_FILES}"'.encode(), f'"event":"{KEYS}"'.encode(), b'"outcome":"failed"')


class KeyFilesOnRecord:
    """The files on record, from the operations ledger; `refresh` reads only what was added."""

    def __init__(self, site: Path) -> None:
        self._folder = site / LEDGERS / OPERATIONS
        self._next = 0
        self._undo: dict[int, dict[str, str | None]] = {}
        self.digests: dict[str, str] = {}

    def refresh(self) -> "KeyFilesOnRecord":
        """Read the records that were added since the last call; return itself."""
        if not self._folder.exists():
            return self
        for _, _, line in segments.read_lines(self._folder, self._next):
            number = seq_of(line)
            if number < self._next:
                continue
            self._next = number + 1
            if any(mark in line for mark in _MARKS):
                try:
                    self._take_up(parse_record(line))
                except ValueError:
                    continue  # `ssps audit verify` names a damaged line
        return self

    @property
    def next_seq(self) -> int:
        """The number of the first record that was not read yet."""
        return self._next

    @property
    def server_keys(self) -> dict[str, str]:
        """The digests of the files on record that hold no credentials, without removed ones."""
        return {
            name: digest
            for name, digest in self.digests.items()
            if not holds_credentials(name) and digest != REMOVED
        }

    @property
    def empty(self) -> bool:
        """Whether the ledger names no key file, because the site is older than these records."""
        return not self.digests

    def _take_up(self, record: Record) -> None:
        event = record.event
        if event.outcome is Outcome.FAILED:
            completes = event.detail.get("of")
            if isinstance(completes, int):
                self._set(self._undo.pop(completes, {}))
            return
        if event.event == KEYS:
            changed: dict[str, str | None] = dict.fromkeys(_parse(event.detail.get("before")))
            changed |= _parse(event.detail.get("after"))
        elif event.outcome is Outcome.OK:
            changed = dict(_parse(event.detail.get(KEY_FILES)))
        else:
            return
        self._undo[record.seq] = {name: self.digests.get(name) for name in changed}
        self._set(changed)

    def _set(self, changed: Mapping[str, str | None]) -> None:
        for name, digest in changed.items():
            if digest is None:
                self.digests.pop(name, None)
            else:
                self.digests[name] = digest


def lines(digests: Mapping[str, str]) -> list[str]:
    """Return a line for each file, in the order of their names."""
    return [f"{name} {digests[name]}" for name in sorted(digests)]


def digest_of(content: bytes | None) -> str:
    """Return the second word of a line: the digest of `content`, or `-` if there is no file."""
    return REMOVED if content is None else hashlib.sha256(content).hexdigest()


def names(stated: object, name: str) -> bool:
    """Say whether `stated`, a record's `key_files`, gives a digest for that file."""
    return _parse(stated).get(name, REMOVED) != REMOVED


def holds_credentials(name: str) -> bool:
    """Say whether that name, relative to the site, is of a ring, or of users or operators."""
    return Path(name).parent in (RINGS, USERS) or Path(name) == OPERATORS_FILE


def is_public_signing_key(name: str) -> bool:
    """Say whether that name, relative to the site, is of a public signing key, in use or not."""
    return Path(name).is_relative_to(SIGNING_KEYS) and name.endswith(".pub")


def server_key_files(site: Path) -> dict[str, str]:
    """Return the digests of all files under keys/ that hold no credentials of parties or users.

    Drafts are left out: nothing uses them.
    """
    found = {}
    for path in sorted((site / FOLDER).rglob("*")):
        name = path.relative_to(site)
        if name.parts[1] in (RINGS.name, USERS.name) or name == OPERATORS_FILE:
            continue
        if "draft" in name.parts or path.name.startswith("."):
            continue
        if path.is_file() and (content := staged_file.read(path)) is not None:
            found[str(name)] = digest_of(content)
    return found


def _parse(stated: object) -> dict[str, str]:
    listed: Iterable[object] = stated if isinstance(stated, list) else ()
    pairs = (str(line).rpartition(" ") for line in listed)
    return {name: digest for name, space, digest in pairs if space}
