"""Finds the snapshots of a site and reads their changes; publisher/results/snapshots writes them.

A *cursor* says up to where a client has read the changes of all snapshots, in the order in which
the results were accepted. To a client it is an opaque text; it is base64url of

    <snapshot>.<contest>.<byte>         such as 42.mv.8192

the byte in `<contest>.changes.ndjson` of that snapshot from which to go on. Files of a snapshot
never change, so a cursor stays valid for ever.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from config.sheet import Secim
from config.snapshot import MANIFEST, SIGNATURE
from publisher.results.snapshots.folder import snapshot_folder

CHANGES = ".changes.ndjson"
_CURSOR = re.compile(r"([0-9]{1,8})\.([a-z]{1,2})\.([0-9]{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A snapshot as its manifest describes it; number 0 is the state before the first one."""

    number: int
    closed_at: datetime | None
    sha256: str  # of the manifest
    manifest: bytes
    signature: bytes
    last_result: int  # it holds results up to this id

    @property
    def content(self) -> dict[str, Any]:
        """The manifest."""
        found: dict[str, Any] = json.loads(self.manifest) if self.manifest else {}
        return found


NO_SNAPSHOT = SnapshotInfo(0, None, "", b"", b"", 0)


class Cursor(NamedTuple):
    """Where a client goes on: snapshot, contest and byte. Snapshot 0 is the beginning."""

    snapshot: int
    contest: str = ""
    byte: int = 0

    def __str__(self) -> str:
        text = f"{self.snapshot}.{self.contest}.{self.byte}" if self.contest else ""
        text = text or f"{self.snapshot}.-.0"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


BEGINNING = Cursor(0)


def parse_cursor(text: str) -> Cursor:
    """Read a cursor that `str` made; ValueError if it is malformed."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        plain = raw.decode("ascii")
    except (binascii.Error, ValueError):
        raise ValueError(f"{text[:40]!r} is no cursor") from None
    number, dash, rest = plain.partition(".-.0")
    if dash and not rest and number.isdecimal() and len(number) <= 8:
        return Cursor(int(number))
    match = _CURSOR.fullmatch(plain)
    if match is None or match[2] not in list(Secim):
        raise ValueError(f"{text[:40]!r} is no cursor")
    return Cursor(int(match[1]), match[2], int(match[3]))


def read_info(site: Path, number: int) -> SnapshotInfo | None:
    """Return what a snapshot's manifest says, None if there is no such snapshot."""
    folder = snapshot_folder(site, number)
    try:
        manifest = (folder / MANIFEST).read_bytes()
        signature = (folder / SIGNATURE).read_bytes()
    except FileNotFoundError:
        return None
    stated = json.loads(manifest)
    closed_at, digest = datetime.fromisoformat(stated["closed_at"]), sha256(manifest).hexdigest()
    return SnapshotInfo(number, closed_at, digest, manifest, signature, stated["last_result"])


def changes_file(site: Path, number: int, secim: Secim | str) -> Path:
    """Return the file with the changes of one contest in a snapshot."""
    return snapshot_folder(site, number) / f"{secim}{CHANGES}"


class ChangeLine(NamedTuple):
    """One line of a changes file, and the cursor after it."""

    snapshot: int
    line: bytes
    after: Cursor


def lines_after(site: Path, cursor: Cursor, newest: int) -> Iterator[ChangeLine]:
    """Yield the changes after a cursor, up to the end of snapshot `newest`."""
    contests = sorted(secim.value for secim in Secim)
    number, begin = cursor.snapshot, contests
    if cursor.contest:
        begin = contests[contests.index(cursor.contest) :]
    else:
        number += 1
    at = cursor.byte
    for snapshot in range(number, newest + 1):
        for contest in begin:
            try:
                with changes_file(site, snapshot, contest).open("rb") as file:
                    if at:
                        file.seek(at - 1)
                        at += len(file.readline()) - 1  # nothing, unless it is inside a line
                    for line in file:
                        at += len(line)
                        yield ChangeLine(snapshot, line, Cursor(snapshot, contest, at))
            except FileNotFoundError:
                pass  # this contest had no result yet
            at = 0
        begin = contests
