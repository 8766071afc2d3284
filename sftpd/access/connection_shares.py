"""Limits how many connections without a login each registered address may hold.

This works like MaxStartups and PerSourceMaxStartups of OpenSSH (sshd_config(5)), in proportion to
what is free. `free` is what is left of `[sftp] max_sessions`. A new connection is refused if

Rule 1. the slots that are free are kept for other addresses: each registered address can have KEPT
connections at any time;

Rule 2. its party has half of what would be free without that party's unfinished logins, and KEPT at
least. An address of several parties counts by itself;

Rule 3. by chance, if its address has more than EARLY unfinished logins, and more than a quarter of
what rule 2 allows. The chance grows with their number, so that some new connections still get in
during an attack from that address.

Rules 2 and 3 do not apply if only one party is registered: no other party could use the rest.

So one party's forty clients can start at once. Attackers on several addresses get a half, a quarter
and an eighth of the connections, and a party that comes after them still gets its own.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from config.party import Address, Party

KEPT = 4  # connections; fewer if the registered addresses are too many for that
EARLY = 32  # unfinished logins of one address


class ConnectionShares:
    """The shares for the parties and the maximum of `set_parties`; `chance` is from 0 up to 1."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._holders: dict[Address, str] = {}  # the party of an address, or the address itself
        self._alone = False
        self._maximum = 0

    def set_parties(self, parties: Iterable[Party], maximum: int) -> None:
        """Replace the parties and the maximum number of connections."""
        owners: defaultdict[Address, list[str]] = defaultdict(list)
        for party in parties:
            for address in party.static_ips:
                owners[address].append(party.id)
        self._holders = {
            address: ids[0] if len(ids) == 1 else str(address) for address, ids in owners.items()
        }
        self._alone = len(set(self._holders.values())) == 1
        self._maximum = maximum

    def holder(self, address: Address) -> str:
        """Return the party that registered an address, or the address if several parties did."""
        return self._holders.get(address, str(address))

    def refuses(self, address: Address, connections: Iterable[tuple[Address, bool]]) -> bool:
        """Return whether a new connection of `address` has to be refused.

        `connections` are the others: the address of each, and whether its client has logged in.
        """
        connected: Counter[Address] = Counter()
        unfinished: Counter[Address] = Counter()
        for other, logged_in in connections:
            connected[other] += 1
            unfinished[other] += not logged_in
        free = self._maximum - connected.total()
        kept = min(KEPT, self._maximum // (2 * max(1, len(self._holders))))
        others = (a for a in self._holders if a != address)
        if free <= sum(max(0, kept - connected[a]) for a in others):
            return True
        if self._alone:
            return False
        holder = self._holders.get(address)
        held = sum(n for a, n in unfinished.items() if self._holders.get(a) == holder)
        most = max(KEPT, (free + held) // 2)
        if held >= most:
            return True
        early = max(EARLY, most // 4)
        over = unfinished[address] - early
        return over > 0 and self._chance() < over / (most - early)
