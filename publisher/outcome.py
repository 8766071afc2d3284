"""What can become of a file that arrived: filed, a duplicate, or quarantined."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from config.registry import RegistryEntry
from publisher.page import Reason


class FiledSheet(NamedTuple):
    """One sheet of a file: the page that shows it, from 1, and where it stands in each tree."""

    frame: int
    entry: RegistryEntry
    version: int
    path: str


@dataclass(frozen=True, slots=True)
class Filed:
    """It is filed, once for each of its sheets, since each had `witnesses` or more."""

    sheets: tuple[FiledSheet, ...]
    needed_readings: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Its very bytes were here before: a path in the trees, or a file in quarantine."""

    of: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """No rule files it."""

    reason: Reason


Decision = Filed | Duplicate | Quarantined
Lookup = Callable[[str], RegistryEntry | None]
