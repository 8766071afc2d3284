"""How many files the printed lftp and rclone commands fetch at once.

Over a long link a client that fetches one file after the other waits most of the time. lftp opens a
session for each file that it fetches at once (`--parallel`), rclone one for each transfer and each
checker. A party may have `sftp.max_sessions_per_party` sessions, 32 by default, of which these
commands leave a quarter free.

`scripts/bench far --parallel` measures these numbers. BENIOKU.txt, the letter, the parties' guide
and the demo print them.
"""

from dataclasses import dataclass

_LFTP = 24
_TRANSFERS, _CHECKERS = 16, 8


@dataclass(frozen=True, slots=True)
class Parallel:
    """The numbers for lftp's `--parallel`, and rclone's `--transfers` and `--checkers`."""

    lftp: int
    transfers: int
    checkers: int


def within(sessions: int) -> Parallel:
    """Return the numbers that are best at 50 ms and need at most `sessions` sessions."""
    most = max(1, sessions * 3 // 4)
    checkers = max(1, min(_CHECKERS, most // 3))
    return Parallel(min(_LFTP, most), max(1, min(_TRANSFERS, most - checkers)), checkers)
