"""Verifies the ledgers in the background when an auditor starts it, and reports its progress."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from portal.access.identity import Identity
from portal.staff.commands import Commands

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """A verification under way: since when, for whom, and how many of its bytes are read."""

    since: datetime
    by: str
    read: int = 0
    total: int = 0

    @property
    def percent(self) -> int:
        """The share that is read, 0 to 100."""
        return min(100, 100 * self.read // self.total) if self.total else 0


class Verification:
    """At most one verification at a time; of one event loop."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._task: asyncio.Task[None] | None = None
        self.running: Running | None = None
        self.failed = ""  # why the last one gave no result

    def start(self, who: Identity, now: datetime) -> None:
        """Start a verification, unless one is running."""
        if self.running is not None:
            return
        self.running, self.failed = Running(now, who.login), ""
        self._task = asyncio.create_task(self._run(who))

    async def _run(self, who: Identity) -> None:
        words = ("audit", "verify", "--json", "--progress")
        try:
            done = await self._commands.run_told(who, self._note, *words)
            # Exit code 1 is also the answer that something is wrong: state/verified.json has it.
            if not done.out.strip():
                self.failed = done.said or f"exit {done.code}"
        except Exception as error:
            _log.exception("verification-failed", cause=str(error))
            self.failed = str(error)
        finally:
            self.running = None

    def _note(self, line: str) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            if self.running is not None:
                read, total = int(told["read"]), int(told["total"])
                self.running = replace(self.running, read=read, total=total)
