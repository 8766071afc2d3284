from datetime import UTC, datetime

import pytest

from publisher.page import Arrival, Stamp, arrival_id, escaped, safe_name
from publisher.source import Source

NOON = datetime(2023, 5, 14, 14, 0, 3, 41, tzinfo=UTC)


def test_an_arrivals_id_sorts_by_time() -> None:
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
def test_a_hostile_name_becomes_one_that_any_terminal_can_bear(name: str, safe: str) -> None:
    assert safe_name(name) == safe
    assert safe_name(safe) == safe, "the file in the spool is found again from its own name"


def test_a_name_that_is_no_utf8_is_kept_as_text() -> None:
    assert escaped("\udcff.jpg") == r"\udcff.jpg"


def test_a_stamp_is_read_back_as_it_was_written() -> None:
    assert str(Stamp(7, 200_000, 1684080000_000000001)) == "7:200000:1684080000000000001"
    assert Stamp.parse("7:200000:1684080000000000001") == Stamp(7, 200_000, 1684080000_000000001)


def test_the_spools_file_names_the_arrival_first() -> None:
    arrival = Arrival(
        "20230514T140003000041-ffffffff",
        "a/b c.jpg",
        Source("in", "a/b c.jpg"),
        Stamp(1, 1, 1),
        NOON,
    )

    assert arrival.file == "20230514T140003000041-ffffffff-b_c.jpg"
