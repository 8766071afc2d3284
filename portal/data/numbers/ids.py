"""Whole numbers that stand for places, for clients that know places only by number (/api/ssps).

A number is made from the name of the place, so it stays the same when the registry grows. If two
names make the same number, the one that sorts later gets the next free number.
"""

from collections.abc import Iterable
from hashlib import sha256

_BITS_31 = (1 << 31) - 1
_BITS_53 = (1 << 53) - 1  # JavaScript has no larger whole numbers


def numbers(names: Iterable[str]) -> dict[str, int]:
    """Return a number from 1 to 2³¹ - 1 for each of the names."""
    found: dict[str, int] = {}
    taken: set[int] = set()
    for name in sorted(set(names)):
        number = _hash(name) & _BITS_31 or 1
        while number in taken:
            number = number % _BITS_31 + 1
        taken.add(number)
        found[name] = number
    return found


def election_number(election: str) -> int:
    """Return the number of an election, `secimId`."""
    return _hash(election) & _BITS_31 or 1


def box_number(place: str) -> int:
    """Return the number of a box, `sandik_ID`, from 1 to 2⁵³ - 1."""
    return _hash(place) & _BITS_53 or 1


def _hash(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big")
