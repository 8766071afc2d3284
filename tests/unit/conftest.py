"""Makes cheap what unit tests do a hundred times: hashing a password."""

import secrets

import pytest
from argon2 import PasswordHasher

from keys.credentials import ring

_REAL, _CHEAP = "$m=65536,t=3,p=4$", "$m=8,t=1,p=1$"
_SALT = b"cheap salt"
_MARK = "$Y2hlYXAgc2Fsd"  # how such a salt begins in base64


class CheapHasher:
    """Hashes with argon2id at its lowest cost; the hash states the real cost, as a ring wants it.

    Other hashes are compared at their real cost, which is a tenth of a second of four threads.
    """

    def hash(self, password: str) -> str:
        salt = _SALT + secrets.token_bytes(6)
        hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
        return hasher.hash(password, salt=salt).replace(_CHEAP, _REAL)

    def verify(self, known: str, password: str) -> bool:
        if _MARK in known:
            known = known.replace(_REAL, _CHEAP)
        return PasswordHasher().verify(known, password)


@pytest.fixture(autouse=True)
def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords cheaply. test_ring.py and test_judge.py hash them at the real cost."""
    monkeypatch.setattr(ring, "PasswordHasher", CheapHasher)
