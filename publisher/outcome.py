"""The outcomes of a file: filed, a duplicate, quarantined, or split into its pages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from config.registry import RegistryEntry
from publisher.page import Reason


class FiledSheet(NamedTuple):
    """One sheet of a filed file: the frame that shows it, from 1, and its path in the trees."""

    frame: int
    entry: RegistryEntry
    version: int
    path: str


@dataclass(frozen=True, slots=True)
class Filed:
    """The file is filed, once for each of its sheets.

    `needed_readings` is how many agreeing readings each sheet had to have.
    """

    sheets: tuple[FiledSheet, ...]
    needed_readings: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same page arrived before; `of` is its path in the trees or name in quarantine.

    If its bytes differ, `pixels` is the digest of the pixels, which are the same.
    """

    of: str
    pixels: str | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The file is in quarantine, for `reason`."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Split:
    """The file has several pages, and each becomes an arrival of its own."""

    digests: tuple[str, ...]


Decision = Filed | Duplicate | Quarantined | Split
Lookup = Callable[[str], RegistryEntry | None]
