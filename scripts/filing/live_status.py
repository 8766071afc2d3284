"""`ssps status --watch`: the count and a bar for each place, drawn to fit the terminal.

As many columns of places as are wide enough. If there is not room for all of them, those with most
sheets missing are shown, and how many are not.
"""

from collections.abc import Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from publisher.catalog.coverage import CoverageLine

_BAR, _GAP = 12, 3
_HEAD = (
    ("expected", "filed", "absent", "missing"),
    ("versions", "duplicates", "quarantined", "ruled", "gaps", "at"),
    ("waiting", "in_intake", "oldest_seconds", "pages_a_second"),
)
_LABELS = {
    "in_intake": "in the intake",
    "oldest_seconds": "the oldest for",
    "pages_a_second": "pages a second",
}
_HIGHLIGHTED = {"gaps"}


class StatusScreen:
    """What is drawn at one look; `counted` is what `ssps status --json` prints, but for `by`.

    `faults` are what keeps a later look from any newer figures.
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
        """Return the same figures, and why there are no newer ones."""
        return StatusScreen(self._at, self._counted, self._by, self._lines, self._warnings, faults)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it for a terminal of that size; of no certain height, draw all of it."""
        alarms = [*self._faults, *self._warnings]
        if self._faults:
            alarms.insert(0, f"the figures of {self._at} stay until this is mended:")
        head = Group(self._head(), *(Text(line, style="bold yellow") for line in alarms))
        yield head
        yield Text()
        used = len(console.render_lines(head, options)) + 1
        size = options.size.height if console.is_terminal else None
        yield self._places(options.max_width, None if size is None else size - used)

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
        loud = "bold yellow" if value and name in _HIGHLIGHTED else "bold"
        return Text.assemble((f"{_LABELS.get(name, name)} ", "dim"), (shown, loud))

    def _places(self, width: int, height: int | None) -> Table:
        name = max([len(self._by), *(len(_name(line)) for line in self._lines)])
        number = max([len("missing"), *(len(f"{line.missing:,}") for line in self._lines)])
        across = max(1, (width + _GAP) // (name + 1 + _BAR + 1 + number + _GAP))
        lines, left = list(self._lines), ""
        if height is not None and (room := max(height - 1, 1) * across) < len(lines):
            room = max(height - 2, 1) * across  # the last row says what is not shown
            lines = sorted(lines, key=lambda line: -line.missing)
            owed = sum(line.missing for line in lines[room:])
            left = f"and {len(lines) - room} more, of which {owed:,} are missing"
            lines = lines[:room]
        table = Table.grid(padding=(0, 1, 0, 0))
        down = -(-len(lines) // across)
        shown = -(-len(lines) // max(down, 1))
        for column in range(shown):
            table.add_column(no_wrap=True, min_width=name)
            table.add_column(width=_BAR)
            after = number + (_GAP - 1 if column < shown - 1 else 0)
            table.add_column(justify="left", no_wrap=True, min_width=after)
        table.add_row(*[Text(text, "bold") for text in (self._by, "", "missing")] * shown)
        for row in range(down):
            cells: list[Any] = []
            for line in lines[row::down]:
                missing = Text(f"{line.missing:>{number},}", "" if line.missing else "dim")
                cells += [_name(line), _bar(line), missing]
            table.add_row(*cells)
        if left:
            whole = Table.grid()
            whole.add_row(table)
            whole.add_row(Text(left, "dim"))
            return whole
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
