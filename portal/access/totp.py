"""The second factor: a code of six digits that changes every 30 seconds (TOTP, RFC 6238)."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import pyotp

_ISSUER = "SSPS"
_WINDOW = 1  # steps of 30 seconds by which a telephone's clock may be wrong


def new_secret() -> str:
    """Return a new secret of 160 bits, in base32."""
    return pyotp.random_base32()


def address(login: str, secret: str) -> str:
    """Return the otpauth:// address that a telephone reads from a QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name=_ISSUER)


class TotpCodes:
    """Checks codes, and accepts each of them once.

    `claim` says whether no other portal of the site has accepted the code of a step.
    """

    def __init__(self, claim: Callable[[str, int], Awaitable[bool]] | None = None) -> None:
        self._claim = claim
        self._used: dict[str, int] = {}  # the newest step that each login has used

    async def accept(self, login: str, secret: str, code: str, now: datetime) -> bool:
        """Say whether `code` is right now and was not used before."""
        stated = "".join(code.split())
        if len(stated) != 6 or not (stated.isascii() and stated.isdecimal()):
            return False
        totp = pyotp.TOTP(secret)
        step = totp.timecode(now)
        right = [
            step + offset
            for offset in range(-_WINDOW, _WINDOW + 1)
            if pyotp.utils.strings_equal(totp.generate_otp(step + offset), stated)
        ]
        if not right or max(right) <= self._used.get(login, -1):
            return False
        self._used[login] = max(right)
        return self._claim is None or await self._claim(login, max(right))


def is_secret(text: str) -> bool:
    """Say whether a text has the form of a secret that `new_secret` returns."""
    return len(text) == 32 and all(c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" for c in text)
