"""Records the digests of the settings files, so that the ledger shows edits by hand.

When a daemon starts with, or reloads, a `site.toml` or `parties.toml` that differs from what was
recorded last, it writes a `settings` record to the operations ledger. Its `before` and `after` have
a line for each file, with the name and the SHA-256 of its bytes. For example

    parties.toml 9f64844533fd90928620bad8f9711bbaf0435eccdb5928b442268e48df425d20
    site.toml e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855

The digests are of the bytes that the settings were read from (config/load). The file on disk may
have been edited since.

A command that changes these files writes no such record: its own record has those lines in
`settings`. Before its change it records what it finds, so that an edit by hand does not look like
its own change.
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
    """Return a line for each file, from its name and the SHA-256 of its bytes."""
    return [f"{name} {digest}" for name, digest in digests]


def last_recorded(folder: Path) -> list[str] | None:
    """Return the newest such lines of the operations ledger in `folder`; None if it has none.

    A damaged line is skipped: at worst, that leads to one more record.
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
    """Record these settings unless they are recorded already; say whether it wrote a record.

    Raises Unwritable.
    """
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
