"""The ballot: for each contest and district, what a vote can go to.

The authority delivers it as CSV in UTF-8, with this header:

    secim,cevre,sira,secenek,tur,ad,ittifak
    cb,,1,aday-1,aday,Birinci Aday,
    mv,,1,parti-a,parti,A Partisi,ortak-1
    mv,,2,parti-b,parti,B Partisi,ortak-1
    mv,,3,ortak-1,ittifak,ORTAK İTTİFAKI,
    mv,34-istanbul-1,4,bagimsiz-1,bagimsiz,Bağımsız Aday,

`sira` is the place on the ballot paper, from 1. `secenek` is the option's id in every result and
export: short and ASCII. `tur` is `parti`, `aday` (candidate), `bagimsiz` (independent) or
`ittifak`. `ittifak` means the joint votes of an alliance (law 7102), which the boards count as an
option of its own. An alliance without a title (`ad`) is called İTTİFAK; if a contest has several of
these, they are numbered in ballot order (md. 17). The column `ittifak` of a party names its
alliance: the `secenek` of the alliance's row, or what that row has in its own `ittifak` column. An
empty `cevre` means every district; a district can have more rows of its own. Within one contest and
district no two options have the same `sira` or the same `secenek`; upper and lower case count as
the same.

A ballot has a few thousand rows, so it is read whole and kept in memory.
"""

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from config import cevre
from config.fault import Fault, Faults
from config.sheet import Secim

COLUMNS = ("secim", "cevre", "sira", "secenek", "tur", "ad", "ittifak")
MAX_FAULTS = 100
EVERY_DISTRICT = ""
UNTITLED = "İTTİFAK"
_ID = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*", re.ASCII)
_MAX_ID_LENGTH = 32


class Tur(StrEnum):
    """What kind of option it is."""

    PARTI = "parti"
    ADAY = "aday"
    BAGIMSIZ = "bagimsiz"
    ITTIFAK = "ittifak"


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that a vote can go to."""

    sira: int
    id: str
    tur: Tur
    ad: str
    ittifak: str  # the id of the alliance, empty for none; for joint votes the alliance's own id


@dataclass(frozen=True, slots=True)
class BallotRow:
    """An option, and where it is on the ballot; `cevre` is empty for every district."""

    secim: Secim
    cevre: str
    option: Option


@dataclass(frozen=True)
class Ballot:
    """All ballots of an election; `rows` in the order of the file."""

    rows: tuple[BallotRow, ...]
    sha256: str  # of the CSV that it was read from

    def options(self, secim: Secim, district: str) -> tuple[Option, ...]:
        """Return what a vote can go to in a contest of a district, in ballot order."""
        rows = self._by_contest.get(secim, {})
        common = rows.get(EVERY_DISTRICT, ())
        own = rows.get(district, ()) if district != EVERY_DISTRICT else ()
        return tuple(sorted((*common, *own), key=lambda option: option.sira))

    def contests(self) -> tuple[Secim, ...]:
        """Return the contests that have a ballot."""
        return tuple(self._by_contest)

    def districts(self, secim: Secim) -> tuple[str, ...]:
        """Return the districts that have options of their own in a contest."""
        return tuple(name for name in self._by_contest.get(secim, {}) if name != EVERY_DISTRICT)

    def alliances(self, secim: Secim, district: str) -> dict[str, tuple[Option, ...]]:
        """Return the member parties of each alliance, by the alliance's id, in ballot order."""
        found: dict[str, tuple[Option, ...]] = {}
        for option in self.options(secim, district):
            if option.tur is Tur.PARTI and option.ittifak:
                found[option.ittifak] = (*found.get(option.ittifak, ()), option)
        return found

    def alliances_without_joint_votes(self) -> tuple[tuple[Secim, str], ...]:
        """Return the alliances that parties name and that have no row of their own, by contest."""
        named = {(row.secim, row.option.ittifak) for row in self.rows if row.option.ittifak}
        joint = {(row.secim, row.option.id) for row in self.rows if row.option.tur is Tur.ITTIFAK}
        return tuple(sorted(named - joint))

    @cached_property
    def _by_contest(self) -> Mapping[Secim, Mapping[str, tuple[Option, ...]]]:
        found: dict[Secim, dict[str, tuple[Option, ...]]] = {}
        for row in self.rows:
            of_contest = found.setdefault(row.secim, {})
            of_contest[row.cevre] = (*of_contest.get(row.cevre, ()), row.option)
        return found


@dataclass(frozen=True, slots=True)
class BallotChanges:
    """The differences between two ballots; each entry names contest, district and option."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]  # with what it was before


def read(file: str, lines: Iterable[str], content: bytes) -> Ballot:
    """Read a ballot's CSV; `file` is its name for errors, `content` the bytes that it came from.

    Raises Faults, naming at most MAX_FAULTS rows by their line.
    """
    wrong: list[Fault] = []
    rows = list(_rows(file, lines, wrong))
    if not rows and not wrong:
        wrong.append(Fault(file, "", "has no option, so no result could be taken in"))
    wrong += _repeated(file, rows)
    alliances = _alliances(rows)
    titles = _titles(rows)
    for line, row in rows:
        name = row.option.ittifak
        if row.option.tur is not Tur.PARTI and row.option.tur is not Tur.ITTIFAK and name:
            message = f"ittifak: {name!r}, only a party belongs to an alliance: leave it empty"
            wrong.append(Fault(file, f"line {line}", message))
    if wrong:
        raise Faults(sorted(wrong, key=_line)[:MAX_FAULTS])
    digest = hashlib.sha256(content).hexdigest()
    return Ballot(tuple(_resolved(row, alliances, titles) for _, row in rows), digest)


def compare(before: Ballot, after: Ballot) -> BallotChanges:
    """Return the differences between two ballots."""
    old = {(row.secim, row.cevre, row.option.id): row.option for row in before.rows}
    new = {(row.secim, row.cevre, row.option.id): row.option for row in after.rows}
    return BallotChanges(
        added=tuple(_in_words(key, new[key]) for key in new if key not in old),
        removed=tuple(_in_words(key, old[key]) for key in old if key not in new),
        changed=tuple(
            f"{_in_words(key, new[key])} (was {old[key].sira}. {old[key].ad}, {old[key].tur}"
            f"{', ' + old[key].ittifak if old[key].ittifak else ''})"
            for key in new
            if key in old and new[key] != old[key]
        ),
    )


def _in_words(key: tuple[Secim, str, str], option: Option) -> str:
    secim, district, name = key
    return f"{secim} {district or 'every district'}: {option.sira}. {name} ({option.ad})"


_Numbered = tuple[int, BallotRow]


def _rows(file: str, lines: Iterable[str], wrong: list[Fault]) -> Iterator[_Numbered]:
    reader = csv.reader(lines)
    header = next(reader, [])
    if tuple(header) != COLUMNS:
        stated = ",".join(header) or "nothing"
        wrong.append(Fault(file, "line 1", f"{stated!r}, write the header {','.join(COLUMNS)}"))
        return
    while len(wrong) < MAX_FAULTS:
        try:
            fields = next(reader)
            if not fields:
                continue
            if len(fields) != len(COLUMNS):
                raise ValueError(f"{len(fields)} columns, write {len(COLUMNS)}")
            yield reader.line_num, _parse(dict(zip(COLUMNS, fields, strict=True)))
        except StopIteration:
            return
        except (ValueError, csv.Error) as error:
            wrong.append(Fault(file, f"line {reader.line_num}", str(error)))


def _parse(row: dict[str, str]) -> BallotRow:
    wrong: list[str] = []
    if row["secim"] not in list(Secim):
        wrong.append(f"secim: {row['secim']!r}, write one of {', '.join(Secim)}")
    if row["cevre"] and row["cevre"] not in cevre.names():
        wrong.append(f"cevre: {row['cevre']!r} is not a district, write one such as 06-ankara-1")
    sira = row["sira"]
    if not (sira.isascii() and sira.isdecimal()) or sira.startswith("0") or len(sira) > 4:
        wrong.append(f"sira: {sira!r}, write the place on the ballot, from 1")
    if row["tur"] not in list(Tur):
        wrong.append(f"tur: {row['tur']!r}, write one of {', '.join(Tur)}")
    for column in ("secenek", "ittifak"):
        value = row[column]
        if (value or column == "secenek") and not _is_id(value):
            wrong.append(
                f"{column}: {value!r}, write ASCII letters, digits and single dashes, at most "
                f"{_MAX_ID_LENGTH}, such as parti-a"
            )
    untitled = row["tur"] == Tur.ITTIFAK and not row["ad"]
    if not (untitled or row["ad"].strip()) or not row["ad"].isprintable() or "\ufffd" in row["ad"]:
        wrong.append(f"ad: {row['ad']!r}, write the name in UTF-8")
    if wrong:
        raise ValueError("; ".join(wrong))
    option = Option(int(sira), row["secenek"], Tur(row["tur"]), row["ad"], row["ittifak"])
    return BallotRow(Secim(row["secim"]), row["cevre"], option)


def _is_id(text: str) -> bool:
    return len(text) <= _MAX_ID_LENGTH and _ID.fullmatch(text) is not None


def _repeated(file: str, rows: list[_Numbered]) -> Iterator[Fault]:
    """Yield a fault for each `sira` or `secenek` that a ballot paper has twice."""
    seen: dict[tuple[Secim, str, str, str], int] = {}
    for line, row in sorted(rows, key=lambda numbered: (numbered[1].cevre, numbered[0])):
        for column, value in (
            ("sira", str(row.option.sira)),
            ("secenek", row.option.id.lower()),
        ):
            first = seen.get((row.secim, EVERY_DISTRICT, column, value)) or seen.get(
                (row.secim, row.cevre, column, value)
            )
            if first is None:
                seen[row.secim, row.cevre, column, value] = line
                continue
            message = f"{column}: {value!r} is also in line {first}, keep one"
            yield Fault(file, f"line {line}", message)


def _alliances(rows: list[_Numbered]) -> dict[tuple[Secim, str], str]:
    """Return the id of each alliance by the names that its rows give it."""
    found: dict[tuple[Secim, str], str] = {}
    for _, row in rows:
        if row.option.tur is Tur.ITTIFAK:
            found[row.secim, row.option.id.lower()] = row.option.id
            if row.option.ittifak:
                found[row.secim, row.option.ittifak.lower()] = row.option.id
    return found


def _titles(rows: list[_Numbered]) -> dict[tuple[Secim, str], str]:
    """Return a title for each alliance that has none, by the alliance's id."""
    untitled: dict[Secim, dict[str, int]] = {}
    for _, row in rows:
        if row.option.tur is Tur.ITTIFAK and not row.option.ad:
            of_contest = untitled.setdefault(row.secim, {})
            of_contest[row.option.id] = min(row.option.sira, of_contest.get(row.option.id, 10**6))
    found: dict[tuple[Secim, str], str] = {}
    for secim, names in untitled.items():
        for number, name in enumerate(sorted(names, key=lambda name: (names[name], name)), 1):
            found[secim, name] = UNTITLED if len(names) == 1 else f"{UNTITLED} {number}"
    return found


def _resolved(
    row: BallotRow,
    alliances: Mapping[tuple[Secim, str], str],
    titles: Mapping[tuple[Secim, str], str],
) -> BallotRow:
    """Return the row with the alliance's id and title in place of what the file has."""
    option = row.option
    if option.tur is Tur.ITTIFAK:
        own = replace(option, ittifak=option.id, ad=option.ad or titles[row.secim, option.id])
    else:
        name = alliances.get((row.secim, option.ittifak.lower()), option.ittifak)
        own = replace(option, ittifak=name)
    return replace(row, option=own)


def _line(fault: Fault) -> int:
    return int(fault.key.partition(" ")[2] or 0)
