"""Writes numbers as Turkish does."""

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from markupsafe import Markup


def number(value: int | None) -> str:
    """Write an integer as Turkish does: 1.234.567; nothing for None."""
    return "" if value is None else f"{value:,}".replace(",", ".")


@lru_cache(maxsize=4096)
def _cell(value: int | None) -> str:
    return f'<td class="num">{number(value)}</td>'


def number_cells(values: Iterable[int | None]) -> Markup:
    """Return the cells of a table with these numbers."""
    return Markup("".join(map(_cell, values)))  # noqa: S704 - digits and dots


def percent(part: int | Fraction | None, whole: int | Fraction | None) -> str:
    """Write a share with two decimals as Turkish does: %87,45; a dash if there is none.

    Only all of it is %100,00: with a box missing of 200,000, %99,99 are there.
    """
    if part is None or not whole:
        return "–"
    if isinstance(part, int) and isinstance(whole, int) and part >= 0 and whole > 0:
        rounded = (20_000 * part + whole) // (2 * whole)
    else:
        rounded = int(Fraction(part) * 10_000 / Fraction(whole) + Fraction(1, 2))
    if part < whole:
        rounded = min(rounded, 9_999)
    return f"%{number(rounded // 100)},{rounded % 100:02}"
