from datetime import UTC, datetime

import pytest

from config import layout
from publisher.page import (
    EXTENSION,
    MAGIC,
    Arrival,
    Stamp,
    arrival_id,
    escaped,
    format_of,
    safe_name,
)
from publisher.source import Source

NOON = datetime(2023, 5, 14, 14, 0, 3, 41, tzinfo=UTC)


def test_arrival_ids_sort_by_time() -> None:
    first = arrival_id(NOON, "ffffffff")
    later = arrival_id(NOON.replace(microsecond=42), "00000000")

    assert first == "20230514T140003000041-ffffffff"
    assert first < later


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("2023/tarama 7.jpg", "tarama_7.jpg"),
        ("a\nb\x1b[31m.jpg", "a_b__31m.jpg"),
        ("şırnak.tif", "__rnak.tif"),
        (".hidden", "hidden"),
        ("..", "_"),
        ("x" * 300 + ".jpg", "x" * 76 + ".jpg"),
    ],
)
def test_a_hostile_name_becomes_safe_for_a_terminal_and_a_file_system(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert safe_name(safe) == safe, "a safe name does not change when it is made safe again"


def test_a_name_that_is_not_utf8_is_escaped() -> None:
    assert escaped("\udcff.jpg") == r"\udcff.jpg"


def test_a_stamp_survives_writing_and_parsing() -> None:
    assert str(Stamp(7, 200_000, 1684080000_000000001)) == "7:200000:1684080000000000001"
    assert Stamp.parse("7:200000:1684080000000000001") == Stamp(7, 200_000, 1684080000_000000001)


def test_the_name_in_the_spool_starts_with_the_arrivals_id() -> None:
    arrival = Arrival(
        "20230514T140003000041-ffffffff",
        "a/b c.jpg",
        Source("in", "a/b c.jpg"),
        Stamp(1, 1, 1),
        NOON,
    )

    assert arrival.file == "20230514T140003000041-ffffffff-b_c.jpg"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"%PDF-1.4", "PDF"),
        (b"%!PS-Adobe EPSF", None),
    ],
)
def test_the_first_bytes_give_the_format(content: bytes, expected: str | None) -> None:
    assert format_of(content) == expected


def test_every_format_has_an_extension_that_the_trees_allow() -> None:
    assert EXTENSION.keys() == MAGIC.keys()
    assert set(EXTENSION.values()) == set(layout.EXTENSIONS)
