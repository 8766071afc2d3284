"""Runs `ssps` commands for the pages, each in a process of its own that knows the operator.

So a page does what the command does, with the same checks and records, and never blocks the event
loop. `line` is what starts scripts/staff_command; the daemon that starts the staff site states it.
A word that a browser sent can be no option: options with a value are written `--why=…`, and what
follows `--` is an argument.

The commands that search the ledgers share an index, which one process may open at a time.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keys.kernel import memory_file
from portal import programs
from portal.access.identity import Identity

_TIMEOUT = 120.0  # seconds
_MAX_OUTPUT = 16 << 20  # bytes; a page shows far less
_AT_A_TIME = 4


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended: exit code, stdout, and what it says on stderr."""

    code: int
    out: str
    said: str

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.code == 0

    def json(self) -> Any:
        """Return what it printed with --json; None if that is nothing."""
        return json.loads(self.out) if self.out.strip() else None

    def lines(self) -> list[Any]:
        """Return the JSON objects that it printed, one a line."""
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]


class Commands:
    """Starts the commands of one site; of one event loop."""

    def __init__(self, line: Sequence[str], site: Path) -> None:
        self._command = programs.staff_command(line, site)
        self._index = asyncio.Lock()
        self._room = asyncio.Semaphore(_AT_A_TIME)

    async def run(self, who: Identity, *words: str, timeout: float | None = _TIMEOUT) -> Done:
        """Run a command to its end, or for `timeout` seconds at most."""
        if words[:1] == ("audit",):
            async with self._index:
                return await self._run(who, words, timeout=timeout)
        async with self._room:
            return await self._run(who, words, timeout=timeout)

    async def run_told(self, who: Identity, tell: Callable[[str], object], *words: str) -> Done:
        """Run a long command that needs no index; `tell` gets each line of its stderr at once."""
        return await self._run(who, words, tell, None)

    async def _run(
        self,
        who: Identity,
        words: Sequence[str],
        tell: Callable[[str], object] = lambda line: None,
        timeout: float | None = _TIMEOUT,
    ) -> Done:
        asked = {"who": who.login, "from": str(who.address), "command": list(words)}
        with ExitStack() as opened:
            ours = opened.enter_context(memory_file.of(json.dumps(asked).encode()))
            out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
            said_reader, said_writer = os.pipe2(os.O_CLOEXEC)
            try:
                process = self._command.start(ours, out_writer, said_writer)
            finally:
                os.close(out_writer)
                os.close(said_writer)
            opened.callback(process.kill)
            try:
                async with (
                    asyncio.timeout(timeout),
                    _stream(out_reader) as output,
                    _stream(said_reader) as errors,
                ):
                    out, said = await asyncio.gather(_read(output), _follow(errors, tell))
                    code = await asyncio.to_thread(process.wait)
            except TimeoutError:
                return Done(124, "", "komut zamanında bitmedi")
        return Done(code, out, said)


@asynccontextmanager
async def _stream(descriptor: int) -> AsyncIterator[asyncio.StreamReader]:
    """Read from a pipe, which is closed at the end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_MAX_OUTPUT)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", 0)
    )
    try:
        yield reader
    finally:
        transport.close()


async def _read(stream: asyncio.StreamReader) -> str:
    parts, size = [], 0
    while data := await stream.read(1 << 16):
        size += len(data)
        if size <= _MAX_OUTPUT:
            parts.append(data)
    return b"".join(parts).decode(errors="replace")


async def _follow(stream: asyncio.StreamReader, tell: Callable[[str], object]) -> str:
    lines: list[str] = []
    while line := await stream.readline():
        text = line.decode(errors="replace").rstrip("\n")
        tell(text)
        lines = [*lines, text][-200:]
    return "\n".join(lines)
