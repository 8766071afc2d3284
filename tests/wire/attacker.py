"""What the hostile tests share: SFTP spoken in raw packets, and a look into /proc."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import pack, unpack_from
from subprocess import Popen

import paramiko
from paramiko.message import Message
from wire.served import Served, until

from config.event import Outcome, TransferEvent

HELLO = bytes.fromhex("00000005 01 00000003")
OPEN, CLOSE, READ, WRITE, FSETSTAT, OPENDIR, READDIR = 3, 4, 5, 6, 10, 11, 12
STATUS, HANDLE, DATA, NAME = 101, 102, 103, 104
OK, EOF, NO_SUCH_FILE, DENIED, FAILURE = 0, 1, 2, 3, 4


def string(text: bytes) -> bytes:
    return pack(">I", len(text)) + text


def packet(kind: int, request: int, body: bytes) -> bytes:
    return pack(">IBI", 5 + len(body), kind, request) + body


class Raw:
    """An SFTP client that sends what it is told to, over any two ways."""

    def __init__(self, send: Callable[[bytes], object], read: Callable[[int], bytes]) -> None:
        self.send = send
        self._read = read
        self._request = 0

    @classmethod
    def on(cls, channel: paramiko.Channel, patience: float = 20.0) -> "Raw":
        """Speak on a channel, greeted."""
        channel.settimeout(patience)
        channel.invoke_subsystem("sftp")
        raw = cls(channel.sendall, channel.recv)
        raw.greet()
        return raw

    @classmethod
    def to(cls, server: "Popen[bytes]") -> "Raw":
        """Speak to an SFTP server's own input and output, greeted."""
        assert server.stdin is not None
        assert server.stdout is not None
        raw = cls(server.stdin.write, server.stdout.read)
        raw.greet()
        return raw

    def greet(self) -> None:
        self.send(HELLO)
        assert self.receive()[0] == 2

    def receive(self) -> tuple[int, int, bytes]:
        """The next reply: its type, its request, and the rest."""
        (length,) = unpack_from(">I", self._exactly(4))
        assert 5 <= length <= 256 * 1024
        reply = self._exactly(length)
        return reply[0], unpack_from(">I", reply, 1)[0], reply[5:]

    def _exactly(self, size: int) -> bytes:
        found = bytearray()
        while len(found) < size:
            more = self._read(size - len(found))
            if not more:
                raise EOFError(f"{len(found)} bytes of {size}")
            found += more
        return bytes(found)

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        self._request += 1
        self.send(packet(kind, self._request, body))
        answer, request, rest = self.receive()
        assert request == self._request
        return answer, rest

    def code(self, kind: int, body: bytes) -> int:
        """The status that a request is answered with, OK if it is answered with a handle."""
        answer, rest = self.ask(kind, body)
        assert answer in (STATUS, HANDLE), answer
        return OK if answer == HANDLE else int(unpack_from(">I", rest)[0])

    def open(self, path: bytes, flags: int = 1) -> bytes:
        answer, rest = self.ask(OPEN, string(path) + pack(">II", flags, 0))
        assert answer == HANDLE, rest
        return rest

    def close(self, handle: bytes) -> None:
        assert self.code(CLOSE, handle) == OK


def plain(payload: bytes) -> bytes:
    """An SSH packet before there are keys: RFC 4253, section 6."""
    padding = 8 - (len(payload) + 5) % 8 + 8
    return pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def kexinit(
    kex: bytes = b"curve25519-sha256@libssh.org",
    cipher: bytes = b"aes128-gcm@openssh.com",
    compression: bytes = b"none",
) -> bytes:
    """An SSH_MSG_KEXINIT, RFC 4253, section 7.1."""
    mac = b"hmac-sha2-256-etm@openssh.com"
    lists = kex, b"ssh-ed25519", cipher, cipher, mac, mac, compression, compression, b"", b""
    return b"\x14" + bytes(16) + b"".join(map(string, lists)) + bytes(5)


@contextmanager
def key_exchanged(
    served: Served, source: str = "127.0.0.1", patience: float = 20.0
) -> Iterator[paramiko.Transport]:
    """A connection with its keys exchanged, and nobody logged in."""
    with socket.create_connection(("127.0.0.1", served.port), 20, (source, 0)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=patience)
            yield transport
        finally:
            transport.close()


@contextmanager
def logged_in(
    served: Served, user: str = "parti-a", source: str = "127.0.0.1"
) -> Iterator[paramiko.Transport]:
    key = paramiko.Ed25519Key.from_private_key_file(str(served.site / "clients" / user))
    with key_exchanged(served, source) as transport:
        transport.auth_publickey(user, key)
        yield transport


@contextmanager
def after_version_line(served: Served, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A bare connection that has heard the server's banner."""
    with socket.create_connection(("127.0.0.1", served.port), 20, (source, 0)) as sock:
        heard = b""
        while not heard.endswith(b"\r\n"):
            more = sock.recv(1)
            assert more
            heard += more
        yield sock


def read_to_end(sock: socket.socket) -> bytes:
    """All that still comes, until the server hangs up."""
    heard = b""
    with suppress(ConnectionResetError):
        while more := sock.recv(65536):
            heard += more
    return heard


def message(kind: int, *parts: int | bytes) -> Message:
    """A message of SSH: booleans, uint32s and strings."""
    made = Message()
    made.add_byte(bytes([kind]))
    for part in parts:
        if isinstance(part, bool):
            made.add_boolean(part)
        elif isinstance(part, int):
            made.add_int(part)
        else:
            made.add_string(part)
    return made


def send_raw(transport: paramiko.Transport, made: Message) -> None:
    """Send a message whatever the rules say."""
    transport._send_message(made)  # type: ignore[attr-defined]


def add_file(served: Served, name: str, size: int) -> bytes:
    """Put a file into the first party's tree; its bytes."""
    content = os.urandom(size)
    (served.site / "trees" / "parti-a" / name).write_bytes(content)
    return content


def end_reasons(served: Served) -> list[object]:
    """Why the sessions ended that did."""
    return [record.event.detail["reason"] for record in served.records("session-end")]


def assert_record_complete(served: Served) -> None:
    """Show that nothing is missing: no number, no close of an open, no end of a session.

    A child is gone a moment before its parent has written down that it is.
    """
    with suppress(AssertionError):
        until(lambda: _sessions_recorded(served) == set(_sessions_ended(served)))
    records = served.records()
    assert [record.seq for record in records] == list(range(len(records)))
    granted = [r.event for r in records if r.event.outcome is not Outcome.REFUSED]
    opened = [_numbers(e.detail) for e in granted if e.event == TransferEvent.OPEN]
    closed = [_numbers(e.detail) for e in granted if e.event == TransferEvent.CLOSE]
    assert sorted(opened) == sorted(closed)
    assert len(set(opened)) == len(opened)
    ended = _sessions_ended(served)
    assert _sessions_recorded(served) == set(ended)
    assert len(set(ended)) == len(ended)


def _sessions_recorded(served: Served) -> set[object]:
    return {r.event.detail["session"] for r in served.records() if "session" in r.event.detail}


def _sessions_ended(served: Served) -> list[object]:
    return [r.event.detail["session"] for r in served.records("session-end")]


def _numbers(detail: Mapping[str, object]) -> tuple[int, int]:
    return int(str(detail["session"])), int(str(detail["handle"]))


def assert_still_serves(served: Served) -> None:
    """Show that a client that means no harm gets its file, and at once."""
    started = time.monotonic()
    with logged_in(served) as transport:
        raw = Raw.on(transport.open_session())
        _, content = raw.ask(READ, raw.open(b"BENIOKU.txt") + pack(">QI", 0, 100))
        assert content[4:] == b"parti-a\n"
    assert time.monotonic() - started < 5


def only_child(served: Served) -> int:
    """The one child that there is."""
    until(lambda: len(served.children()) == 1)
    return served.children()[0]


def resident(pid: int) -> int:
    """Bytes of memory that a process has of its own, without what it shares with its parent."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    own = [line.split()[1] for line in lines if line.startswith("Private_")]
    return sum(map(int, own)) * 1024


@contextmanager
def peak_memory(pid: int) -> Iterator[list[int]]:
    """The memory of a process, looked at a hundred times a second; the last is the most."""
    most, done = [resident(pid)], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            with suppress(OSError):
                most.append(max(most[-1], resident(pid)))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        yield most
    finally:
        done.set()
        looker.join()


def descriptors(pid: int) -> set[str]:
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
