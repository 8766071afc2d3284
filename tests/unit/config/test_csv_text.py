import csv

import pytest

from config import csv_text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_way_a_spreadsheet_saves_a_csv_gives_the_same_rows(
    encoding: str, delimiter: str, end: str
) -> None:
    content = end.join((f"ad{delimiter}yer", f"Çağrı{delimiter}İstanbul", "")).encode(encoding)

    rows = list(csv.reader(csv_text.lines(csv_text.decode(content))))

    assert rows == [["ad", "yer"], ["Çağrı", "İstanbul"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("ad\nÇağrı\n".encode("iso8859-9"), "line 2 is not UTF-8: save the file as CSV in UTF-8"),
        (b"ad\n\0\n", "has NUL bytes"),
    ],
)
def test_another_encoding_is_refused_with_what_to_do(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        csv_text.decode(content)
