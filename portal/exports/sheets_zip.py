"""Streams the originals of signed sheets as one ZIP file, with SHA256SUMS at its end.

The paths in the ZIP are those of a party's tree, so that a mirror and a ZIP can be compared. Bytes
are stored, not compressed: scans do not shrink. The file is made while it is sent and needs no more
memory than one chunk; it may be larger than 4 GiB (ZIP64).

The bytes of each sheet are hashed while they are sent. A sheet whose original is missing or is not
the one on record is named in EKSIKLER.txt, and SHA256SUMS leaves it out. BILGI.txt and the comment
of the ZIP say who saved it, and the number of the record.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from config import times
from config.layout import SUMS
from config.site import original_file
from portal.data.queries.sheets import SheetFile
from portal.exports.file_name import Saved

MISSING, INFO = "EKSIKLER.txt", "BILGI.txt"
_CHUNK = 1 << 18


class _Outgoing(io.RawIOBase):
    """Collects what the ZIP writer writes, until it is sent. It cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        self._parts.append(content)
        return len(content)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        content = b"".join(self._parts)
        self._parts.clear()
        return content


def stream_zip(site: Path, sheets: Iterable[SheetFile], saved: Saved) -> Iterator[bytes]:
    """Yield the ZIP in chunks."""
    outgoing = _Outgoing()
    sums: list[str] = []
    missing: list[str] = []
    with zipfile.ZipFile(outgoing, "w", zipfile.ZIP_STORED) as packed:
        about = [f"{heading}: {text}" for heading, text in saved.lines]
        packed.comment = "; ".join(about).encode()[:1000]
        for sheet in sheets:
            moment = sheet.filed_at.astimezone(times.TURKEY)
            entry = zipfile.ZipInfo(sheet.path, moment.timetuple()[:6])
            entry.external_attr = 0o644 << 16
            try:
                original = (site / original_file(sheet.sha256)).open("rb")
            except OSError:
                missing.append(f"{sheet.path}: özgün dosya bulunamadı")
                continue
            digest = sha256()
            with original, packed.open(entry, "w", force_zip64=True) as target:
                while chunk := original.read(_CHUNK):
                    digest.update(chunk)
                    target.write(chunk)
                    yield outgoing.take()
            if digest.hexdigest() == sheet.sha256:
                sums.append(f"{sheet.sha256}  {sheet.path}\n")
            else:
                missing.append(f"{sheet.path}: kayıttaki SHA-256 değil, yetkiliye bildirin")
        packed.writestr(SUMS, "".join(sums))
        packed.writestr(INFO, "\r\n".join(about) + "\r\n")
        if missing:
            packed.writestr(MISSING, "\n".join(missing) + "\n")
        yield outgoing.take()
    yield outgoing.take()
