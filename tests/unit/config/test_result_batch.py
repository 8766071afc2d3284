import json
from datetime import UTC, datetime
from io import BytesIO

import pytest

from config import result_batch as batch
from config.result_batch import BadRow, GoodRow, RowFault
from config.sheet import Belge, SandikTuru, Secim

ELECTION = "2023-05-14-cb-mv"
ROW: dict[str, object] = {
    "secim": "mv",
    "cevre": "34-istanbul-1",
    "kurul": "kadikoy-2",
    "sandik": "1234",
    "sandik_turu": "normal",
    "surum": 1,
    "neden": "",
    "zaman": "2023-05-14T18:30:00+03:00",
    "secmen": 300,
    "oy_kullanan": 250,
    "itirazsiz_gecerli": 240,
    "itirazli_gecerli": 5,
    "gecerli": 245,
    "gecersiz": 7,
    "oylar": {"parti-a": 100, "parti-b": 145},
}


def rows(*objects: object) -> list[GoodRow | BadRow]:
    lines = [o if isinstance(o, bytes) else json.dumps(o).encode() + b"\n" for o in objects]
    return list(batch.read_ndjson(lines, ELECTION))


def bad(row: object) -> BadRow:
    (found,) = rows(row)
    assert isinstance(found, BadRow)
    return found


def test_a_row_has_the_numbers_of_one_box_and_contest() -> None:
    (row,) = rows({**ROW, "zarf": 252, "aciklama": "ignored"})

    assert isinstance(row, GoodRow)
    found = row.result
    assert found.key == (Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234")
    assert (found.sandik_turu, found.version, found.reason) == (SandikTuru.NORMAL, 1, "")
    assert found.time == datetime(2023, 5, 14, 15, 30, tzinfo=UTC)
    assert found.numbers() == {
        "secmen": 300,
        "oy_kullanan": 250,
        "liste_ici_oy_kullanan": None,
        "liste_disi_oy_kullanan": None,
        "zarf": 252,
        "itirazsiz_gecerli": 240,
        "itirazli_gecerli": 5,
        "gecerli": 245,
        "gecersiz": 7,
    }
    assert found.votes == {"parti-a": 100, "parti-b": 145}


def test_an_aggregate_names_its_sheet_and_leaves_out_what_does_not_apply() -> None:
    (row,) = rows(
        {
            "secim": "mv",
            "belge": "il-birlestirme",
            "cevre": "34-istanbul-1",
            "surum": 1,
            "zaman": "2023-05-15T02:00:00+03:00",
            "gecerli": 1000,
            "oylar": {"parti-a": 1000},
        }
    )

    assert isinstance(row, GoodRow)
    assert row.result.key == (Secim.MV, Belge.IL_BIRLESTIRME, "34-istanbul-1", None, None)
    assert (row.result.sandik_turu, row.result.registered, row.result.valid) == (None, None, 1000)


@pytest.mark.parametrize(
    ("change", "fault", "message"),
    [
        ({"secim": "xx"}, RowFault.BAD_VALUE, "secim: 'xx', write one of cb, mv"),
        ({"secmen": "1.234"}, RowFault.BAD_VALUE, "secmen: '1.234', write a whole number"),
        ({"secmen": 12.0}, RowFault.BAD_VALUE, "secmen: 12.0, write a whole number"),
        ({"secmen": True}, RowFault.BAD_VALUE, "secmen: True, write a whole number"),
        ({"secmen": 10**10}, RowFault.BAD_VALUE, "write a whole number"),
        ({"gecersiz": -1}, RowFault.NEGATIVE, "gecersiz: -1, a count is never negative"),
        ({"oylar": {"a": -5}}, RowFault.NEGATIVE, "oylar.a: -5"),
        ({"oylar": [1, 2]}, RowFault.BAD_VALUE, "oylar: write the votes as an object"),
        ({"gecerli": None}, RowFault.MISSING_FIELD, "gecerli is missing"),
        ({"surum": 0}, RowFault.BAD_VALUE, "surum: 0, versions count from 1"),
        ({"surum": None}, RowFault.BAD_VALUE, "surum: None"),
        ({"zaman": "2023-05-14 18:30"}, RowFault.BAD_VALUE, "write a time with its zone"),
        ({"zaman": 1684078200}, RowFault.BAD_VALUE, "write a time with its zone"),
        ({"sandik": None}, RowFault.BAD_VALUE, "sandik: empty"),
        ({"sandik": "../1"}, RowFault.BAD_VALUE, "is not a box number"),
        ({"kurul": 5}, RowFault.BAD_VALUE, "kurul: 5, write it as text"),
        ({"sandik_turu": "Normal"}, RowFault.BAD_VALUE, "write one of normal"),
        ({"neden": "a\0b"}, RowFault.BAD_VALUE, "neden: 'a\\x00b', write printable text"),
        ({"election": "2018-06-24"}, RowFault.WRONG_ELECTION, "this site holds 2023-05-14-cb-mv"),
    ],
)
def test_a_row_that_cannot_be_a_result_says_why(
    change: dict[str, object], fault: RowFault, message: str
) -> None:
    found = bad({**ROW, **change})

    assert (found.line, found.fault) == (1, fault)
    assert message in found.message
    assert json.loads(found.text)["cevre"] == "34-istanbul-1"


@pytest.mark.parametrize(
    "line",
    [b"{\n", b'"text"\n', b"\xff\xfe{}\n", b'{"a": 1, "a": 2}\n', b"\0\0\0\n", b"[" * 100_000],
)
def test_a_line_that_is_not_an_object_is_unreadable_and_the_next_one_is_read(line: bytes) -> None:
    first, second = rows(line, ROW)

    assert isinstance(first, BadRow)
    assert first.fault is RowFault.UNREADABLE
    assert isinstance(second, GoodRow)
    assert second.line == 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "iso-8859-9"])
def test_a_line_in_another_encoding_is_unreadable_and_not_guessed(encoding: str) -> None:
    line = json.dumps({**ROW, "neden": "sayım"}, ensure_ascii=False).encode(encoding)

    found = bad(line)

    assert found.fault is RowFault.UNREADABLE


def test_a_box_number_may_be_a_number_of_json() -> None:
    (as_number,) = rows({**ROW, "sandik": 1234})
    (as_text,) = rows({**ROW, "sandik": "1234"})

    assert isinstance(as_number, GoodRow)
    assert as_number == as_text


def test_a_byte_order_mark_crlf_and_empty_lines_are_accepted() -> None:
    content = json.dumps(ROW).encode()

    (row,) = rows(b"\xef\xbb\xbf" + content + b"\r\n", b"\r\n", b"\n")

    assert isinstance(row, GoodRow)


CSV_HEADER = (
    "secim;cevre;kurul;sandik;sandik_turu;surum;neden;zaman;secmen;oy_kullanan;"
    "itirazsiz_gecerli;itirazli_gecerli;gecerli;gecersiz;oylar.parti-a;oylar.parti-b"
)
CSV_ROW = (
    "mv;34-istanbul-1;kadikoy-2;1234;normal;1;;2023-05-14T18:30:00+03:00;300;250;240;5;245;7;"
    "100;145"
)


def csv_rows(*lines: str) -> list[GoodRow | BadRow]:
    return list(batch.read_csv([f"{line}\r\n".encode() for line in lines], ELECTION))


@pytest.mark.parametrize("delimiter", [";", ","])
def test_a_csv_row_is_the_same_result_as_the_json_row(delimiter: str) -> None:
    (from_json,) = rows(ROW)

    (from_csv,) = csv_rows(
        "\ufeff" + CSV_HEADER.replace(";", delimiter), CSV_ROW.replace(";", delimiter)
    )

    assert isinstance(from_json, GoodRow)
    assert isinstance(from_csv, GoodRow)
    assert from_csv.result == from_json.result
    assert from_csv.line == 2


def test_a_bad_csv_row_is_named_and_the_next_one_is_taken() -> None:
    short, separated, good = csv_rows(
        CSV_HEADER, "mv;34-istanbul-1", CSV_ROW.replace(";300;", ";1.234;"), "", CSV_ROW
    )

    assert isinstance(short, BadRow)
    assert (short.line, short.message) == (2, "2 columns, the header has 16")
    assert isinstance(separated, BadRow)
    assert "secmen: '1.234'" in separated.message
    assert isinstance(good, GoodRow)
    assert good.line == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", b""),
        ("a.ndjson", b"\xef\xbb\xbf\r\n\n"),
        ("a.csv", f"{CSV_HEADER}\n;;;\n".encode()),
    ],
)
def test_a_file_without_any_row_is_not_dropped_in_silence(name: str, content: bytes) -> None:
    (found,) = batch.read(name, BytesIO(content), ELECTION)

    assert isinstance(found, BadRow)
    assert (found.line, found.fault) == (1, RowFault.UNREADABLE)
    assert "no row" in found.message


@pytest.mark.parametrize(
    ("header", "message"),
    [("secim;secim;surum;zaman", "'secim' is there more than once"), ("a;b", "lacks secim")],
)
def test_a_csv_without_a_header_is_one_bad_row(header: str, message: str) -> None:
    (found,) = csv_rows(header, CSV_ROW, "", CSV_ROW)

    assert isinstance(found, BadRow)
    assert message in found.message
    assert "; 2 rows below it are not read" in found.message


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"zaman": "9999-12-31T23:59:59-12:00"}, RowFault.BAD_VALUE),
        ({"zaman": "0001-01-01T00:00:00+14:00"}, RowFault.BAD_VALUE),
        ({"oylar": {"parti-\ud800": 1}}, RowFault.BAD_VALUE),
        ({"oylar": {"parti-a\x00": 1}}, RowFault.BAD_VALUE),
        ({"oylar": {"x" * 101: 1}}, RowFault.BAD_VALUE),
        ({"neden": "\ud800"}, RowFault.BAD_VALUE),
        ({"neden": "satır\nsonu"}, RowFault.BAD_VALUE),
        ({"election": "\ud800"}, RowFault.WRONG_ELECTION),
        ({"cevre": "34-istanbul-1\x00"}, RowFault.BAD_VALUE),
        ({"cevre": "34-İSTANBUL-1"}, RowFault.BAD_VALUE),
        ({"kurul": "../kadikoy-2"}, RowFault.BAD_VALUE),
        ({"sandik": "1234' OR 1=1"}, RowFault.BAD_VALUE),
        ({"secim": ["mv"]}, RowFault.BAD_VALUE),
        ({"secim": "x" * 100_000}, RowFault.BAD_VALUE),
        ({"gecerli": True}, RowFault.BAD_VALUE),
        ({"gecerli": 245.0}, RowFault.BAD_VALUE),
        ({"gecerli": 10**100}, RowFault.BAD_VALUE),
        ({"oylar": {"parti-a": "1.234"}}, RowFault.BAD_VALUE),
    ],
)
def test_a_hostile_row_is_bad_and_its_message_is_short_and_can_be_stored(
    change: dict[str, object], fault: RowFault
) -> None:
    found = bad(ROW | change)

    assert found.fault is fault
    assert len(found.message) <= 510
    assert (found.message + found.text).encode()


def test_a_quote_that_is_not_closed_spoils_only_its_own_line() -> None:
    header = CSV_HEADER
    good = CSV_ROW
    spoiled = good.replace(";normal;", ';"normal;', 1)

    found = csv_rows(header, good, spoiled, good)

    assert [type(row) for row in found] == [GoodRow, BadRow, GoodRow]
    assert (found[1].line, found[2].line) == (3, 4)


def test_a_csv_in_another_encoding_is_rejected_and_not_guessed() -> None:
    header = CSV_HEADER.encode()
    row = CSV_ROW
    lines = [header, row.replace(";1;;", ";2;sayım yenilendi;").encode("iso-8859-9"), row.encode()]

    first, second = batch.read_csv([line + b"\n" for line in lines], ELECTION)

    assert isinstance(first, BadRow)
    assert "not UTF-8" in first.message
    assert isinstance(second, GoodRow)
