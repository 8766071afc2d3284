"""One hostile client, which costs the server much more than itself: hostile.py KIND PORT USER KEY.

Kinds that log in and then send requests without waiting for the replies, which they throw away:

    reads       reads of one byte, a thousand in a packet
    digests     requests for the digest of 64 MiB of a big file, which the server has to compute
    listings    listings of a folder with thousands of names
    opens       opens and closes of a file
    channels    opens a channel, starts SFTP on it, and closes it
    rekeys      the most expensive key exchange, again and again, after as many bytes as allow it

Kinds that do not log in; 45 connections a second:

    exchanges   each with the most expensive key exchange
    logins      the same, and then a wrong password whose answer it does not wait for

It prints `ready` when it begins, and runs until it is killed. The site needs the files that
`prepare` writes.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from struct import pack
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import paramiko  # noqa: E402
from paramiko.kex_group16 import KexGroup16SHA512  # noqa: E402
from wire.attacker import (  # noqa: E402
    CLOSE,
    OPEN,
    OPENDIR,
    READ,
    READDIR,
    RawSftp,
    kexinit,
    packet,
    send_raw,
    ssh_message,
    ssh_packet,
    string,
)

from sftpd.ssh import rekey_limit  # noqa: E402

NAMES = 5_000
BIG = 80 << 20
_EXTENDED = 200
_SERVICE_REQUEST, _USERAUTH_REQUEST = 5, 50
_GLOBAL_REQUEST, _CHANNEL_OPEN, _CHANNEL_CLOSE, _CHANNEL_REQUEST = 80, 90, 97, 98
_WINDOW = (1 << 31) - 1
_CONNECTIONS_PER_SECOND = 45
_GROUP16 = b"diffie-hellman-group16-sha512"
_BATCH = 30_000  # bytes of requests that are sent together


def prepare(tree: Path) -> None:
    """Write what the attacks use into a party's tree."""
    (tree / "many").mkdir()
    for number in range(NAMES):
        (tree / "many" / f"cb-sandik-sonuc-s{number}.jpg").touch(0o444)
    with (tree / "big").open("wb") as file:
        file.truncate(BIG)
    (tree / "big").chmod(0o444)


def reads(sftp: RawSftp) -> Iterator[bytes]:
    """Yield requests to read a byte."""
    read = packet(READ, 1, sftp.open(b"BENIOKU.txt") + pack(">QI", 0, 1))
    while True:
        yield read * (_BATCH // len(read))


def digests(sftp: RawSftp) -> Iterator[bytes]:
    """Yield requests for a digest that is not stored."""
    wanted = string(b"sha256") + pack(">QQI", 1, 64 << 20, 0)
    request = packet(_EXTENDED, 1, string(b"check-file-handle") + sftp.open(b"big") + wanted)
    while True:
        yield request * 8


def listings(sftp: RawSftp) -> Iterator[bytes]:
    """Yield complete listings; the numbers of handles follow one another."""
    answer, handle = sftp.request(OPENDIR, string(b"many"))
    assert answer == 102
    number = int.from_bytes(handle[4:], "big")
    while True:
        number += 1
        held = string(pack(">I", number))
        yield (
            packet(OPENDIR, 1, string(b"many"))
            + packet(READDIR, 1, held) * 12
            + packet(CLOSE, 1, held)
        )


def opens(sftp: RawSftp) -> Iterator[bytes]:
    """Yield opens, each with its close."""
    number = int.from_bytes(sftp.open(b"BENIOKU.txt")[4:], "big")
    while True:
        batch = b""
        for _ in range(200):
            number += 1
            batch += packet(OPEN, 1, string(b"BENIOKU.txt") + pack(">II", 1, 0))
            batch += packet(CLOSE, 1, string(pack(">I", number)))
        yield batch


REQUESTS: dict[str, Callable[[RawSftp], Iterator[bytes]]] = {
    "reads": reads,
    "digests": digests,
    "listings": listings,
    "opens": opens,
}
KINDS = (*REQUESTS, "channels", "rekeys")
WITHOUT_LOGIN = ("exchanges", "logins")


class CheapGroup16(KexGroup16SHA512):
    """A client's side of the exchange that costs it nothing, since its secret number is 1."""

    def _generate_x(self) -> None:
        self.x = 1


class ExpensiveTransport(paramiko.Transport):
    """Exchanges keys in the way that costs the server most."""

    _kex_info: ClassVar[dict[str, type]] = {_GROUP16.decode(): CheapGroup16}
    _preferred_kex = (_GROUP16.decode(),)


def log_in(
    port: int, user: str, key: str, source: str, kind: type = paramiko.Transport
) -> paramiko.Transport:
    """Return a connection that has logged in."""
    sock = socket.create_connection(("127.0.0.1", port), 60, (source, 0))
    transport: paramiko.Transport = kind(sock)
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = 60
    transport.get_security_options().ciphers = ("aes128-gcm@openssh.com",)
    transport.connect(username=user, pkey=paramiko.Ed25519Key(filename=key))
    return transport


def send_requests(transport: paramiko.Transport, kind: str) -> None:
    """Send requests of one kind as fast as the server takes them."""
    channel = transport.open_session(window_size=_WINDOW)
    sftp = RawSftp.on_channel(channel)
    batches = REQUESTS[kind](sftp)
    first = next(batches)
    private: Any = channel
    private._feed = lambda _: None  # throws the replies away
    channel.settimeout(None)
    print("ready", flush=True)
    channel.sendall(first)
    for batch in batches:
        channel.sendall(batch)


def churn_channels(transport: paramiko.Transport) -> None:
    """Open channels, start SFTP on each, and close them, without waiting for the answers."""
    number = int(transport.open_session().remote_chanid)
    private: Any = transport
    private.packetizer.read_message = partial(throw_away, transport.sock)
    send_raw(transport, ssh_message(_GLOBAL_REQUEST, b"?", True))  # the answer ends the last read
    sealer = Sealer(transport)
    opening = ssh_message(_CHANNEL_OPEN, b"session", 0, 1 << 20, 1 << 15).asbytes()
    subsystem = string(b"subsystem") + b"\0" + string(b"sftp")
    sock: Any = transport.sock
    sock.settimeout(None)
    print("ready", flush=True)
    while True:
        batch = b""
        for _ in range(100):
            number += 1
            recipient = pack(">I", number)
            batch += sealer.seal(opening)
            batch += sealer.seal(bytes([_CHANNEL_REQUEST]) + recipient + subsystem)
            batch += sealer.seal(bytes([_CHANNEL_CLOSE]) + recipient)
        sock.sendall(batch)


def exchange_keys(transport: paramiko.Transport) -> None:
    """Exchange keys whenever the server allows another exchange: after 64 KiB (rekey_limit)."""
    sftp = RawSftp.on_channel(transport.open_session(window_size=_WINDOW))
    read = sftp.open(b"big") + pack(">QI", 0, rekey_limit.BYTES)
    print("ready", flush=True)
    while True:
        sftp.request(READ, read)
        transport.renegotiate_keys()


class Sealer:
    """Seals messages with AES-GCM in place of paramiko, which takes longer than the server."""

    def __init__(self, transport: paramiko.Transport) -> None:
        packetizer: Any = transport.packetizer
        self._key = packetizer._Packetizer__block_engine_out
        nonce = packetizer._Packetizer__iv_out
        self._fixed, self._counter = nonce[:4], int.from_bytes(nonce[4:], "big")

    def seal(self, payload: bytes) -> bytes:
        """Return a packet (RFC 5647)."""
        padding = 4 + -(len(payload) + 5) % 16
        length = pack(">I", 1 + len(payload) + padding)
        nonce = self._fixed + self._counter.to_bytes(8, "big")
        self._counter += 1
        packet = bytes([padding]) + payload + bytes(padding)
        sealed: bytes = self._key.encrypt(nonce, packet, length)
        return length + sealed


def throw_away(sock: Any) -> None:
    """Receive everything and look at nothing, until the connection ends."""
    room = bytearray(1 << 20)
    while True:
        with suppress(TimeoutError):
            if not sock.recv_into(room):
                raise EOFError


def connect_often(attack: Callable[[], object]) -> None:
    """Call `attack`, which connects, again and again, without waiting for its end."""
    print("ready", flush=True)
    while True:
        began = time.monotonic()
        threading.Thread(target=attack, daemon=True).start()
        time.sleep(max(0.0, began + 1 / _CONNECTIONS_PER_SECOND - time.monotonic()))


def exchange(port: int, source: str) -> None:
    """Request a key exchange over the largest group, and hang up after the reply."""
    exchange = b"SSH-2.0-hostile\r\n" + ssh_packet(kexinit(kex=_GROUP16))
    exchange += ssh_packet(b"\x1e" + pack(">I", 1) + b"\x05")
    with (
        suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as sock,
    ):
        sock.sendall(exchange)
        sock.settimeout(5)
        received = b""
        while len(received) < 2000 and (more := sock.recv(65536)):  # the reply to the exchange
            received += more


def begin_login(port: int, user: str, source: str) -> None:
    """Exchange keys, send a wrong password, and hang up."""
    with (
        suppress(OSError, EOFError, paramiko.SSHException),
        socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as sock,
    ):
        transport = ExpensiveTransport(sock)
        try:
            transport.start_client(timeout=20)
            send_raw(transport, ssh_message(_SERVICE_REQUEST, b"ssh-userauth"))
            wrong = ssh_message(
                _USERAUTH_REQUEST, user.encode(), b"ssh-connection", b"password", False, b"wrong"
            )
            send_raw(transport, wrong)
        finally:
            transport.close()


def main() -> None:
    """Run the attack that the command line names."""
    kind, number, user, key, source = sys.argv[1:]
    port = int(number)
    if kind == "exchanges":
        connect_often(partial(exchange, port, source))
    elif kind == "logins":
        connect_often(partial(begin_login, port, user, source))
    elif kind == "rekeys":
        exchange_keys(log_in(port, user, key, source, ExpensiveTransport))
    elif kind == "channels":
        churn_channels(log_in(port, user, key, source))
    else:
        send_requests(log_in(port, user, key, source), kind)


if __name__ == "__main__":
    main()
