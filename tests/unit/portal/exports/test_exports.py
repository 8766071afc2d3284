"""Saved files hold exactly what is shown, and nothing that a spreadsheet would run."""

import csv
import html
import io
import zipfile
from datetime import UTC, datetime
from hashlib import sha256
from xml.etree import ElementTree

from unit.portal.portal_site import BOXES, KADIKOY_2, PortalSite, every_result, result

from config.sheet import Secim
from config.site import original_file
from portal.data.criteria import Criteria
from portal.data.numbers.snapshots import NO_SNAPSHOT, SnapshotInfo
from portal.exports import tables
from portal.exports.csv_file import write_csv
from portal.exports.file_name import Saved, file_name, of_search, with_user
from portal.exports.sheets_zip import stream_zip
from portal.exports.tables import ExportTable
from portal.exports.xlsx_file import write_xlsx

MV = Criteria(Secim.MV)
ISTANBUL = Criteria(Secim.MV, cevre="34-istanbul-1")


def read(table: ExportTable) -> list[dict[str, str]]:
    """Read a CSV as a Turkish Excel does."""
    text = b"".join(write_csv(table)).decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=";"))


def test_a_csv_holds_the_boxes_as_they_are_shown_and_their_total(site: PortalSite) -> None:
    site.publish(result(BOXES[2]), result(BOXES[3]))
    data = site.data()

    lines = read(tables.boxes(data, ISTANBUL, "oylar.parti-a", descending=True))

    assert len(lines) == 10 + 1
    assert lines[0]["Sandık No"] == "1002"
    assert lines[0]["A Partisi"] == "103"
    assert lines[0]["Seçim Çevresi"] == "İstanbul 1"
    assert lines[0]["Mahalle/Köy"] == "Caferağa"
    assert lines[0]["İşlem Zamanı"] == "2023-05-14T18:30:00+03:00"
    assert lines[5]["A Partisi"] == ""  # not opened
    assert lines[-1]["Seçim Çevresi"] == "TOPLAM"
    assert lines[-1]["A Partisi"] == str(102 + 103)
    assert lines[-1]["Ali Bağımsız"] == "14"
    assert {line["Anlık Görüntü"] for line in lines} == {"1"}
    assert {line["Durum"] for line in lines} == {"GEÇİCİ SONUÇ"}


def test_no_text_becomes_a_formula(site: PortalSite) -> None:
    site.publish(result(BOXES[2]))
    evil = '=HYPERLINK("http://x/";1)'
    site.publish(result(BOXES[2], surum=2, neden=evil, gecersiz=9), exports=True)
    data = site.data()

    shown = read(tables.boxes(data, ISTANBUL))
    changed = read(tables.changes(data, ISTANBUL))
    country = data.whole_file("mv.csv")

    assert shown[0]["Değişiklik Nedeni"] == f"'{evil}"
    assert f"'{evil}" in {cell for line in changed for cell in line.values()}
    assert all(not cell.startswith("=") for line in changed for cell in line.values())
    assert country is not None
    with country.open(encoding="utf-8-sig", newline="") as file:
        (line,) = csv.DictReader(file, delimiter=";")
    assert line["Değişiklik Nedeni"] == f"'{evil}"
    assert "<f>" not in xlsx_part(tables.boxes(data, ISTANBUL), "xl/worksheets/sheet1.xml")


def saved(snapshot: SnapshotInfo = NO_SNAPSHOT) -> Saved:
    return Saved("parti-a.ayse", 1234, snapshot, datetime(2023, 5, 14, 20, tzinfo=UTC))


def xlsx_part(table: ExportTable, name: str) -> str:
    file = io.BytesIO()
    write_xlsx(table, file, saved())
    with zipfile.ZipFile(file) as packed:
        return packed.read(name).decode()


def test_an_excel_file_has_typed_cells(site: PortalSite) -> None:
    site.publish(result(BOXES[2]))
    table = tables.boxes(site.data(), ISTANBUL)

    sheet = ElementTree.fromstring(xlsx_part(table, "xl/worksheets/sheet1.xml"))  # noqa: S314
    space = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
    first = sheet.findall(".//x:row", space)[1]
    kinds = {c.get("r"): (c.get("t"), c.findtext("x:v", None, space)) for c in first}

    assert kinds["D2"][0] in ("s", "inlineStr")  # the box number is text
    assert kinds["G2"] == (None, "1")
    moment = float(kinds["I2"][1] or 0)  # days since 1899-12-30, in Turkey's time
    assert round((moment - 25569) * 86400) == datetime(2023, 5, 14, 18, 30, tzinfo=UTC).timestamp()
    shown = 'yyyy-mm-dd"T"hh:mm:ss"+03:00"'
    assert shown in html.unescape(xlsx_part(table, "xl/styles.xml"))
    assert sheet.find("x:cols/x:col[@min='9']", space) is not None  # wide enough to show it
    properties = xlsx_part(table, "docProps/core.xml")
    assert "parti-a.ayse" in properties and "access/1234" in properties
    texts = xlsx_part(table, "xl/worksheets/sheet2.xml")
    assert 'name="Bilgi"' in xlsx_part(table, "xl/workbook.xml")
    assert "access/1234" in texts and "GEÇİCİ SONUÇ" in texts


def test_changes_gaps_and_findings_are_saved_too(site: PortalSite) -> None:
    site.publish(*every_result())
    site.publish(result(BOXES[0], surum=2, neden="itiraz kabul", gecersiz=9))
    data = site.data()

    changes = read(tables.changes(data, MV))
    gaps = read(tables.gaps(data, MV, without_sheet=True))
    findings = read(tables.findings(data, MV))

    assert [(c["Alan"], c["Eski"], c["Yeni"], c["Yeni Tarama"]) for c in changes] == [
        ("Geçersiz", "5", "9", "yok")
    ]
    assert len(gaps) == 21
    assert gaps[0]["Tutanak"] == "yok"
    assert "ballots-not-voted" in {finding["Kontrol"] for finding in findings}


def test_aggregate_sheets_are_saved_beside_the_sums_of_their_boxes(site: PortalSite) -> None:
    aggregate = {
        "secim": "mv", "belge": "ilce-birlestirme", "cevre": "01-adana", "kurul": "aladag",
        "surum": 1, "neden": "", "zaman": "2023-05-14T20:00:00+03:00",
        "gecerli": 402, "oylar": {"parti-a": 201, "parti-b": 100, "parti-c": 80, "ortak": 20},
    }  # fmt: skip
    site.publish(result(BOXES[0]), result(BOXES[1]), aggregate)

    lines = read(tables.aggregates(site.data(), Criteria(Secim.MV, cevre="01-adana")))

    of_board = {line["Alan"]: line for line in lines if line["İlçe Seçim Kurulu"] == "Aladağ"}
    shown = [
        (
            of_board[name]["Tutanakta"],
            of_board[name]["Sandıkların Toplamı"],
            of_board[name]["Farklı"],
        )
        for name in ("Geçerli", "A Partisi")
    ]
    assert shown == [("402", "401", "farklı"), ("201", "201", "")]
    assert {line["Açılan Sandık"] for line in lines} == {"2"}


def test_a_scope_limits_what_is_saved(site: PortalSite) -> None:
    site.publish(*every_result(), exports=True)
    data = site.data(KADIKOY_2)

    assert {line["İlçe Seçim Kurulu"] for line in read(tables.boxes(data, MV))} == {"Kadıköy 2", ""}
    assert data.whole_file("mv.csv") is None


def test_a_zip_of_sheets_is_streamed_with_its_sums(site: PortalSite) -> None:
    big = bytes(range(256)) * 4096
    boxes = [box for box in BOXES if box[1] == "kadikoy-2"]
    for box, content in zip(boxes[:3], (b"one", big, b"other bytes"), strict=True):
        right = b"three" if content == b"other bytes" else content
        site.file_sheet(box, digest=sha256(right).hexdigest())
    site.file_sheet(boxes[3], digest="0" * 64)
    data = site.data()
    sheets = list(data.sheets_of(ISTANBUL))
    for sheet, content in zip(sheets[:3], (b"one", big, b"other bytes"), strict=True):
        path = site.path / original_file(sheet.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    chunks = list(stream_zip(site.path, sheets, saved(data.snapshot)))

    assert max(map(len, chunks)) < 1 << 19  # never the whole file at once
    with zipfile.ZipFile(io.BytesIO(b"".join(chunks))) as packed:
        assert packed.testzip() is None
        assert packed.read(sheets[1].path) == big
        sums = packed.read("SHA256SUMS").decode()
        assert sums == "".join(f"{s.sha256}  {s.path}\n" for s in sheets[:2])
        missing = packed.read("EKSIKLER.txt").decode()
        assert sheets[2].path in missing and sheets[3].path in missing
        assert "parti-a.ayse; Kayıt: access/1234" in packed.comment.decode()
        assert "Kayıt: access/1234" in packed.read("BILGI.txt").decode()
        assert packed.getinfo(sheets[0].path).date_time == (2023, 5, 14, 22, 0, 0)


def test_a_file_name_says_what_when_and_who_and_nothing_else(site: PortalSite) -> None:
    site.publish(result(BOXES[0]))
    snapshot = site.data().snapshot

    search = of_search(Criteria(Secim.MV, cevre="34-istanbul-1", mahalle='Çay"\r\n../İ'))

    assert file_name(search, saved(snapshot), "csv") == (
        "mv-34-istanbul-1-Cay-..-I_anlik-goruntu-1_20230514-210000_parti-a.ayse_kayit-1234.csv"
    )
    assert with_user("sandik-1-cb-sandik-sonuc-s1.v2.jpg", 'parti-a.a"', 7) == (
        "sandik-1-cb-sandik-sonuc-s1.v2_parti-a.a_kayit-7.jpg"
    )
