"""Very many clients: the limits are exact, and no client leaves anything behind."""

import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from struct import pack

import paramiko
import pytest
from wire.attacker import (
    READ,
    RawSftp,
    after_version_line,
    assert_record_complete,
    end_reasons,
    key_exchanged,
    logged_in,
    packet,
    read_to_end,
    threads,
)
from wire.server import RunningServer, StartServer, setting, until

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
MIB = 1 << 20
# Many addresses, so that no limit of a single address applies.
PARTIES = {f"parti-{n:02}": f"127.0.1.{n}" for n in range(1, 41)}
HOLDER = """
import socket, sys, time
held = [
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20, (source, 0))
    for source in sys.argv[2:]
]
for sock in held:
    sock.sendall(b"SSH-2.0-holder\\r\\n")
print("held", flush=True)
time.sleep(60)
"""


def refused_connections(server: RunningServer, reason: str) -> int:
    """Return how many connections were refused for a reason, according to the record."""
    details = [record.event.detail for record in server.records("connection-refused")]
    return sum(int(str(detail["count"])) for detail in details if detail["reason"] == reason)


@contextmanager
def simultaneous_connections(server: RunningServer, count: int) -> Iterator[list[socket.socket]]:
    """Open connections without waiting for each."""
    with ExitStack() as held:
        socks = []
        for _, source in zip(range(count), cycle(PARTIES.values()), strict=False):
            sock = held.enter_context(socket.socket())
            sock.bind((source, 0))
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(("127.0.0.1", server.port))
            socks.append(sock)
        yield socks


def first_bytes_of(socks: list[socket.socket], timeout: float = 20.0) -> list[bytes]:
    """Return the first bytes that each receives; none if it is closed before."""
    received: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as waiting:
        for sock in socks:
            waiting.register(sock, selectors.EVENT_READ)
        while len(received) < len(socks):
            ready = waiting.select(timeout)
            assert ready, f"{len(socks) - len(received)} receive nothing"
            for key, _ in ready:
                answering = key.fileobj
                assert isinstance(answering, socket.socket)
                try:
                    received[answering] = answering.recv(8)
                except ConnectionResetError:
                    received[answering] = b""
                waiting.unregister(answering)
    return [received[sock] for sock in socks]


def test_of_400_simultaneous_connections_exactly_100_are_served(serve: StartServer) -> None:
    server = serve(PARTIES, sessions=100, grace=50.0)
    with simultaneous_connections(server, 400) as socks:
        words = Counter(first_bytes_of(socks))
        assert words == {b"SSH-2.0-": 100, b"": 300}
        assert len(server.children()) == 100
        until(lambda: refused_connections(server, "sessions") == 300)

        leaver = next(sock for sock in socks if not _closed(sock))
        leaver.close()
        until(lambda: len(server.children()) == 99)
        with logged_in(server, "parti-01", "127.0.1.1") as transport:
            assert transport.is_authenticated()
            with simultaneous_connections(server, 5) as late:
                assert first_bytes_of(late) == [b""] * 5
    until(lambda: not server.children(), 20)
    until(lambda: len(end_reasons(server)) == 101)
    until(lambda: refused_connections(server, "sessions") == 305)
    assert_record_complete(server)


def _closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_of_simultaneous_logins_exactly_the_partys_maximum_succeeds(
    serve: StartServer,
) -> None:
    server = serve({"parti-a": "127.0.0.1", "parti-b": "127.0.0.1"}, per_party=6, grace=50.0)
    start, leave = threading.Barrier(25), threading.Event()
    results: list[str] = []

    def client(user: str) -> None:
        key = paramiko.Ed25519Key.from_private_key_file(str(server.site / "clients" / user))
        with key_exchanged(server) as transport:
            start.wait(40)
            try:
                transport.auth_publickey(user, key)
            except paramiko.AuthenticationException:
                results.append(f"{user} refused")
                return
            results.append(f"{user} in")
            leave.wait(40)

    users = ["parti-a"] * 16 + ["parti-b"] * 8
    clients = [threading.Thread(target=client, args=(user,)) for user in users]
    for thread in clients:
        thread.start()
    start.wait(40)
    until(lambda: len(results) == 24, 30)
    leave.set()
    for thread in clients:
        thread.join(20)

    assert Counter(results) == {
        "parti-a in": 6,
        "parti-a refused": 10,
        "parti-b in": 6,
        "parti-b refused": 2,
    }
    assert Counter(r.event.who for r in server.records("login")) == {"parti-a": 6, "parti-b": 6}
    until(lambda: len(end_reasons(server)) == 24)
    with logged_in(server, "parti-a") as transport:
        assert transport.is_authenticated()
    until(lambda: len(end_reasons(server)) == 25)
    assert_record_complete(server)


class Crowd:
    """Clients of one server that end in different ways."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self._turns = cycle(PARTIES.items())

    def transfer(self) -> None:
        """Log in, read a file, and disconnect."""
        user, source = next(self._turns)
        with logged_in(self.server, user, source) as transport:
            sftp = RawSftp.on_channel(transport.open_session())
            handle = sftp.open(b"BENIOKU.txt")
            assert sftp.request(READ, handle + pack(">QI", 0, 100))[1][4:] == f"{user}\n".encode()
            sftp.close(handle)

    def reset_in_mid_file(self) -> None:
        user, source = next(self._turns)
        with logged_in(self.server, user, source) as transport:
            sftp = RawSftp.on_channel(transport.open_session())
            handle = sftp.open(b"BENIOKU.txt")
            sftp.send(packet(READ, 1, handle + pack(">QI", 0, 100)))
            assert isinstance(transport.sock, socket.socket)
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.sock.close()

    def fail_login(self) -> None:
        user, source = next(self._turns)
        stranger = self.server.site / "clients" / "stranger"
        key = paramiko.Ed25519Key.from_private_key_file(str(stranger))
        with (
            key_exchanged(self.server, source) as transport,
            pytest.raises(paramiko.AuthenticationException),
        ):
            transport.auth_publickey(user, key)

    def close_at_once(self) -> None:
        self._bare().close()

    def reset_at_once(self) -> None:
        sock = self._bare()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def send_nonsense(self) -> None:
        # The server may have closed the connection already: so many have sent nonsense before.
        with (
            suppress(OSError, AssertionError),
            after_version_line(self.server, next(self._turns)[1]) as sock,
        ):
            sock.sendall(b"SSH-2.0-x\r\n" + b"nonsense" * 1000)
            read_to_end(sock)

    def connect_unregistered(self) -> None:
        with self._bare("127.0.0.2") as sock:
            assert read_to_end(sock) == b""

    def _bare(self, source: str | None = None) -> socket.socket:
        name = (source or next(self._turns)[1], 0)
        return socket.create_connection(("127.0.0.1", self.server.port), 20, name)

    def stay_silent(self, count: int) -> None:
        held = [self._bare() for _ in range(count)]
        for sock in held:
            read_to_end(sock)
            sock.close()

    def be_killed(self, count: int) -> None:
        sources = [next(self._turns)[1] for _ in range(count)]
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.server.port), *sources],
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGKILL)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def descriptors_and_threads(pid: int) -> tuple[int, int]:
    """Return how many descriptors and threads a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), threads(pid)


def unchanged(measure: Callable[[], object], seconds: float) -> bool:
    """Return whether two measurements, `seconds` apart, are the same."""
    first = measure()
    time.sleep(seconds)
    return measure() == first


def test_two_thousand_connections_leave_nothing_behind(serve: StartServer) -> None:
    # Long enough on a busy machine for everyone who logs in.
    server = serve(PARTIES, sessions=200, grace=None, before=setting("login_grace_seconds = 300.0"))
    parent = server.process.pid
    crowd = Crowd(server)
    ways: list[tuple[Callable[[], None], int]] = [
        (crowd.transfer, 5),
        (crowd.reset_in_mid_file, 4),
        (crowd.fail_login, 4),
        (crowd.close_at_once, 61),
        (crowd.reset_at_once, 61),
        (crowd.send_nonsense, 10),
        (crowd.connect_unregistered, 40),
    ]

    refused = partial(refused_connections, server)

    def come(times: int) -> None:
        """Let all of them come, and as many as the server serves at once be killed."""
        for end, count in ways:
            for _ in range(count * times):
                end()
                if len(server.children()) > 100:
                    until(lambda: len(server.children()) < 50, 60)
        crowd.be_killed(100)
        until(lambda: not server.children(), 60)
        # The monitor has two descriptors for each session, and closes them in its own time.
        until(lambda: unchanged(lambda: descriptors_and_threads(parent), 1.0), 60)

    come(1)  # the server then has what it needs for so many
    before, used = descriptors_and_threads(parent), resident(parent)
    come(9)
    until(lambda: descriptors_and_threads(parent) == before, 60)
    assert resident(parent) - used < 4 * MIB

    server.edit("site.toml", "login_grace_seconds = 300.0", "login_grace_seconds = 1.0")
    server.reload()
    crowd.stay_silent(50)

    # Connections that end without a login attempt cost a penalty, and a fast crowd meets the limit
    # of sessions: the next ones are refused. Every one is on record.
    reasons = ("unfinished", "cpu", "sessions")
    until(lambda: len(end_reasons(server)) + sum(map(refused, reasons)) == 1700, 60)
    assert descriptors_and_threads(parent) == before
    until(lambda: refused_connections(server, "address") == 400, 60)
    assert end_reasons(server).count("no login in time") == 50
    assert not {"server error", "killed", "hung up"} & set(end_reasons(server))
    assert '"level": "error"' not in server.log.read_text()
    assert len(server.records("login")) == 90
    assert len(server.records("open")) == 90
    assert len(server.records("login-refused")) == 40
    assert_record_complete(server)
    crowd.transfer()
