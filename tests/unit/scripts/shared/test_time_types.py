"""All options that take a time are of one type, so that one way of writing it works everywhere."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from scripts.command_reference import contexts
from scripts.shared.time_types import DURATION, TIME, StatedTime

ROOT = Path(__file__).resolve().parents[4]
# Options whose names sound like a time and which are none, or a number of seconds or minutes.
OTHERS = {
    ("ssps export", "since"): "an earlier bag",
    ("ssps rehearse national", "minutes"): "how long a rehearsal takes",
    ("ssps rehearse result-batches", "minutes"): "how long a rehearsal takes",
    ("ssps rehearse results", "minutes"): "how long a rehearsal takes",
    ("ssps audit gap", "seconds"): "a number of seconds, as before",
}
_SOUNDS = re.compile(r"since|until|before|after|when|opens|closes|start|begin|end$|_at$|time|date")
_LASTS = re.compile(r"overlap|duration|seconds|minutes|hours|days|longer|(^|_)older")


def options() -> list[tuple[str, click.Parameter]]:
    return [(c.command_path, each) for c in contexts() for each in c.command.params]


def test_every_option_that_takes_a_time_is_of_the_one_type() -> None:
    sounding = [(path, o) for path, o in options() if _SOUNDS.search(o.name or "")]
    other = {(p, o.name) for p, o in sounding if o.type is not TIME and not is_flag(o)}

    assert {(p, o.name) for p, o in options() if o.type is TIME} == {
        ("ssps audit gap", "until"),
        ("ssps audit query", "since"),
        ("ssps audit query", "until"),
        ("ssps key add", "not_after"),
        ("ssps key add", "not_before"),
        ("ssps key rotate", "not_before"),
    }
    assert other - set(OTHERS) == set()


def test_every_option_that_takes_a_duration_is_of_the_one_type() -> None:
    lasting = [(path, o) for path, o in options() if _LASTS.search(o.name or "")]
    other = {(p, o.name) for p, o in lasting if o.type is not DURATION and not is_flag(o)}

    assert other - set(OTHERS) == set()


def is_flag(option: click.Parameter) -> bool:
    return isinstance(option, click.Option) and option.is_flag


def test_no_command_reads_a_time_by_itself() -> None:
    own = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "scripts").rglob("*.py")
        if re.search(r"\bparse_(time|duration)\(|click\.DateTime", path.read_text("utf-8"))
    ]

    assert own == ["scripts/shared/time_types.py"]


def test_a_stated_time_is_read_in_the_zone_of_the_election() -> None:
    now = datetime(2023, 5, 14, 12, 0, tzinfo=UTC)

    assert TIME.convert("16.30", None, None).at(now) == datetime(2023, 5, 14, 13, 30, tzinfo=UTC)
    assert StatedTime("16.30").at(now, UTC) == datetime(2023, 5, 14, 16, 30, tzinfo=UTC)
    assert DURATION.convert("1h30m", None, None) == timedelta(minutes=90)


@pytest.mark.parametrize("text", ["soon", "25.00", "+99999999d", "2023-05-14"])
def test_a_value_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        TIME.convert(text, None, None)
