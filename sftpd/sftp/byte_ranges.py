"""How much of a file a client was sent: bytes in all, and whether every byte at least once."""

from bisect import bisect_left, insort

_MAX_RANGES = 1024
_MAX_SHOWN = 32


class ByteRanges:
    """Ranges that were sent, merged; a client that reads in order keeps it at one range.

    A client that scatters its reads over more than a thousand ranges is not followed further,
    and its file counts as incomplete.
    """

    def __init__(self) -> None:
        self.sent = 0
        self._ranges: list[tuple[int, int]] = []

    def add(self, start: int, end: int) -> None:
        """Note that the bytes from `start` up to, not with, `end` were sent."""
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
        if len(ranges) < _MAX_RANGES:
            insort(ranges, (start, end))

    def complete(self, size: int) -> bool:
        """Say whether every byte of a file of `size` bytes was sent."""
        return size == 0 or (len(self._ranges) == 1 and self._covers(size))

    def ranges(self) -> str:
        """Return what was sent, first and last byte of each range: `0-32767,65536-99999`.

        Of more than 32 ranges the last is `+` and how many there are beyond.
        """
        shown = [f"{start}-{end - 1}" for start, end in self._ranges[:_MAX_SHOWN]]
        more = len(self._ranges) - len(shown)
        return ",".join([*shown, f"+{more}"] if more else shown)

    def _covers(self, size: int) -> bool:
        start, end = self._ranges[0]
        return start == 0 and end >= size
