"""What a connection's child tells its parent, who alone writes the transfer ledger.

One datagram a message, over a SOCK_SEQPACKET pair:

    kind       1 byte
    handle     uint32, the number of the handle, 0 if there is none
    count      uint64, bytes sent, or a file's size
    flag       1 byte, 0 or 1
    texts      as many strings as the kind has, UTF-8 or a path's own bytes, NUL between them

in network order. The parent answers ADMIT, REFUSE, OPEN, LIST, MISS and DENY with one byte, `+`
or `-`, once the record stands in the ledger or cannot stand there, so that what a client is told
is on record by then; an answer that never comes is a `-`. For example

    O 00000004 0000000000030d40 00 "/BENIOKU.txt"

asks for the record that handle 4 was opened on a file of 200,000 bytes.

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
from dataclasses import dataclass
from enum import Enum
from struct import Struct
from threading import Lock
from typing import Final

import structlog

from sftpd.rate import Bucket

_head = Struct(">cIQ?")
_LONGEST_TEXT = 4096
LONGEST = 32768

YES, NO, YES_PACED = b"+", b"-", b"~"
BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)  # seconds
WAIT: Final = Struct(">I")
_OFTEN = 1.0  # seconds between two TIMES
_REFUSALS, _REFUSALS_PER_SECOND = 256, 10  # each on record by itself
MANY = "many"
_log = structlog.get_logger()


class Kind(Enum):
    """What is told, and the names of its texts."""

    ADMIT = b"A", ("party", "method", "credential", "client", "cipher", "kex")
    REFUSE = b"R", ("user", "method", "credential", "client", "reason")  # flag: only a probe
    OPEN = b"O", ("path",)  # count: size
    LIST = b"L", ("path",)
    MISS = b"M", ("verb", "path")
    CLOSE = b"C", ("reason",)  # count: bytes sent; flag: every byte of the file
    DENY = b"D", ("verb", "path")  # count: of how many, 0 if it is one
    TIMES = b"T", ("counts",)  # count: microseconds
    PACE = b"P", ("",)  # count: bytes
    END = b"E", ("reason",)

    def __init__(self, letter: bytes, texts: tuple[str, ...]) -> None:
        self.letter = letter
        self.texts = texts

    @property
    def asks(self) -> bool:
        """Whether the child waits for a yes or no."""
        return self not in (Kind.CLOSE, Kind.TIMES, Kind.PACE, Kind.END)


_KINDS = {kind.letter: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Message:
    """One thing told; the texts stand in the order that their kind names them."""

    kind: Kind
    texts: tuple[bytes, ...]
    handle: int = 0
    count: int = 0
    flag: bool = False

    def text(self, number: int) -> str:
        """Return one text; bytes that are no UTF-8 become lone surrogates."""
        return self.texts[number].decode("utf-8", "surrogateescape")


def pack(message: Message) -> bytes:
    """Write a message; texts are cut at 4,096 bytes and lose their NULs."""
    head = _head.pack(message.kind.letter, message.handle, message.count, message.flag)
    texts = [text[:_LONGEST_TEXT].replace(b"\0", b"") for text in message.texts]
    return head + b"\0".join(texts)


def unpack(data: bytes) -> Message:
    """Read a message; ValueError for anything that `pack` would not have written."""
    if len(data) < _head.size:
        raise ValueError("too short for a message")
    letter, handle, number, flag = _head.unpack_from(data)
    kind = _KINDS.get(letter)
    texts = tuple(data[_head.size :].split(b"\0"))
    if kind is None or len(texts) != len(kind.texts):
        raise ValueError(f"not a message: {letter!r} with {len(texts)} texts")
    if number >= 1 << 53 or any(len(text) > _LONGEST_TEXT for text in texts):
        raise ValueError("not a message: too large")
    return Message(kind, texts, handle, number, flag)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Reporter:
    """The child's end; what session.Recorder asks for, and the login's questions.

    Several channels' threads may use it. If the parent is gone, every answer is no.
    """

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._lock = Lock()
        self._times = [0] * (len(BOUNDS) + 1)
        self._took = 0.0
        self._told = time.monotonic()
        self._refusals = Bucket(_REFUSALS_PER_SECOND, _REFUSALS)
        self._unsaid = 0
        self.paced = False

    def admit(
        self, party: str, method: str, credential: str, client: str, cipher: str, kex: str
    ) -> bool:
        """Ask whether the party may have one session more, and have the login recorded."""
        texts = (party, method, credential, client, cipher, kex)
        return self._ask(Message(Kind.ADMIT, tuple(map(_bytes, texts))))

    def refuse(
        self, user: str, method: str, credential: str, client: str, reason: str, *, probe: bool
    ) -> None:
        """Tell of a login that was refused; of a mere probe if nothing was signed yet."""
        texts = (user, method, credential, client, reason)
        self._ask(Message(Kind.REFUSE, tuple(map(_bytes, texts)), flag=probe))

    def opened(self, handle: int, path: bytes, size: int) -> bool:
        """Say whether the open of a file stands on record."""
        return self._ask(Message(Kind.OPEN, (path,), handle, size))

    def listed(self, handle: int, path: bytes) -> bool:
        """Say whether the listing of a folder stands on record."""
        return self._ask(Message(Kind.LIST, (path,), handle))

    def missed(self, verb: str, path: bytes) -> None:
        """Tell of an open or a listing of what is not there."""
        if self._worth_its_record():
            self._ask(Message(Kind.MISS, (_bytes(verb), path)))

    def closed(self, handle: int, sent: int, complete: bool, reason: str) -> None:
        """Tell of the end of a file's handle."""
        self._tell(Message(Kind.CLOSE, (_bytes(reason),), handle, sent, complete))

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
                self._parent.send(pack(Message(Kind.PACE, (b"",), count=size)))
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
            try:
                self._parent.send(pack(message))
                answer = self._parent.recv(1)
                self.paced = answer == YES_PACED or (self.paced and answer != YES)
                return answer in (YES, YES_PACED)
            except OSError as error:
                _log.error("no record", kind=message.kind.name, cause=str(error))
                return False

    def _tell(self, message: Message) -> None:
        with self._lock:
            try:
                self._parent.send(pack(message))
            except OSError as error:
                _log.error("no record", kind=message.kind.name, cause=str(error))
