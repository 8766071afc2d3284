"""The child's end of the socket to the monitor: sends messages and waits for answers.

Waking the monitor costs more than the work that it then does. So a CLOSE, which needs no answer, is
held back for up to HOLD_SECONDS, and is sent together with the next message. Meanwhile it is also
in shared memory (sftpd/ipc/pending_closes), where the monitor reads it if the child is killed. The
times of READs are sent once a second.

A client whose requests are refused again and again must not fill the disk with records. The first
_MAX_REFUSALS refusals get a record each, and then _REFUSALS_PER_SECOND. The others are counted; the
count is sent with the next refusal that gets a record, or when the connection ends.
"""

import base64
import json
import os
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import structlog

from keys.credentials.ratelimit import TokenBucket
from sftpd.ipc import pending_closes
from sftpd.ipc.messages import (
    MANY,
    MAX_ANSWER,
    MAX_TEXT,
    MEMORY_FILE,
    READ_TIME_BOUNDS,
    UNPROVEN,
    UNPROVEN_PACED,
    WAIT_MS,
    YES,
    YES_PACED,
    Grant,
    LoginAnswer,
    Message,
    MessageKind,
    Miss,
    Recorded,
    pack,
)
from sftpd.ipc.pending_closes import PendingCloses

HOLD_SECONDS: Final = 0.005
_TIMES_INTERVAL = 1.0  # seconds
_MAX_REFUSALS, _REFUSALS_PER_SECOND = 256, 10

_ANSWERS = {
    YES: (Recorded.PROVEN, False),
    YES_PACED: (Recorded.PROVEN, True),
    UNPROVEN: (Recorded.UNPROVEN, False),
    UNPROVEN_PACED: (Recorded.UNPROVEN, True),
}

_log = structlog.get_logger()


def send_memory_file(monitor: socket.socket, descriptor: int) -> None:
    """Send the monitor the file of this process's memory, as the first datagram; close it here."""
    try:
        socket.send_fds(monitor, [MEMORY_FILE], [descriptor])
    finally:
        os.close(descriptor)


class LoginReply(NamedTuple):
    """The answer to a login: with a grant and the tree if it may begin, else with a text."""

    answer: LoginAnswer
    user: str
    grant: Grant | None = None
    tree: int | None = None
    text: str = ""


class MonitorClient:
    """Sends the child's messages to the monitor; it is the Recorder and Meter of a Session.

    If the monitor has died, every answer is no. Call `flush_due_closes` often: it sends the CLOSE
    records that are held back.
    """

    def __init__(
        self,
        monitor: socket.socket,
        pending: PendingCloses,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._monitor = monitor
        self._pending = pending
        self._clock = clock
        self._held_closes = b""
        self._held_since = 0.0
        self._read_times = [0] * (len(READ_TIME_BOUNDS) + 1)
        self._total_read_time = 0.0
        self._times_sent_at = time.monotonic()
        self._refusals = TokenBucket(_REFUSALS_PER_SECOND, _MAX_REFUSALS)
        self._counted_refusals = 0
        self.paced = False

    def sign(
        self, algorithm: str, exchange_hash: bytes, client: str, cipher: str, kex: str
    ) -> bytes | None:
        """Return the signature over the hash of this connection's key exchange, None if refused."""
        texts = (algorithm, exchange_hash.hex(), client, cipher, kex)
        data, _ = self._ask(Message(MessageKind.SIGN, tuple(map(_bytes, texts))))
        return data[5:] if data[:1] == YES else None  # after the length

    def prove(self, algorithm: str, numbers: Iterable[int]) -> bytes | None:
        """Return the proofs of announced host keys, each with its length; None if refused."""
        texts = (_bytes(algorithm), ",".join(map(str, numbers)).encode())
        data, _ = self._ask(Message(MessageKind.PROVE, texts))
        return data[1:] if data[:1] == YES else None

    def ask_for_witness(
        self, verb: bytes, ledger: bytes, key: bytes, text: bytes
    ) -> tuple[str, str, int]:
        """Return output, errors and exit status of a command of the party's witness."""
        data, _ = self._ask(Message(MessageKind.WITNESS, (verb, ledger, key, text)))
        try:
            found = json.loads(data)
        except ValueError:  # the monitor has died
            return "", "later: it cannot be answered now\n", 1
        return found["out"], found["error"], found["status"]

    def probe_key(self, user: str, algorithm: str, blob: bytes) -> bool:
        """Return whether a signature by this key would be accepted; if not, that is recorded."""
        texts = (_bytes(user), _bytes(algorithm), base64.b64encode(blob), b"")
        data, _ = self._ask(Message(MessageKind.KEY, texts))
        return data[:1] == LoginAnswer.ACCEPTABLE.value

    def check_key(self, user: str, algorithm: str, blob: bytes, signature: bytes) -> LoginReply:
        """Log a user in with a public key and its signature."""
        encoded = base64.b64encode(blob), base64.b64encode(signature)
        texts = (_bytes(user), _bytes(algorithm), *encoded)
        return self._log_in(user, Message(MessageKind.KEY, texts, flag=True))

    def check_password(self, user: str, method: str, text: str) -> LoginReply:
        """Log a user in with a password."""
        texts = (_bytes(user), _bytes(method), _password_bytes(text))
        return self._log_in(user, Message(MessageKind.PASSWORD, texts))

    def change_password(self, text: str) -> bool:
        """Replace the initial password, which was proven last, by a new one."""
        data, _ = self._ask(Message(MessageKind.CHANGE, (_password_bytes(text),)))
        return data == YES

    def record_refusal(
        self, user: str, method: str, credential: str, reason: str, *, probe: bool
    ) -> None:
        """Record a login that is refused without a verdict; `probe` if a key was not signed."""
        texts = (user, method, credential, reason)
        self._request(Message(MessageKind.REFUSE, tuple(map(_bytes, texts)), flag=probe))

    def _log_in(self, user: str, message: Message) -> LoginReply:
        data, descriptors = self._ask(message)
        try:
            answer = LoginAnswer(data[:1])
        except ValueError:
            return LoginReply(LoginAnswer.NOT_RECORDED, user)  # the monitor has died
        if answer is not LoginAnswer.ADMITTED:
            return LoginReply(answer, user, text=data[1:].decode())
        grant = Grant.unpack(data[1:])
        self.paced = grant.paced
        return LoginReply(answer, user, grant, descriptors[0] if descriptors else None)

    def _ask(self, message: Message) -> tuple[bytes, list[int]]:
        """Return the answer to a question and what comes with it; nothing without a monitor."""
        if not self._send(pack(message), message.kind):
            return b"", []
        try:
            data, descriptors, _, _ = socket.recv_fds(self._monitor, MAX_ANSWER, 1)
        except OSError as error:
            _log.error("record-not-written", kind=message.kind.name, cause=str(error))
            return b"", []
        return data, descriptors

    def record_open(self, handle: int, path: bytes, size: int, claim: bytes) -> Recorded:
        """Record that a file was opened; return whether it is, and what its seal proves."""
        return self._recorded(Message(MessageKind.OPEN, (path, claim), handle, size))

    def record_list(self, handle: int, path: bytes) -> bool:
        """Record that a folder was listed; return False if it cannot be recorded."""
        return self._request(Message(MessageKind.LIST, (path,), handle))

    def record_hash(self, algorithm: str, path: bytes, claim: bytes) -> Recorded:
        """Record a request for a file's digest; returns the same as `record_open`."""
        return self._recorded(Message(MessageKind.HASH, (_bytes(algorithm), path, claim)))

    def record_missing(self, verb: str, path: bytes, reason: Miss = Miss.ABSENT) -> None:
        """Record that a request to open, list or hash failed, and why."""
        if self._may_record_refusal():
            self._request(Message(MessageKind.MISS, (_bytes(verb), path, _bytes(reason))))

    def record_close(
        self,
        handle: int,
        sent: int,
        complete: bool,
        ranges: bytes,
        reason: str,
        sha256: bytes = b"",
    ) -> None:
        """Record the end of a file's handle, within HOLD_SECONDS.

        `sha256` is the digest of the file if it had to be computed.
        """
        texts = (_bytes(reason), ranges, sha256)
        message = pack(Message(MessageKind.CLOSE, texts, handle, sent, complete))
        if len(self._held_closes) + len(message) > pending_closes.CAPACITY:
            self._send(b"", MessageKind.CLOSE)
        if not self._held_closes:
            self._held_since = self._clock()
        self._held_closes += message
        self._pending.write(self._held_closes)

    def flush_due_closes(self) -> float | None:
        """Send the CLOSE records if they are due; return the seconds until then, or None."""
        if not self._held_closes:
            return None
        left = self._held_since + HOLD_SECONDS - self._clock()
        if left > 0:
            return left
        self._send(b"", MessageKind.CLOSE)
        return None

    def record_denied(self, verb: str, path: bytes) -> None:
        """Record a request that this server never grants."""
        if self._may_record_refusal():
            self._request(Message(MessageKind.DENY, (_bytes(verb), path)))

    def _may_record_refusal(self) -> bool:
        """Return whether a refusal gets a record of its own; if not, count it."""
        if not self._refusals.try_take(1):
            self._counted_refusals += 1
            return False
        self._send_refusal_count()
        return True

    def _send_refusal_count(self) -> None:
        count, self._counted_refusals = self._counted_refusals, 0
        if count:
            self._request(Message(MessageKind.DENY, (_bytes(MANY), b""), count=count))

    def record_read_time(self, seconds: float) -> None:
        """Count one READ and the time it took."""
        self._read_times[bisect_left(READ_TIME_BOUNDS, seconds)] += 1
        self._total_read_time += seconds
        if time.monotonic() >= self._times_sent_at + _TIMES_INTERVAL:
            self._send_times()

    def _send_times(self) -> None:
        times, total = self._read_times, self._total_read_time
        self._read_times, self._total_read_time = [0] * len(times), 0.0
        self._times_sent_at = time.monotonic()
        if any(times):
            counts = ",".join(map(str, times)).encode()
            self._notify(Message(MessageKind.TIMES, (counts,), count=round(total * 1e6)))

    def pace(self, size: int) -> float:
        """Return the seconds to wait before `size` bytes may be sent."""
        if not self.paced:
            return 0.0
        try:
            self._send_now(pack(Message(MessageKind.PACE, (b"",), count=size)))
            answer = self._monitor.recv(WAIT_MS.size)
        except OSError:
            answer = b""
        if len(answer) != WAIT_MS.size:
            return 0.0  # the monitor has died, and the kernel kills this process too
        return float(WAIT_MS.unpack(answer)[0]) / 1000

    def report_no_login(self, client: str, missing: str) -> None:
        """Have the session end's record name the client, and the algorithms that it lacked."""
        self._notify(Message(MessageKind.NO_LOGIN, (_bytes(client), _bytes(missing))))

    def end(self, reason: str) -> None:
        """Send everything that is left, and END: no message follows."""
        self._send_times()
        self._send_refusal_count()
        self._notify(Message(MessageKind.END, (_bytes(reason),)))

    def _request(self, message: Message) -> bool:
        return bool(self._recorded(message))

    def _recorded(self, message: Message) -> Recorded:
        if not self._send(pack(message), message.kind):
            return Recorded.NO
        try:
            answer = self._monitor.recv(1)
        except OSError as error:
            _log.error("record-not-written", kind=message.kind.name, cause=str(error))
            return Recorded.NO
        found = _ANSWERS.get(answer)
        if found is None:
            return Recorded.NO
        recorded, self.paced = found
        return recorded

    def _notify(self, message: Message) -> None:
        self._send(pack(message), message.kind)

    def _send(self, message: bytes, kind: MessageKind) -> bool:
        try:
            self._send_now(message)
        except OSError as error:
            _log.error("record-not-written", kind=kind.name, cause=str(error))
            return False
        return True

    def _send_now(self, message: bytes) -> None:
        """Send the CLOSE records that are held back, and `message` after them."""
        held, self._held_closes = self._held_closes, b""
        try:
            self._monitor.send(held + message)
        finally:
            if held:
                self._pending.clear()


def _password_bytes(text: str) -> bytes:
    """Return a password for a message; one that cannot be right becomes a byte that no text has."""
    data = text.encode("utf-8", "replace")
    return b"\xff" if b"\0" in data or len(data) > MAX_TEXT else data


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
