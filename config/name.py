"""Folder names that are safe on every client's file system.

A name has lower-case ASCII letters, digits and single dashes, and at most 64 characters: `parti-a`,
`34-istanbul-1`, `2023-05-14-cb-mv`. So no two names differ only by case. The device names of
Windows (`con`, `lpt1`) and the names that a tree itself uses (`akis`) are reserved.
"""

import re

_SAFE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_BOX = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*", re.ASCII)
_MAX_LENGTH = 64
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
_TREE = {"birlestirme", "akis", "araclar"}


def fault(name: str) -> str | None:
    """Say what is wrong with `name` as a folder name, and what to do; None if it is good."""
    if not _SAFE.fullmatch(name):
        return (
            f"{name!r} is not a safe folder name, use lower-case ASCII letters, digits and single "
            "dashes, such as 'parti-a'"
        )
    if len(name) > _MAX_LENGTH:
        return f"{name!r} has {len(name)} characters, at most {_MAX_LENGTH} are allowed"
    if name in _DEVICES or name in _TREE or name.startswith("sandik-"):
        return f"{name!r} is a reserved name, choose another"
    return None


def box_fault(number: str) -> str | None:
    """Say what is wrong with a ballot box's number (at customs: its rumuz); None if it is good."""
    if not _BOX.fullmatch(number) or len(number) > _MAX_LENGTH:
        return f"{number!r} is not a box number, use ASCII letters, digits and single dashes"
    return None
