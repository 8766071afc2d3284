"""The child's end of the socket to the monitor: sends messages and waits for answers.

Waking the monitor costs more than the work that it then does. So a CLOSE, which needs no answer, is
held back for up to HOLD_SECONDS, and is sent together with the next message. Meanwhile it is also
in shared memory (sftpd/ipc/pending_closes), where the monitor reads it if the child is killed. The
times of READs are sent once a second.

A client whose requests are refused again and again must not fill the disk with records. The first
_MAX_REFUSALS refusals get a record each, and then _REFUSALS_PER_SECOND. The others are counted; the
count is sent with the next refusal that gets a record, or when the connection ends.
"""

import socket
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

import structlog

from keys.credentials.ratelimit import TokenBucket
from sftpd.ipc import pending_closes
from sftpd.ipc.messages import (
    MANY,
    READ_TIME_BOUNDS,
    WAIT_MS,
    YES,
    YES_PACED,
    LoginAnswer,
    Message,
    MessageKind,
    Miss,
    pack,
)
from sftpd.ipc.pending_closes import PendingCloses

HOLD_SECONDS: Final = 0.005
_TIMES_INTERVAL = 1.0  # seconds
_MAX_REFUSALS, _REFUSALS_PER_SECOND = 256, 10

_log = structlog.get_logger()


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
        self._last_answer = b""

    def admit(
        self,
        party: str,
        method: str,
        credential: str,
        client: str,
        cipher: str,
        kex: str,
        rehearsal: str = "",
    ) -> LoginAnswer:
        """Have a login recorded; return whether the party may have a session, and why not."""
        texts = (party, method, credential, client, cipher, kex, rehearsal)
        if self._request(Message(MessageKind.ADMIT, tuple(map(_bytes, texts)))):
            return LoginAnswer.ADMITTED
        try:
            return LoginAnswer(self._last_answer)
        except ValueError:
            return LoginAnswer.NOT_RECORDED  # the monitor has died

    def change_password(self, party: str, credential: str, secret: str) -> bool:
        """Replace that credential by a new password, of which only the hash is sent."""
        texts = (party, credential, secret)
        return self._request(Message(MessageKind.CHANGE, tuple(map(_bytes, texts))))

    def record_refusal(
        self,
        user: str,
        method: str,
        credential: str,
        client: str,
        cipher: str,
        kex: str,
        reason: str,
        *,
        probe: bool,
    ) -> None:
        """Record a refused login; `probe` if the client offered a key without a signature."""
        texts = (user, method, credential, client, cipher, kex, reason)
        self._request(Message(MessageKind.REFUSE, tuple(map(_bytes, texts)), flag=probe))

    def record_open(self, handle: int, path: bytes, size: int, sha256: bytes) -> bool:
        """Record that a file was opened; return False if it cannot be recorded."""
        return self._request(Message(MessageKind.OPEN, (path, sha256), handle, size))

    def record_list(self, handle: int, path: bytes) -> bool:
        """Record that a folder was listed; return False if it cannot be recorded."""
        return self._request(Message(MessageKind.LIST, (path,), handle))

    def record_hash(self, algorithm: str, path: bytes) -> bool:
        """Record a request for a file's digest; return False if it cannot be recorded."""
        return self._request(Message(MessageKind.HASH, (_bytes(algorithm), path)))

    def record_missing(self, verb: str, path: bytes, reason: Miss = Miss.ABSENT) -> None:
        """Record that a request to open, list or hash failed, and why."""
        if self._may_record_refusal():
            self._request(Message(MessageKind.MISS, (_bytes(verb), path, _bytes(reason))))

    def record_close(
        self, handle: int, sent: int, complete: bool, ranges: bytes, reason: str
    ) -> None:
        """Record the end of a file's handle, within HOLD_SECONDS."""
        message = pack(Message(MessageKind.CLOSE, (_bytes(reason), ranges), handle, sent, complete))
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
        if not self._send(pack(message), message.kind):
            return False
        try:
            answer = self._monitor.recv(1)
        except OSError as error:
            _log.error("record-not-written", kind=message.kind.name, cause=str(error))
            return False
        self._last_answer = answer
        self.paced = answer == YES_PACED or (self.paced and answer != YES)
        return answer in (YES, YES_PACED)

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


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
