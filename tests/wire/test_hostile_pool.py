"""Attackers without a credential hold connections on most registered addresses."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from wire.attacker import after_version_line, end_reasons
from wire.server import RunningServer, StartServer, until

FOUR_PARTIES = {f"parti-{name}": f"127.0.3.{n}" for n, name in enumerate("abcd", 1)}
HELD_FOR = 1.0  # seconds; then an attacker closes the connection and opens another


class Attacker:
    """Opens as many connections from one address as the server takes, and never logs in."""

    def __init__(self, server: RunningServer, source: str) -> None:
        self._server = server
        self._source = source
        self._held: list[tuple[float, socket.socket]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.is_set():
            self._open()
            self._drop_the_old_and_the_refused()
            time.sleep(0.01)
        for _, sock in self._held:
            sock.close()

    def _open(self) -> None:
        sock = socket.socket()
        sock.bind((self._source, 0))
        sock.settimeout(5)
        with suppress(OSError):
            sock.connect(("127.0.0.1", self._server.port))
        sock.setblocking(False)
        self._held.append((time.monotonic(), sock))

    def _drop_the_old_and_the_refused(self) -> None:
        now, kept = time.monotonic(), []
        for since, sock in self._held:
            if now > since + HELD_FOR or _is_closed(sock):
                sock.close()
            else:
                kept.append((since, sock))
        self._held = kept


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(64) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextmanager
def attacked(server: RunningServer, *sources: str) -> Iterator[None]:
    attackers = [Attacker(server, source) for source in sources]
    threads = [threading.Thread(target=attacker.run) for attacker in attackers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for attacker in attackers:
            attacker.stop.set()
        for thread in threads:
            thread.join(20)


def refusals(server: RunningServer) -> Counter[tuple[str, str]]:
    """Count the refused connections by address and reason."""
    found: Counter[tuple[str, str]] = Counter()
    for record in server.records("connection-refused"):
        count = int(str(record.event.detail["count"]))
        found[record.event.origin, str(record.event.detail["reason"])] += count
    return found


@pytest.mark.parametrize("sessions", [32, 64])
def test_with_attackers_on_three_of_four_addresses_the_fourth_party_logs_in(
    serve: StartServer, sessions: int
) -> None:
    server = serve(FOUR_PARTIES, sessions=sessions, grace=30.0, limited=True)
    *sources, own = FOUR_PARTIES.values()
    took = []
    with attacked(server, *sources):
        until(lambda: len(server.children()) >= sessions * 5 // 8)
        end = time.monotonic() + 3 * HELD_FOR
        while time.monotonic() < end:
            began = time.monotonic()
            done = server.sftp("parti-d", "ls\n", f"-oBindAddress={own}")
            took.append(time.monotonic() - began)
            assert done.returncode == 0, done.stderr
    print(f"\n{len(took)} logins during the attack, the slowest took {max(took):.2f} s")
    assert max(took) < 2.0
    assert len(took) > 4
    refused = refusals(server)
    assert own not in {source for source, _ in refused}
    assert {source for source, reason in refused if reason == "unfinished"} == set(sources)
    assert "sessions" not in {reason for _, reason in refused}


def test_forty_clients_of_one_address_may_start_at_once(serve: StartServer) -> None:
    server = serve(FOUR_PARTIES, sessions=512, limited=True)
    socks = [socket.create_connection(("127.0.0.1", server.port), 20, ("127.0.3.1", 0))
             for _ in range(40)]  # fmt: skip
    for sock in socks:
        assert sock.recv(4) == b"SSH-"
    assert len(server.children()) == 40
    for sock in socks:
        sock.close()
    assert not server.records("connection-refused")


def test_connections_that_are_closed_without_a_login_attempt_cost_a_penalty(
    serve: StartServer,
) -> None:
    server = serve(FOUR_PARTIES, limited=True)
    with suppress(AssertionError, ConnectionError):
        for _ in range(80):
            with after_version_line(server, "127.0.3.1") as sock:
                sock.sendall(b"SSH-2.0-attacker\r\n")
                sock.recv(4096)  # the server's KEXINIT
    until(lambda: server.first_bytes("127.0.3.1") == b"")

    assert {reason for _, reason in refusals(server)} == {"penalty"}
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.3.2").returncode == 0
    until(lambda: server.sftp("parti-a", "ls\n", "-oBindAddress=127.0.3.1").returncode == 0)
    assert set(end_reasons(server)) == {"closed"}


def test_what_logins_cost_is_limited_for_each_address(serve: StartServer) -> None:
    server = serve(FOUR_PARTIES, limited=True, login_cpu="LoginCpu(burst=0.1, rate=0.05)")
    options = ["-oBindAddress=127.0.3.1"]
    until(lambda: server.sftp("parti-a", "ls\n", *options).returncode != 0, 30)

    assert {reason for _, reason in refusals(server)} == {"cpu"}
    assert len(server.records("login")) > 1
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.3.2").returncode == 0
    until(lambda: server.sftp("parti-a", "ls\n", *options).returncode == 0, 30)
