"""The format of a batch of results, which SEÇSİS delivers in `results/`.

A batch is one file, UTF-8, in one of two formats, told apart by the file's name.

`NAME.ndjson` has one JSON object a line, a row for each box and contest:

    {"secim": "mv", "cevre": "34-istanbul-1", "kurul": "kadikoy-2", "sandik": "1234",
     "sandik_turu": "normal", "surum": 1, "neden": "", "zaman": "2023-05-14T18:30:00+03:00",
     "secmen": 300, "oy_kullanan": 250, "liste_disi_oy_kullanan": 2, "zarf": 252,
     "itirazsiz_gecerli": 240, "itirazli_gecerli": 5, "gecerli": 245, "gecersiz": 7,
     "oylar": {"parti-a": 100, "parti-b": 140, "ortak-1": 5}}

(on one line). `surum` counts versions from 1; from 2 on `neden` says why. `zaman` is when the
board keyed it in, with its zone. `oy_kullanan` counts everyone who voted; of those,
`liste_ici_oy_kullanan` were on the voters' list and `liste_disi_oy_kullanan` were not. These two
and `zarf` (envelopes) are optional. An option that `oylar` lacks has no votes. `sandik` may be a
JSON number. The result of an aggregate sheet names the sheet in `belge` and leaves out what does
not apply: parts of the place below its level, `sandik_turu`, and any number. A row may name its
`election`; a row of another election is rejected. Other fields are ignored.

`NAME.csv` has the same columns, in any order, with `;` or `,` between them, and a column
`oylar.<option>` for each option:

    secim;cevre;kurul;sandik;sandik_turu;surum;neden;zaman;...;oylar.parti-a;oylar.parti-b

Each row is one line; a value with a separator or a quote in it is quoted, as spreadsheets do. The
last line may lack its end (RFC 4180). So a file that was cut inside its last number looks whole; if
that is of an option, the votes no longer add up, which is a finding.

Numbers are whole and written without separators: 1234, never 1.234. A row that cannot be read
becomes a BadRow with its line; the other rows are not affected. A file without any row is one
BadRow. A byte order mark, CRLF and empty lines are accepted. Text in another encoding than UTF-8 is
not: a wrong guess would change Turkish letters.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import IO, Any, TypeVar

from config.result import BOX_SHEET, NUMBER_COLUMNS, Result, ResultKey
from config.sheet import Belge, SandikTuru, Secim, Sheet

EXTENSIONS = (".ndjson", ".csv")
MAX_LINE_BYTES = 1 << 20
MAX_COUNT = 10**9  # no place has as many voters
_MAX_OPTION = 100
_MAX_SHOWN = 80  # characters of a value in a message
_MAX_MESSAGE = 500
VOTES_COLUMN = "oylar."
_BOM = b"\xef\xbb\xbf"
_NO_FIELD = ";, \t"  # a line of these alone is empty, as spreadsheets save it
_UNDECODABLE = "\N{REPLACEMENT CHARACTER}"
_Choice = TypeVar("_Choice", bound=StrEnum)
_PLACE = ("cevre", "kurul", "sandik")
_MIN_YEAR, _MAX_YEAR = 1950, 2199  # of a time that a board can have entered


class RowFault(StrEnum):
    """Why a row cannot be a result; the value is the reason in its record."""

    UNREADABLE = "unreadable"
    MISSING_FIELD = "missing-field"
    BAD_VALUE = "bad-value"
    NEGATIVE = "negative"
    WRONG_ELECTION = "wrong-election"
    WRONG_CONTEST = "wrong-contest"
    UNKNOWN_PLACE = "unknown-place"
    UNKNOWN_OPTION = "unknown-option"
    VERSION_CONFLICT = "version-conflict"
    NO_REASON = "no-reason"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be a result: its line in the batch, why, and its text as it came.

    In the text, what is not UTF-8 is U+FFFD, and so is NUL, which PostgreSQL cannot store.
    """

    line: int
    fault: RowFault
    message: str
    text: str


@dataclass(frozen=True, slots=True)
class GoodRow:
    """A row that is well-formed; whether it can be accepted is decided later."""

    line: int
    result: Result


class _Bad(ValueError):
    def __init__(self, fault: RowFault, message: str) -> None:
        shown = message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}..."
        super().__init__(shown)
        self.fault = fault


def read(name: str, file: IO[bytes], election: str) -> Iterator[GoodRow | BadRow]:
    """Yield the rows of a batch of `election` in order; the name says which format it has."""
    of_format = read_csv if name.lower().endswith(".csv") else read_ndjson
    rows = of_format(_lines(file), election)
    if (first := next(rows, None)) is None:
        yield BadRow(1, RowFault.UNREADABLE, "there is no row in it, deliver it again", "")
        return
    yield first
    yield from rows


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a batch; of one that is too long, only as much as shows that it is."""
    limit = MAX_LINE_BYTES + 1
    while line := file.readline(limit):
        if len(line) == limit and not line.endswith(b"\n"):
            while (more := file.readline(limit)) and not more.endswith(b"\n"):
                pass
        yield line


def read_ndjson(lines: Iterable[bytes], election: str) -> Iterator[GoodRow | BadRow]:
    """Yield the rows of an NDJSON batch of `election`, in order."""
    for number, line in enumerate(lines, 1):
        content = (line.removeprefix(_BOM) if number == 1 else line).strip(b"\r\n \t")
        if not content:
            continue
        try:
            yield GoodRow(number, _parse(_object(content), election))
        except _Bad as error:
            text = content[:MAX_LINE_BYTES].decode("utf-8", "replace")
            yield _bad_row(number, error, text)


def read_csv(lines: Iterable[bytes], election: str) -> Iterator[GoodRow | BadRow]:
    """Yield the rows of a CSV batch of `election`, in order; a bad header is one BadRow."""
    texts = _decoded(lines)
    header = next(texts, "")
    delimiter = ";" if header.count(";") >= header.count(",") else ","
    try:
        columns = _columns(header, delimiter)
    except _Bad as error:
        lost = sum(1 for text in texts if text.strip(_NO_FIELD))
        yield _bad_row(1, _Bad(error.fault, f"{error}; {lost} rows below it are not read"), header)
        return
    for line, text in enumerate(texts, 2):
        if not text.strip(_NO_FIELD):
            continue
        try:
            fields = _fields(text, delimiter)
            if len(fields) != len(columns):
                message = f"{len(fields)} columns, the header has {len(columns)}"
                raise _Bad(RowFault.UNREADABLE, message)
            yield GoodRow(line, _parse(_from_columns(columns, fields), election))
        except _Bad as error:
            yield _bad_row(line, error, text)


def _bad_row(line: int, error: _Bad, text: str) -> BadRow:
    return BadRow(line, error.fault, str(error), text.replace("\0", _UNDECODABLE))


def _columns(header: str, delimiter: str) -> list[str]:
    columns = _fields(header, delimiter)
    if repeated := {column for column in columns if columns.count(column) > 1}:
        message = f"column {min(repeated)!r} is there more than once, keep one"
        raise _Bad(RowFault.UNREADABLE, message)
    if missing := [name for name in ("secim", "surum", "zaman") if name not in columns]:
        message = f"the header lacks {', '.join(missing)}, write the columns of a batch"
        raise _Bad(RowFault.UNREADABLE, message)
    return columns


def _fields(text: str, delimiter: str) -> list[str]:
    """Split one line. A quote that is not closed is a fault of this line alone."""
    if len(text) > MAX_LINE_BYTES:
        raise _Bad(RowFault.UNREADABLE, f"more than {MAX_LINE_BYTES} characters in one row")
    if _UNDECODABLE in text:
        raise _Bad(RowFault.UNREADABLE, "not UTF-8: save the file as CSV in UTF-8")
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise _Bad(RowFault.UNREADABLE, f"no row of a CSV file ({error})") from None


def _decoded(lines: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(lines):
        content = line.removeprefix(_BOM) if number == 0 else line
        # A NUL stays in its field, and no column accepts it.
        yield content.decode("utf-8", "replace").rstrip("\r\n")


def _from_columns(columns: list[str], fields: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {"oylar": {}}
    for column, field in zip(columns, fields, strict=True):
        if column.startswith(VOTES_COLUMN):
            if field:
                row["oylar"][column.removeprefix(VOTES_COLUMN)] = _from_text(field)
        elif column in NUMBER_COLUMNS or column == "surum":
            if field:
                row[column] = _from_text(field)
        elif field or column == "neden":
            row[column] = field
    row.setdefault("neden", "")
    return row


def _from_text(field: str) -> int | str:
    digits = field.removeprefix("-")
    return int(field) if digits.isascii() and digits.isdecimal() and len(digits) < 16 else field


def _object(content: bytes) -> dict[str, Any]:
    if len(content) > MAX_LINE_BYTES:
        raise _Bad(RowFault.UNREADABLE, f"{len(content)} bytes, at most {MAX_LINE_BYTES} a row")
    try:
        row = _DECODER.decode(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise _Bad(RowFault.UNREADABLE, "not UTF-8: save the file in UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _Bad(RowFault.UNREADABLE, f"no JSON ({error}), write one object a line") from None
    if not isinstance(row, dict):
        raise _Bad(RowFault.UNREADABLE, "no JSON object, write one object a line")
    return row


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a field is there twice")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs)  # json.loads would make one for each row


def parse_row(row: Mapping[str, Any], election: str) -> Result:
    """Return the result that one row states; ValueError says what is wrong with the row."""
    return _parse(row, election)


def _parse(row: Mapping[str, Any], election: str) -> Result:
    of = row.get("election", election)
    if of != election:
        raise _Bad(RowFault.WRONG_ELECTION, f"election: {_shown(of)}, this site holds {election}")
    secim = _one_of(Secim, row, "secim")
    belge = _one_of(Belge, row, "belge") if row.get("belge") else BOX_SHEET
    at_box = belge is BOX_SHEET
    key = _key(row, secim, belge)
    version = _count(row, "surum")
    if not version:
        raise _Bad(RowFault.BAD_VALUE, f"surum: {_shown(version)}, versions count from 1")
    return Result(
        key=key,
        sandik_turu=_one_of(SandikTuru, row, "sandik_turu") if at_box else None,
        version=version,
        reason=_text(row.get("neden") or "", "neden"),
        time=_time(row),
        registered=_count(row, "secmen", at_box),
        voted=_count(row, "oy_kullanan", at_box),
        listed_voted=_count(row, "liste_ici_oy_kullanan"),
        unlisted_voted=_count(row, "liste_disi_oy_kullanan"),
        envelopes=_count(row, "zarf"),
        valid_undisputed=_count(row, "itirazsiz_gecerli", at_box),
        valid_disputed=_count(row, "itirazli_gecerli", at_box),
        valid=_count(row, "gecerli", at_box),
        invalid=_count(row, "gecersiz", at_box),
        votes=_votes(row),
    )


def _key(row: Mapping[str, Any], secim: Secim, belge: Belge) -> ResultKey:
    cevre, kurul, sandik = (_place(row, name) for name in _PLACE)
    try:
        sheet = Sheet(secim, belge, cevre, kurul, sandik, page=1)
    except ValueError as error:
        raise _Bad(RowFault.BAD_VALUE, str(error)) from None
    return ResultKey(secim, belge, sheet.cevre, sheet.kurul, sheet.sandik)


def _place(row: Mapping[str, Any], name: str) -> str | None:
    place = row.get(name) or None
    if name == "sandik" and type(place) is int:  # a number in JSON; letters of a rumuz are text
        place = str(place)
    if place is not None and not isinstance(place, str):
        raise _Bad(RowFault.BAD_VALUE, f"{name}: {_shown(place)}, write it as text")
    return place


def _one_of(kind: type[_Choice], row: Mapping[str, Any], name: str) -> _Choice:
    try:
        return kind(row[name])
    except KeyError:
        raise _Bad(RowFault.MISSING_FIELD, f"{name} is missing") from None
    except ValueError:
        message = f"{name}: {_shown(row[name])}, write one of {', '.join(kind)}"
        raise _Bad(RowFault.BAD_VALUE, message) from None


def _count(row: Mapping[str, Any], name: str, required: bool = False) -> int | None:
    value = row.get(name)
    if value is None:
        if required:
            raise _Bad(RowFault.MISSING_FIELD, f"{name} is missing")
        return None
    return _whole(value, name)


def _whole(value: object, name: str) -> int:
    if type(value) is not int or value > MAX_COUNT:
        message = f"{name}: {_shown(value)}, write a whole number without separators"
        raise _Bad(RowFault.BAD_VALUE, message)
    if value < 0:
        raise _Bad(RowFault.NEGATIVE, f"{name}: {value}, a count is never negative")
    return value


def _votes(row: Mapping[str, Any]) -> dict[str, int]:
    votes = row.get("oylar")
    if not isinstance(votes, dict):
        fault = RowFault.MISSING_FIELD if votes is None else RowFault.BAD_VALUE
        raise _Bad(fault, "oylar: write the votes as an object of option and number")
    for option in votes:
        if not option.isprintable() or len(option) > _MAX_OPTION:
            message = f"oylar: {_shown(option)} is not an option; write its id on the ballot"
            raise _Bad(RowFault.BAD_VALUE, message)
    return {option: _whole(number, f"oylar.{option}") for option, number in votes.items()}


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 500:
        message = f"{name}: {_shown(value)}, write printable text of at most 500 characters"
        raise _Bad(RowFault.BAD_VALUE, message)
    return value


def _time(row: Mapping[str, Any]) -> datetime:
    value = row.get("zaman")
    if value is None:
        raise _Bad(RowFault.MISSING_FIELD, "zaman is missing")
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None or not _MIN_YEAR <= moment.year <= _MAX_YEAR:
        message = (
            f"zaman: {_shown(value)}, write a time with its zone, as 2023-05-14T18:30:00+03:00"
        )
        raise _Bad(RowFault.BAD_VALUE, message)
    return moment


def _shown(value: object) -> str:
    """Return a value for a message, printable and short."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
