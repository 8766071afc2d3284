import inspect
import socket

import pytest
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.ssh_exception import SSHException
from paramiko.transport import Transport as ParamikoTransport

from keys.credentials import fido
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.transport import CIPHERS, KEX, MACS, PUBLIC_KEYS, PlainPacketizer


def test_paramiko_has_the_private_names_that_are_built_upon() -> None:
    taken = {
        "_send_message": ["self", "data"],
        "_send_user_message": ["self", "data"],
        "_parse_newkeys": ["self", "m"],
        "_parse_kex_init": ["self", "m"],
        "_parse_global_request": ["self", "m"],
        "_queue_incoming_channel": ["self", "channel"],
        "_unlink_channel": ["self", "chanid"],
    }
    for name, arguments in taken.items():
        assert list(inspect.signature(getattr(ParamikoTransport, name)).parameters) == arguments
    assert hasattr(AuthHandler, "_parse_userauth_request")
    assert hasattr(AuthHandler, "_parse_userauth_info_response")
    assert hasattr(Channel, "send_exit_status")


def test_paramiko_knows_every_algorithm_that_is_offered() -> None:
    assert set(KEX) <= set(ParamikoTransport._kex_info)  # type: ignore[attr-defined]
    assert set(CIPHERS) <= set(ParamikoTransport._cipher_info)  # type: ignore[attr-defined]
    assert set(MACS) <= set(ParamikoTransport._mac_info)  # type: ignore[attr-defined]
    assert set(PUBLIC_KEYS) - set(fido.KINDS) <= set(ParamikoTransport._key_info)  # type: ignore[attr-defined]
    assert KEX[0] == "mlkem768x25519-sha256"
    assert "ssh-rsa" not in PUBLIC_KEYS


def test_a_packet_has_a_longest_length() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        packetizer = PlainPacketizer(ClientSocket(ours, grace=60))  # type: ignore[arg-type]
        with pytest.raises(SSHException, match="packet"):
            packetizer.read_all(300_000)
