from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from unit.publisher.results.results_site import ELECTION, row

from config.result import Result
from config.result_batch import parse_row
from config.sheet import Secim
from publisher.results.snapshots.merge import merge
from publisher.results.snapshots.row_files import (
    ChangedTable,
    MergeRequest,
    RowFiles,
    merge_apart,
)


def result(box: int, **changes: object) -> Result:
    return parse_row(row(box, **changes), ELECTION)


class Tables:
    """Writes the table `mv` again and again, each time into the next folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written = 0
        self.ballot = ["parti-a", "parti-b", "ortak"]

    def write(self, *results: Result) -> list[dict[str, Any]]:
        """Return the rows of the table after these results."""
        rows = RowFiles(self._folder, lambda secim: self.ballot)
        rows.add(results)
        before = self._folder / str(self._written) if self._written else None
        self._written += 1
        folder = self._folder / str(self._written)
        folder.mkdir()
        table = ChangedTable("mv", tuple(self.ballot), rows.files("mv"))
        counted = merge(MergeRequest(folder, before, (table,)))
        rows.clear()
        found = read(folder / "mv.parquet")
        assert counted == {"mv": len(found)}
        return found


def read(parquet: Path) -> list[dict[str, Any]]:
    with duckdb.connect() as database:
        found = database.execute(f"SELECT * FROM '{parquet}'")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def votes(found: Sequence[dict[str, Any]]) -> list[dict[str, int | None]]:
    return [
        {name.removeprefix("oylar."): n for name, n in one.items() if name.startswith("oylar.")}
        for one in found
    ]


@pytest.fixture
def tables(tmp_path: Path) -> Tables:
    return Tables(tmp_path)


def test_a_changed_row_replaces_the_one_of_its_place_and_the_others_stay(tables: Tables) -> None:
    tables.write(result(1), result(2), result(3))

    found = tables.write(result(2, surum=2, neden="itiraz kabul", gecersiz=6))

    assert [(one["sandik"], one["surum"], one["gecersiz"]) for one in found] == [
        ("1", 1, 5),
        ("2", 2, 6),
        ("3", 1, 5),
    ]


def test_of_several_versions_since_the_last_snapshot_the_newest_counts(tables: Tables) -> None:
    found = tables.write(result(1), result(1, surum=2, neden="itiraz kabul", gecersiz=6))

    assert [(one["surum"], one["neden"]) for one in found] == [(2, "itiraz kabul")]


def test_rows_are_in_the_order_of_places(tables: Tables) -> None:
    tables.write(result(3), result(1))

    found = tables.write(result(2))

    assert [one["sandik"] for one in found] == ["1", "2", "3"]


def test_every_option_of_the_ballot_has_a_column_in_its_order(tables: Tables) -> None:
    tables.ballot = ["c-parti", "b-parti"]

    found = tables.write(result(1, oylar={"z-parti": 3, "b-parti": 1}))

    assert votes(found) == [{"c-parti": None, "b-parti": 1, "z-parti": 3}]
    assert list(votes(found)[0]) == ["c-parti", "b-parti", "z-parti"]


def test_an_option_of_a_new_ballot_gets_a_column_between_two_snapshots(tables: Tables) -> None:
    tables.write(result(1, oylar={"parti-a": 1}))

    found = tables.write(
        result(2, oylar={"parti-b": 2}), result(3, oylar={"parti-c": 3}), result(4, oylar={})
    )

    assert [one["parti-c"] for one in votes(found)] == [None, None, 3, None]
    assert [one["parti-a"] for one in votes(found)] == [1, None, None, None]


def test_an_option_that_left_the_ballot_keeps_its_column_only_if_it_had_votes(
    tables: Tables,
) -> None:
    tables.write(result(1, oylar={"parti-a": 1, "parti-b": 2}))
    tables.ballot = ["parti-a"]

    found = tables.write(result(2, oylar={"parti-a": 3}))

    assert votes(found) == [{"parti-a": 1, "parti-b": 2}, {"parti-a": 3, "parti-b": None}]


def test_a_reason_with_any_character_is_read_back(tables: Tables) -> None:
    reason = 'İtiraz "kabul", şöyle; \\N \\ ı'

    found = tables.write(result(1, surum=2, neden=reason))

    assert [one["neden"] for one in found] == [reason]


def test_a_number_that_a_row_does_not_state_is_null(tables: Tables) -> None:
    found = tables.write(result(1, zarf=0), result(2))

    assert [one["zarf"] for one in found] == [0, None]


def test_a_table_that_needs_more_memory_than_the_limit_is_written_all_the_same(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("publisher.results.snapshots.merge.MEMORY", "1MB")

    found = tables.write(result(1), result(2))

    assert [one["sandik"] for one in found] == ["1", "2"]


def test_a_process_of_its_own_writes_the_same_table(tmp_path: Path) -> None:
    rows = RowFiles(tmp_path, lambda secim: ["parti-a"] if secim is Secim.MV else [])
    rows.add([result(1), result(2)])
    folders = [tmp_path / "here", tmp_path / "apart"]
    for folder in folders:
        folder.mkdir()
    table = ChangedTable("mv", ("parti-a",), rows.files("mv"))

    counted = [
        merge(MergeRequest(folders[0], None, (table,))),
        merge_apart(MergeRequest(folders[1], None, (table,))),
    ]

    rows.clear()
    assert counted == [{"mv": 2}, {"mv": 2}]
    contents = [(folder / "mv.parquet").read_bytes() for folder in folders]
    assert contents[0] == contents[1]


def test_a_table_that_cannot_be_written_is_an_error_with_its_cause(tmp_path: Path) -> None:
    rows = RowFiles(tmp_path, lambda secim: [])
    rows.add([result(1)])
    table = ChangedTable("mv", (), rows.files("mv"))

    with pytest.raises(OSError, match=r"could not be written: .*missing"):
        merge_apart(MergeRequest(tmp_path / "missing", None, (table,)))
    rows.clear()
