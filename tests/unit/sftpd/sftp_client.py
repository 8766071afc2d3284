"""An SFTP client that works on bytes, and a recorder that keeps its records in memory."""

from collections.abc import Iterator
from datetime import datetime
from struct import pack, unpack_from

from sftpd.ipc.messages import Recorded
from sftpd.sftp.session import Session

NOW = datetime.fromisoformat("2023-05-14T18:00:00+03:00")


class MemoryRecorder:
    """Keeps records in memory; refuses opens, listings and digests if `can_record` is False.

    It answers that every seal is right, unless `proof` is UNPROVEN. `computed` has the digests that
    came with a close.
    """

    def __init__(self) -> None:
        self.records: list[tuple[object, ...]] = []
        self.can_record = True
        self.proof = Recorded.PROVEN
        self.computed: list[bytes] = []

    def record_open(self, handle: int, path: bytes, size: int, claim: bytes) -> Recorded:
        self.records.append(("open", handle, path, size))
        return self.proof if self.can_record else Recorded.NO

    def record_list(self, handle: int, path: bytes) -> bool:
        self.records.append(("list", handle, path))
        return self.can_record

    def record_hash(self, algorithm: str, path: bytes, claim: bytes) -> Recorded:
        self.records.append(("hash", algorithm, path))
        return self.proof if self.can_record else Recorded.NO

    def record_missing(self, verb: str, path: bytes, reason: str) -> None:
        self.records.append(("missed", verb, path, reason))

    def record_close(
        self,
        handle: int,
        sent: int,
        complete: bool,
        ranges: bytes,
        reason: str,
        sha256: bytes = b"",
    ) -> None:
        self.computed.append(sha256)
        self.records.append(("close", handle, sent, complete, reason))

    def record_denied(self, verb: str, path: bytes) -> None:
        self.records.append(("denied", verb, path))


def string(text: bytes) -> bytes:
    return pack(">I", len(text)) + text


class Client:
    """Builds requests and parses replies."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._request = 0

    @staticmethod
    def packet(kind: int, body: bytes) -> bytes:
        return pack(">IB", 1 + len(body), kind) + body

    def send(self, data: bytes) -> list[tuple[int, bytes]]:
        """Send bytes; return the replies as (type, the bytes that follow it)."""
        replies = []
        answered = b"".join(bytes(replies) for replies in self.session.feed(data))
        while answered:
            (length,) = unpack_from(">I", answered)
            replies.append((answered[4], answered[5 : 4 + length]))
            answered = answered[4 + length :]
        return replies

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Send one request; return the reply's type and the bytes after the request id."""
        self._request += 1
        request = pack(">I", self._request)
        [(answer, rest)] = self.send(self.packet(kind, request + body))
        assert rest[:4] == request
        return answer, rest[4:]

    def status(self, kind: int, body: bytes) -> int:
        answer, rest = self.ask(kind, body)
        assert answer == 101
        return int(unpack_from(">I", rest)[0])

    def open(self, path: bytes) -> bytes:
        answer, rest = self.ask(3, string(path) + pack(">II", 1, 0))
        assert answer == 102
        return rest

    def opendir(self, path: bytes) -> bytes:
        answer, rest = self.ask(11, string(path))
        assert answer == 102
        return rest

    def names(self, handle: bytes) -> list[bytes]:
        """Return the names in one READDIR reply, none at the end of the listing."""
        answer, rest = self.ask(12, handle)
        if answer == 101:
            assert unpack_from(">I", rest)[0] == 1
            return []
        assert answer == 104
        return [name for name, _, _ in entries(rest) if name not in (b".", b"..")]


def entries(rest: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    (many,) = unpack_from(">I", rest)
    at = 4
    for _ in range(many):
        texts = []
        for _ in range(2):
            (size,) = unpack_from(">I", rest, at)
            texts.append(rest[at + 4 : at + 4 + size])
            at += 4 + size
        yield texts[0], texts[1], rest[at : at + 32]
        at += 32
    assert at == len(rest)
