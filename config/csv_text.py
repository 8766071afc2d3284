"""Reads the text of a CSV file as spreadsheets save it.

UTF-8 with or without a byte order mark, and UTF-16 with one (Excel's "Unicode text") are read;
columns may be separated by comma, semicolon or tab, whichever the first line has most of. A file in
another encoding is refused: a wrong guess would change Turkish letters without a message.
"""

import codecs
import csv
import io
from collections.abc import Iterator

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = (",", ";", "\t")


def decode(content: bytes) -> str:
    """Return the text of a file; raise ValueError with what to do if its encoding is not read."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        message = f"line {line} is not {encoding.removesuffix('-sig').upper()}"
        raise ValueError(f"{message}: save the file as CSV in UTF-8") from None
    if "\0" in text:
        raise ValueError("has NUL bytes: save the file as CSV in UTF-8")
    return text


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a CSV text with commas between columns, whatever it had there."""
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    if delimiter == ",":
        yield from io.StringIO(text, newline="")
        return
    line = io.StringIO(newline="")
    writer = csv.writer(line, lineterminator="\n")
    for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
        writer.writerow(fields)
        yield line.getvalue()
        line.seek(0)
        line.truncate()
