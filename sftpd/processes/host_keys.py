"""The process that has the server's private host keys, and signs with them.

A session has no private key: it asks the monitor, which asks this process. It signs two kinds of
text and nothing else:

- the hash of a key exchange (RFC 4253 section 8), of 32, 48 or 64 bytes, with a key in use;
- the proof of an announced key (OpenSSH PROTOCOL section 2.5), which it puts together itself:
  string "hostkeys-prove-00@openssh.com", string session identifier, string key. The first string
  makes such a signature useless in a key exchange.

After a change of the host keys, a new process has the new keys. The old one stays until the last
session that began with its keys has ended, because a client expects the same key in each exchange.
"""

import base64
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey
from paramiko.rsakey import RSAKey
from paramiko.ssh_exception import SSHException

from config.fault import Fault, Faults
from keys.operations import site_keys
from keys.server_keys import host
from sftpd.processes.responder import Channel, Responder, Spent
from sftpd.processes.restarts import Loop

NAME = "hostkeys"
PROVE = "hostkeys-prove-00@openssh.com"
HASH_SIZES = (32, 48, 64)
_CHANGED = (
    "was changed since the server loaded it, so it is not used: restore it, or have it recorded "
    f"and loaded with `{site_keys.ADOPT}`"
)
_SHA1 = "ssh-rsa"  # RSA with SHA-1, RFC 4253


class RsaKey(RSAKey):
    """An RSA key that also knows SHA-1 signatures, which paramiko has dropped.

    They are made and accepted only if the server offers them (`[sftp] sha1_signatures`).
    """

    HASHES: ClassVar[dict[str, type[HashAlgorithm]]] = {  # type: ignore[misc]
        **RSAKey.HASHES,
        _SHA1: hashes.SHA1,
    }


_KEY_CLASSES: Mapping[str, type[PKey]] = {"ed25519": Ed25519Key, "rsa": RsaKey}


def load(paths: Iterable[Path]) -> dict[Path, tuple[PKey, str]]:
    """Load private keys, each with the SHA-256 of its file.

    A file's name says the kind of its key, as in `ssh_host_ed25519_key`. Raises Faults that name
    every file that cannot be used.
    """
    found, faults = {}, []
    for path in paths:
        try:
            content = path.read_bytes()
            kind = _KEY_CLASSES[path.name.split("_")[2]]
            key = kind.from_private_key(io.StringIO(content.decode()))
            found[path] = key, hashlib.sha256(content).hexdigest()
        except (OSError, ValueError, SSHException) as error:
            message = f"the key cannot be used ({error}): restore the file from a backup"
            faults.append(Fault(str(path), "", message))
    if faults:
        raise Faults(faults)
    return found


class HostKeys:
    """The private keys: `announced` are those in use and the prepared ones, in this order."""

    def __init__(self, announced: Sequence[PKey], in_use: int) -> None:
        self._announced = announced
        self._in_use = announced[:in_use]

    def sign_exchange(self, algorithm: str, exchange_hash: bytes) -> bytes | None:
        """Sign the hash of a key exchange; None if no key in use has that algorithm."""
        if len(exchange_hash) not in HASH_SIZES:
            return None
        for key in self._in_use:
            if algorithm == key.get_name() and not isinstance(key, RSAKey):
                return key.sign_ssh_data(exchange_hash, None).asbytes()
            if isinstance(key, RsaKey) and algorithm in key.HASHES:
                return key.sign_ssh_data(exchange_hash, algorithm).asbytes()
        return None

    def prove(
        self, numbers: Sequence[int], session_id: bytes, rsa_algorithm: str
    ) -> list[bytes] | None:
        """Return a proof of each announced key with these numbers.

        None if one of the keys, or the algorithm for RSA, does not exist.
        """
        if not all(0 <= number < len(self._announced) for number in numbers):
            return None
        found = []
        for number in numbers:
            key = self._announced[number]
            algorithm = rsa_algorithm if isinstance(key, RSAKey) else None
            if algorithm is not None and algorithm not in RsaKey.HASHES:
                return None
            text = text_to_prove(session_id, key.asbytes())
            found.append(key.sign_ssh_data(text, algorithm).asbytes())
        return found


def text_to_prove(session_id: bytes, blob: bytes) -> bytes:
    """Return the text whose signature proves the key `blob` in a session."""
    message = Message()
    message.add_string(PROVE)
    message.add_string(session_id)
    message.add_string(blob)
    return message.asbytes()


class SigningWork:
    """The work of the process, on the keys of one site.

    `same` are the files that it must load, with their digests, if it is started again; empty at its
    first start.
    """

    def __init__(self, site: Path, same: Mapping[str, str]) -> None:
        self._site = site
        self._same = same
        self._keys = HostKeys((), 0)

    def prepare(self) -> dict[str, Any]:
        """Load the keys, and report the public ones and the digests of the files."""
        in_use = host.host_key_files(self._site)
        loaded = load(host.announced_host_key_files(self._site))
        files = {str(path.relative_to(self._site)): digest for path, (_, digest) in loaded.items()}
        if self._same and files != self._same:
            changed = sorted(n for n in {*files, *self._same} if files.get(n) != self._same.get(n))
            raise Faults([Fault(name, "", _CHANGED) for name in changed])
        announced = [key for key, _ in loaded.values()]
        self._keys = HostKeys(announced, len(in_use))
        blobs = [base64.b64encode(key.asbytes()).decode() for key in announced]
        return {"announced": blobs, "in_use": len(in_use), "files": files}

    def serve(self, channel: Channel) -> None:
        """Sign until the monitor is gone."""
        while (received := channel.receive()) is not None:
            number, question = received
            began = time.process_time()
            signatures = self._signatures(question)
            seconds = time.process_time() - began
            channel.answer(number, {"signatures": signatures, "seconds": seconds})

    def _signatures(self, question: dict[str, Any]) -> list[str] | None:
        algorithm = question["algorithm"]
        if "hash" in question:
            signature = self._keys.sign_exchange(algorithm, bytes.fromhex(question["hash"]))
            found = None if signature is None else [signature]
        else:
            session_id = bytes.fromhex(question["session"])
            found = self._keys.prove(question["numbers"], session_id, algorithm)
        return None if found is None else [base64.b64encode(each).decode() for each in found]


@dataclass(slots=True)
class HostKeySigner:
    """The process as the monitor sees it, its public keys, and the digests of its files."""

    responder: Responder
    announced: tuple[bytes, ...]
    in_use: tuple[bytes, ...]
    files: Mapping[str, str]
    sessions: int = 0  # that began with these keys
    retired: bool = False

    @property
    def loaded(self) -> tuple[Mapping[str, str], tuple[bytes, ...]]:
        """The files that it has loaded, with their digests, and the public keys that it uses."""
        return self.files, self.in_use

    def sign(
        self,
        algorithm: str,
        exchange_hash: bytes,
        answer: Callable[[list[bytes] | None], object],
        spent: Spent = lambda _: None,
    ) -> None:
        """Ask for the signature over the hash of a key exchange."""
        question = {"algorithm": algorithm, "hash": exchange_hash.hex()}
        self.responder.ask(question, lambda found: answer(_decoded(found)), spent)

    def prove(
        self,
        numbers: Sequence[int],
        session_id: bytes,
        rsa_algorithm: str,
        answer: Callable[[list[bytes] | None], object],
        spent: Spent = lambda _: None,
    ) -> None:
        """Ask for the proofs of the announced keys with these numbers."""
        question = {
            "algorithm": rsa_algorithm,
            "session": session_id.hex(),
            "numbers": list(numbers),
        }
        self.responder.ask(question, lambda found: answer(_decoded(found)), spent)

    def begin_session(self) -> None:
        """Count a session that uses these keys."""
        self.sessions += 1

    def end_session(self) -> None:
        """Count its end; a retired process ends with its last session."""
        self.sessions -= 1
        if self.retired and not self.sessions:
            self.responder.stop()

    def retire(self) -> None:
        """End the process as soon as no session needs it."""
        self.retired = True
        if not self.sessions:
            self.responder.stop()


def start(site: Path, loop: Loop, confine: Callable[[], object]) -> HostKeySigner:
    """Start the process; raise Faults that name every key that cannot be used.

    If it dies and is started again, it loads only the same files: other keys come with a reload,
    which records them.
    """
    same: dict[str, str] = {}
    responder = Responder(NAME, lambda: SigningWork(site, same), loop, confine)
    responder.start()
    ready = responder.wait_until_ready()
    same.update(ready["files"])
    announced = tuple(map(base64.b64decode, ready["announced"]))
    return HostKeySigner(responder, announced, announced[: ready["in_use"]], same)


def _decoded(found: dict[str, Any] | None) -> list[bytes] | None:
    if found is None or found["signatures"] is None:
        return None
    return [base64.b64decode(each) for each in found["signatures"]]
