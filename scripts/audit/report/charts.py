"""Draws charts as lines, rectangles and labels; html_file and pdf_file write them.

Coordinates are in points from the top left. A `style` names what something is, such as `filed`;
each writer has its color.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

WIDTH, HEIGHT = 720.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 16.0, 26.0, 32.0  # margins around the plot
_LABEL_WIDTH, _ROW_HEIGHT = 180.0, 22.0  # of a bar chart
_TICK = 5.0
Point = tuple[float, float]
Style = Literal["grid", "axis", "filed", "fetched", "rest", "text"]


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points."""

    points: tuple[Point, ...]
    style: Style


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled rectangle; x and y are its top left."""

    x: float
    y: float
    width: float
    height: float
    style: Style


@dataclass(frozen=True, slots=True)
class Label:
    """Text on a base line; `anchor` is where x is: at its start, middle or end."""

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    style: Style = "text"


Shape = Line | Rectangle | Label


@dataclass(frozen=True, slots=True)
class Drawing:
    """Shapes, and the size that they take."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def step_chart(
    lines: Sequence[tuple[str, Style, Sequence[Point]]],
    ticks: Sequence[tuple[float, str]],
    maximum: int,
) -> Drawing:
    """Draw counts that grow over time.

    Each line is a name, a style and its points (share of the time span from 0 to 1, count).
    `ticks` are the labels of the time axis with their shares; `maximum` is the highest count.
    """
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top, shapes = _scale(maximum)
    for share, text in ticks:
        x = _LEFT + share * width
        shapes.append(Line(((x, _TOP + height), (x, _TOP + height + _TICK)), "axis"))
        anchor: Literal["start", "middle", "end"] = (
            "start" if share < 0.05 else "end" if share > 0.95 else "middle"
        )
        shapes.append(Label(x, HEIGHT - 12, text, anchor))
    for number, (name, style, points) in enumerate(lines):
        path: list[Point] = []
        last = _TOP + height
        for share, count in points:
            x, y = _LEFT + share * width, _TOP + height * (1 - count / top)
            path += [(x, last), (x, y)]
            last = y
        if path:
            path.append((_LEFT + width, last))
            shapes.append(Line(tuple(path), style))
        shapes.append(Label(_LEFT + 8 + number * 200, 14, name, style=style))
    return Drawing(WIDTH, HEIGHT, tuple(shapes))


def column_chart(columns: Sequence[tuple[str, int]]) -> Drawing:
    """Draw counts as columns side by side: the name below each, its number above."""
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top, shapes = _scale(max((count for _, count in columns), default=0))
    each = width / max(1, len(columns))
    for number, (name, count) in enumerate(columns):
        x, high = _LEFT + number * each, height * count / top
        y = _TOP + height - high
        shapes.append(Rectangle(x + 3, y, each - 6, high, "fetched"))
        shapes.append(Label(x + each / 2, HEIGHT - 14, name, "middle"))
        if count:
            shapes.append(Label(x + each / 2, y - 3, f"{count:,}", "middle"))
    return Drawing(WIDTH, HEIGHT, tuple(shapes))


def bar_chart(bars: Sequence[tuple[str, float, str]]) -> Drawing:
    """Draw shares of a whole (0 to 1) as bars below each other: name, share, label at the end."""
    height = _ROW_HEIGHT * len(bars) + 26
    width = WIDTH - _LABEL_WIDTH - 150
    shapes: list[Shape] = []
    for percent in (0, 25, 50, 75, 100):
        x = _LABEL_WIDTH + width * percent / 100
        shapes.append(Line(((x, 4), (x, height - 22)), "grid"))
        shapes.append(Label(x, height - 8, f"{percent} %", "middle"))
    for number, (name, share, label) in enumerate(bars):
        y = 4 + _ROW_HEIGHT * number
        shapes.append(Label(0, y + 14, name))
        shapes.append(Rectangle(_LABEL_WIDTH, y + 2, width, 16, "rest"))
        shapes.append(Rectangle(_LABEL_WIDTH, y + 2, width * share, 16, "fetched"))
        shapes.append(Label(_LABEL_WIDTH + 12 + width, y + 14, label))
    return Drawing(WIDTH, height, tuple(shapes))


def _scale(maximum: int) -> tuple[int, list[Shape]]:
    """Return the count at the top of the plot, and the axis with a tick at each round count."""
    height = HEIGHT - _TOP - _BOTTOM
    step = next(s for s in _round_steps() if s * 5 >= maximum)
    top = max(step, -(-maximum // step) * step)
    shapes: list[Shape] = [Line(((_LEFT, _TOP), (_LEFT, _TOP + height)), "axis")]
    for count in range(0, top + 1, step):
        y = _TOP + height * (1 - count / top)
        shapes.append(Line(((_LEFT - _TICK, y), (_LEFT, y)), "axis"))
        shapes.append(Line(((_LEFT, y), (WIDTH - _RIGHT, y)), "axis" if count == 0 else "grid"))
        shapes.append(Label(_LEFT - 8, y + 4, f"{count:,}", "end"))
    return top, shapes


def _round_steps() -> Iterator[int]:
    """Yield 1, 2, 5, 10, 20, 50 and so on."""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10
