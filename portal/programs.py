"""Starts the programs that a web daemon needs: itself, or through its broker if it has one.

picture PARENT FRAME [--lenient]     portal/pictures/worker
parquet PARENT WHAT FILE WORD...     portal/data/numbers/parquet
command                              scripts/staff_command, for the staff site
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from config.site import STAFF_CACHE
from portal import broker_client

PICTURE, PARQUET, COMMAND = "picture", "parquet", "command"
_MODULES = {PICTURE: "portal.pictures.worker", PARQUET: "portal.data.numbers.parquet"}
# A process that confines itself (portal/sandbox) has one thread when it does; NumPy starts others.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
_ROOT = Path(__file__).parents[1]


class Program(Protocol):
    """A program that was started."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status; TimeoutError after these seconds."""

    def kill(self) -> None:
        """Kill it, unless it has ended."""


class Child(subprocess.Popen[bytes]):
    """A program that this process started itself."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status; TimeoutError after these seconds."""
        try:
            return super().wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(str(error)) from None

    def kill(self) -> None:
        """Kill it, unless it has ended, and reap it."""
        super().kill()
        self.wait()


def start(kind: str, words: Sequence[str], stdin: int, stdout: int) -> Program:
    """Start a program of ours; `words` follow the number of its parent process."""
    if broker_client.in_use():
        return broker_client.start(kind, words, (stdin, stdout))
    return run(kind, words, (stdin, stdout))


def run(kind: str, words: Sequence[str], files: Sequence[int]) -> Child:
    """Start a program of ours as a child of this process; KeyError if the kind is not known."""
    command = [sys.executable, "-P", "-m", _MODULES[kind], str(os.getpid()), *words]
    return _run(command, files, {"PYTHONPATH": str(_ROOT), **ONE_THREAD})


@dataclass(frozen=True, slots=True)
class StaffCommand:
    """What runs a command for an operator of the staff site, who is named on its input."""

    line: tuple[str, ...]
    environment: Mapping[str, str]

    def start(self, stdin: int, stdout: int, stderr: int) -> Program:
        """Start it, through the broker if this process has one."""
        files = (stdin, stdout, stderr)
        if broker_client.in_use():
            return broker_client.start(COMMAND, (), files)
        return self.run(files)

    def run(self, files: Sequence[int], folder: str = "") -> Child:
        """Start it as a child of this process; it may write below `folder` (scripts/staff_command).

        Without `folder` that is where this process has its own temporary files.
        """
        temporary = {"TMPDIR": folder or tempfile.gettempdir()}
        return _run(self.line, files, {**self.environment, **temporary})


def staff_command(line: Sequence[str], site: Path) -> StaffCommand:
    """Return what runs the commands of a site; `line` starts scripts/staff_command."""
    return StaffCommand((*line, str(site)), {"XDG_CACHE_HOME": str(site / STAFF_CACHE)})


def _run(command: Sequence[str], files: Sequence[int], environment: Mapping[str, str]) -> Child:
    stdin, stdout, stderr = (*files, None)[:3]
    everything = {**os.environ, **environment}
    return Child(command, stdin=stdin, stdout=stdout, stderr=stderr, env=everything)
