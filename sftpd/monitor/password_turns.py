"""Lets an address have only a few passwords compared at a time; its others wait for their turn.

Comparing a password takes a tenth of a second, and the judge takes what it is asked in order. So an
address that begins many logins at once would make the logins of all others wait. An IPv4 address
counts by itself, an IPv6 address by its /64 (keys/credentials/penalties).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable

from config.party import Address
from keys.credentials.penalties import Source, source_of


class PasswordTurns:
    """The turns of all addresses: at most `limit` of each at a time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._running: Counter[Source] = Counter()
        self._waiting: defaultdict[Source, deque[Callable[[], bool]]] = defaultdict(deque)

    def begin(self, address: Address, start: Callable[[], bool]) -> None:
        """Call `start` now or later; it returns False if there is nothing to do any more.

        If it returns True, call `end` when the password has been compared.
        """
        source = source_of(address)
        self._waiting[source].append(start)
        self._start_next(source)

    def end(self, address: Address) -> None:
        """Give the turn of an address to its next password."""
        source = source_of(address)
        self._running[source] -= 1
        self._start_next(source)

    def _start_next(self, source: Source) -> None:
        waiting = self._waiting[source]
        while waiting and self._running[source] < self._limit:
            if waiting.popleft()():
                self._running[source] += 1
        if not waiting:
            del self._waiting[source]
        if not self._running[source]:
            del self._running[source]

    def __len__(self) -> int:
        return len(self._running) + len(self._waiting)
