"""Draws charts as inline SVG; the page's style sheet sets the colours."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 30  # margins around the plot
_LABEL_WIDTH, _ROW_HEIGHT = 140, 22  # of a bar chart
Point = tuple[float, float]


def step_chart(
    lines: Sequence[tuple[str, Sequence[Point]]], start: str, end: str, maximum: float
) -> str:
    """Draw counts that grow over time.

    Each line is a name and its points (share of the time span from 0 to 1, count). `start` and
    `end` are the labels of the time axis; `maximum` is the count at its top.
    """
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top = maximum or 1
    parts = [_grid(top)]
    for number, (name, points) in enumerate(lines):
        path, last = "", 0.0
        for share, count in points:
            x, y = _LEFT + share * width, _TOP + height * (1 - count / top)
            before = _TOP + height * (1 - last / top)
            path += f"{'L' if path else 'M'}{x:.1f} {before:.1f}L{x:.1f} {y:.1f}"
            last = count
        if path:
            path += f"L{_LEFT + width} {_TOP + height * (1 - last / top):.1f}"
        parts.append(f'<path class="line s{number}" d="{path}"/>')
        x = _LEFT + 8 + number * 160
        parts.append(f'<text class="t{number}" x="{x}" y="{_TOP + 10}">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{HEIGHT - 8}">{escape(start)}</text>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" class="end">{escape(end)}</text>')
    return _svg(HEIGHT, parts)


def column_chart(columns: Sequence[tuple[str, int]]) -> str:
    """Draw counts as columns side by side: the name below each, its number above."""
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top = max((count for _, count in columns), default=0) or 1
    each = width / max(1, len(columns))
    parts = [_grid(top)]
    for number, (name, count) in enumerate(columns):
        x, high = _LEFT + number * each, height * count / top
        y = _TOP + height - high
        parts.append(
            f'<rect class="bar" x="{x + 3:.1f}" y="{y:.1f}" width="{each - 6:.1f}" '
            f'height="{high:.1f}"/>'
        )
        middle = x + each / 2
        parts.append(f'<text class="mid" x="{middle:.1f}" y="{HEIGHT - 10}">{escape(name)}</text>')
        if count:
            parts.append(f'<text class="mid" x="{middle:.1f}" y="{y - 3:.1f}">{count:,}</text>')
    return _svg(HEIGHT, parts)


def bar_chart(bars: Sequence[tuple[str, float, str]]) -> str:
    """Draw shares of a whole (0 to 1) as bars below each other: name, share, label at the end."""
    height = _ROW_HEIGHT * len(bars) + 8
    width = WIDTH - 300
    parts = []
    for number, (name, share, label) in enumerate(bars):
        y = 4 + _ROW_HEIGHT * number
        text_y, bar_y = y + 14, y + 2
        box = f'x="{_LABEL_WIDTH}" y="{bar_y}" height="16"'
        parts.append(f'<text x="0" y="{text_y}">{escape(name)}</text>')
        parts.append(f'<rect class="rest" {box} width="{width}"/>')
        parts.append(f'<rect class="bar" {box} width="{width * share:.1f}"/>')
        parts.append(f'<text x="{_LABEL_WIDTH + 8 + width}" y="{text_y}">{escape(label)}</text>')
    return _svg(height, parts)


def _grid(top: float) -> str:
    height = HEIGHT - _TOP - _BOTTOM
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{top * share:,.0f}</text>')
    return "".join(parts)


def _svg(height: int, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'
