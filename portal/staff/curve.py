"""Draws pages a minute as the points of SVG lines, beside the pace that a rehearsal expects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from publisher.status.pace import ExpectedPace, Minute

WIDTH, HEIGHT = 600, 140
_LEAST = 10  # minutes that the curve shows at least
_MOST = 240  # points; longer times are drawn as means of several minutes


@dataclass(frozen=True, slots=True)
class Curve:
    """The lines, as SVG's `points`, and what the axes say; `expected` is empty without one."""

    pages: str
    set_aside: str
    expected: str
    begin: datetime
    end: datetime
    peak: int  # pages a minute at the top
    last: int  # pages in the last whole minute
    last_expected: int | None


def draw(minutes: Sequence[Minute], plan: ExpectedPace | None, now: datetime) -> Curve:
    """Draw the minutes until the last whole one."""
    end = now.replace(second=0, microsecond=0)
    begin = min([m.at for m in minutes] + [end - timedelta(minutes=_LEAST)])
    count = max(1, round((end - begin) / timedelta(minutes=1)))
    pages, aside = [0.0] * count, [0.0] * count
    for minute in minutes:
        place = round((minute.at - begin) / timedelta(minutes=1))
        if 0 <= place < count:
            pages[place], aside[place] = minute.pages, minute.set_aside
    expected = _planned(plan, begin, count)
    peak = max(1.0, *pages, *(expected or ()))
    return Curve(
        _points(pages, peak),
        _points(aside, peak),
        _points(expected, peak) if expected else "",
        begin,
        end,
        round(peak),
        round(pages[-1]),
        round(expected[-1]) if expected else None,
    )


def _planned(plan: ExpectedPace | None, begin: datetime, count: int) -> list[float] | None:
    """Return the expected pages of each minute; None if none of them is in this time."""
    if plan is None:
        return None
    found = []
    for minute in range(count):
        at = (begin - plan.began) / timedelta(minutes=1) + minute
        first = int(at // 1)
        share = at - first
        here = [plan.pages[n] if 0 <= n < len(plan.pages) else 0 for n in (first, first + 1)]
        found.append(here[0] * (1 - share) + here[1] * share)
    return found if any(found) else None


def _points(values: Sequence[float], peak: float) -> str:
    step = -(-len(values) // _MOST)
    means = [
        sum(part) / len(part)
        for part in (values[at : at + step] for at in range(0, len(values), step))
    ]
    across = WIDTH / max(1, len(means) - 1)
    return " ".join(
        f"{number * across:.1f},{HEIGHT - value / peak * HEIGHT:.1f}"
        for number, value in enumerate(means)
    )
