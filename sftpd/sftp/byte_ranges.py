"""Counts how much of a file was sent: the bytes in total, and which parts of the file."""

from bisect import bisect_left, insort

from sftpd.sftp.budget import Budget

_MAX_RANGES = 1024
_MAX_SHOWN = 32


class ByteRanges:
    """The ranges that were sent, merged; a client that reads in order makes only one.

    If a client's reads are scattered over more than a thousand ranges of a file, or its files have
    used up the budget, further ranges are not kept, and the file counts as incomplete. The first
    range of a file is always kept.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.sent = 0
        self._budget = budget if budget is not None else Budget()
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Add a range that was sent: from `start` up to, but not including, `end`."""
        self.sent += end - start
        ranges = self._ranges
        if ranges and ranges[-1][0] <= start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
            return
        first = bisect_left(ranges, start, key=lambda r: r[1])
        last = first
        while last < len(ranges) and ranges[last][0] <= end:
            start, end = min(start, ranges[last][0]), max(end, ranges[last][1])
            last += 1
        del ranges[first:last]
        self._budget.ranges += last - first
        if not ranges or (len(ranges) < _MAX_RANGES and self._budget.ranges > 0):
            insort(ranges, (start, end))
            self._budget.ranges -= 1

    def release(self) -> None:
        """Give the ranges back to the budget, after the last use."""
        self._budget.ranges += len(self._ranges)
        self._ranges = []

    def complete(self, size: int) -> bool:
        """Return whether every byte of a file of `size` bytes was sent at least once."""
        return size == 0 or (len(self._ranges) == 1 and self._covers(size))

    def ranges(self) -> str:
        """Return the first and last byte of each range: `0-32767,65536-99999`.

        At most 32 ranges are listed; `+` and the number of the other ranges follow.
        """
        shown = [f"{start}-{end - 1}" for start, end in self._ranges[:_MAX_SHOWN]]
        more = len(self._ranges) - len(shown)
        return ",".join([*shown, f"+{more}"] if more else shown)

    def _covers(self, size: int) -> bool:
        start, end = self._ranges[0]
        return start == 0 and end >= size
