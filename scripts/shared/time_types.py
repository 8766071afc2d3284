"""The types of all options that take a time or a duration, as config/times reads them."""

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import click

from config import times
from scripts.shared import console

TIME_FORMS = "16.30, -45m, or a full time with or without a zone"


@dataclass(frozen=True, slots=True)
class StatedTime:
    """A time as an operator typed it; the zone of `16.30` is that of the election."""

    text: str

    def at(self, now: datetime, zone: tzinfo | None = times.TURKEY) -> datetime:
        """Return the time that is meant now."""
        return times.parse_time(self.text, now, zone)


class _TimeType(click.ParamType[StatedTime]):
    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> StatedTime:
        stated = value if isinstance(value, StatedTime) else StatedTime(str(value))
        try:
            stated.at(console.utc_now())
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)
        return stated


class _DurationType(click.ParamType[timedelta]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        try:
            return times.parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


TIME = _TimeType()
DURATION = _DurationType()
