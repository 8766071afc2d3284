"""Enforces a scope: the rows of boxes, and the places, that a user may see of a view."""

from functools import cached_property

import numpy as np

from config.scope import Scope
from config.sheet import Secim
from portal.data.criteria import Criteria
from portal.data.numbers.boxes import BoxPlace
from portal.data.numbers.search import matching
from portal.data.numbers.sums import Selection
from portal.data.view import View

_BESIDE = 100  # rows that are looked at first


class ScopedRows:
    """What of one view is in scope."""

    def __init__(self, view: View, scope: Scope) -> None:
        """Take a view and what may be seen of it."""
        self._view = view
        self._scope = scope

    def covers(self, cevre: str, kurul: str) -> bool:
        """Say whether a place is in scope; the election is only if everything is."""
        return self._scope.covers_place(cevre or None, kurul or None)

    def any_in(self, cevre: str) -> bool:
        """Say whether any box of a district is in scope."""
        low, high = self._view.boxes.rows_of(cevre)
        return any(max(first, low) < min(end, high) for first, end in self._ranges)

    def rows(self, criteria: Criteria, first: int = 0, end: int | None = None) -> Selection:
        """Return the rows in scope that satisfy all criteria, in order.

        With `first` or `end`, only those from the one to before the other.
        """
        boxes = self._view.boxes
        expected = boxes.expected.get(criteria.secim)
        columns = self._view.contests.get(criteria.secim)
        if expected is None or columns is None:
            return np.zeros(0, dtype=np.int64)
        low, high = first, len(boxes) if end is None else end
        if criteria.cevre is not None:
            of_place = boxes.rows_of(criteria.cevre, criteria.kurul)
            low, high = max(low, of_place[0]), min(high, of_place[1])
        parts = [
            matching(boxes, columns, expected, criteria, max(start, low), min(stop, high))
            for start, stop in self._ranges
            if max(start, low) < min(stop, high)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def rows_beside(self, criteria: Criteria, row: int) -> tuple[int | None, int | None]:
        """Return the rows of a search before and after a row, None where there is none.

        It looks at more and more rows beside it; mostly the next one is of the search.
        """
        before = after = np.zeros(0, dtype=np.int64)
        first, width = row, _BESIDE
        while not len(before) and first > 0:
            first, end = max(0, first - width), first
            before, width = self.rows(criteria, first, end), width * 10
        end, width = row + 1, _BESIDE
        while not len(after) and end < len(self._view.boxes):
            first, end = end, min(end + width, len(self._view.boxes))
            after, width = self.rows(criteria, first, end), width * 10
        return (
            int(before[-1]) if len(before) else None,
            int(after[0]) if len(after) else None,
        )

    def row_of(self, secim: Secim, place: BoxPlace) -> int | None:
        """Return the row of a box, None if there is no such box in scope with that contest."""
        boxes = self._view.boxes
        row = boxes.row_of(place) if self.covers(place.cevre, place.kurul) else None
        expected = boxes.expected.get(secim)
        return row if row is not None and expected is not None and expected[row] else None

    @cached_property
    def _ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges of rows in scope, in order."""
        boxes = self._view.boxes
        if self._scope.places is None:
            return ((0, len(boxes)),)
        found = {boxes.rows_of(*place) for place in self._scope.places}
        merged: list[tuple[int, int]] = []
        for first, end in sorted(found):
            if merged and first < merged[-1][1]:  # a board of a district that is in scope itself
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            elif first < end:
                merged.append((first, end))
        return tuple(merged)
