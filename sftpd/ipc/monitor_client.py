"""The child's end of the socket to the monitor: sends messages and waits for answers.

Waking the parent costs more than all it writes. So a CLOSE, which nobody waits for, may be held
back for `HOLD_SECONDS` seconds, to go with what is asked next; it stands on the slate meanwhile
(sftpd/ipc/pending_closes), for the parent to read if the child is killed. How long READs took is
told once a second at most.

A client that is refused over and over must not fill the disk with records: beyond some hundred,
and so many a second, refusals are counted together.
"""

import socket
import time
from bisect import bisect_left
from collections.abc import Callable
from threading import Lock
from typing import Final

import structlog

from sftpd.access.ratelimit import TokenBucket
from sftpd.ipc import pending_closes
from sftpd.ipc.messages import (
    MANY,
    READ_TIME_BOUNDS,
    WAIT_MS,
    YES,
    YES_PACED,
    Message,
    MessageKind,
    pack,
)
from sftpd.ipc.pending_closes import PendingCloses

HOLD_SECONDS: Final = 0.005
_TIMES_INTERVAL = 1.0  # seconds between two TIMES
_REFUSALS, _REFUSALS_PER_SECOND = 256, 10  # each on record by itself

_log = structlog.get_logger()


class MonitorClient:
    """The child's end; what session.Recorder asks for, and the login's questions.

    Several channels' threads may use it. If the parent is gone, every answer is no. A CLOSE is
    held back if there is a slate for it, and if `flush_due_closes` is asked again and again.
    """

    def __init__(
        self,
        parent: socket.socket,
        pending_closes: PendingCloses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = parent
        self._pending = pending_closes
        self._clock = clock
        self._held_closes = b""
        self._held_since = 0.0
        self._lock = Lock()
        self._read_times = [0] * (len(READ_TIME_BOUNDS) + 1)
        self._total_time = 0.0
        self._times_sent_at = time.monotonic()
        self._refusals = TokenBucket(_REFUSALS_PER_SECOND, _REFUSALS)
        self._uncounted_refusals = 0
        self.paced = False

    def admit(
        self,
        party: str,
        method: str,
        credential: str,
        client: str,
        cipher: str,
        kex: str,
        rehearsal: str = "",
    ) -> bool:
        """Ask whether the party may have one session more, and have the login recorded."""
        texts = (party, method, credential, client, cipher, kex, rehearsal)
        return self._request(Message(MessageKind.ADMIT, tuple(map(_bytes, texts))))

    def change_password(self, party: str, credential: str, secret: str) -> bool:
        """Ask for a new password, of which only the hash is told, in place of that credential."""
        return self._request(
            Message(MessageKind.CHANGE, tuple(map(_bytes, (party, credential, secret))))
        )

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
        """Tell of a login that was refused; of a mere probe if nothing was signed yet."""
        texts = (user, method, credential, client, cipher, kex, reason)
        self._request(Message(MessageKind.REFUSE, tuple(map(_bytes, texts)), flag=probe))

    def record_open(self, handle: int, path: bytes, size: int, sha256: bytes) -> bool:
        """Say whether the open of a file stands on record."""
        return self._request(Message(MessageKind.OPEN, (path, sha256), handle, size))

    def record_list(self, handle: int, path: bytes) -> bool:
        """Say whether the listing of a folder stands on record."""
        return self._request(Message(MessageKind.LIST, (path,), handle))

    def record_hash(self, algorithm: str, path: bytes) -> bool:
        """Say whether it stands on record that a file's digest was asked for."""
        return self._request(Message(MessageKind.HASH, (_bytes(algorithm), path)))

    def record_missing(self, verb: str, path: bytes) -> None:
        """Tell of an open, a listing or a digest of what is not there."""
        if self._may_record_refusal():
            self._request(Message(MessageKind.MISS, (_bytes(verb), path)))

    def record_close(
        self, handle: int, sent: int, complete: bool, ranges: bytes, reason: str
    ) -> None:
        """Tell of the end of a file's handle, at once or within `HOLD_SECONDS` seconds."""
        message = Message(MessageKind.CLOSE, (_bytes(reason), ranges), handle, sent, complete)
        if self._pending is None:
            self._notify(message)
            return
        told = pack(message)
        with self._lock:
            if len(self._held_closes) + len(told) > pending_closes.CAPACITY:
                self._send(b"", message.kind)
            if not self._held_closes:
                self._held_since = self._clock()
            self._held_closes += told
            self._pending.write(self._held_closes)

    def flush_due_closes(self) -> float | None:
        """Tell what was held back long enough; return in how many seconds there will be more."""
        if not self._held_closes:
            return None
        left = self._held_since + HOLD_SECONDS - self._clock()
        if left > 0:
            return left
        with self._lock:
            self._send(b"", MessageKind.CLOSE)
        return None

    def record_denied(self, verb: str, path: bytes) -> None:
        """Tell of a verb that was not granted."""
        if self._may_record_refusal():
            self._request(Message(MessageKind.DENY, (_bytes(verb), path)))

    def _may_record_refusal(self) -> bool:
        with self._lock:
            worth = self._refusals.try_take(1)
            if not worth:
                self._uncounted_refusals += 1
        if worth:
            self._send_refusal_count()
        return worth

    def _send_refusal_count(self) -> None:
        with self._lock:
            unsaid, self._uncounted_refusals = self._uncounted_refusals, 0
        if unsaid:
            self._request(Message(MessageKind.DENY, (_bytes(MANY), b""), count=unsaid))

    def record_read_time(self, seconds: float) -> None:
        """Count one READ that took so long."""
        self._read_times[bisect_left(READ_TIME_BOUNDS, seconds)] += 1
        self._total_time += seconds
        if time.monotonic() >= self._times_sent_at + _TIMES_INTERVAL:
            self._send_times()

    def _send_times(self) -> None:
        times, took = self._read_times, self._total_time
        self._read_times, self._total_time = [0] * len(times), 0.0
        self._times_sent_at = time.monotonic()
        if any(times):
            counts = ",".join(map(str, times)).encode()
            self._notify(Message(MessageKind.TIMES, (counts,), count=round(took * 1e6)))

    def pace(self, size: int) -> float:
        """Return the seconds to wait before `size` bytes may be sent."""
        if not self.paced:
            return 0.0
        with self._lock:
            try:
                self._send_now(pack(Message(MessageKind.PACE, (b"",), count=size)))
                answer = self._socket.recv(WAIT_MS.size)
            except OSError:
                answer = b""
        if len(answer) != WAIT_MS.size:
            return 0.0  # the parent is gone, and this process with it
        return float(WAIT_MS.unpack(answer)[0]) / 1000

    def end(self, reason: str) -> None:
        """Say goodbye: nothing more will be told."""
        self._send_times()
        self._send_refusal_count()
        self._notify(Message(MessageKind.END, (_bytes(reason),)))

    def _request(self, message: Message) -> bool:
        with self._lock:
            if not self._send(pack(message), message.kind):
                return False
            try:
                answer = self._socket.recv(1)
            except OSError as error:
                _log.error("no record", kind=message.kind.name, cause=str(error))
                return False
            self.paced = answer == YES_PACED or (self.paced and answer != YES)
            return answer in (YES, YES_PACED)

    def _notify(self, message: Message) -> None:
        with self._lock:
            self._send(pack(message), message.kind)

    def _send(self, told: bytes, kind: MessageKind) -> bool:
        try:
            self._send_now(told)
        except OSError as error:
            _log.error("no record", kind=kind.name, cause=str(error))
            return False
        return True

    def _send_now(self, told: bytes) -> None:
        """Send what was held back, and this after it."""
        held, self._held_closes = self._held_closes, b""
        try:
            self._socket.send(held + told)
        finally:
            if self._pending is not None and held:
                self._pending.clear()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
