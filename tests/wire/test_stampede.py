"""Very many clients: the caps hold to the last one, and nothing is left behind by any of them."""

import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from struct import pack

import paramiko
import pytest
from wire.attacker import (
    READ,
    Raw,
    after_version_line,
    assert_record_complete,
    end_reasons,
    key_exchanged,
    logged_in,
    packet,
    read_to_end,
    threads,
)
from wire.served import Serve, Served, until

RESET = struct.pack("ii", 1, 0)  # SO_LINGER that makes of a close a reset
MIB = 1 << 20
# Many addresses, as a rate for each of them must not be what holds a stampede up.
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


def refused(served: Served, reason: str) -> int:
    """How many connections the record says were closed unheard for that reason."""
    told = [record.event.detail for record in served.records("connection-refused")]
    return sum(int(str(detail["count"])) for detail in told if detail["reason"] == reason)


@contextmanager
def all_at_once(served: Served, count: int) -> Iterator[list[socket.socket]]:
    """Open connections without waiting for any of them."""
    with ExitStack() as held:
        socks = []
        for _, source in zip(range(count), cycle(PARTIES.values()), strict=False):
            sock = held.enter_context(socket.socket())
            sock.bind((source, 0))
            sock.setblocking(False)
            with suppress(BlockingIOError):
                sock.connect(("127.0.0.1", served.port))
            socks.append(sock)
        yield socks


def first_words(socks: list[socket.socket], patience: float = 20.0) -> list[bytes]:
    """What each hears first; nothing if it is closed before that."""
    heard: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as waiting:
        for sock in socks:
            waiting.register(sock, selectors.EVENT_READ)
        while len(heard) < len(socks):
            ready = waiting.select(patience)
            assert ready, f"{len(socks) - len(heard)} hear nothing at all"
            for key, _ in ready:
                answering = key.fileobj
                assert isinstance(answering, socket.socket)
                try:
                    heard[answering] = answering.recv(8)
                except ConnectionResetError:
                    heard[answering] = b""
                waiting.unregister(answering)
    return [heard[sock] for sock in socks]


def test_of_four_hundred_at_once_exactly_a_hundred_are_served(serve: Serve) -> None:
    served = serve(PARTIES, sessions=100, grace=50.0)
    with all_at_once(served, 400) as socks:
        words = Counter(first_words(socks))
        assert words == {b"SSH-2.0-": 100, b"": 300}
        assert len(served.children()) == 100
        until(lambda: refused(served, "sessions") == 300)

        leaver = next(sock for sock in socks if not _closed(sock))
        leaver.close()
        until(lambda: len(served.children()) == 99)
        with logged_in(served, "parti-01", "127.0.1.1") as transport:
            assert transport.is_authenticated()
            with all_at_once(served, 5) as late:
                assert first_words(late) == [b""] * 5
    until(lambda: not served.children(), 20)
    until(lambda: len(end_reasons(served)) == 101)
    until(lambda: refused(served, "sessions") == 305)
    assert_record_complete(served)


def _closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_of_a_partys_logins_all_at_once_exactly_as_many_as_it_may_have_succeed(
    serve: Serve,
) -> None:
    served = serve({"parti-a": "127.0.0.1", "parti-b": "127.0.0.1"}, per_party=6, grace=50.0)
    start, leave = threading.Barrier(25), threading.Event()
    results: list[str] = []

    def client(user: str) -> None:
        key = paramiko.Ed25519Key.from_private_key_file(str(served.site / "clients" / user))
        with key_exchanged(served) as transport:
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
    assert Counter(r.event.who for r in served.records("login")) == {"parti-a": 6, "parti-b": 6}
    until(lambda: len(end_reasons(served)) == 24)
    with logged_in(served, "parti-a") as transport:
        assert transport.is_authenticated()
    until(lambda: len(end_reasons(served)) == 25)
    assert_record_complete(served)


class Crowd:
    """Clients of one server, each ending in its own way."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._turns = cycle(PARTIES.items())

    def transfers(self) -> None:
        """A mirror's connection, ended in good order."""
        user, source = next(self._turns)
        with logged_in(self.served, user, source) as transport:
            raw = Raw.on(transport.open_session())
            handle = raw.open(b"BENIOKU.txt")
            assert raw.ask(READ, handle + pack(">QI", 0, 100))[1][4:] == f"{user}\n".encode()
            raw.close(handle)

    def vanishes_in_mid_file(self) -> None:
        user, source = next(self._turns)
        with logged_in(self.served, user, source) as transport:
            raw = Raw.on(transport.open_session())
            handle = raw.open(b"BENIOKU.txt")
            raw.send(packet(READ, 1, handle + pack(">QI", 0, 100)))
            assert isinstance(transport.sock, socket.socket)
            transport.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            transport.sock.close()

    def is_refused(self) -> None:
        user, source = next(self._turns)
        stranger = self.served.site / "clients" / "stranger"
        key = paramiko.Ed25519Key.from_private_key_file(str(stranger))
        with (
            key_exchanged(self.served, source) as transport,
            pytest.raises(paramiko.AuthenticationException),
        ):
            transport.auth_publickey(user, key)

    def closes_at_once(self) -> None:
        self._bare().close()

    def resets_at_once(self) -> None:
        sock = self._bare()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()

    def talks_nonsense(self) -> None:
        with after_version_line(self.served, next(self._turns)[1]) as sock, suppress(OSError):
            sock.sendall(b"SSH-2.0-x\r\n" + b"nonsense" * 1000)
            read_to_end(sock)

    def is_a_stranger(self) -> None:
        with self._bare("127.0.0.2") as sock:
            assert read_to_end(sock) == b""

    def _bare(self, source: str | None = None) -> socket.socket:
        name = (source or next(self._turns)[1], 0)
        return socket.create_connection(("127.0.0.1", self.served.port), 20, name)

    def say_nothing_until_the_grace_time(self, count: int) -> None:
        held = [self._bare() for _ in range(count)]
        for sock in held:
            read_to_end(sock)
            sock.close()

    def are_killed(self, count: int) -> None:
        sources = [next(self._turns)[1] for _ in range(count)]
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(self.served.port), *sources],
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGKILL)


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def held_by(pid: int) -> tuple[int, int]:
    """How many descriptors and threads a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), threads(pid)


def test_two_thousand_connections_leave_nothing_behind(serve: Serve) -> None:
    served = serve(PARTIES, sessions=200, grace=3.0)
    parent = served.process.pid
    crowd = Crowd(served)
    ways: list[tuple[Callable[[], None], int]] = [
        (crowd.transfers, 50),
        (crowd.vanishes_in_mid_file, 40),
        (crowd.is_refused, 40),
        (crowd.closes_at_once, 610),
        (crowd.resets_at_once, 610),
        (crowd.talks_nonsense, 100),
        (crowd.is_a_stranger, 400),
    ]
    for end, _ in ways:
        end()
    until(lambda: not served.children())
    before, used = held_by(parent), resident(parent)

    for end, count in ways:
        for _ in range(count - 1):
            end()
            if len(served.children()) > 100:
                until(lambda: len(served.children()) < 50, 20)
    crowd.are_killed(50)
    until(lambda: len(served.children()) < 50, 20)
    crowd.are_killed(50)
    until(lambda: len(served.children()) < 50, 20)
    crowd.say_nothing_until_the_grace_time(50)

    until(lambda: not served.children(), 20)
    assert held_by(parent) == before
    assert resident(parent) - used < 4 * MIB
    until(lambda: refused(served, "address") == 400)
    assert len(end_reasons(served)) == 1600
    assert end_reasons(served).count("no login in time") == 50
    assert not {"server error", "killed", "hung up"} & set(end_reasons(served))
    assert '"level": "error"' not in served.log.read_text()
    assert len(served.records("login")) == 90
    assert len(served.records("open")) == 90
    assert len(served.records("login-refused")) == 40
    assert_record_complete(served)
    crowd.transfers()
