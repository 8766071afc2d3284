"""The process that compares passwords with their hashes, and verifies the signatures of clients.

Both are work on what a client sent, before anybody knows who it is. So it is done neither in the
session, which must not have the hashes, nor in the monitor, which must not wait: an argon2id hash
takes 0.1 s and 64 MiB. This process has no key, no ring and no file; the monitor sends it only the
hashes of the one user that a client names.

    {"check": [hash, ...], "password": text}                        {"match": number or null}
    {"hash": text}                                                  {"hash": text}
    {"verify": signature, "algorithm": ..., "key": ..., "text": ...}    {"valid": true}

Signatures, keys and texts are base64. At most THREADS passwords are hashed at a time. The process
has a nice value of NICE, so a session beside two such threads still gets most of a processor.
"""

import base64
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from paramiko.ecdsakey import ECDSAKey
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey

from keys.credentials import fido, ring
from sftpd.processes.host_keys import RsaKey
from sftpd.processes.responder import Channel, Responder, Spent
from sftpd.processes.restarts import Loop

NAME = "judge"
THREADS = 4
NICE = 10

_log = structlog.get_logger()


class JudgingWork:
    """The work of the process."""

    def __init__(self) -> None:
        self._hash_seconds = 0.0  # of all threads, for one hash

    def prepare(self) -> dict[str, Any]:
        """Hash the password that is used for users who have none, and see how long it takes."""
        began = time.process_time()
        ring.matching_hash((), "")
        self._hash_seconds = (time.process_time() - began) / 2  # it is made, and compared
        return {}

    def serve(self, channel: Channel) -> None:
        """Answer until the monitor is gone."""
        with ThreadPoolExecutor(THREADS) as pool:
            while (received := channel.receive()) is not None:
                number, question = received
                if "verify" in question:
                    channel.answer(number, _verify(question))
                else:
                    pool.submit(self._hash, channel, number, question)
            pool.shutdown(wait=False, cancel_futures=True)

    def _hash(self, channel: Channel, number: int, question: dict[str, Any]) -> None:
        try:
            if "check" in question:
                found = ring.matching_hash(question["check"], question["password"])
                seconds = self._hash_seconds * max(1, len(question["check"]))
                channel.answer(number, {"match": found, "seconds": seconds})
            else:
                secret = ring.hash_password(question["hash"])
                channel.answer(number, {"hash": secret, "seconds": self._hash_seconds})
        except Exception as error:
            _log.error("process-failed", name=NAME, cause=repr(error))
            channel.answer(number, {})


def _verify(question: dict[str, Any]) -> dict[str, Any]:
    signature, key, text = (base64.b64decode(question[name]) for name in ("verify", "key", "text"))
    began = time.thread_time()
    valid = signature_is_valid(question["algorithm"], key, text, signature)
    return {"valid": valid, "seconds": time.thread_time() - began}


def signature_is_valid(algorithm: str, blob: bytes, message: bytes, signature: bytes) -> bool:
    """Say whether a public key, in wire form, has made this signature; any error is a no."""
    # The signature names its own algorithm, which must be the negotiated one (RFC 8332 section 3).
    try:
        if Message(signature).get_binary() != algorithm.encode():
            return False
        if algorithm in fido.KINDS:
            return fido.signature_is_valid(blob, message, signature)
        key = _load_public_key(algorithm, blob)
        return bool(key.verify_ssh_sig(message, Message(signature)))
    except Exception as error:
        _log.info("key-unusable", algorithm=algorithm, cause=str(error))
        return False


def _load_public_key(algorithm: str, blob: bytes) -> PKey:
    if algorithm == "ssh-ed25519":
        return Ed25519Key(data=blob)
    if algorithm.startswith("rsa-") or algorithm == "ssh-rsa":
        return RsaKey(data=blob)
    return ECDSAKey(data=blob)


class Judge:
    """The process as the monitor sees it; an answer of None means that it has died."""

    def __init__(self, loop: Loop, confine: Callable[[], object]) -> None:
        self._responder = Responder(NAME, JudgingWork, loop, confine, NICE)

    def start(self) -> None:
        """Start the process."""
        self._responder.start()

    def replace_if_stuck(self) -> None:
        """Start the process again if it hangs; called once a second."""
        self._responder.replace_if_stuck()

    def stop(self) -> None:
        """End the process."""
        self._responder.stop()

    def check_password(
        self,
        hashes: Sequence[str],
        password: str,
        answer: Callable[[bool, int | None], object],
        spent: Spent = lambda _: None,
    ) -> None:
        """Compare a password with hashes; `answer` gets whether that was done, and which matched.

        It hashes at least once, so the time does not show whether the user has a password.
        """

        def done(found: dict[str, Any] | None) -> None:
            checked = found is not None and "match" in found
            answer(checked, found["match"] if checked and found is not None else None)

        self._responder.ask({"check": list(hashes), "password": password}, done, spent)

    def hash_password(
        self,
        password: str,
        answer: Callable[[str | None], object],
        spent: Spent = lambda _: None,
    ) -> None:
        """Hash a new password."""

        def done(found: dict[str, Any] | None) -> None:
            answer(None if found is None else found.get("hash"))

        self._responder.ask({"hash": password}, done, spent)

    def verify(
        self,
        algorithm: str,
        key: bytes,
        text: bytes,
        signature: bytes,
        answer: Callable[[bool | None], object],
        spent: Spent = lambda _: None,
    ) -> None:
        """Verify a signature over `text` by a public key."""
        values = {"verify": signature, "key": key, "text": text}
        question = {name: base64.b64encode(value).decode() for name, value in values.items()}
        question["algorithm"] = algorithm

        def done(found: dict[str, Any] | None) -> None:
            answer(None if found is None else found["valid"])

        self._responder.ask(question, done, spent)
