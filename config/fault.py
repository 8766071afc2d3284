"""Faults: what an operator has to mend, each on one line, all of them at once."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One line, `file: key: what is wrong, what to do`; key may be empty or a line number."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        return visible(": ".join(filter(None, (self.file, self.key, self.message))))


def visible(text: str) -> str:
    """Return `text` as it may be shown: what others wrote must not move the reader's cursor."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Faults(Exception):
    """The operator's files are at fault; `faults` holds every one, in the order found."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))
