"""What a connection's child tells its parent, who alone writes the transfer ledger.

One or more messages a datagram, over a SOCK_SEQPACKET pair:

    kind       1 byte
    handle     uint32, the number of the handle, 0 if there is none
    count      uint64, bytes sent, or a file's size
    flag       1 byte, 0 or 1
    size       uint16, bytes of what follows
    texts      as many strings as the kind has, UTF-8 or a path's own bytes, NUL between them

in network order. The parent answers ADMIT, REFUSE, OPEN, LIST, HASH, MISS and DENY with one byte,
`+` or `-`, once the record stands in the ledger or cannot stand there, so that what a client is
told is on record by then; an answer that never comes is a `-`. For example

    O 00000004 0000000000030d40 00 000d "/BENIOKU.txt" 00

asks for the record that handle 4 was opened on a file of 200,000 bytes that bears no digest.

Waking the parent costs more than all it writes. So a CLOSE, which nobody waits for, may be held
back for `HELD` seconds, to go with what is asked next; it stands on the slate meanwhile
(sftpd/slate), for the parent to read if the child is killed. Only the last of a datagram's
messages may ask.

In place of `+` it may say `~`: yes, and from now on PACE has to be asked before bytes are sent,
since the party's bandwidth is capped. That is answered with a uint32, the milliseconds to wait.
TIMES tells how long READs took, once a second at most: how many within each of `BOUNDS`, how many
took longer, and the microseconds of all of them.

A client that is refused over and over must not fill the disk with records: beyond some hundred,
and so many a second, refusals (MISS, DENY) are counted together, in a DENY of `many` whose count
says how many.
"""

import socket
import time
from bisect import bisect_left
from collections.abc import Callable
from enum import Enum
from struct import Struct
from threading import Lock
from typing import Final, NamedTuple

import structlog

from sftpd import slate
from sftpd.rate import Bucket
from sftpd.slate import Slate

_head = Struct(">cIQ?H")
_LONGEST_TEXT = 4096
LONGEST = 32768
HELD: Final = 0.005

YES, NO, YES_PACED = b"+", b"-", b"~"
BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)  # seconds
WAIT: Final = Struct(">I")
_OFTEN = 1.0  # seconds between two TIMES
_REFUSALS, _REFUSALS_PER_SECOND = 256, 10  # each on record by itself
MANY = "many"
_log = structlog.get_logger()


class Kind(Enum):
    """What is told, and the names of its texts."""

    ADMIT = b"A", ("party", "method", "credential", "client", "cipher", "kex", "rehearsal")
    # flag: only a probe
    REFUSE = b"R", ("user", "method", "credential", "client", "cipher", "kex", "reason")
    CHANGE = b"W", ("party", "credential", "secret")  # secret: the new password's hash
    OPEN = b"O", ("path", "sha256")  # count: size
    LIST = b"L", ("path",)
    HASH = b"H", ("algorithm", "path")
    MISS = b"M", ("verb", "path")
    CLOSE = b"C", ("reason", "ranges")  # count: bytes sent; flag: every byte of the file
    DENY = b"D", ("verb", "path")  # count: of how many, 0 if it is one
    TIMES = b"T", ("counts",)  # count: microseconds
    PACE = b"P", ("",)  # count: bytes
    END = b"E", ("reason",)

    def __init__(self, letter: bytes, texts: tuple[str, ...]) -> None:
        self.letter = letter
        self.texts = texts
        self.asks = letter not in b"CTPE"  # whether the child waits for a yes or no


_KINDS = {kind.letter: kind for kind in Kind}


class Message(NamedTuple):
    """One thing told; the texts stand in the order that their kind names them."""

    kind: Kind
    texts: tuple[bytes, ...]
    handle: int = 0
    count: int = 0  # type: ignore[assignment]  # hides a tuple's own count
    flag: bool = False

    def text(self, number: int) -> str:
        """Return one text; bytes that are no UTF-8 become lone surrogates."""
        return self.texts[number].decode("utf-8", "surrogateescape")


def pack(message: Message) -> bytes:
    """Write a message; texts are cut at 4,096 bytes and lose their NULs."""
    kind, texts, handle, count, flag = message
    told = b"\0".join([text[:_LONGEST_TEXT].replace(b"\0", b"") for text in texts])
    return _head.pack(kind.letter, handle, count, flag, len(told)) + told


def unpack(data: bytes) -> list[Message]:
    """Read messages; ValueError for anything that `pack` would not have written."""
    messages: list[Message] = []
    at, end = 0, len(data)
    while at < end or not messages:
        if end - at < _head.size:
            raise ValueError("too short for a message")
        letter, handle, number, flag, size = _head.unpack_from(data, at)
        kind = _KINDS.get(letter)
        start = at + _head.size
        at = start + size
        texts = tuple(data[start:at].split(b"\0"))
        if kind is None or len(texts) != len(kind.texts) or at > end:
            raise ValueError(f"not a message: {letter!r} with {len(texts)} texts")
        if number >= 1 << 53 or (size > _LONGEST_TEXT and max(map(len, texts)) > _LONGEST_TEXT):
            raise ValueError("not a message: too large")
        messages.append(Message(kind, texts, handle, number, flag))
    return messages


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


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
            if len(self._held) + len(told) > slate.ROOM:
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
