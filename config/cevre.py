"""The election districts (*seçim çevresi*): 87 in 81 provinces, and two outside them.

A district is named `<plate>-<province>`, or `<plate>-<province>-<n>` if the province has
several: `01-adana`, `34-istanbul-3`. Voters abroad and at the customs gates are `yurt-disi`
and `gumruk`. Source: `iller.csv` beside this module (plate, province, number of districts).
"""

import csv
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from config.turkish import to_ascii

ABROAD = "yurt-disi"
CUSTOMS = "gumruk"


def ascii_name(turkish: str) -> str:
    """Spell a Turkish name as a folder: `Şırnak` -> `sirnak`, `Iğdır` -> `igdir`."""
    return "-".join(to_ascii(turkish).lower().split())


@cache
def titles() -> dict[str, str]:
    """Return the 87 districts by plate, `yurt-disi` and `gumruk`, each with its Turkish name."""
    found: dict[str, str] = {}
    table = files("config").joinpath("iller.csv").read_text(encoding="utf-8")
    for plate, province, count in list(csv.reader(table.splitlines()))[1:]:
        stem = f"{plate}-{ascii_name(province)}"
        if count == "1":
            found[stem] = province
        else:
            found |= {f"{stem}-{n}": f"{province} {n}" for n in range(1, int(count) + 1)}
    return {**found, ABROAD: "Yurt Dışı", CUSTOMS: "Gümrük Kapıları"}


def hint(wrong: str, known: Iterable[str] = ()) -> str:
    """Return a suggestion for a name that is not a district: the most similar names.

    `known` are names that are allowed as well.
    """
    plate = wrong.split("-")[0]
    near = sorted(name for name in {*titles(), *known} if name.split("-")[0] == plate)
    return (
        f"did you mean {', '.join(near)}?" if near else "districts have names such as 34-istanbul-1"
    )


def names() -> tuple[str, ...]:
    """Return the names of the districts, in the order of `titles`."""
    return tuple(titles())
