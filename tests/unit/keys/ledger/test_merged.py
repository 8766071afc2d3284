"""Ledgers of several hosts are read as one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from config.event import Event
from keys.ledger import merged
from keys.ledger.writer import Ledger

START = datetime(2023, 5, 14, 14, tzinfo=UTC)


def write(ledgers: Path, name: str, seconds: tuple[int, ...]) -> None:
    times = iter(seconds)
    with Ledger(ledgers / name, lambda: START + timedelta(seconds=next(times))) as ledger:
        for second in seconds:
            ledger.append(Event("list", "parti-a", "", f"{name} {second}"))


def names(records: object) -> list[str]:
    return [record.event.what for record in records]  # type: ignore[attr-defined]


def test_records_of_several_hosts_are_in_order_of_time(tmp_path: Path) -> None:
    write(tmp_path, "transfer", (1, 4))
    write(tmp_path, "transfer@gw2", (2, 3, 5))
    folders = merged.folders_of_kind(tmp_path, "transfer")

    assert [each.name for each in folders] == ["transfer", "transfer@gw2"]
    in_order = ["transfer 1", "transfer@gw2 2", "transfer@gw2 3", "transfer 4", "transfer@gw2 5"]
    assert names(merged.read_records(*folders)) == in_order
    assert names(merged.read_backwards(*folders)) == in_order[::-1]
    assert names(merged.read_backwards(*folders, limit=2)) == ["transfer@gw2 5", "transfer 4"]


def test_a_host_whose_clock_was_set_back_keeps_the_order_of_its_records(tmp_path: Path) -> None:
    write(tmp_path, "transfer", (5, 2, 6))

    assert names(merged.read_records(tmp_path / "transfer")) == [
        "transfer 5",
        "transfer 2",
        "transfer 6",
    ]
