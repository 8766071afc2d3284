"""User authentication in raw messages; every answer is kept byte for byte."""

import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import paramiko
from paramiko.message import Message
from paramiko.packet import Packetizer
from wire.server import RunningServer

DISCONNECT, SERVICE_REQUEST, SERVICE_ACCEPT, USERAUTH_REQUEST = 1, 5, 6, 50
FAILURE, SUCCESS, BANNER, PK_OK = 51, 52, 53, 60
_AUTHENTICATION = range(50, 80)


class _CapturingPacketizer(Packetizer):
    """Takes the answers to a login out of the stream before paramiko's client sees them."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self.messages: queue.Queue[bytes] = queue.Queue()

    def read_message(self) -> tuple[int, Message]:
        while True:
            kind, message = super().read_message()
            if kind not in (DISCONNECT, SERVICE_ACCEPT, *_AUTHENTICATION):
                return kind, message
            self.messages.put(bytes([kind]) + message.asbytes())
            if kind == DISCONNECT:
                return kind, message


class LoginClient:
    """A connection after the key exchange, on which a test sends its own login requests."""

    def __init__(self, transport: paramiko.Transport, packetizer: _CapturingPacketizer) -> None:
        self._transport = transport
        self._packetizer = packetizer

    def send(self, kind: int, *parts: object) -> None:
        message = Message()
        message.add_byte(bytes([kind]))
        for part in parts:
            message.add(part)
        self._transport._send_message(message)  # type: ignore[attr-defined]

    def receive(self) -> bytes:
        """Return the next answer, its type byte included."""
        return self._packetizer.messages.get(timeout=20)

    def password(self, user: str, text: str) -> bytes:
        self._ask(user, b"password", False, text)
        return self.receive()

    def probe(self, user: str, key: paramiko.PKey, algorithm: str = "ssh-ed25519") -> bytes:
        """Ask whether the server would accept a signature by this key."""
        self._ask(user, b"publickey", False, algorithm, key.asbytes())
        return self.receive()

    def sign(
        self, user: str, key: paramiko.PKey, algorithm: str = "ssh-ed25519", public: bytes = b""
    ) -> bytes:
        """Log in by a key without asking first; `public` replaces the public key in the request."""
        public = public or key.asbytes()
        signed = Message()
        signed.add_string(self._transport.session_id or b"")
        signed.add_byte(bytes([USERAUTH_REQUEST]))
        for part in (user, b"ssh-connection", b"publickey", True, algorithm, public):
            signed.add(part)
        signature = key.sign_ssh_data(signed.asbytes(), algorithm)
        self._ask(user, b"publickey", True, algorithm, public, signature.asbytes())
        return self.receive()

    def _ask(self, user: str, *parts: object) -> None:
        self.send(USERAUTH_REQUEST, user, b"ssh-connection", *parts)


@contextmanager
def login_client(server: RunningServer, source: str = "127.0.0.1") -> Iterator[LoginClient]:
    """Connect, exchange keys, and request the user authentication service."""
    kept: list[_CapturingPacketizer] = []

    def packetizer(sock: Any) -> _CapturingPacketizer:
        kept.append(_CapturingPacketizer(sock))
        return kept[-1]

    with socket.create_connection(("127.0.0.1", server.port), source_address=(source, 0)) as sock:
        transport = paramiko.Transport(sock, packetizer_class=packetizer)  # type: ignore[arg-type]
        try:
            transport.start_client(timeout=10)
            client = LoginClient(transport, kept[0])
            client.send(SERVICE_REQUEST, b"ssh-userauth")
            assert client.receive()[0] == SERVICE_ACCEPT
            yield client
        finally:
            transport.close()
