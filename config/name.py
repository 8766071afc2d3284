"""Folder names that every client's file system can hold, and no two of which differ by case alone.

A name is lower-case ASCII letters, digits and single dashes, at most 64 characters:
`parti-a`, `34-istanbul-1`, `2023-05-14-cb-mv`. Windows' device names and the names
that the tree itself uses are no names for anything else.
"""

import re

_SAFE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_BOX = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*", re.ASCII)
_MAX_LENGTH = 64
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}
_TREE = {"birlestirme", "akis"}


def fault(name: str) -> str | None:
    """Say what keeps `name` from being a folder's name, and what to do; None if nothing does."""
    if not _SAFE.fullmatch(name):
        return (
            f"{name!r} is no safe folder name, use lower-case ASCII letters, digits and single "
            "dashes, such as 'parti-a'"
        )
    if len(name) > _MAX_LENGTH:
        return f"{name!r} has {len(name)} characters, at most {_MAX_LENGTH} are allowed"
    if name in _DEVICES or name in _TREE or name.startswith("sandik-"):
        return f"{name!r} is a reserved name, choose another"
    return None


def box_fault(number: str) -> str | None:
    """The same for a ballot box: a number, or at customs a rumuz, whose capitals are kept."""
    if not _BOX.fullmatch(number) or len(number) > _MAX_LENGTH:
        return f"{number!r} is no box number, use ASCII letters, digits and single dashes"
    return None
