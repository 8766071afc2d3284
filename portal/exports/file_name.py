"""Names of saved files: what it is, the snapshot, its time in Turkey, who saved it, the record.

    mv-34-istanbul-1_anlik-goruntu-42_20230514-210410_parti-a.web-1_kayit-1234.xlsx

The record is the one in the access ledger that says that this user has saved this file. The name of
a file of a rehearsal begins with `PROVA_`.

A name has only ASCII letters, digits, dashes, dots and underscores, so that every system takes it
and no header can be broken with it.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from config import times
from config.turkish import to_ascii
from portal.data.criteria import Criteria
from portal.data.numbers.snapshots import SnapshotInfo
from publisher.results.snapshots.headings import PROVISIONAL

REHEARSED = "PROVA, GERÇEK DEĞİL"
_REHEARSAL = "PROVA_"  # begins the name of a file of a rehearsal
_MAX_PART = 60
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Saved:
    """Who saves a file, from which snapshot, and the number of the record that says so.

    `rehearsal` is the id of the rehearsal that the file is of, empty for the election.
    """

    user: str
    record: int
    snapshot: SnapshotInfo
    now: datetime
    rehearsal: str = ""

    @property
    def status(self) -> str:
        """What the numbers in the file are: provisional, or only those of a rehearsal."""
        return REHEARSED if self.rehearsal else PROVISIONAL

    @property
    def lines(self) -> tuple[tuple[str, str], ...]:
        """What a saved file says of itself, as heading and text."""
        closed = self.snapshot.closed_at
        limits = "itiraza dayanak olmaz (Genelge 2023/153 md. 3)"
        return (
            ("Durum", f"{self.status}, {self.rehearsal or limits}"),
            ("Kullanıcı", self.user),
            ("Kayıt", f"access/{self.record}"),
            ("Anlık görüntü", str(self.snapshot.number)),
            ("Anlık görüntü zamanı", "" if closed is None else times.format_time(closed)),
            ("Kaydedildiği zaman", times.format_time(self.now)),
        )


def file_name(what: str, saved: Saved, extension: str) -> str:
    """Return the name of a saved file; before the first snapshot the time is now."""
    snapshot = saved.snapshot
    moment = (snapshot.closed_at or saved.now).astimezone(times.TURKEY)
    parts = (
        _safe(what),
        f"anlik-goruntu-{snapshot.number}",
        f"{moment:%Y%m%d-%H%M%S}",
        _safe(saved.user),
        f"kayit-{saved.record}",
    )
    return f"{_REHEARSAL if saved.rehearsal else ''}{'_'.join(parts)}.{extension}"


def of_search(criteria: Criteria) -> str:
    """Return what a search is about, for the name of a file: `mv-34-istanbul-1-kadikoy-2`."""
    return "-".join(criteria.query().values())


def with_user(name: str, user: str, record: int, rehearsal: str = "") -> str:
    """Return the name of a file that is saved as it is: `...-s1_parti-a.web-1_kayit-7.jpg`."""
    stem, dot, extension = name.rpartition(".")
    ending = f"{dot}{extension if dot else ''}"
    mark = _REHEARSAL if rehearsal else ""
    return f"{mark}{stem or name}_{_safe(user)}_kayit-{record}{ending}"


def _safe(text: str) -> str:
    return _UNSAFE.sub("-", to_ascii(text)).strip("-.")[:_MAX_PART] or "-"
