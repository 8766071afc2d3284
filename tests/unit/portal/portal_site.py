"""A small election for the portal: two contests, six boards, boxes of every kind, and snapshots.

Every box's numbers follow from its position, so that tests can state sums:

    34-istanbul-1/kadikoy-1    1001 to 1006, of them 1004 to 1006 in Moda
    34-istanbul-1/kadikoy-2    1001 to 1004
    35-izmir-2/konak           1001, 1002, 1003 (cezaevi)
    01-adana/aladag            1, 2
    gumruk/kapikule            A1, A2, A10
    yurt-disi/almanya          1, 2, 3
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.publisher.results.results_site import ELECTION, NOW, ResultsSite

from config.layout import path as sheet_path
from config.registry import Registry
from config.scope import ALL, Scope
from config.settings import ShareLevel
from config.sheet import Belge, Secim, Sheet
from config.site import BALLOT_CSV, LEDGERS, REGISTRY_INDEX, RESULTS_LEDGER
from keys.ledger.signer import Signer
from keys.server_keys import sshsig
from portal.data.live import LiveData
from portal.data.scoped import ScopedData
from publisher.catalog import tables as catalog_tables
from publisher.catalog.catalog import Catalog
from publisher.catalog.catalog import url as catalog_url
from publisher.results.checker import Checker
from publisher.results.snapshots.exports import write_exports
from publisher.results.snapshots.merge import merge
from publisher.results.snapshots.snapshot import SnapshotWriter
from publisher.results.snapshots.summary import summary_lines

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
BALLOT = """\
secim,cevre,sira,secenek,tur,ad,ittifak
mv,,1,parti-a,parti,A Partisi,ortak
mv,,2,parti-b,parti,B Partisi,ortak
mv,,3,parti-c,parti,C Partisi,
mv,,4,ortak,ittifak,ORTAK İTTİFAKI,
mv,34-istanbul-1,5,bagimsiz-1,bagimsiz,Ali Bağımsız,
mv,35-izmir-2,5,bagimsiz-1,bagimsiz,Veli Bağımsız,
mv,35-izmir-2,6,bagimsiz-2,bagimsiz,Deli Bağımsız,
cb,,1,aday-1,aday,Birinci Aday,
cb,,2,aday-2,aday,İkinci Aday,
"""
BOARDS = {
    ("01-adana", "aladag"): ("1", "2"),
    ("34-istanbul-1", "kadikoy-1"): ("1001", "1002", "1003", "1004", "1005", "1006"),
    ("34-istanbul-1", "kadikoy-2"): ("1001", "1002", "1003", "1004"),
    ("35-izmir-2", "konak"): ("1001", "1002", "1003"),
    ("yurt-disi", "almanya"): ("1", "2", "3"),
    ("gumruk", "kapikule"): ("A1", "A2", "A10"),
}
Box = tuple[str, str, str]
BOXES: tuple[Box, ...] = tuple((*board, box) for board, boxes in BOARDS.items() for box in boxes)
ISTANBUL = Scope(frozenset({("34-istanbul-1", None)}))
KADIKOY_2 = Scope(frozenset({("34-istanbul-1", "kadikoy-2")}))
_BOARD_FORMS = {
    "yurt-disi": "yurt-disi-ulke-birlestirme",
    "gumruk": "gumruk-ilce-birlestirme-kurul",
}
_DISTRICT_FORMS = {
    "yurt-disi": "yurt-disi-ulkeler-birlestirme",
    "gumruk": "gumruk-kapilari-birlestirme",
}


def kind_of(box: Box) -> str:
    if box[0] in ("yurt-disi", "gumruk"):
        return box[0]
    return "cezaevi" if box == ("35-izmir-2", "konak", "1003") else "normal"


def mahalle_of(box: Box) -> str:
    if box[1] == "kadikoy-1":
        return "Moda" if box[2] >= "1004" else "Caferağa"
    return {"kadikoy-2": "İçerenköy", "konak": "Çankaya", "aladag": "Şıhlı"}.get(box[1], "")


def registry_csv() -> str:
    lines = ["karekod,secim,belge,cevre,kurul,sandik_turu,sandik,mahalle,sayfa"]
    serial = iter(range(1_000_000_000, 2_000_000_000))
    for secim in ("cb", "mv"):
        for box in BOXES:
            for belge in ("sandik-sonuc", "sayim-dokum-cetveli"):
                place = f"{box[0]},{box[1]},{kind_of(box)},{box[2]},{mahalle_of(box)}"
                lines.append(f"{next(serial)},{secim},{belge},{place},1")
        for cevre, kurul in BOARDS:
            belge = _BOARD_FORMS.get(cevre, "ilce-birlestirme")
            lines.append(f"{next(serial)},{secim},{belge},{cevre},{kurul},,,,1")
        kurullar = "ilce-birlestirme-kurullar,34-istanbul-1,kadikoy-2"
        lines.append(f"{next(serial)},{secim},{kurullar},,,,1")
        for cevre in dict.fromkeys(cevre for cevre, _ in BOARDS):
            belge = _DISTRICT_FORMS.get(cevre, "il-birlestirme")
            lines.append(f"{next(serial)},{secim},{belge},{cevre},,,,,1")
        belge = "ulkeler-ve-gumruk-kapilari-birlestirme"
        lines.append(f"{next(serial)},{secim},{belge},,,,,,1")
    return "\n".join(lines) + "\n"


def result(box: Box, secim: str = "mv", /, **changes: object) -> dict[str, object]:
    """Return the batch's row of a box; box number n (from 0) has 100 + n votes for parti-a."""
    n = BOXES.index(box)
    if secim == "cb":
        votes = {"aday-1": 150 + n, "aday-2": 90}
    else:
        votes = {"parti-a": 100 + n, "parti-b": 50, "parti-c": 40, "ortak": 10}
        if box[0] == "34-istanbul-1":
            votes["bagimsiz-1"] = 7
        if box[0] == "35-izmir-2":
            votes |= {"bagimsiz-1": 3, "bagimsiz-2": 5}
    valid = sum(votes.values())
    made: dict[str, object] = {
        "secim": secim,
        "cevre": box[0],
        "kurul": box[1],
        "sandik": box[2],
        "sandik_turu": kind_of(box),
        "surum": 1,
        "neden": "",
        "zaman": "2023-05-14T18:30:00+03:00",
        "secmen": 400,
        "oy_kullanan": valid + 5,
        "itirazsiz_gecerli": valid,
        "itirazli_gecerli": 0,
        "gecerli": valid,
        "gecersiz": 5,
        "oylar": votes,
    }
    return made | changes


class PortalSite(ResultsSite):
    """A site with snapshots, sheets and findings, and its data as the portal reads it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, registry_csv(), BALLOT)
        (path / BALLOT_CSV).write_text(BALLOT, encoding="utf-8")
        self._arrivals = 0
        self._snapshots = 0
        self.other_sheets: list[str] = []

    def publish(self, *rows: object, exports: bool = False) -> int:
        """Take in rows, check them, close a snapshot; return its number."""
        batch = self.deliver(*rows)
        ledger_folder = self.path / LEDGERS / RESULTS_LEDGER
        with self.opened() as (intake, context):
            registry = Registry(self.path / REGISTRY_INDEX)
            checker = Checker(context.store, registry, lambda: self.ballot, lambda keys: {})
            minutes = timedelta(minutes=self._snapshots)
            writer = SnapshotWriter(
                self.path,
                ELECTION,
                context.store,
                context.ledger,
                lambda text: sshsig.sign(KEY, text),
                lambda: NOW + minutes,
                merge=merge,
            )
            try:
                writer.recover()
                for claimed in intake.claim([batch]):
                    for chunk in intake.take_in(claimed):
                        writer.add(chunk.results, chunk.known)
                        found = checker.add(chunk.results, chunk.known, chunk.sheets)
                        context.store.replace_findings(found)
                context.store.replace_findings(checker.check_changed_places())
                context.store.commit()
                closed = writer.close_snapshot(
                    lambda secim: summary_lines(secim, checker.sums, self.ballot, ShareLevel.CEVRE)
                )
            finally:
                writer.close()
                registry.close()
        self._snapshots += 1
        with Signer(ledger_folder, KEY) as signer:
            signer.sign()
        if exports:
            write_exports(
                self.path, closed.number, ELECTION, self.ballot, lambda t: sshsig.sign(KEY, t)
            )
        return closed.number

    def file_sheet(
        self,
        box: Box | tuple[str, str, str],
        secim: str = "mv",
        belge: Belge = Belge.SANDIK_SONUC,
        version: int = 1,
        digest: str = "",
    ) -> str:
        """File a scan as the publisher does; return its path."""
        self._arrivals += 1
        place = [part or None for part in box]
        sheet = Sheet(Secim(secim), belge, place[0], place[1], place[2], 1)
        path = sheet_path(ELECTION, sheet, version, "jpg")
        with Catalog(catalog_url(self.path)) as catalog:
            arrival = {
                "id": f"arrival-{self._arrivals}",
                "name": "a.jpg",
                "source": b"a.jpg",
                "source_stamp": "-",
                "received_at": NOW.isoformat(),
                "state": "filed",
                "seq": self._arrivals,
            }
            filing = {
                "arrival": arrival["id"],
                "frame": 1,
                "secim": secim,
                "belge": belge.value,
                "cevre": box[0],
                "kurul": box[1],
                "sandik": box[2],
                "page": 1,
                "version": version,
                "karekod": f"{self._arrivals:010}",
                "sha256": digest or f"{self._arrivals:064x}",
                "path": path,
                "filed_at": int(datetime(2023, 5, 14, 19, tzinfo=UTC).timestamp()),
                "seq": self._arrivals,
            }
            catalog.connection.execute(sa.insert(catalog_tables.arrival), [arrival])
            catalog.connection.execute(sa.insert(catalog_tables.filing), [filing])
            if version == 1:
                kind = {key: filing[key] for key in ("cevre", "kurul", "secim", "belge")}
                tally = catalog_tables.tally
                counted = sa.update(tally).filter_by(**kind).values(number=tally.c.number + 1)
                if not catalog.connection.execute(counted).rowcount:
                    catalog.connection.execute(sa.insert(tally), [{**kind, "number": 1}])
            catalog.commit()
        return path

    def live(self, level: ShareLevel = ShareLevel.CEVRE) -> LiveData:
        return LiveData(self.path, level)

    def data(self, scope: Scope = ALL, level: ShareLevel = ShareLevel.CEVRE) -> ScopedData:
        """Return what a user with that scope sees now."""
        return self.live(level).scoped(scope)


def every_result() -> Iterator[dict[str, object]]:
    for box in BOXES:
        yield result(box, "cb")
        yield result(box)
