"""A client that speaks SFTP in bytes, and a recorder that keeps what it is told."""

from collections.abc import Iterator
from datetime import datetime
from struct import pack, unpack_from

from sftpd.sftp.session import Session

NOW = datetime.fromisoformat("2023-05-14T18:00:00+03:00")


class MemoryRecorder:
    """Records in memory; `willing` says whether opens and listings can be recorded."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.willing = True

    def record_open(self, handle: int, path: bytes, size: int, sha256: bytes) -> bool:
        self.told.append(("open", handle, path, size))
        return self.willing

    def record_list(self, handle: int, path: bytes) -> bool:
        self.told.append(("list", handle, path))
        return self.willing

    def record_hash(self, algorithm: str, path: bytes) -> bool:
        self.told.append(("hash", algorithm, path))
        return self.willing

    def record_missing(self, verb: str, path: bytes) -> None:
        self.told.append(("missed", verb, path))

    def record_close(
        self, handle: int, sent: int, complete: bool, ranges: bytes, reason: str
    ) -> None:
        self.told.append(("close", handle, sent, complete, reason))

    def record_denied(self, verb: str, path: bytes) -> None:
        self.told.append(("denied", verb, path))


def string(text: bytes) -> bytes:
    return pack(">I", len(text)) + text


class Client:
    """Puts requests together and takes replies apart, byte by byte."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._request = 0

    @staticmethod
    def packet(kind: int, body: bytes) -> bytes:
        return pack(">IB", 1 + len(body), kind) + body

    def send(self, data: bytes) -> list[tuple[int, bytes]]:
        """Feed bytes; return the replies as (type, what follows it)."""
        replies = []
        answered = b"".join(bytes(replies) for replies in self.session.feed(data))
        while answered:
            (length,) = unpack_from(">I", answered)
            replies.append((answered[4], answered[5 : 4 + length]))
            answered = answered[4 + length :]
        return replies

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Send one request; return its reply's type and what follows the request's id."""
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
        """The names of one READDIR reply, none at the end."""
        answer, rest = self.ask(12, handle)
        if answer == 101:
            assert unpack_from(">I", rest)[0] == 1
            return []
        assert answer == 104
        return [name for name, _, _ in entries(rest)]


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
