"""Which settings stand on record, so that one that was edited by hand shows there.

A daemon that starts by, or takes up, a `site.toml` or `parties.toml` that is not what was recorded
last, writes to the operations ledger a record named `settings`: in `before` and `after` a line for
each file, its name and the SHA-256 of its bytes, `none` if it is not there. For example

    parties.toml 9f64844533fd90928620bad8f9711bbaf0435eccdb5928b442268e48df425d20
    site.toml none

What a command changes needs no such record: its own carries those lines in `settings`. Before it
makes its change it has on record what it finds, so that an edit by hand is not taken for its own.
"""

import hashlib
from pathlib import Path

from config import load
from config.event import Event, Value
from keys import segments
from keys.ledger import FOLDER, OPERATIONS, Ledger
from keys.record import parse_record

SETTINGS = "settings"
FILES = (load.PARTIES, load.SITE)
_MARK = f'"{SETTINGS}"'.encode()


def digests(site: Path, parties: bytes | None = None) -> list[str]:
    """Return a line for each file as it stands, or as it will with those `parties`."""
    return [_line(site, name, parties if name == load.PARTIES else None) for name in FILES]


def recorded(folder: Path) -> list[str] | None:
    """Return the lines that the operations ledger in `folder` names last; None if it has none.

    A line of it that is no record counts for nothing: the worst that comes of it is a record more.
    """
    found = None
    for _, _, line in segments.lines(folder):
        if _MARK not in line:
            continue
        try:
            event = parse_record(line).event
        except ValueError:
            continue
        stated = event.detail.get("after" if event.event == SETTINGS else SETTINGS)
        if isinstance(stated, list):
            found = stated
    return found


def settle(operations: Ledger, site: Path, who: str, origin: str, why: str) -> bool:
    """Have the settings that stand on record; say whether they were not. Raises Unwritable."""
    before, after = recorded(site / FOLDER / OPERATIONS), digests(site)
    if before == after:
        return False
    detail: dict[str, Value] = {"why": why, "before": before, "after": after}
    operations.append(Event(SETTINGS, who, origin, " ".join(FILES), detail=detail))
    operations.sync()
    return True


def _line(site: Path, name: str, content: bytes | None) -> str:
    try:
        content = (site / name).read_bytes() if content is None else content
    except FileNotFoundError:
        return f"{name} none"
    return f"{name} {hashlib.sha256(content).hexdigest()}"
