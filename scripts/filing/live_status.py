"""`ssps status --watch`: draw the counts and a bar for each place to fit the terminal.

The places are drawn in as many columns as the width allows. If they do not all fit, the places
with the most missing sheets are drawn, and the last line counts the others.
"""

from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from publisher.catalog.queries.coverage import CoverageLine

_BAR, _GAP = 12, 3  # characters: width of a bar, space between columns
_HEAD = (
    ("expected", "filed", "absent", "missing"),
    ("versions", "duplicates", "quarantined", "ruled", "gaps", "at"),
    ("waiting", "in_intake", "oldest_seconds", "pages_a_second"),
)
_LABELS = {
    "ruled": "reviewed",
    "in_intake": "in the intake",
    "oldest_seconds": "oldest waits",
    "pages_a_second": "pages per second",
}
_HIGHLIGHTED = {"gaps"}


class StatusScreen:
    """The figures of one moment, which rich draws.

    `counted` is what `ssps status --json` prints, without `by`. `faults` say why newer figures
    could not be read.
    """

    def __init__(
        self,
        at: str,
        counted: dict[str, Any],
        by: str,
        lines: Sequence[CoverageLine],
        warnings: Sequence[str],
        faults: Sequence[str] = (),
    ) -> None:
        self._at = at
        self._counted = counted
        self._by = by
        self._lines = lines
        self._warnings = warnings
        self._faults = faults

    def with_faults(self, faults: Sequence[str]) -> "StatusScreen":
        """Return the same figures, with the faults that prevent newer ones."""
        return StatusScreen(self._at, self._counted, self._by, self._lines, self._warnings, faults)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the figures to fit a terminal; draw all places if the output is not a terminal."""
        alerts = [*self._faults, *self._warnings]
        if self._faults:
            alerts.insert(0, f"these are the figures of {self._at}; to update them, fix this:")
        head = Group(self._head(), *(Text(line, style="bold yellow") for line in alerts))
        yield head
        yield Text()
        used = len(console.render_lines(head, options)) + 1
        height = options.size.height - used if console.is_terminal else None
        yield self._places(options.max_width, height)

    def _head(self) -> Group:
        space = Text(" " * _GAP)
        return Group(*(space.join(self._number(name) for name in names) for names in _HEAD))

    def _number(self, name: str) -> Text:
        value = self._counted.get(name, self._at)
        match value:
            case None:
                shown = "-"
            case float() if name == "oldest_seconds":
                shown = _age(value)
            case int() | float():
                shown = f"{value:,}"
            case _:
                shown = str(value)
        if name == "filed" and self._counted["expected"]:
            shown += f" ({100 * value / self._counted['expected']:.1f} %)"
        style = "bold yellow" if value and name in _HIGHLIGHTED else "bold"
        return Text.assemble((f"{_LABELS.get(name, name)} ", "dim"), (shown, style))

    def _places(self, width: int, height: int | None) -> Table:
        name = max([len(self._by), *(len(_name(line)) for line in self._lines)])
        number = max([len("missing"), *(len(f"{line.missing:,}") for line in self._lines)])
        max_columns = max(1, (width + _GAP) // (name + 1 + _BAR + 1 + number + _GAP))
        lines, rest = list(self._lines), ""
        # One row of the height is the title.
        if height is not None and max(height - 1, 1) * max_columns < len(lines):
            capacity = max(height - 2, 1) * max_columns  # another row counts the places left out
            lines = sorted(lines, key=lambda line: -line.missing)
            missing_there = sum(line.missing for line in lines[capacity:])
            rest = f"and {len(lines) - capacity} more places with {missing_there:,} missing"
            lines = lines[:capacity]
        table = Table.grid(padding=(0, 1, 0, 0))
        rows = -(-len(lines) // max_columns)
        columns = -(-len(lines) // max(rows, 1))
        for column in range(columns):
            table.add_column(no_wrap=True, min_width=name)
            table.add_column(width=_BAR)
            after = number + (_GAP - 1 if column < columns - 1 else 0)
            table.add_column(justify="left", no_wrap=True, min_width=after)
        table.add_row(*[Text(text, "bold") for text in (self._by, "", "missing")] * columns)
        for row in range(rows):
            cells: list[Any] = []
            for line in lines[row::rows]:
                missing = Text(f"{line.missing:>{number},}", "" if line.missing else "dim")
                cells += [_name(line), _bar(line), missing]
            table.add_row(*cells)
        if rest:
            both = Table.grid()
            both.add_row(table)
            both.add_row(Text(rest, "dim"))
            return both
        return table


def _name(line: CoverageLine) -> str:
    return "(the election)" if line.key == "-" else line.key


def _bar(line: CoverageLine) -> ProgressBar:
    done = line.filed + line.absent
    return ProgressBar(total=max(line.expected, 1), completed=done, width=_BAR)


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds // 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
