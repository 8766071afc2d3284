import hashlib
from pathlib import Path

import office
import pytest

from config import registry
from config.fault import Fault, Faults
from config.registry import Registry, RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "kayit.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def imported(folder: Path, text: str) -> Registry:
    index = folder / "state" / "registry.sqlite"
    registry.import_csv(written(folder, text), index)
    return Registry(index)


def refused(folder: Path, text: str | bytes) -> list[str]:
    index = folder / "state" / "registry.sqlite"
    with pytest.raises(Faults) as error:
        registry.import_csv(written(folder, text), index)
    assert office.listing(folder).keys() == {"kayit.csv"}, "a refused import leaves nothing"
    return [str(fault) for fault in error.value.faults]


def test_a_karekod_is_looked_up(tmp_path: Path) -> None:
    found = imported(tmp_path, office.registry_csv())

    assert found.lookup("1093717526") == RegistryEntry(
        "1093717526",
        Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1),
        SandikTuru.NORMAL,
        "Caferağa",
    )
    assert found.lookup("4000000001") == RegistryEntry(
        "4000000001",
        Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "06-ankara-1", None, None, 1),
        None,
        "",
    )
    found.close()


@pytest.mark.parametrize(
    "text", ["1093717599", "", "109371752", "10937175266", "١٠٩٣٧١٧٥٢٦", "1093717526\n", "../x"]
)
def test_an_unknown_code_is_not_found(tmp_path: Path, text: str) -> None:
    found = imported(tmp_path, office.registry_csv())

    assert found.lookup(text) is None
    found.close()


def test_leading_zeros_of_a_karekod_count(tmp_path: Path) -> None:
    found = imported(tmp_path, office.registry_csv("0000000042,cb,il-birlestirme,gumruk,,,,,1"))

    entry = found.lookup("0000000042")

    assert entry is not None
    assert entry.karekod == "0000000042"
    found.close()


def test_the_expected_sheets_are_listed(tmp_path: Path) -> None:
    found = imported(tmp_path, office.registry_csv())

    assert found.source().rows == 6
    assert {e.karekod for e in found.entries()} == {row[:10] for row in office.ROWS}
    assert ("34-istanbul-1", "kadikoy-2") in found.boards()
    found.close()


def test_every_bad_row_is_named_with_its_line(tmp_path: Path) -> None:
    lines = refused(
        tmp_path,
        office.registry_csv(
            "123,cb,il-birlestirme,06-ankara-1,,,,,1",
            "1000000001,xx,nothing,06-ankara-1,,,,,0",
            office.ROWS[0],
            "1000000002,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,,,1",
            "1000000003,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,big,9,,1",
            "1000000004,cb,il-birlestirme,06-ankara-1",
            "1000000005,cb,il-birlestirme,06-ankara-1,,,5,,1",
        ),
    )

    assert [line.split(": ")[1:3] for line in lines] == [
        ["line 2", "karekod"],
        ["line 3", "secim"],
        ["line 5", "sandik"],
        ["line 6", "sandik_turu"],
        ["line 7", "4 columns, write 9"],
        ["line 8", "sandik"],
    ]
    assert "sayfa: '0', write the page's number, from 1" in lines[1]


def test_two_rows_for_one_karekod_or_one_sheet_are_refused(tmp_path: Path) -> None:
    lines = refused(
        tmp_path,
        office.registry_csv(
            "1000000001,cb,il-birlestirme,06-ankara-1,,,,,1",
            "1000000001,cb,il-birlestirme,06-ankara-2,,,,,1",
            "1000000002,cb,sandik-sonuc,gumruk,kapikule,gumruk,A1,,1",
            "1000000003,cb,sandik-sonuc,gumruk,kapikule,gumruk,a1,,1",
        ),
    )

    assert lines == [
        "kayit.csv: line 3: the same karekod 1000000001 as line 2, keep one",
        "kayit.csv: line 5: the same sheet (cevre, kurul, sandik, secim, belge, page) "
        "as line 4, keep one",
    ]


def test_at_most_a_hundred_faults_are_listed(tmp_path: Path) -> None:
    assert len(refused(tmp_path, office.registry_csv(*["x"] * 250))) == 100


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "line 1: 'nothing', write the header karekod,secim,"),
        (office.registry_csv().splitlines()[0].encode(), "has no sheets, so nothing could be"),
        (office.registry_csv().replace("\n", "\r").encode(), "line 1: new-line character seen"),
        (b"karekod;secim\n", "line 1: 'karekod;secim', write the header"),
        (
            office.registry_csv("1000000001,cb,il-birlestirme,06-ankara-1,,,,M\xe7,1").encode(
                "latin-1"
            ),
            "line 2: is not UTF-8: it looks like Windows-1254",
        ),
        (
            office.registry_csv("1000000001,cb,il-birlestirme,06-ankara-1,,,,\x1b[2J,1").encode(),
            "line 2: mahalle: '\\x1b[2J', write it in UTF-8",
        ),
    ],
)
def test_a_file_that_is_not_a_registry_is_refused_with_the_cause(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    (line,) = refused(tmp_path, content)

    assert line.startswith(f"kayit.csv: {fault}")


def test_a_refused_import_keeps_the_old_registry(tmp_path: Path) -> None:
    found = imported(tmp_path, office.registry_csv())

    with pytest.raises(Faults):
        imported(tmp_path, office.registry_csv("rubbish"))

    assert found.lookup("1093717526") is not None
    found.close()


def test_a_reader_sees_a_new_registry(tmp_path: Path) -> None:
    found = imported(tmp_path, office.registry_csv())

    imported(tmp_path, office.registry_csv("7000000001,cb,il-birlestirme,gumruk,,,,,1")).close()

    assert found.lookup("1093717526") is None
    assert found.lookup("7000000001") is not None
    found.close()


def test_a_byte_order_mark_and_crlf_are_accepted(tmp_path: Path) -> None:
    text = "\ufeff" + office.registry_csv().replace("\n", "\r\n")

    found = imported(tmp_path, text)

    assert found.source().rows == 6
    found.close()


def test_a_missing_registry_is_a_fault_with_the_command_to_run(tmp_path: Path) -> None:
    with pytest.raises(Faults) as error:
        Registry(tmp_path / "registry.sqlite")

    assert error.value.faults == (
        Fault("state/registry.sqlite", "", "is missing, run `ssps registry import FILE.csv`"),
    )


def test_faults_writes_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, office.registry_csv(office.ROWS[0], office.ROWS[0]))

    faults = registry.faults(path)

    assert [f.key for f in faults] == ["line 3", "line 3"]
    assert office.listing(tmp_path).keys() == {"kayit.csv"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_registry_is_read_as_a_spreadsheet_saves_it(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    text = office.registry_csv().replace("\n", "\r\n").replace(",", delimiter)
    source = tmp_path / "kayit.csv"
    source.write_bytes((text + delimiter * 8 + "\r\n").encode(encoding))

    made = registry.import_csv(source, tmp_path / "index")

    assert made.rows == len(office.ROWS)
    assert made.sha256 == hashlib.sha256(source.read_bytes()).hexdigest()
    opened = registry.Registry(tmp_path / "index")
    entry = opened.lookup("1093717526")
    opened.close()
    assert entry is not None
    assert entry.mahalle == "Caferağa"


def test_a_district_that_does_not_exist_is_a_fault(tmp_path: Path) -> None:
    row = office.ROWS[0].replace("34-istanbul-1", "99-ankara-1")
    (tmp_path / "kayit.csv").write_text(office.registry_csv(row), encoding="utf-8")

    (fault,) = registry.faults(tmp_path / "kayit.csv")

    assert str(fault) == (
        "kayit.csv: line 2: cevre: '99-ankara-1' is not an election district, "
        "districts have names such as 34-istanbul-1"
    )


def test_of_a_file_in_another_encoding_one_fault_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "kayit.csv").write_bytes(office.registry_csv().encode("iso8859-9"))

    (fault,) = registry.faults(tmp_path / "kayit.csv")

    assert "is not UTF-8: it looks like Windows-1254 or ISO-8859-9 (Turkish)" in str(fault)
    assert 'in Excel: "CSV UTF-8"' in str(fault)
