"""The messages that a connection's child sends to the monitor, which alone writes the ledger.

They go over a SOCK_SEQPACKET pair, one or more in a datagram. A message is

    kind       1 byte
    handle     uint32, the number of a handle, 0 if there is none
    count      uint64, bytes sent, or the size of a file
    flag       1 byte, 0 or 1
    size       uint16, bytes that follow
    texts      as many strings as the kind has, UTF-8 or the bytes of a path, with NUL between them

in network byte order. Example: handle 4 was opened on a file of 200,000 bytes that has no digest

    O 00000004 0000000000030d40 00 000d "/BENIOKU.txt" 00

The monitor answers ADMIT, REFUSE, CHANGE, OPEN, LIST, HASH, MISS and DENY with one byte. It is `+`
when the record is in the ledger, and `-` when it cannot be written or the request is refused. So an
open, a listing or a digest is on record before the client gets it. A missing answer counts as `-`.
If a datagram has several messages, all except the last one are CLOSE.

ADMIT has further answers (LoginAnswer).

The answer `~` means `+`, and that the party's bandwidth is limited: from now on the child sends
PACE before it sends bytes to the client. PACE is answered with a uint32, the milliseconds to wait.

TIMES reports how long READs took: the number of READs in each bucket of READ_TIME_BOUNDS, the
number that took longer, and the microseconds of all READs together. DENY with the verb `many` gives
the number of refusals (MISS, DENY) that did not get a record of their own.
"""

from enum import Enum, StrEnum
from struct import Struct
from typing import Final, NamedTuple

_header = Struct(">cIQ?H")
_MAX_TEXT = 4096
MAX_DATAGRAM = 32768

YES, NO, YES_PACED = b"+", b"-", b"~"


class LoginAnswer(Enum):
    """The answers to ADMIT; most of them say why a right credential does not let in now."""

    ADMITTED = YES
    REFUSED = NO
    SESSIONS = b"s"
    SUSPENDED = b"u"
    NOT_YET_OPEN = b"e"
    CLOSED = b"c"
    NOT_RECORDED = b"!"


WAIT_MS: Final = Struct(">I")
# Seconds.
READ_TIME_BOUNDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
MANY = "many"


class Miss(StrEnum):
    """Why a request to open, list or hash failed."""

    ABSENT = "no such file"
    FOLDER = "is a folder"
    FILE = "is a file"
    HANDLES = "too many open handles"


class MessageKind(Enum):
    """A kind of message, with its letter and the names of its texts."""

    ADMIT = b"A", ("party", "method", "credential", "client", "cipher", "kex", "rehearsal")
    # flag: the client only probed a key
    REFUSE = b"R", ("user", "method", "credential", "client", "cipher", "kex", "reason")
    CHANGE = b"W", ("party", "credential", "secret")  # secret: the new password's hash
    OPEN = b"O", ("path", "sha256")  # count: size
    LIST = b"L", ("path",)
    HASH = b"H", ("algorithm", "path")
    MISS = b"M", ("verb", "path", "reason")  # reason: a Miss
    CLOSE = b"C", ("reason", "ranges")  # count: bytes sent; flag: every byte of the file
    DENY = b"D", ("verb", "path")  # count: number of refusals, 0 for a single one
    TIMES = b"T", ("counts",)  # count: microseconds
    PACE = b"P", ("",)  # count: bytes
    # Before END, if the client did not log in. missing: what the algorithms lacked, or nothing.
    NO_LOGIN = b"N", ("client", "missing")
    END = b"E", ("reason",)

    def __init__(self, letter: bytes, texts: tuple[str, ...]) -> None:
        self.letter = letter
        self.texts = texts
        self.needs_answer = letter not in b"CTPNE"  # the child waits for a yes or no


_KINDS_BY_LETTER = {kind.letter: kind for kind in MessageKind}


class Message(NamedTuple):
    """One message; the texts are in the order of `MessageKind.texts`."""

    kind: MessageKind
    texts: tuple[bytes, ...]
    handle: int = 0
    count: int = 0  # type: ignore[assignment]  # hides tuple.count
    flag: bool = False

    def text(self, number: int) -> str:
        """Return one text; bytes that are not UTF-8 become lone surrogates."""
        return self.texts[number].decode("utf-8", "surrogateescape")


def pack(message: Message) -> bytes:
    """Return a message as bytes; texts are cut at 4,096 bytes, and NULs in them are removed."""
    kind, texts, handle, count, flag = message
    packed = b"\0".join([text[:_MAX_TEXT].replace(b"\0", b"") for text in texts])
    return _header.pack(kind.letter, handle, count, flag, len(packed)) + packed


def unpack(data: bytes) -> list[Message]:
    """Parse a datagram; ValueError for anything that `pack` does not produce."""
    messages: list[Message] = []
    at, end = 0, len(data)
    while at < end or not messages:
        if end - at < _header.size:
            raise ValueError("too short for a message")
        letter, handle, number, flag, size = _header.unpack_from(data, at)
        kind = _KINDS_BY_LETTER.get(letter)
        start = at + _header.size
        at = start + size
        texts = tuple(data[start:at].split(b"\0"))
        if kind is None or len(texts) != len(kind.texts) or at > end:
            raise ValueError(f"not a message: {letter!r} with {len(texts)} texts")
        if number >= 1 << 53 or (size > _MAX_TEXT and max(map(len, texts)) > _MAX_TEXT):
            raise ValueError("not a message: too large")
        messages.append(Message(kind, texts, handle, number, flag))
    return messages
