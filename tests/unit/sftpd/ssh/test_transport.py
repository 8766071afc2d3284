"""What our transport needs of paramiko 5.1's private names, all in one place."""

import inspect
import re
import socket

import pytest
from paramiko.auth_handler import AuthHandler
from paramiko.channel import Channel
from paramiko.common import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EOF,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_REQUEST,
)
from paramiko.transport import Transport as ParamikoTransport

from keys.credentials import fido
from sftpd.ssh.algorithms import CIPHERS, KEX, MACS, OLD_KEX, PLAIN_MACS, PUBLIC_KEYS
from sftpd.ssh.client_socket import ClientSocket
from sftpd.ssh.packetizer import Packetizer
from sftpd.ssh.transport import Transport
from sftpd.ssh.userauth import UserauthHandler

# Methods of paramiko that we call or override, with their parameters after `self`.
METHODS = {
    ParamikoTransport: {
        "_send_message": ["data"],
        "_send_user_message": ["data"],
        "_send_kex_init": [],
        "_negotiate_keys": ["m"],
        "_parse_newkeys": ["m"],
        "_parse_ext_info": ["msg"],
        "_parse_kex_init": ["m"],
        "_sanitize_packet_size": ["max_packet_size"],
        "_parse_global_request": ["m"],
        "_queue_incoming_channel": ["channel"],
        "_unlink_channel": ["chanid"],
        "run": [],
    },
    AuthHandler: {
        "_parse_service_request": ["m"],
        "_parse_userauth_request": ["m"],
        "_parse_userauth_info_response": ["m"],
        "abort": [],
    },
    Channel: {
        "_handle_request": ["m"],
        "_handle_eof": ["m"],
        "_handle_close": ["m"],
        "send_exit_status": ["status"],
    },
}
# Attributes that paramiko sets or reads, and that we read or set.
ATTRIBUTES = {
    ParamikoTransport: {
        *(
            "_expected_packet",
            "_preferred_pubkeys",
            "_preferred_keys",
            "active",
            "auth_handler",
            "authenticated",
        ),
        *("clear_to_send", "completion_event", "kex_engine", "local_version", "packetizer"),
        *("saved_exception", "server_mode", "server_object", "host_key_type", "session_id"),
        *("remote_version", "local_cipher", "agreed_on_strict_kex"),
        *("initial_kex_done", "local_kex_init", "_remote_ext_info"),
    },
    AuthHandler: {"auth_username", "authenticated"},
    Channel: {
        *("chanid", "remote_chanid", "in_window_size", "out_window_size", "out_max_packet_size"),
    },
}
# Methods of the packetizer and the socket that only a client, or no one, calls.
UNUSED = {"get_hexdump", "set_hexdump", "set_keepalive"}


def test_paramiko_has_every_private_method_that_we_call_or_override() -> None:
    found = {
        cls: {name: list(inspect.signature(getattr(cls, name)).parameters)[1:] for name in methods}
        for cls, methods in METHODS.items()
    }

    assert found == METHODS


@pytest.mark.parametrize("cls", ATTRIBUTES)
def test_paramiko_has_every_attribute_that_we_use(cls: type) -> None:
    assigned = set(re.findall(r"self\.(\w+)(?:, self\.\w+)* (?:=|: )", inspect.getsource(cls)))

    assert ATTRIBUTES[cls] - assigned - set(dir(cls)) == set()


def test_each_method_that_we_override_takes_what_paramiko_passes() -> None:
    for ours, theirs in ((Transport, ParamikoTransport), (UserauthHandler, AuthHandler)):
        for name in METHODS[theirs]:
            parameters = inspect.signature(getattr(ours, name)).parameters
            assert list(parameters)[1:] == METHODS[theirs][name], name


def test_paramiko_dispatches_channel_messages_through_its_table() -> None:
    table = ParamikoTransport._channel_handler_table  # type: ignore[attr-defined]

    assert {
        MSG_CHANNEL_DATA,
        MSG_CHANNEL_EXTENDED_DATA,
        MSG_CHANNEL_EOF,
        MSG_CHANNEL_CLOSE,
        MSG_CHANNEL_REQUEST,
    } <= set(table)


def test_our_packetizer_and_socket_have_all_that_paramiko_s_transport_uses() -> None:
    source = inspect.getsource(ParamikoTransport)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = ClientSocket()
        connection.start(ours, grace=60)
        packetizer = Packetizer(connection)

    assert set(re.findall(r"self\.packetizer\.(\w+)", source)) - UNUSED <= set(dir(packetizer))
    assert set(re.findall(r"self\.sock\.(\w+)", source)) <= set(dir(connection))


def test_paramiko_knows_every_algorithm_that_is_offered() -> None:
    assert {*KEX, *OLD_KEX} <= set(Transport._kex_info)
    assert set(CIPHERS) <= set(ParamikoTransport._cipher_info)  # type: ignore[attr-defined]
    assert {*MACS, *PLAIN_MACS} <= set(ParamikoTransport._mac_info)  # type: ignore[attr-defined]
    assert set(PUBLIC_KEYS) - set(fido.KINDS) <= set(ParamikoTransport._key_info)  # type: ignore[attr-defined]
    assert KEX[0] == "mlkem768x25519-sha256"
    assert "ssh-rsa" not in PUBLIC_KEYS
