"""Reads the text of a CSV file as spreadsheets save it.

UTF-8 with or without a byte order mark, and UTF-16 with one (Excel's "Unicode text") are read;
columns may be separated by commas, semicolons or tabs: the one that occurs most often in the first
line. A file in another encoding is refused: a wrong guess would change Turkish letters without a
message.
"""

import codecs
import csv
import io
from collections.abc import Iterator
from typing import BinaryIO

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE = "save the file as CSV in UTF-8"
_WINDOWS_1254_LETTERS = "ğĞıİşŞçÇöÖüÜ".encode("cp1254")
_DELIMITERS = (",", ";", "\t")


def decode(content: bytes) -> str:
    """Return the text of a file; if its encoding is not supported, ValueError says what to do."""
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


class WrongEncoding(ValueError):
    """A file is in an encoding that is not read; `line` is the first such line, 0 if not known."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def decoded_lines(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of an open file one by one, as `decode` would read them.

    Raises WrongEncoding with what to do.
    """
    start = file.peek(4) if isinstance(file, io.BufferedReader) else b""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = io.TextIOWrapper(file, encoding="utf-16", newline="")
        try:
            yield from text
        except UnicodeError:
            raise WrongEncoding(f"is not UTF-16: {_SAVE}") from None
        finally:
            text.detach()
        return
    for number, line in enumerate(file, start=1):
        try:
            found = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise WrongEncoding(f"is not UTF-8: {_advice(line)}", number) from None
        if "\0" in found:
            raise WrongEncoding(f"has NUL bytes: {_SAVE}", number)
        yield found


def delimiter_of(header: str) -> str:
    """Return what separates the columns of a file: comma, semicolon or tab."""
    return max(_DELIMITERS, key=header.count)


def _advice(line: bytes) -> str:
    """Say what to do about a line in another encoding, and which one it probably has."""
    turkish = any(byte in line for byte in _WINDOWS_1254_LETTERS)
    guess = "it looks like Windows-1254 or ISO-8859-9 (Turkish), " if turkish else ""
    return f'{guess}{_SAVE} (in Excel: "CSV UTF-8")'


def lines(text: str) -> Iterator[str]:
    """Yield the lines of a CSV text, with commas in place of its own separator."""
    first = text.partition("\n")[0]
    delimiter = delimiter_of(first)
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
