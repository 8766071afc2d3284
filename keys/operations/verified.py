"""When the ledgers of a site were verified last, by whom, and with what result.

`ssps audit verify` without FOLDER replaces `state/verified.json`, if it may write there:

    {"at": "2023-05-14T23:31:07+03:00", "by": "denetci", "findings": [],
     "ledgers": [{"name": "transfer", "records": 120345, "signed": 120345}], "seconds": 12.4}

    findings   what is wrong, a line each; empty if nothing is wrong

The file is only a note and proves nothing: an auditor who needs proof verifies again.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from config import times
from config.site import VERIFIED
from keys import files


@dataclass(frozen=True, slots=True)
class VerifiedLedger:
    """One ledger: its records, and how many of them are signed."""

    name: str
    records: int
    signed: int


@dataclass(frozen=True, slots=True)
class Verified:
    """One verification of the ledgers: when, by whom, and its result."""

    at: datetime
    by: str
    seconds: float
    ledgers: tuple[VerifiedLedger, ...]
    findings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.findings


def write(site: Path, found: Verified) -> None:
    """Remember a verification. A site that may not be written to, or a full disk, is no error."""
    stated = {**asdict(found), "at": times.format_time(found.at)}
    with suppress(OSError):
        files.replace(site / VERIFIED, json.dumps(stated).encode() + b"\n")


def read(site: Path) -> Verified | None:
    """Return the last verification, None if there was none or the file cannot be read."""
    try:
        stated = json.loads((site / VERIFIED).read_bytes())
        return Verified(
            datetime.fromisoformat(stated["at"]),
            str(stated["by"]),
            float(stated["seconds"]),
            tuple(_ledger(fields) for fields in stated["ledgers"]),
            tuple(map(str, stated["findings"])),
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _ledger(fields: dict[str, object]) -> VerifiedLedger:
    return VerifiedLedger(
        str(fields["name"]), int(str(fields["records"])), int(str(fields["signed"]))
    )
