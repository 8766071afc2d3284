"""Gives parties their turns with a process that answers in order, so that none of them waits long.

The judge compares a password in a tenth of a second, and the signer signs a key exchange in up to a
millisecond. Each answers in the order in which it is asked. So a party that asks much at once would
make all others wait. Therefore only `at_once` questions are with the process at a time.

Rule 1. At most half of them are from one party.

Rule 2. The last one is from a party that has no other one there. So two attackers leave room for a
third party.

Rule 3. The next one comes from the party that has the fewest there, and among those from the one
whose last turn is longest ago.

Before a login, the party is the one that registered the address (ConnectionState.holder). Its
addresses take turns too, since only one of them may be an attacker's. An IPv6 address counts by its
/64 (keys/credentials/penalties).
"""

from collections import Counter, defaultdict, deque
from collections.abc import Callable
from functools import partial

from keys.credentials.penalties import Source, source_of
from sftpd.monitor.monitor import ConnectionState

Reply = Callable[..., None]
Ask = Callable[[Reply], object]
_Question = tuple[ConnectionState, Ask, Callable[..., object]]


class Turns:
    """The turns with one process."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._running: Counter[str] = Counter()
        self._waiting: defaultdict[str, dict[Source, deque[_Question]]] = defaultdict(dict)
        self._last_turn: dict[str, int] = {}  # of each party that has a question
        self._turns = 0

    def ask(self, state: ConnectionState, ask: Ask, answer: Callable[..., object]) -> None:
        """Call `ask` now or later, with a function for the reply, which `answer` then gets.

        A connection that has ended meanwhile neither asks nor gets an answer.
        """
        sources = self._waiting[state.holder]
        sources.setdefault(source_of(state.address), deque()).append((state, ask, answer))
        self._start_next()

    def _reply(
        self, state: ConnectionState, answer: Callable[..., object], *values: object
    ) -> None:
        self._running[state.holder] -= 1
        if not state.ended:
            answer(*values)
        self._start_next()
        self._forget(state.holder)

    def _start_next(self) -> None:
        while next_ones := [holder for holder in self._waiting if self._may_ask(holder)]:
            holder = min(next_ones, key=self._place)
            self._turns = self._last_turn[holder] = self._turns + 1
            state, ask, answer = self._take(holder)
            if not state.ended:
                self._running[holder] += 1
                ask(partial(self._reply, state, answer))
            self._forget(holder)

    def _may_ask(self, holder: str) -> bool:
        running, total = self._running[holder], self._running.total()
        if running:
            return running < self._at_once // 2 and total < self._at_once - 1
        return total < self._at_once

    def _place(self, holder: str) -> tuple[int, int]:
        return self._running[holder], self._last_turn.get(holder, 0)

    def _take(self, holder: str) -> _Question:
        """Take the next question of a party; its address goes to the end."""
        sources = self._waiting[holder]
        source = next(iter(sources))
        waiting = sources.pop(source)
        question = waiting.popleft()
        if waiting:
            sources[source] = waiting
        if not sources:
            del self._waiting[holder]
        return question

    def _forget(self, holder: str) -> None:
        if not self._running[holder] and holder not in self._waiting:
            del self._running[holder]
            self._last_turn.pop(holder, None)

    def __len__(self) -> int:
        return len(self._last_turn) + len(self._running)
