"""The Turkish names of boards (*kurul*), which the registry names in plain ASCII: `kadikoy-2`.

A board is that of an ilçe, one of several of a large ilçe, of a country (`yurt-disi`) or of a
customs gate (`gumruk`). The names are in `kurullar.csv` beside this module: the 973 ilçe by plate,
then countries, those with most voters first, then gates. The ilçe are those of YSK's published
results of the local elections of 2014, with their names of today and those founded since.
"""

import csv
from functools import cache
from importlib.resources import files

from config import cevre
from config.cevre import ascii_name
from config.layout import ilce_of


@cache
def names(place: str) -> tuple[str, ...]:
    """Return the names of the boards of a province (by plate), of `yurt-disi` or of `gumruk`."""
    return tuple(name for of, name in _rows() if of == place)


@cache
def title(kurul: str) -> str:
    """Return a board's name: `kadikoy-2` is Kadıköy 2. An unknown name keeps its ASCII letters."""
    stem = ilce_of(kurul)
    number = kurul.removeprefix(stem).removeprefix("-")
    known = _titles()
    found = known.get(kurul) or known.get(stem) or known.get(stem.replace("-", ""))
    if found is None:
        return " ".join(word.capitalize() for word in kurul.split("-"))
    return found if not number or kurul in known else f"{found} {number}"


@cache
def _titles() -> dict[str, str]:
    provinces = (title.rstrip("0123456789 ") for title in cevre.titles().values())
    return {ascii_name(name): name for name in (*provinces, *(name for _, name in _rows()))}


@cache
def _rows() -> tuple[tuple[str, str], ...]:
    table = files("config").joinpath("kurullar.csv").read_text(encoding="utf-8")
    return tuple((place, name) for place, name in list(csv.reader(table.splitlines()))[1:])
