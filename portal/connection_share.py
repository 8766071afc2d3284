"""Shares the portal's connections among addresses, so that none can take them all.

Rule 1. All together have at most `most` connections.

Rule 2. An address has at most half of what the others leave free, but KEPT at any time. So the
first address that opens all it can gets a half, the second a quarter, and a party that comes after
them still gets its own.

Rule 3. Addresses that no party has registered share UNREGISTERED connections, and one of them has
at most STRANGER: each only gets a short refusal there, or the representatives' pages.

A balancer is no client: its connections count in rule 1 only, and it limits its own clients.

Several portals of a site share rules 2 and 3 (portal/access/exchange): an address has at most as
many at all of them as it would have at one. Rule 1 is about what one process can hold.

A reload may register an address, or its party may drop it, while it is connected. What `take`
counted is given back as it was counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from config.party import Address
from keys.credentials.penalties import Source, source_of

# The address that a connection counts for, None for all of rule 3, and the client's own.
Counted = tuple[Source | None, Source]
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
        # The same at the other portals.
        self._held_elsewhere: Counter[Source | None] = Counter()
        self._strangers_elsewhere: Counter[Source] = Counter()

    def take(self, address: Address) -> Counted | None:
        """Count a new connection of `address`; return None if it has to be refused."""
        total = self._held.total()
        if total >= self._most:
            return None
        holder, source = self._holder(address), source_of(address)
        if not self._balancer(address):
            held = self._held[holder]
            free = self._most - (total - held)
            everywhere = held + self._held_elsewhere[holder]
            if everywhere >= (UNREGISTERED if holder is None else max(KEPT, free // 2)):
                return None
        if holder is None:
            if self._strangers[source] + self._strangers_elsewhere[source] >= STRANGER:
                return None
            self._strangers[source] += 1
        self._held[holder] += 1
        return holder, source

    def release(self, counted: Counted) -> None:
        """Note the end of a connection that `take` counted."""
        holder, source = counted
        self._held[holder] -= 1
        if holder is None:
            self._strangers[source] -= 1
        self._held += Counter()  # forgets addresses without a connection
        self._strangers += Counter()

    def counts(self) -> dict[str, list[list[Any]]]:
        """Return the connections by address, for the other portals."""
        return {
            "held": [[holder, number] for holder, number in self._held.items()],
            "strangers": [[source, number] for source, number in self._strangers.items()],
        }

    def use_others(self, counts: Iterable[Mapping[str, Any] | None]) -> None:
        """Count what the `counts` of all other portals say from now on."""
        self._held_elsewhere, self._strangers_elsewhere = Counter(), Counter()
        for found in counts:
            if found is not None:
                for holder, number in found["held"]:
                    key = None if holder is None else (int(holder[0]), int(holder[1]))
                    self._held_elsewhere[key] += number
                for (version, address), number in found["strangers"]:
                    self._strangers_elsewhere[int(version), int(address)] += number

    def _holder(self, address: Address) -> Source | None:
        known = self._registered(address) or self._balancer(address)
        return source_of(address) if known else None
