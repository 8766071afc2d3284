"""Converts the box rows of YSK's own result interface into rows of a batch.

Public clients save the answers of two calls (GET, JSON arrays): `getSecimSandikSonucList`, one
object a box, and `getSandikSecimSonucBaslikList`, which says what its vote columns mean:

    {"il_ID": 34, "il_ADI": "İSTANBUL-1", "ilce_ADI": "KADIKÖY", "sandik_NO": 1234,
     "secim_TURU": 8, "secmen_SAYISI": 300, "oy_KULLANAN_SECMEN_SAYISI": 250,
     "itirazsiz_GECERLI_OY_SAYISI": 240, "itirazli_GECERLI_OY_SAYISI": 5, "gecerli_OY_TOPLAMI": 245,
     "gecersiz_OY_TOPLAMI": 5, "parti1_ALDIGI_OY": 100, "ittifak1_ALDIGI_OY": 5, "versiyon": 1,
     "degisiklik_NEDENI": null, "son_ISLEM_TARIHI": "2023-05-14T18:30:00"}

    {"sira_NO": 1, "ad": "A PARTİSİ", "column_NAME": "parti1_ALDIGI_OY"}

A heading with `sira_NO` 0 names no column. An option is found by its title on the ballot, in upper
or lower case, or by its id; without Turkish letters (`IYI PARTI`) only if no other option has such
a title. No two columns may mean the same option. A box is found in the registry by plate,
district, ilçe and number; if several boards of the ilçe have a box of that number, the row is bad.
A time without a zone is Turkey's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from config import times, turkish
from config.ballot import Ballot, Option
from config.cevre import ascii_name
from config.result_batch import BadRow, RowFault
from config.sheet import Secim

SECIM_TURU = {8: Secim.MV, 9: Secim.CB, 6: Secim.BB, 2: Secim.B}
_NUMBERS = {
    "secmen_SAYISI": "secmen",
    "oy_KULLANAN_SECMEN_SAYISI": "oy_kullanan",
    "itirazsiz_GECERLI_OY_SAYISI": "itirazsiz_gecerli",
    "itirazli_GECERLI_OY_SAYISI": "itirazli_gecerli",
    "gecerli_OY_TOPLAMI": "gecerli",
    "gecersiz_OY_TOPLAMI": "gecersiz",
}
_VOTES = ("parti", "bagimsiz", "ittifak")
_COLUMN = "_ALDIGI_OY"


class Boxes(Protocol):
    """The part of the registry that finds a box by its number."""

    def boxes_numbered(self, secim: Secim, sandik: str) -> Iterable[tuple[str, str, str]]:
        """Return district, board and kind of every box with that number in a contest."""


def convert(
    rows: Iterable[Mapping[str, Any]],
    headings: Iterable[Mapping[str, Any]],
    boxes: Boxes,
    ballot: Ballot,
) -> Iterator[dict[str, Any] | BadRow]:
    """Yield a batch's row for each box row, or why it cannot be one; lines count from 1."""
    titles = {
        str(heading["column_NAME"]): str(heading.get("ad") or "")
        for heading in headings
        if heading.get("sira_NO") and heading.get("column_NAME")
    }
    found: _Found = {}
    for line, row in enumerate(rows, 1):
        try:
            yield _convert(row, titles, boxes, ballot, found)
        except _BadBox as error:
            yield BadRow(line, error.fault, str(error), str(dict(row)))
        except (TypeError, ValueError, OverflowError) as error:
            message = f"a field has no value that YSK's interface gives it ({error})"
            yield BadRow(line, RowFault.BAD_VALUE, message, str(dict(row)))


class _BadBox(ValueError):
    def __init__(self, fault: RowFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


_Found = dict[tuple[Secim, str, str], list[str]]  # by contest, district and title


def _convert(
    row: Mapping[str, Any], titles: Mapping[str, str], boxes: Boxes, ballot: Ballot, known: _Found
) -> dict[str, Any]:
    secim = SECIM_TURU.get(row.get("secim_TURU") or 0)
    if secim is None:
        message = f"secim_TURU: {row.get('secim_TURU')!r}, known are {sorted(SECIM_TURU)}"
        raise _BadBox(RowFault.WRONG_CONTEST, message)
    district, board, kind = _box(row, secim, boxes)
    votes: dict[str, int] = {}
    for column, number in row.items():
        if not (column.startswith(_VOTES) and column.endswith(_COLUMN)) or not number:
            continue
        title = titles.get(column, "")
        if (found := known.get((secim, district, title))) is None:
            found = _options_called(title, ballot.options(secim, district))
            known[secim, district, title] = found
        if len(found) != 1 or found[0] in votes:
            wrong = "has no such option"
            if found:
                wrong = f"has {' and '.join(found)} for it"
            if len(found) == 1:
                wrong = f"has only {found[0]} for it and another column"
            message = f"{column}: {title or 'no heading'}, the ballot of {district} {wrong}"
            raise _BadBox(RowFault.UNKNOWN_OPTION, message)
        votes[found[0]] = number
    return {
        "secim": secim.value,
        "cevre": district,
        "kurul": board,
        "sandik": str(row.get("sandik_RUMUZ") or row["sandik_NO"]),
        "sandik_turu": kind,
        "surum": row.get("versiyon") or 1,
        "neden": row.get("degisiklik_NEDENI") or "",
        "zaman": _time(row.get("son_ISLEM_TARIHI")),
        **{name: row.get(column, 0) for column, name in _NUMBERS.items()},
        "oylar": votes,
    }


def _options_called(title: str, options: Sequence[Option]) -> list[str]:
    """Return the ids of the options that a title means: one, unless it is unknown or not clear."""
    named = turkish.lower(title.strip())
    exact = [option.id for option in options if turkish.lower(option.ad.strip()) == named]
    if exact or not named:
        return exact
    plain = ascii_name(title)
    by_id = [option.id for option in options if option.id.lower() == plain]
    return by_id or [option.id for option in options if ascii_name(option.ad) == plain]


def _box(row: Mapping[str, Any], secim: Secim, boxes: Boxes) -> tuple[str, str, str]:
    number = str(row.get("sandik_RUMUZ") or row.get("sandik_NO") or "")
    plate, town = row.get("il_ID"), ascii_name(str(row.get("ilce_ADI") or ""))
    part = str(row.get("il_ADI") or "").rpartition("-")[2]
    found = [
        (district, board, kind)
        for district, board, kind in boxes.boxes_numbered(secim, number)
        if (not plate or district.startswith(f"{int(plate):02}-"))
        and (not part.isdecimal() or district.endswith(f"-{part}"))
        and (not town or board == town or board.rpartition("-")[0] == town)
    ]
    where = f"sandik_NO {number}, il_ID {plate}, ilce_ADI {row.get('ilce_ADI')}"
    if not found:
        raise _BadBox(RowFault.UNKNOWN_PLACE, f"{where}: the registry has no such box")
    if len(found) > 1:
        places = ", ".join(f"{district}/{board}" for district, board, _ in found)
        raise _BadBox(RowFault.UNKNOWN_PLACE, f"{where}: several boards have it: {places}")
    return found[0]


def _time(value: object) -> str:
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="seconds")
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise _BadBox(RowFault.BAD_VALUE, f"son_ISLEM_TARIHI: {value!r} is not a time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=times.TURKEY)).isoformat()
