"""Shares the portal's connections among addresses, so that none can take them all.

Rule 1. All together have at most `most` connections.

Rule 2. An address has at most half of what the others leave free, but KEPT at any time. So the
first address that opens all it can gets a half, the second a quarter, and a party that comes after
them still gets its own.

Rule 3. Addresses that no party has registered share UNREGISTERED connections, and one of them has
at most STRANGER: each only gets a short refusal there, or the representatives' pages.

A balancer is no client: its connections count in rule 1 only, and it limits its own clients.
"""

from collections import Counter
from collections.abc import Callable

from config.party import Address
from keys.credentials.penalties import Source, source_of

MOST, KEPT, UNREGISTERED, STRANGER = 2048, 16, 64, 8


class ConnectionShare:
    """The connections of one portal; of one event loop."""

    def __init__(
        self,
        registered: Callable[[Address], bool],
        balancer: Callable[[Address], bool],
        most: int = MOST,
    ) -> None:
        self._registered, self._balancer, self._most = registered, balancer, most
        self._held: Counter[Source | None] = Counter()
        self._strangers: Counter[Source] = Counter()  # those of rule 3, by address

    def take(self, address: Address) -> bool:
        """Count a new connection of `address`; return False if it has to be refused."""
        total = self._held.total()
        if total >= self._most:
            return False
        holder = self._holder(address)
        if not self._balancer(address):
            held = self._held[holder]
            free = self._most - (total - held)
            if held >= (UNREGISTERED if holder is None else max(KEPT, free // 2)):
                return False
        if holder is None:
            if self._strangers[source_of(address)] >= STRANGER:
                return False
            self._strangers[source_of(address)] += 1
        self._held[holder] += 1
        return True

    def release(self, address: Address) -> None:
        """Note the end of a connection that was counted."""
        for holder in (self._holder(address), source_of(address), None):
            # A reload may have registered the address since.
            if self._held[holder]:
                self._held[holder] -= 1
                if holder is None:
                    self._strangers[source_of(address)] -= 1
                break
        self._held += Counter()  # forgets addresses without a connection
        self._strangers += Counter()

    def _holder(self, address: Address) -> Source | None:
        known = self._registered(address) or self._balancer(address)
        return source_of(address) if known else None
