"""Faults: what an operator has to fix, one line each, and all of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One line, `file: key: what is wrong, what to do`; the key may be empty or a line number."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        return visible(": ".join(filter(None, (self.file, self.key, self.message))))


def visible(text: str) -> str:
    """Escape characters that are not printable, so that foreign text cannot move the cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Faults(Exception):
    """What the operator has to fix; `faults` lists all of it, in the order found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))

    def __reduce__(self) -> tuple[type["Faults"], tuple[tuple[Fault, ...]]]:
        return type(self), (self.faults,)  # an exception is pickled with its text otherwise
