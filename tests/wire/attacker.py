"""SFTP and SSH in raw packets, checks of the record, and the memory of a process."""

import resource
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
from wire.server import RunningServer, until

from config.event import Outcome, TransferEvent

HELLO = bytes.fromhex("00000005 01 00000003")
OPEN, CLOSE, READ, WRITE, FSETSTAT, OPENDIR, READDIR = 3, 4, 5, 6, 10, 11, 12
STATUS, HANDLE, DATA, NAME = 101, 102, 103, 104
OK, EOF, NO_SUCH_FILE, DENIED, FAILURE = 0, 1, 2, 3, 4


def string(text: bytes) -> bytes:
    return pack(">I", len(text)) + text


def packet(kind: int, request: int, body: bytes) -> bytes:
    return pack(">IBI", 5 + len(body), kind, request) + body


class RawSftp:
    """An SFTP client that sends any packet, over any pair of functions."""

    def __init__(self, send: Callable[[bytes], object], read: Callable[[int], bytes]) -> None:
        self.send = send
        self._read = read
        self._request = 0

    @classmethod
    def on_channel(cls, channel: paramiko.Channel, timeout: float = 20.0) -> "RawSftp":
        """Start SFTP on a channel and exchange versions."""
        channel.settimeout(timeout)
        channel.invoke_subsystem("sftp")
        sftp = cls(channel.sendall, channel.recv)
        sftp.init()
        return sftp

    @classmethod
    def of_process(cls, server: "Popen[bytes]") -> "RawSftp":
        """Start SFTP on a server process's input and output and exchange versions."""
        assert server.stdin is not None
        assert server.stdout is not None
        sftp = cls(server.stdin.write, server.stdout.read)
        sftp.init()
        return sftp

    def init(self) -> None:
        self.send(HELLO)
        assert self.receive()[0] == 2

    def receive(self) -> tuple[int, int, bytes]:
        """Return the next reply: its type, its request id, and the rest."""
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

    def request(self, kind: int, body: bytes) -> tuple[int, bytes]:
        self._request += 1
        self.send(packet(kind, self._request, body))
        answer, request, rest = self.receive()
        assert request == self._request
        return answer, rest

    def status(self, kind: int, body: bytes) -> int:
        """Return the status code of the reply; OK if the reply is a handle."""
        answer, rest = self.request(kind, body)
        assert answer in (STATUS, HANDLE), answer
        return OK if answer == HANDLE else int(unpack_from(">I", rest)[0])

    def open(self, path: bytes, flags: int = 1) -> bytes:
        answer, rest = self.request(OPEN, string(path) + pack(">II", flags, 0))
        assert answer == HANDLE, rest
        return rest

    def close(self, handle: bytes) -> None:
        assert self.status(CLOSE, handle) == OK


def ssh_packet(payload: bytes) -> bytes:
    """An unencrypted SSH packet (RFC 4253, section 6)."""
    padding = 8 - (len(payload) + 5) % 8 + 8
    return pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def kexinit(
    kex: bytes = b"curve25519-sha256@libssh.org",
    cipher: bytes = b"aes128-gcm@openssh.com",
    compression: bytes = b"none",
) -> bytes:
    """An SSH_MSG_KEXINIT (RFC 4253, section 7.1)."""
    mac = b"hmac-sha2-256-etm@openssh.com"
    lists = kex, b"ssh-ed25519", cipher, cipher, mac, mac, compression, compression, b"", b""
    return b"\x14" + bytes(16) + b"".join(map(string, lists)) + bytes(5)


@contextmanager
def key_exchanged(
    server: RunningServer, source: str = "127.0.0.1", timeout: float = 20.0
) -> Iterator[paramiko.Transport]:
    """A connection after the key exchange and before the login."""
    with socket.create_connection(("127.0.0.1", server.port), 20, (source, 0)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=timeout)
            yield transport
        finally:
            transport.close()


@contextmanager
def logged_in(
    server: RunningServer, user: str = "parti-a", source: str = "127.0.0.1"
) -> Iterator[paramiko.Transport]:
    key = paramiko.Ed25519Key.from_private_key_file(str(server.site / "clients" / user))
    with key_exchanged(server, source) as transport:
        transport.auth_publickey(user, key)
        yield transport


@contextmanager
def after_version_line(server: RunningServer, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A plain connection on which the server's version line has been read."""
    with socket.create_connection(("127.0.0.1", server.port), 60, (source, 0)) as sock:
        received = b""
        while not received.endswith(b"\r\n"):
            more = sock.recv(1)
            assert more
            received += more
        yield sock


def read_to_end(sock: socket.socket) -> bytes:
    """Return everything that the server sends until it disconnects."""
    received = b""
    with suppress(ConnectionResetError):
        while more := sock.recv(65536):
            received += more
    return received


def ssh_message(kind: int, *parts: int | bytes) -> Message:
    """An SSH message of booleans, uint32s and strings."""
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
    """Send a message without paramiko's own checks."""
    transport._send_message(made)  # type: ignore[attr-defined]


def end_reasons(server: RunningServer) -> list[object]:
    """Return the reason of every session that has ended."""
    return [record.event.detail["reason"] for record in server.records("session-end")]


def assert_record_complete(server: RunningServer) -> None:
    """Check that no record is missing: no number, no close of an open, no end of a session.

    A child ends a moment before the monitor has recorded it, so wait for that first.
    """
    with suppress(AssertionError):
        until(lambda: _sessions_recorded(server) == set(_sessions_ended(server)))
    records = server.records()
    assert [record.seq for record in records] == list(range(len(records)))
    granted = [r.event for r in records if r.event.outcome is not Outcome.REFUSED]
    opened = [_numbers(e.detail) for e in granted if e.event == TransferEvent.OPEN]
    closed = [_numbers(e.detail) for e in granted if e.event == TransferEvent.CLOSE]
    assert sorted(opened) == sorted(closed)
    assert len(set(opened)) == len(opened)
    ended = _sessions_ended(server)
    assert _sessions_recorded(server) == set(ended)
    assert len(set(ended)) == len(ended)


def _sessions_recorded(server: RunningServer) -> set[object]:
    return {r.event.detail["session"] for r in server.records() if "session" in r.event.detail}


def _sessions_ended(server: RunningServer) -> list[object]:
    return [r.event.detail["session"] for r in server.records("session-end")]


def _numbers(detail: Mapping[str, object]) -> tuple[int, int]:
    return int(str(detail["session"])), int(str(detail["handle"]))


def assert_still_serves(server: RunningServer) -> None:
    """Check that an honest client gets its file within a few seconds."""
    started = time.monotonic()
    with logged_in(server) as transport:
        sftp = RawSftp.on_channel(transport.open_session())
        _, content = sftp.request(READ, sftp.open(b"BENIOKU.txt") + pack(">QI", 0, 100))
        assert content[4:] == b"parti-a\n"
    assert time.monotonic() - started < 5


def only_child(server: RunningServer) -> int:
    """Return the process id of the only child."""
    until(lambda: len(server.children()) == 1)
    return server.children()[0]


def private_memory(pid: int) -> int:
    """Return the bytes of memory that a process does not share with its parent.

    Only root may read the exact number of a child, which is not dumpable. For an ordinary user it
    is estimated: what the child has in memory, without files, beyond what its parent has.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return max(0, _anonymous_memory(pid) - _anonymous_memory(parent))
    own = [line.split()[1] for line in lines if line.startswith("Private_")]
    return sum(map(int, own)) * 1024


def _anonymous_memory(pid: int) -> int:
    _, resident, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    return (resident - of_files) * resource.getpagesize()


@contextmanager
def peak_memory(pid: int) -> Iterator[list[int]]:
    """Measure a process's memory a hundred times a second; the last element is the peak."""
    most, done = [private_memory(pid)], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            with suppress(OSError):
                most.append(max(most[-1], private_memory(pid)))

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
