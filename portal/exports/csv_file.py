"""Writes a table as CSV that a Turkish Excel opens: `;`, UTF-8 with a byte order mark, CRLF.

A text that a spreadsheet would take for a formula gets an apostrophe in front, so that no reason or
name can run anything on the computer of who opens the file (OWASP, CSV Injection).
"""

import csv
import io
from collections.abc import Iterator
from datetime import datetime

from config import times
from portal.exports.tables import Cell, ExportTable
from publisher.results.snapshots.headings import safe_text

_BOM = "\ufeff"
_ROWS_A_CHUNK = 500


def write_csv(table: ExportTable) -> Iterator[bytes]:
    """Yield the file in chunks."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=";", lineterminator="\r\n")
    text.write(_BOM)
    writer.writerow(map(safe_text, table.headings))
    for number, row in enumerate(table.rows(), 1):
        writer.writerow(map(_shown, row))
        if number % _ROWS_A_CHUNK == 0:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _shown(cell: Cell) -> Cell:
    if isinstance(cell, str):
        return safe_text(cell)
    if isinstance(cell, datetime):
        return times.format_time(cell)
    if isinstance(cell, float):
        return f"{cell:.6f}".replace(".", ",")
    return cell
