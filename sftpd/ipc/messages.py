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
told is on record by then; an answer that never comes is a `-`. All of a datagram's messages but the
last are CLOSE. For example

    O 00000004 0000000000030d40 00 000d "/BENIOKU.txt" 00

asks for the record that handle 4 was opened on a file of 200,000 bytes that bears no digest.

In place of `+` it may say `~`: yes, and from now on PACE has to be asked before bytes are sent,
since the party's bandwidth is capped. That is answered with a uint32, the milliseconds to wait.
TIMES tells how long READs took: how many within each of `READ_TIME_BOUNDS`, how many took longer,
and the microseconds of all of them. A DENY of `many` counts refusals (MISS, DENY) that are not told
one by one.
"""

from enum import Enum
from struct import Struct
from typing import Final, NamedTuple

_header = Struct(">cIQ?H")
_MAX_TEXT = 4096
MAX_DATAGRAM = 32768

YES, NO, YES_PACED = b"+", b"-", b"~"
READ_TIME_BOUNDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.05,
    0.25,
    1.0,
)  # seconds
WAIT_MS: Final = Struct(">I")
MANY = "many"


class MessageKind(Enum):
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
        self.needs_answer = letter not in b"CTPE"  # whether the child waits for a yes or no


_KINDS_BY_LETTER = {kind.letter: kind for kind in MessageKind}


class Message(NamedTuple):
    """One thing told; the texts stand in the order that their kind names them."""

    kind: MessageKind
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
    told = b"\0".join([text[:_MAX_TEXT].replace(b"\0", b"") for text in texts])
    return _header.pack(kind.letter, handle, count, flag, len(told)) + told


def unpack(data: bytes) -> list[Message]:
    """Read messages; ValueError for anything that `pack` would not have written."""
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
