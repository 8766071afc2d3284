from struct import pack

import pytest
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from sftpd.ssh import hostkeys
from sftpd.ssh.hostkeys import RemoteHostKey


def string(data: bytes) -> bytes:
    return pack(">I", len(data)) + data


ONE, TWO = string(b"ssh-ed25519") + string(b"1"), string(b"ssh-rsa") + string(b"2")
ANNOUNCED = (ONE, TWO)


def test_the_announcement_contains_all_keys() -> None:
    found = hostkeys.announcement(ANNOUNCED).asbytes()

    listed = string(ONE) + string(TWO)
    assert found == b"\x50" + string(b"hostkeys-00@openssh.com") + b"\0" + listed


def test_the_keys_that_a_client_asks_for_are_numbered_in_its_order() -> None:
    assert hostkeys.requested(ANNOUNCED, string(TWO) + string(ONE)) == [1, 0]


def test_a_malformed_request_or_an_unknown_key_is_refused() -> None:
    listed = string(ONE) + string(TWO)
    for request in (
        b"",
        string(b""),
        string(b"x"),
        listed + string(b"x"),
        listed[:-1],
        listed + b"\0\0\0",
        pack(">I", 0xFFFFFFFF),
        string(ONE) * 17,
    ):
        assert hostkeys.requested(ANNOUNCED, request) == []


@pytest.mark.parametrize(
    ("negotiated", "rsa"),
    [
        ("ssh-ed25519", "rsa-sha2-512"),
        ("rsa-sha2-512", "rsa-sha2-512"),
        ("rsa-sha2-256", "rsa-sha2-256"),
    ],
)
def test_rsa_keys_are_proved_with_the_negotiated_algorithm(negotiated: str, rsa: str) -> None:
    assert hostkeys.rsa_algorithm(negotiated) == rsa


def test_a_host_key_has_its_signatures_made_elsewhere() -> None:
    asked = []

    def sign(algorithm: str, exchange_hash: bytes) -> bytes:
        asked.append((algorithm, exchange_hash))
        return b"signature"

    key = RemoteHostKey(TWO, sign)

    assert (key.get_name(), key.asbytes()) == ("ssh-rsa", TWO)
    assert key.sign_ssh_data(b"hash", "rsa-sha2-512").asbytes() == b"signature"
    assert asked == [("rsa-sha2-512", b"hash")]


def test_a_refused_signature_ends_the_key_exchange() -> None:
    key = RemoteHostKey(ONE, lambda *_: None)

    with pytest.raises(SSHException, match="does not sign"):
        key.sign_ssh_data(b"hash")


def test_a_host_key_in_a_message_is_its_public_half() -> None:
    message = Message()
    message.add_string(RemoteHostKey(ONE, lambda *_: None).asbytes())
    assert message.asbytes() == string(ONE)
