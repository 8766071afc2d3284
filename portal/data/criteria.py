"""What a user searches for: contest, area, kind of box, place, range of boxes, opened or not.

The address of a page and a call of the web service have the same parameters, all optional but the
contest; an empty value is the same as none:

    secim    cb, mv, ...                          the contest
    alan     genel, yurt-ici, yurt-disi           the area; abroad includes the customs gates
    tur      normal, cezaevi, seyyar, ...         the kind of box
    cevre    34-istanbul-1                        the district
    kurul    kadikoy-2                            the district board
    mahalle  Caferağa                             the neighbourhood or village, as in the registry
    ilk, son 1001, 1100 or A1, A9                 first and last box, by number or rumuz
    durum    hepsi, acilan, acilmayan             with a result, or without

A place that does not exist is no fault: nothing is found there. So what is outside a user's scope
looks the same as what does not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from config.sheet import SandikTuru, Secim

NAMES = ("secim", "alan", "tur", "cevre", "kurul", "mahalle", "ilk", "son", "durum")
_MAX_LENGTH = 200
_Choice = TypeVar("_Choice", bound=StrEnum)


class Area(StrEnum):
    """Where the boxes are."""

    EVERYWHERE = "genel"
    HOME = "yurt-ici"
    ABROAD = "yurt-disi"


class Status(StrEnum):
    """Whether a box has a result."""

    ALL = "hepsi"
    OPENED = "acilan"
    UNOPENED = "acilmayan"


class BadCriterion(ValueError):
    """A parameter has a value that no search can have; the message says in Turkish what to do."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Criteria:
    """One search; None means any."""

    secim: Secim
    area: Area = Area.EVERYWHERE
    kind: SandikTuru | None = None
    cevre: str | None = None
    kurul: str | None = None
    mahalle: str | None = None
    first: str | None = None
    last: str | None = None
    status: Status = Status.ALL

    @property
    def only_places(self) -> bool:
        """Whether whole districts or boards are searched, all their boxes included."""
        return not (self.kind or self.mahalle is not None or self.first or self.last)

    def query(self) -> dict[str, str]:
        """Return the parameters that `parse` reads."""
        found = {
            "secim": self.secim.value,
            "alan": "" if self.area is Area.EVERYWHERE else self.area.value,
            "tur": self.kind.value if self.kind else "",
            "cevre": self.cevre or "",
            "kurul": self.kurul or "",
            "mahalle": self.mahalle or "",
            "ilk": self.first or "",
            "son": self.last or "",
            "durum": "" if self.status is Status.ALL else self.status.value,
        }
        return {name: value for name, value in found.items() if value}


def parse(query: Mapping[str, str], default: Secim | None = None) -> Criteria:
    """Read the parameters of a search; other parameters are ignored. Raises BadCriterion."""
    stated = {name: value for name in NAMES if (value := query.get(name, "").strip())}
    for name, value in stated.items():
        if len(value) > _MAX_LENGTH or not value.isprintable():
            raise BadCriterion(name, f"en çok {_MAX_LENGTH} karakter olmalı")
    secim = _one_of(Secim, stated, "secim") or default
    if secim is None:
        raise BadCriterion("secim", f"eksik, şunlardan birini yazın: {', '.join(Secim)}")
    return Criteria(
        secim,
        _one_of(Area, stated, "alan") or Area.EVERYWHERE,
        _one_of(SandikTuru, stated, "tur"),
        stated.get("cevre"),
        stated.get("kurul"),
        stated.get("mahalle"),
        stated.get("ilk"),
        stated.get("son"),
        _one_of(Status, stated, "durum") or Status.ALL,
    )


def _one_of(kind: type[_Choice], stated: Mapping[str, str], name: str) -> _Choice | None:
    try:
        return kind(stated[name]) if name in stated else None
    except ValueError:
        raise BadCriterion(name, f"şunlardan birini yazın: {', '.join(kind)}") from None
