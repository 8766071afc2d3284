"""Charts as inline SVG, drawn from numbers alone; colours come from the page's style."""

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 30
Point = tuple[float, float]


def step_chart(
    lines: Sequence[tuple[str, Sequence[Point]]], start: str, end: str, most: float
) -> str:
    """Draw growing counts over time: each line a name and points (0 to 1 of the time, count)."""
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top = most or 1
    parts = [_grid(top)]
    for number, (name, points) in enumerate(lines):
        path, last = "", 0.0
        for x, y in points:
            at, up = _LEFT + x * width, _TOP + height * (1 - y / top)
            before = _TOP + height * (1 - last / top)
            path += f"{'L' if path else 'M'}{at:.1f} {before:.1f}L{at:.1f} {up:.1f}"
            last = y
        if path:
            path += f"L{_LEFT + width} {_TOP + height * (1 - last / top):.1f}"
        parts.append(f'<path class="line s{number}" d="{path}"/>')
        x = _LEFT + 8 + number * 160
        parts.append(f'<text class="t{number}" x="{x}" y="{_TOP + 10}">{escape(name)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{HEIGHT - 8}">{escape(start)}</text>')
    parts.append(f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" class="end">{escape(end)}</text>')
    return _svg(HEIGHT, parts)


def column_chart(bars: Sequence[tuple[str, int]]) -> str:
    """Draw counts side by side, each with its name below and its number above."""
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    top = max((count for _, count in bars), default=0) or 1
    each = width / max(1, len(bars))
    parts = [_grid(top)]
    for number, (name, count) in enumerate(bars):
        x, up = _LEFT + number * each, height * count / top
        y = _TOP + height - up
        parts.append(
            f'<rect class="bar" x="{x + 3:.1f}" y="{y:.1f}" width="{each - 6:.1f}" '
            f'height="{up:.1f}"/>'
        )
        middle = x + each / 2
        parts.append(f'<text class="mid" x="{middle:.1f}" y="{HEIGHT - 10}">{escape(name)}</text>')
        if count:
            parts.append(f'<text class="mid" x="{middle:.1f}" y="{y - 3:.1f}">{count:,}</text>')
    return _svg(HEIGHT, parts)


def select_rows(bars: Sequence[tuple[str, float, str]]) -> str:
    """Draw shares of a whole (0 to 1) under each other, each with its name and what to say."""
    height = 22 * len(bars) + 8
    width = WIDTH - 300
    parts = []
    for number, (name, share, said) in enumerate(bars):
        y = 4 + 22 * number
        parts.append(f'<text x="0" y="{y + 14}">{escape(name)}</text>')
        parts.append(f'<rect class="rest" x="140" y="{y + 2}" width="{width}" height="16"/>')
        parts.append(
            f'<rect class="bar" x="140" y="{y + 2}" width="{width * share:.1f}" height="16"/>'
        )
        parts.append(f'<text x="{148 + width}" y="{y + 14}">{escape(said)}</text>')
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
