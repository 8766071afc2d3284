"""Passes the commands of a party's witness on to the monitor (sftpd/monitor/answers/witnesses).

    ssps-witness show LEDGER SIZE
    ssps-witness add LEDGER KEY NOTE            NOTE is a cosigned checkpoint in base64

The session itself has no ledger and no key: it only checks that the words have the right form.
"""

import re
from typing import Protocol

from sftpd.ssh.exec_digests import Output

_MAX_COMMAND = 8192
_NAME = b"ssps-witness"
_WORD = re.compile(rb"[A-Za-z0-9+/=-]{1,4000}")


class Monitor(Protocol):
    """Answers the witness; see sftpd/ipc/monitor_client."""

    def ask_for_witness(
        self, verb: bytes, ledger: bytes, key: bytes, text: bytes
    ) -> tuple[str, str, int]:
        """Return output, errors and exit status."""


def run(command: bytes, monitor: Monitor) -> Output | None:
    """Return what a command prints, None if it is not one of these commands."""
    if len(command) > _MAX_COMMAND:
        return None
    words = command.split(b" ")
    if words[0] != _NAME or not all(map(_WORD.fullmatch, words)):
        return None
    match words[1:]:
        case [b"show", ledger, size]:
            found = monitor.ask_for_witness(b"show", ledger, b"", size)
        case [b"add", ledger, key, text]:
            found = monitor.ask_for_witness(b"add", ledger, key, text)
        case _:
            return None
    out, error, status = found
    return Output(out.encode(), error.encode(), status)
