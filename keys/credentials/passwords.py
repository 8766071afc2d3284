"""The rules for a new password; they are the same for every service."""

from enum import Enum

MIN_LENGTH, MAX_LENGTH = 12, 1024  # characters
_MIN_DISTINCT = 6


class Problem(Enum):
    """Why a password is not accepted."""

    NOT_TEXT = "it is not UTF-8"
    LENGTH = f"it must have {MIN_LENGTH} to {MAX_LENGTH} characters"
    REUSED = "it is the old password, or contains the user name"
    TOO_SIMPLE = f"it must have {_MIN_DISTINCT} different characters"


def problem(user: str, old: str, new: str) -> Problem | None:
    """Return why `user` may not replace the password `old` by `new`; None if it may."""
    if "\ufffd" in new:
        # Bytes that are not UTF-8 all become U+FFFD, so a different password could match.
        return Problem.NOT_TEXT
    if not MIN_LENGTH <= len(new) <= MAX_LENGTH:
        return Problem.LENGTH
    if new == old or user.casefold() in new.casefold():
        return Problem.REUSED
    if len(set(new)) < _MIN_DISTINCT:
        return Problem.TOO_SIMPLE
    return None
