"""Which settings stand on record, so that one that was edited by hand shows there.

A daemon that starts by, or takes up, a `site.toml` or `parties.toml` that is not what was recorded
last, writes to the operations ledger a record named `settings`: in `before` and `after` a line for
each file, its name and the SHA-256 of its bytes. For example

    parties.toml 9f64844533fd90928620bad8f9711bbaf0435eccdb5928b442268e48df425d20
    site.toml e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

They are the bytes that the settings were made of (config/load), and not those that stand there by
the time of the record: a file may be edited in between.

What a command changes needs no such record: its own carries those lines in `settings`. Before it
makes its change it has on record what it finds, so that an edit by hand is not taken for its own.
"""

from collections.abc import Iterable
from pathlib import Path

from config.event import Event, Value
from config.settings import Settings
from config.site import LEDGERS, OPERATIONS, PARTIES_TOML, SITE_TOML
from keys.ledger import segments
from keys.ledger.record import parse_record
from keys.ledger.writer import Ledger

SETTINGS = "settings"
FILES = (PARTIES_TOML, SITE_TOML)
_MARK = f'"{SETTINGS}"'.encode()


def digest_lines(digests: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each file, of (its name, the SHA-256 of its bytes)."""
    return [f"{name} {digest}" for name, digest in digests]


def last_recorded(folder: Path) -> list[str] | None:
    """Return the lines that the operations ledger in `folder` names last; None if it has none.

    A line of it that is no record counts for nothing: the worst that comes of it is a record more.
    """
    found = None
    for _, _, line in segments.read_lines(folder):
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


def record_if_changed(
    operations: Ledger, settings: Settings, who: str, origin: str, why: str
) -> bool:
    """Have these settings on record; say whether they were not. Raises Unwritable."""
    before, after = (
        last_recorded(settings.site / LEDGERS / OPERATIONS),
        digest_lines(settings.digests),
    )
    if before == after:
        return False
    detail: dict[str, Value] = {"why": why, "before": before, "after": after}
    operations.append(Event(SETTINGS, who, origin, " ".join(FILES), detail=detail))
    operations.sync()
    return True
