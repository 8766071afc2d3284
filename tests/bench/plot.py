"""Draw the rows of a table as groups of bars in SVG, without a library.

Each row is a group, and each column of it a bar. The longest bar of each group has the full width;
the value is written beside each bar.
"""

from collections.abc import Mapping, Sequence
from html import escape

_BAR, _GAP, _LEFT, _WIDE, _RIGHT = 15, 14, 150, 420, 190
_COLOURS = ("#0b6e4f", "#8d99ae", "#d08c60", "#6d597a", "#b56576", "#355070")


def bars(title: str, unit: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    """Return the SVG; each row maps column names to values and may lack columns."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    colour = dict(zip(columns, _COLOURS * (1 + len(columns) // len(_COLOURS)), strict=False))
    drawn: list[str] = []
    y = 58
    for name, row in rows.items():
        drawn += _group(name, row, colour, y, unit)
        y += _BAR * len(row) + _GAP
    head = [f'<text x="10" y="22" font-size="15" font-weight="bold">{escape(title)}</text>']
    for number, column in enumerate(columns):
        x = 10 + number * 150
        head.append(f'<rect x="{x}" y="32" width="12" height="12" fill="{colour[column]}"/>')
        head.append(f'<text x="{x + 17}" y="42" font-size="12">{escape(column)}</text>')
    size = f'width="{_LEFT + _WIDE + _RIGHT}" height="{y}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">']
    parts.append('<rect width="100%" height="100%" fill="#ffffff"/>')
    return "\n".join([*parts, *head, *drawn, "</svg>"]) + "\n"


def _group(
    name: str, row: Mapping[str, float], colour: Mapping[str, str], y: int, unit: str
) -> Sequence[str]:
    middle = y + _BAR * len(row) / 2 + 4
    drawn = [
        f'<text x="{_LEFT - 8}" y="{middle:.0f}" font-size="12" text-anchor="end">'
        f"{escape(name)}</text>"
    ]
    longest = max(row.values(), default=0) or 1
    for number, (column, value) in enumerate(row.items()):
        wide, top = _WIDE * value / longest, y + number * _BAR
        drawn.append(
            f'<rect x="{_LEFT}" y="{top}" width="{wide:.1f}" height="{_BAR - 2}" '
            f'fill="{colour[column]}"/>'
        )
        drawn.append(
            f'<text x="{_LEFT + wide + 5:.1f}" y="{top + 11}" font-size="11">'
            f"{value:.3g} {escape(unit)}</text>"
        )
    return drawn
