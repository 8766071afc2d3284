"""What clients send in and after a key exchange that paramiko's server would answer wrongly."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko
import pytest
from paramiko.message import Message
from wire.attacker import RawSftp, after_version_line, logged_in, string
from wire.server import RunningServer, StartServer, setting, until

OPEN, CLOSE, READ, OPENDIR, READDIR, HANDLE, DATA = 3, 4, 5, 11, 12, 102, 103
KEXINIT = 20
CURVE = "curve25519-sha256@libssh.org"


class Watching(paramiko.Transport):
    """Counts EXT_INFO in each key exchange, and keeps the server's KEXINITs."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.ext_infos: list[int] = []
        self.kexinits: list[bytes] = []

    def _parse_kex_init(self, m: Message) -> None:
        self.kexinits.append(m.asbytes())
        super()._parse_kex_init(m)  # type: ignore[misc]

    def _parse_ext_info(self, msg: Message) -> None:
        self.ext_infos.append(len(self.kexinits))
        super()._parse_ext_info(msg)  # type: ignore[misc]


class Guessing(paramiko.Transport):
    """Says that its first KEXINIT is followed by a guess, and sends `guess` if there is one."""

    guess: bytes | None = None
    guessed = False

    def _send_kex_init(self) -> None:
        private: Any = self
        send, private._send_message = private._send_message, lambda _: None
        super()._send_kex_init()  # type: ignore[misc]
        private._send_message = send
        body = bytearray(private.local_kex_init)
        body[-5] = not self.guessed  # first_kex_packet_follows
        private.local_kex_init = bytes(body)
        packets = [bytes(body)]
        if not self.guessed and self.guess is not None:
            packets.append(self.guess)
        self.guessed = True
        for packet in packets:
            message = Message()
            message.add_bytes(packet)
            send(message)


@contextmanager
def connected(server: RunningServer, transport: type[Any]) -> Iterator[Any]:
    with (
        socket.create_connection(("127.0.0.1", server.port)) as sock,
        transport(sock) as client,
    ):
        yield client


def key_of(server: RunningServer) -> paramiko.Ed25519Key:
    return paramiko.Ed25519Key(filename=str(server.site / "clients" / "parti-a"))


def test_ext_info_comes_once_and_strict_key_exchange_is_agreed_on_once(serve: StartServer) -> None:
    server = serve()
    with connected(server, Watching) as client:
        client.connect(username="parti-a", pkey=key_of(server))
        sftp = client.open_sftp_client()
        for _ in range(2):
            client.renegotiate_keys()
            assert sftp.listdir("/")

        assert client.ext_infos == [1]
        assert ["kex-strict-s" in str(each) for each in client.kexinits] == [True, True, True]


def test_a_server_that_starts_the_key_exchange_sends_no_ext_info(serve: StartServer) -> None:
    patch = "from sftpd.ssh.packetizer import Packetizer\nPacketizer.REKEY_BYTES = 100_000\n"
    server = serve(patch=patch)
    content = server.add_file("sayfa", 400_000)
    with connected(server, Watching) as client:
        client.connect(username="parti-a", pkey=key_of(server))
        with client.open_sftp_client().open("/sayfa") as file:
            assert file.read() == content

        assert len(client.kexinits) > 2
        assert client.ext_infos == [1]


def test_the_server_waits_for_the_client_s_offer_only_if_the_client_is_near(
    serve: StartServer,
) -> None:
    server = serve(patch="from sftpd.ssh import transport\ntransport.KEXINIT_WAIT = 30.0\n")

    with after_version_line(server) as far:
        time.sleep(0.05)  # half of a round trip, as a relay makes it
        far.sendall(b"SSH-2.0-far\r\n")
        far.settimeout(20)
        assert far.recv(6)[5] == KEXINIT

    with after_version_line(server) as near:
        near.sendall(b"SSH-2.0-near\r\n")
        near.settimeout(0.5)
        with pytest.raises(TimeoutError):
            near.recv(6)


# A guess in the form of each method's first packet.
POINT = b"\x1e\0\0\0\x20" + b"\x09" * 32
NUMBER = b"\x1e\0\0\0\x01\x05"


@pytest.mark.parametrize(
    ("kex", "host_keys", "guess"),
    [
        ([CURVE], ["ssh-ed25519"], POINT),  # the server's first is another
        (["diffie-hellman-group16-sha512", CURVE], ["ssh-ed25519"], NUMBER),
        (["mlkem768x25519-sha256"], ["rsa-sha2-512", "ssh-ed25519"], POINT),  # the host key is
        (["mlkem768x25519-sha256"], ["ssh-ed25519"], None),  # right: the real packet follows
    ],
)
def test_a_wrong_guess_is_dropped_and_a_right_one_used(
    serve: StartServer, kex: list[str], host_keys: list[str], guess: bytes | None
) -> None:
    server = serve()
    with connected(server, Guessing) as client:
        client.guess = guess
        client._preferred_kex, client._preferred_keys = tuple(kex), tuple(host_keys)
        client.connect(username="parti-a", pkey=key_of(server))
        sftp = client.open_sftp_client()
        client.renegotiate_keys()
        assert sftp.listdir("/")


def test_dropbear_s_client_which_guesses_connects(serve: StartServer, tmp_path: Path) -> None:
    server = serve(before=setting('algorithms = "compatible"'))  # it has no encrypt-then-MAC
    try:
        convert = ["dropbearconvert", "openssh", "dropbear"]
        key = str(server.site / "clients" / "parti-a")
        subprocess.run([*convert, key, str(tmp_path / "key")], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("dropbear's client is not installed")
    command = ["dbclient", "-y", "-y", "-i", str(tmp_path / "key"), "-p", str(server.port)]
    process = subprocess.Popen(
        [*command, "-s", "parti-a@127.0.0.1", "sftp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    )
    try:
        sftp = RawSftp.of_process(process)
        assert sftp.request(OPENDIR, string(b"/"))[0] == HANDLE
    finally:
        process.kill()
        process.communicate()
    until(lambda: server.records("login"))
    assert "dropbear" in str(server.details("login")[0]["client"])


def test_a_service_request_after_the_login_is_unimplemented(serve: StartServer) -> None:
    server = serve()
    unimplemented: list[int] = []
    with logged_in(server) as transport:
        private: Any = transport
        table = dict(private._handler_table)
        table[3] = lambda message: unimplemented.append(message.get_int())
        private._handler_table = table
        for service in ("ssh-userauth", "ssh-connection"):
            message = Message()
            message.add_byte(b"\x05")
            message.add_string(service)
            private._send_message(message)
        until(lambda: len(unimplemented) == 2)
        assert private.open_sftp_client().listdir("/")


@pytest.mark.parametrize("size", [4095, 1000, 64, 1])
def test_the_packets_of_a_channel_keep_to_the_client_s_limit(serve: StartServer, size: int) -> None:
    server = serve()
    content = server.add_file("sayfa", 20_000)
    sizes: list[int] = []
    with logged_in(server) as transport:
        private: Any = transport
        private._sanitize_packet_size = lambda limit: size if limit == size else 32768
        table = dict(private._channel_handler_table)
        for kind, skipped in ((94, 0), (95, 4)):
            feed = table[kind]

            def watch(channel: Any, message: Message, feed: Any = feed, at: int = skipped) -> None:
                data = Message(message.get_remainder()[at:])
                sizes.append(len(data.get_binary()))
                feed(channel, message)

            table[kind] = watch
        private._channel_handler_table = table
        channel = transport.open_channel("session", max_packet_size=size)
        sftp = RawSftp.on_channel(channel)
        _, handle = sftp.request(OPEN, string(b"/sayfa") + b"\0\0\0\1" + bytes(4))
        kind, data = sftp.request(READ, handle + bytes(8) + (20_000).to_bytes(4, "big"))
        assert (kind, data[4:]) == (DATA, content)
        for command in ("md5sum BENIOKU.txt", "md5sum none"):
            channel = transport.open_channel("session", max_packet_size=size)
            channel.settimeout(20)
            channel.exec_command(command)
            printed = channel.makefile().read() + channel.makefile_stderr().read()
            assert printed.endswith(b"BENIOKU.txt\n") or b"No such file" in printed
            assert channel.recv_exit_status() == (command == "md5sum none")

    assert max(sizes) <= size


def test_a_channel_whose_packets_may_be_empty_only_ends_the_connection(serve: StartServer) -> None:
    server = serve()
    with logged_in(server) as transport:
        private: Any = transport
        private._sanitize_packet_size = lambda _: 0
        with pytest.raises((paramiko.SSHException, EOFError)):
            transport.open_channel("session", max_packet_size=0)
    until(lambda: server.details("session-end"))
    assert server.details("session-end")[0]["reason"] == "protocol error"
