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

The first datagram of a child is MEMORY_FILE, with the descriptor of its own /proc/self/statm
(sftpd/monitor/memory). The child sends it before it reads anything from its client; after it, the
monitor accepts no descriptor.

The monitor answers REFUSE, OPEN, LIST, HASH, MISS and DENY with one byte. It is `+` when the record
is in the ledger, and `-` when it cannot be written or the request is refused. So an open, a listing
or a digest is on record before the client gets it. A missing answer counts as `-`. If a datagram
has several messages, all except the last one are CLOSE.

OPEN and HASH have what the file says of itself (keys/digest, Claim). The child has no stamp key, so
it believes no stamp: the answer is `=` instead of `+` if the seal does not prove the digests. The
child then computes the digest of what it serves, and sends it with CLOSE.

The child has no key and no password, so it asks the monitor:

    SIGN      a signature over the exchange hash of its key exchange (RFC 4253 section 8). The first
              one is the session identifier; before the login there is only one
    KEY       whether a user may log in with a public key. Without a signature (flag 0) the answer
              is only whether a signature would be accepted. The monitor itself makes the text that
              the client must have signed
    PASSWORD  whether a user may log in with a password
    CHANGE    to replace the initial password, which the last PASSWORD has proven, by a new one
    WITNESS   to answer a party's witness, after the login (sftpd/monitor/answers/witnesses)
    PROVE     signatures that prove the host keys with these numbers, after the login

SIGN and PROVE are answered with `+` and the signatures, or `-`. KEY and PASSWORD are answered with
a LoginAnswer and what belongs to it: for a login that is recorded and may begin, the Grant and the
descriptor of the party's tree; for one that comes too early, the text of the banner. CHANGE is
answered with `+` or `-`, WITNESS with what the witness's command prints.

The answers `~` and `#` mean `+` and `=`, and that the party's bandwidth is limited: from now on the
child sends PACE before it sends bytes to the client. PACE is answered with a uint32, the
milliseconds to wait.

TIMES reports how long READs took: the number of READs in each bucket of READ_TIME_BOUNDS, the
number that took longer, and the microseconds of all READs together. DENY with the verb `many` gives
the number of refusals (MISS, DENY) that did not get a record of their own.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from struct import Struct
from typing import Final, NamedTuple

from config.scope import ALL, Scope
from config.scope import parse as parse_scope

_header = Struct(">cIQ?H")
MAX_TEXT = 4096
MAX_DATAGRAM = 32768
MEMORY_FILE: Final = b"\0memory"
MAX_ANSWER = 1 << 17  # the scope of a party may name many boards
MAX_BLOB = 3072  # bytes of a key or a signature; RSA with 16,384 bits needs 2,100

YES, NO, YES_PACED = b"+", b"-", b"~"
UNPROVEN, UNPROVEN_PACED = b"=", b"#"


class LoginAnswer(Enum):
    """The answers to KEY and PASSWORD; most say why a right credential does not let in now."""

    ADMITTED = YES
    REFUSED = NO
    ACCEPTABLE = b"k"  # a signature by that key would be accepted
    MUST_CHANGE = b"m"  # the password is right, and can only be used to set a new one
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


class Recorded(Enum):
    """Whether an open, or a request for a digest, is on record, and what its file's seal proves."""

    NO = 0
    PROVEN = 1  # the digests in the seal are those of the file
    UNPROVEN = 2  # nothing: the child computes the digest

    def __bool__(self) -> bool:
        return self is not Recorded.NO


class MessageKind(Enum):
    """A kind of message, with its letter and the names of its texts."""

    SIGN = b"S", ("algorithm", "hash", "client", "cipher", "kex")  # hash: in hexadecimal
    KEY = b"K", ("user", "algorithm", "key", "signature")  # base64; flag: it is signed
    PASSWORD = b"X", ("user", "method", "password")
    # Without a verdict; flag: the client only probed a key.
    REFUSE = b"R", ("user", "method", "credential", "reason")
    CHANGE = b"W", ("password",)
    PROVE = b"V", ("algorithm", "numbers")  # numbers of announced host keys, with commas
    WITNESS = b"B", ("verb", "ledger", "key", "text")
    OPEN = b"O", ("path", "claim")  # count: size
    LIST = b"L", ("path",)
    HASH = b"H", ("algorithm", "path", "claim")
    MISS = b"M", ("verb", "path", "reason")  # reason: a Miss
    # count: bytes sent; flag: every byte of the file; sha256: if the child had to compute it
    CLOSE = b"C", ("reason", "ranges", "sha256")
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


# The monitor may have to ask another process before it answers these.
QUESTIONS: Final = frozenset(
    {
        MessageKind.SIGN.letter,
        MessageKind.KEY.letter,
        MessageKind.PASSWORD.letter,
        MessageKind.CHANGE.letter,
        MessageKind.PROVE.letter,
        MessageKind.WITNESS.letter,
    }
)
_KINDS_BY_LETTER = {kind.letter: kind for kind in MessageKind}


@dataclass(frozen=True, slots=True)
class Grant:
    """What a session learns at its login: `now`, its party's scope, and whether it has a tree.

    As JSON, `{"now": "2023-05-14T18:00:00+03:00", "scope": ["34-istanbul-1"], "paced": false,
    "tree": true}`, with scope `"all"` for everything.
    """

    now: datetime
    scope: Scope
    paced: bool
    tree: bool

    def pack(self) -> bytes:
        """Return it as bytes."""
        scope = "all" if self.scope == ALL else str(self.scope).split()
        values = {"now": self.now.isoformat(), "scope": scope}
        return json.dumps({**values, "paced": self.paced, "tree": self.tree}).encode()

    @classmethod
    def unpack(cls, data: bytes) -> "Grant":
        """Read it from bytes."""
        found = json.loads(data)
        now = datetime.fromisoformat(found["now"])
        return cls(now, parse_scope(found["scope"]), found["paced"], found["tree"])


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
    packed = b"\0".join([text[:MAX_TEXT].replace(b"\0", b"") for text in texts])
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
        if number >= 1 << 53 or (size > MAX_TEXT and max(map(len, texts)) > MAX_TEXT):
            raise ValueError("not a message: too large")
        messages.append(Message(kind, texts, handle, number, flag))
    return messages
