"""The child's end of the socket to the monitor: sends messages and waits for answers.

Waking the parent costs more than all it writes. So a CLOSE, which nobody waits for, may be held
back for `HELD` seconds, to go with what is asked next; it stands on the slate meanwhile
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

from sftpd.access.ratelimit import Bucket
from sftpd.ipc import pending_closes
from sftpd.ipc.messages import BOUNDS, MANY, WAIT, YES, YES_PACED, Kind, Message, pack
from sftpd.ipc.pending_closes import Slate

HELD: Final = 0.005
_OFTEN = 1.0  # seconds between two TIMES
_REFUSALS, _REFUSALS_PER_SECOND = 256, 10  # each on record by itself

_log = structlog.get_logger()


class Reporter:
    """The child's end; what session.Recorder asks for, and the login's questions.

    Several channels' threads may use it. If the parent is gone, every answer is no. A CLOSE is
    held back if there is a slate for it, and if `linger` is asked again and again.
    """

    def __init__(
        self,
        parent: socket.socket,
        held_on: Slate | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parent = parent
        self._slate = held_on
        self._clock = clock
        self._held = b""
        self._held_since = 0.0
        self._lock = Lock()
        self._times = [0] * (len(BOUNDS) + 1)
        self._took = 0.0
        self._told = time.monotonic()
        self._refusals = Bucket(_REFUSALS_PER_SECOND, _REFUSALS)
        self._unsaid = 0
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
        return self._ask(Message(Kind.ADMIT, tuple(map(_bytes, texts))))

    def change(self, party: str, credential: str, secret: str) -> bool:
        """Ask for a new password, of which only the hash is told, in place of that credential."""
        return self._ask(Message(Kind.CHANGE, tuple(map(_bytes, (party, credential, secret)))))

    def refuse(
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
        self._ask(Message(Kind.REFUSE, tuple(map(_bytes, texts)), flag=probe))

    def opened(self, handle: int, path: bytes, size: int, sha256: bytes) -> bool:
        """Say whether the open of a file stands on record."""
        return self._ask(Message(Kind.OPEN, (path, sha256), handle, size))

    def listed(self, handle: int, path: bytes) -> bool:
        """Say whether the listing of a folder stands on record."""
        return self._ask(Message(Kind.LIST, (path,), handle))

    def hashed(self, algorithm: str, path: bytes) -> bool:
        """Say whether it stands on record that a file's digest was asked for."""
        return self._ask(Message(Kind.HASH, (_bytes(algorithm), path)))

    def missed(self, verb: str, path: bytes) -> None:
        """Tell of an open, a listing or a digest of what is not there."""
        if self._worth_its_record():
            self._ask(Message(Kind.MISS, (_bytes(verb), path)))

    def closed(self, handle: int, sent: int, complete: bool, ranges: bytes, reason: str) -> None:
        """Tell of the end of a file's handle, at once or within `HELD` seconds."""
        message = Message(Kind.CLOSE, (_bytes(reason), ranges), handle, sent, complete)
        if self._slate is None:
            self._tell(message)
            return
        told = pack(message)
        with self._lock:
            if len(self._held) + len(told) > pending_closes.ROOM:
                self._send(b"", message.kind)
            if not self._held:
                self._held_since = self._clock()
            self._held += told
            self._slate.write(self._held)

    def linger(self) -> float | None:
        """Tell what was held back long enough; return in how many seconds there will be more."""
        if not self._held:
            return None
        left = self._held_since + HELD - self._clock()
        if left > 0:
            return left
        with self._lock:
            self._send(b"", Kind.CLOSE)
        return None

    def denied(self, verb: str, path: bytes) -> None:
        """Tell of a verb that was not granted."""
        if self._worth_its_record():
            self._ask(Message(Kind.DENY, (_bytes(verb), path)))

    def _worth_its_record(self) -> bool:
        with self._lock:
            worth = self._refusals.try_take(1)
            if not worth:
                self._unsaid += 1
        if worth:
            self._tell_unsaid()
        return worth

    def _tell_unsaid(self) -> None:
        with self._lock:
            unsaid, self._unsaid = self._unsaid, 0
        if unsaid:
            self._ask(Message(Kind.DENY, (_bytes(MANY), b""), count=unsaid))

    def read(self, seconds: float) -> None:
        """Count one READ that took so long."""
        self._times[bisect_left(BOUNDS, seconds)] += 1
        self._took += seconds
        if time.monotonic() >= self._told + _OFTEN:
            self._tell_times()

    def _tell_times(self) -> None:
        times, took = self._times, self._took
        self._times, self._took = [0] * len(times), 0.0
        self._told = time.monotonic()
        if any(times):
            counts = ",".join(map(str, times)).encode()
            self._tell(Message(Kind.TIMES, (counts,), count=round(took * 1e6)))

    def pace(self, size: int) -> float:
        """Return the seconds to wait before `size` bytes may be sent."""
        if not self.paced:
            return 0.0
        with self._lock:
            try:
                self._give(pack(Message(Kind.PACE, (b"",), count=size)))
                answer = self._parent.recv(WAIT.size)
            except OSError:
                answer = b""
        if len(answer) != WAIT.size:
            return 0.0  # the parent is gone, and this process with it
        return float(WAIT.unpack(answer)[0]) / 1000

    def end(self, reason: str) -> None:
        """Say goodbye: nothing more will be told."""
        self._tell_times()
        self._tell_unsaid()
        self._tell(Message(Kind.END, (_bytes(reason),)))

    def _ask(self, message: Message) -> bool:
        with self._lock:
            if not self._send(pack(message), message.kind):
                return False
            try:
                answer = self._parent.recv(1)
            except OSError as error:
                _log.error("no record", kind=message.kind.name, cause=str(error))
                return False
            self.paced = answer == YES_PACED or (self.paced and answer != YES)
            return answer in (YES, YES_PACED)

    def _tell(self, message: Message) -> None:
        with self._lock:
            self._send(pack(message), message.kind)

    def _send(self, told: bytes, kind: Kind) -> bool:
        try:
            self._give(told)
        except OSError as error:
            _log.error("no record", kind=kind.name, cause=str(error))
            return False
        return True

    def _give(self, told: bytes) -> None:
        """Send what was held back, and this after it."""
        held, self._held = self._held, b""
        try:
            self._parent.send(held + told)
        finally:
            if self._slate is not None and held:
                self._slate.wipe()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
