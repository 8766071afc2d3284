"""Makes reports on parties in the background (`ssps audit report`), and keeps the last of each.

They are in a temporary folder: the record has everything that they are made from.
"""

import asyncio
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from portal.access.identity import Identity
from portal.staff.commands import Commands

LANGUAGES = {"tr": "Türkçe", "en": "English"}
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Report:
    """One report: for whom it was asked, and when; `html` and `pdf` once it is there."""

    party: str
    language: str
    by: str
    at: datetime
    html: bytes | None = None
    pdf: bytes | None = None
    failed: str = ""  # why there is none

    @property
    def ready(self) -> bool:
        """Whether the report is finished."""
        return self.html is not None

    @property
    def running(self) -> bool:
        """Whether the report is being made."""
        return self.html is None and not self.failed


class Reports:
    """The reports of one site; of one event loop."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._made: dict[str, Report] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def of(self, party: str) -> Report | None:
        """Return the last report on a party, None if none was requested."""
        return self._made.get(party)

    def start(self, who: Identity, party: str, language: str, now: datetime) -> None:
        """Have a report made, unless one on that party is being made."""
        known = self._made.get(party)
        if known is not None and known.running:
            return
        asked = self._made[party] = Report(party, language, who.login, now)
        task = asyncio.create_task(self._make(who, asked))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, who: Identity, asked: Report) -> None:
        party, html, pdf = asked.party, None, None
        failed = "interrupted"
        try:
            with tempfile.TemporaryDirectory(prefix="ssps-report-") as folder:
                words = (f"--output={folder}", f"--lang={asked.language}", "--", party)
                done = await self._commands.run(
                    who, "audit", "report", "--json", *words, timeout=None
                )
                failed = "" if done.ok else done.said or f"exit {done.code}"
                if done.ok:
                    html = await asyncio.to_thread((Path(folder) / f"{party}.html").read_bytes)
                    pdf = await asyncio.to_thread((Path(folder) / f"{party}.pdf").read_bytes)
        except Exception as error:
            _log.exception("report-failed", cause=str(error))
            failed = str(error)
        finally:
            self._made[party] = Report(party, asked.language, asked.by, asked.at, html, pdf, failed)
