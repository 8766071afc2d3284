"""Runs actions in a child process that has confined itself, and reports what became of each."""

import ctypes
import os
from collections.abc import Callable

Action = Callable[[], object]
_libc = ctypes.CDLL(None, use_errno=True)


def answers(confine: Action, *actions: Action) -> list[str]:
    """Return the result of each action as text, or "denied"."""
    answer, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            confine()
            for action in actions:
                os.write(telling, f"{outcome(action)}\n".encode())
        finally:
            os._exit(0)
    os.close(telling)
    with os.fdopen(answer) as file:
        found = file.read().splitlines()
    os.waitpid(pid, 0)
    return found


def outcome(action: Action) -> str:
    """Return the result of an action as one line of text, or "denied"."""
    try:
        return str(action())
    except PermissionError:
        return "denied"
    except Exception as error:
        return " ".join(repr(error).split())


def call(name: str, *arguments: object) -> int:
    """Call the C library; PermissionError if the kernel says so."""
    found = int(getattr(_libc, name)(*arguments))
    if found < 0:
        raise OSError(ctypes.get_errno(), name)
    return found
