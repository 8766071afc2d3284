"""The objects that the web service answers with. Their field names never change.

Names of numbers are those of a batch (config/result_batch): `secmen`, `oy_kullanan`, ...
Numbers are integers. A number that a board did not state is null; an option that it did not state
is not in `oylar`. Times are UTC, as 2023-05-14T18:04:10Z.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from config import times
from config.ballot import Option
from config.sheet import Secim
from portal.data import titles
from portal.data.answers.aggregates import AggregateLine
from portal.data.answers.boxes import BoxRow, Gap, Summary
from portal.data.answers.places import CoverageLine
from portal.data.numbers.snapshots import SnapshotInfo
from portal.data.numbers.sums import Sum
from portal.data.queries.history import BoxHistory, ResultVersion
from portal.data.queries.sheets import SheetFile
from publisher.results.checks.finding import Finding
from publisher.results.snapshots.headings import PROVISIONAL

Json = dict[str, Any]


def time(moment: datetime | None) -> str | None:
    """Return a time as text."""
    if moment is None:
        return None
    return times.format_utc(moment)


def dumps(content: Json | list[Json]) -> bytes:
    """Return an answer as JSON."""
    return orjson.dumps(content)


def district_title(name: str) -> str:
    """Return the title of a district, as on the web site."""
    return titles.district(name)


def board_title(name: str) -> str:
    """Return the title of a board, as on the web site."""
    return titles.board(name)


def head(snapshot: SnapshotInfo) -> Json:
    """Return the beginning of every answer: its snapshot, and that it is provisional."""
    return {
        "snapshot": snapshot.number,
        "closed_at": time(snapshot.closed_at),
        "durum": PROVISIONAL,
    }


def manifest(snapshot: SnapshotInfo) -> Json:
    """Return a snapshot's manifest: as fields, and its exact text, which the signature signs."""
    return {
        **head(snapshot),
        "sha256": snapshot.sha256,
        "previous": snapshot.content.get("previous"),
        "contests": snapshot.content.get("contests", {}),
        "files": snapshot.content.get("files", {}),
        "manifest": snapshot.manifest.decode(),
        "signature": snapshot.signature.decode(),
    }


def box(secim: Secim, row: BoxRow) -> Json:
    """Return a box's newest result; without one `surum` is 0 and the numbers are null."""
    return {
        "secim": secim.value,
        "belge": "sandik-sonuc",
        "cevre": row.place.cevre,
        "kurul": row.place.kurul,
        "sandik": row.place.sandik,
        "sandik_turu": row.kind.value,
        "mahalle": row.mahalle,
        "surum": row.version,
        "neden": row.reason,
        "zaman": time(row.time),
        **row.numbers,
        "oylar": dict(row.votes),
        "tutanak_sayfasi": row.sheets,
        "cetvel_sayfasi": row.count_sheets,
    }


def total(found: Sum) -> Json:
    """Return the sum of some boxes, with the shares of joint votes where they are defined."""
    turnout = found.turnout
    return {
        "sandik": found.boxes,
        **found.numbers,
        "katilim": None if turnout is None else round(turnout, 6),
        "oylar": dict(found.votes),
        "paylar": None if found.paylar is None else {k: dict(v) for k, v in found.paylar.items()},
    }


def summary(found: Summary) -> Json:
    """Return how many boxes are opened of all, and their sum."""
    return {"sandik_toplam": found.boxes, "sandik_acilan": found.opened, **total(found.total)}


def option(found: Option) -> Json:
    """Return an option of a ballot."""
    return {
        "sira": found.sira,
        "secenek": found.id,
        "tur": found.tur.value,
        "ad": found.ad,
        "ittifak": found.ittifak,
    }


def sheet(found: SheetFile) -> Json:
    """Return what is known of a scan; its picture is on the web site only (md. 3/e)."""
    return {
        "secim": found.secim.value,
        "belge": found.belge.value,
        "cevre": found.cevre or None,
        "kurul": found.kurul or None,
        "sandik": found.sandik or None,
        "sayfa": found.page,
        "surum": found.version,
        "yol": found.path,
        "sha256": found.sha256,
        "kare": found.frame,
        "karekod": found.karekod,
        "zaman": time(found.filed_at),
        "kayit": {"ledger": "filing", "seq": found.seq},
    }


def version(found: ResultVersion) -> Json:
    """Return one version of a box's numbers, with its proof."""
    return {
        "secim": found.secim.value,
        "surum": found.version,
        "neden": found.reason,
        "zaman": time(found.time),
        "kabul": time(found.accepted_at),
        **found.numbers,
        "oylar": dict(found.votes),
        "gecerli_surum": found.newest,
        "snapshot": found.snapshot,
        "digest": found.digest,
        "tutanak": found.sheet or None,
        "tutanak_sha256": found.sheet_sha256 or None,
        "kayit": {"ledger": "results", "seq": found.seq},
    }


def history(found: BoxHistory) -> Json:
    """Return everything that is known of a box."""
    return {
        **found.place._asdict(),
        "sonuclar": [version(each) for each in found.results],
        "tutanaklar": [sheet(each) for each in found.sheets],
        "uyarilar": [finding(each) for each in found.findings],
    }


def finding(found: Finding) -> Mapping[str, object]:
    """Return what a check noticed."""
    return found.as_json()


def gap(found: Gap) -> Json:
    """Return a box that has no result, or no sheet."""
    return {
        **found.row.place._asdict(),
        "sandik_turu": found.row.kind.value,
        "mahalle": found.row.mahalle,
        "sonuc": found.row.version > 0,
        "tutanak": found.row.sheets > 0,
        "neden": found.reason or None,
        "aciklama": found.why or None,
    }


def coverage(found: CoverageLine) -> Json:
    """Return how much of a place is here."""
    return {
        "cevre": found.cevre,
        "kurul": found.kurul,
        "sandik_toplam": found.boxes,
        "sandik_acilan": found.opened,
        "sandik_tutanakli": found.sheets,
    }


def aggregate(found: AggregateLine) -> Json:
    """Return an aggregate sheet beside the sum of its boxes."""
    stated = found.stated
    return {
        "secim": found.secim.value,
        "belge": found.key.belge.value,
        "cevre": found.key.cevre or None,
        "kurul": found.key.kurul or None,
        "surum": stated.version if stated else 0,
        "neden": stated.reason if stated else "",
        "zaman": time(stated.time) if stated else None,
        "tutanakta": {**stated.numbers, "oylar": dict(stated.votes)} if stated else None,
        "sandiklardan": {**found.summed, "oylar": dict(found.summed_votes)},
        "sandik_toplam": found.boxes,
        "sandik_acilan": found.opened,
        "farkli": list(found.differs),
        "tutanaklar": [sheet(each) for each in found.sheets],
    }
