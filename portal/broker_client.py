"""Asks the broker for what a confined web daemon may not do itself (portal/broker).

The daemon has one socket to its broker. For each question it makes a pair of sockets and sends the
broker one of them, with the descriptors that a program to be started gets. Through the other one it
sends the question, one line of JSON, and reads the answer up to its end:

    {"verb": "users", "words": ["parti-a"]}
    pickle of (True, what was asked for) or of (False, the exception)

Only the answer is pickled: the daemon trusts the broker, and the broker trusts no word of the
daemon. If the daemon closes its socket, the broker kills the program that it started for it.

A process that has no broker, such as a test, does everything itself.
"""

import base64
import json
import os
import pickle
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

BYTES = "bytes"  # in JSON, {"bytes": "aGVsbG8="} is b"hello"


class _Connection:
    """The socket to the broker of this process, None in a process that has no broker."""

    control: socket.socket | None = None
    memory = -1  # this process's own, open to be read (keys/kernel/connections)


@dataclass(frozen=True)
class StartedProgram:
    """A program that the broker runs for this process."""

    _channel: socket.socket

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit status; TimeoutError after these seconds."""
        # With 0 a socket does not wait at all, and reading has no answer instead of an error.
        self._channel.settimeout(timeout if timeout is None else max(timeout, 0.001))
        code = _answer(self._channel)
        if not isinstance(code, int):
            raise AssertionError("an exit status is a number")
        return code

    def kill(self) -> None:
        """Let the broker kill the program, unless it has ended."""
        # A thread in `wait` keeps the descriptor open, so that closing alone would end nothing.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()


def use(control: socket.socket) -> None:
    """Ask the broker at the other end of this socket from now on."""
    _Connection.control = control


def keep_memory(descriptor: int) -> None:
    """Keep this process's memory, open to be read, for `hand_over_connections`."""
    _Connection.memory = descriptor


def hand_over_connections(listener: int) -> None:
    """Have the broker make and connect the sockets of this process from now on."""
    with _send("make_connections", (), (listener, _Connection.memory)) as channel:
        _answer(channel)
    os.close(_Connection.memory)


def in_use() -> bool:
    """Say whether this process has a broker."""
    return _Connection.control is not None


def ask(verb: str, *words: Any) -> Any:
    """Return what the broker answers, or raise what it raised."""
    with _send(verb, words, ()) as channel:
        return _answer(channel)


def start(kind: str, words: Sequence[str], files: Sequence[int]) -> StartedProgram:
    """Have the broker start a program with these descriptors as its first ones."""
    return StartedProgram(_send("start", (kind, *words), files))


def _send(verb: str, words: Sequence[Any], files: Sequence[int]) -> socket.socket:
    if _Connection.control is None:
        raise AssertionError("this process has no broker")
    channel, theirs = socket.socketpair()
    try:
        with theirs:
            socket.send_fds(_Connection.control, [b"?"], [theirs.fileno(), *files])
        question = {"verb": verb, "words": words}
        channel.sendall(json.dumps(question, default=_encode).encode() + b"\n")
    except BaseException:
        channel.close()
        raise
    return channel


def _answer(channel: socket.socket) -> Any:
    with channel.makefile("rb") as file:
        content = file.read()
    if not content:
        raise OSError("the broker has ended, or does not know the question")
    good, found = pickle.loads(content)  # noqa: S301 - from the broker
    if good:
        return found
    raise found


def _encode(value: object) -> object:
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    raise TypeError(f"{type(value)} cannot be sent")
