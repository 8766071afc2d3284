"""A process whose filter has a listener connects to the addresses that another one allows."""

import os
import socket
import struct
import threading
from pathlib import Path

import pytest
from confined import Action, outcome

from keys.kernel import bpf, connections, process, seccomp
from keys.kernel.connections import Connector, Target

pytestmark = pytest.mark.skipif(not bpf.supported(), reason="the kernel has no seccomp")


def outcomes(allowed: set[Target], *actions: Action) -> list[str]:
    """Run actions in a child whose connections this process makes; return what came of each."""
    ours, theirs = socket.socketpair()
    answer, telling = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            memory = connections.open_memory()
            process.forbid_new_privileges()
            denied = seccomp.NEVER + seccomp.SETUP
            program = seccomp.program(denied, os.getpid(), asked=connections.CALLS)
            socket.send_fds(theirs, [b"x"], [bpf.install_with_listener(program), memory])
            for action in actions:
                os.write(telling, f"{outcome(action)}\n".encode())
        finally:
            os._exit(0)
    os.close(telling)
    with ours, theirs:
        _, (listener, memory), _, _ = socket.recv_fds(ours, 1, 2)
    Connector(listener, memory, lambda: allowed).start()
    with os.fdopen(answer) as file:
        found = file.read().splitlines()
    os.waitpid(pid, 0)
    return found


def test_only_the_allowed_addresses_are_connected_to(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        socket.create_server(("127.0.0.1", 0)) as open_one,
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(path)
        unix.listen()
        address, path_too = open_one.getsockname(), path + "x"
        for each in (open_one, unix):
            each.settimeout(10)

        def tcp() -> str:
            with socket.create_connection(address, 10) as made:
                made.sendall(b"x")
                return f"{made.getpeername() == address} {made.recv(1)!r}"

        def of_unix(where: str) -> str:
            with socket.socket(socket.AF_UNIX) as made:
                made.connect(where)
                return "connected"

        def fast_open(where: tuple[str, int]) -> int:
            with socket.socket() as made:
                return made.sendto(b"x", socket.MSG_FASTOPEN, where)

        def reply() -> None:
            with open_one.accept()[0] as accepted:
                accepted.sendall(accepted.recv(1))

        answering = threading.Thread(target=reply)
        answering.start()
        found = outcomes(
            {Target("127.0.0.1", address[1]), Target(path, 0)},
            tcp,
            lambda: of_unix(path),
            lambda: of_unix(path_too),
            lambda: socket.create_connection(other.getsockname(), 10),
            lambda: socket.create_connection(("127.0.0.2", address[1]), 10),
            lambda: fast_open(address),
            lambda: fast_open(other.getsockname()),
            lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
            lambda: socket.socket().bind(("127.0.0.1", 0)),
            lambda: socket.socket().listen(),
        )
        answering.join(10)

    assert found == ["True b'x'", "connected", *["denied"] * 9]


def test_many_sockets_and_a_refused_connection_leave_the_next_one_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as open_one:
        allowed = {Target("127.0.0.1", address[1]), Target(*open_one.getsockname())}

        def many() -> int:
            return len([socket.socket() for _ in range(200)])

        def connect() -> str:
            with socket.create_connection(open_one.getsockname(), 10):
                return "connected"

        found = outcomes(allowed, many, lambda: socket.create_connection(address, 10), connect)

    assert found[0] == "200"
    assert "ConnectionRefusedError" in found[1]
    assert found[2] == "connected"


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (struct.pack("<H", 2) + b"\x15\x38" + bytes([10, 0, 0, 9]) + bytes(8), ("10.0.0.9", 5432)),
        (
            struct.pack("<H", 10) + b"\x15\x38" + bytes(4) + bytes(15) + b"\x01" + bytes(4),
            ("::1", 5432),
        ),
        (struct.pack("<H", 1) + b"/run/postgresql/.s.PGSQL.5432\0", None),
        (struct.pack("<H", 1) + b"\0abstract", ()),
        (struct.pack("<H", 16) + bytes(10), ()),
        (b"", ()),
        (struct.pack("<H", 2) + b"\x15", ()),
    ],
)
def test_an_address_in_memory_is_read(address: bytes, target: tuple[str, int] | None) -> None:
    wanted = ("/run/postgresql/.s.PGSQL.5432", 0) if target is None else target
    assert connections.parse(address) == (Target(*wanted) if wanted else None)
