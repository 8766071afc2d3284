from pathlib import Path
from struct import pack

import pytest
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey

from config.fault import Faults
from config.site import HOST_KEYS
from keys.server_keys import host
from sftpd.ssh import hostkeys

SESSION = b"s" * 32
KINDS = ("ssh_host_ed25519_key", "ssh_host_rsa_key")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[PKey]:
    """An ed25519 and an RSA key."""
    folder = tmp_path_factory.mktemp("keys")
    for name in KINDS:
        host.create_key(folder / name, "", bits=2048 if "rsa" in name else 0)
    return hostkeys.load(folder / name for name in KINDS)


def string(data: bytes) -> bytes:
    return pack(">I", len(data)) + data


def listed(keys: list[PKey]) -> bytes:
    return b"".join(string(key.asbytes()) for key in keys)


def test_the_file_name_says_the_kind_of_key(keys: list[PKey]) -> None:
    assert [key.get_name() for key in keys] == ["ssh-ed25519", "ssh-rsa"]


def test_every_key_that_cannot_be_loaded_is_a_fault(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in KINDS]
    paths[0].write_text("rubbish")

    with pytest.raises(Faults) as caught:
        hostkeys.load(paths)

    assert [fault.file for fault in caught.value.faults] == [str(path) for path in paths]


def test_the_announcement_contains_all_keys(keys: list[PKey]) -> None:
    found = hostkeys.announcement(keys).asbytes()

    assert found == b"\x50" + string(b"hostkeys-00@openssh.com") + b"\0" + listed(keys)


@pytest.mark.parametrize(
    ("agreed", "rsa"),
    [
        ("ssh-ed25519", "rsa-sha2-512"),
        ("rsa-sha2-512", "rsa-sha2-512"),
        ("rsa-sha2-256", "rsa-sha2-256"),
    ],
)
def test_each_key_is_proved_in_the_order_of_the_request(
    keys: list[PKey], agreed: str, rsa: str
) -> None:
    keys = keys[::-1]

    answer = Message(hostkeys.proofs(keys, listed(keys), SESSION, agreed) or b"")

    for key, algorithm in zip(keys, (rsa, "ssh-ed25519"), strict=True):
        signature = answer.get_binary()
        signed = string(b"hostkeys-prove-00@openssh.com") + string(SESSION) + string(key.asbytes())
        assert Message(signature).get_text() == algorithm
        public = type(key)(data=key.asbytes())  # type: ignore[arg-type]
        assert public.verify_ssh_sig(signed, Message(signature))
        assert not public.verify_ssh_sig(signed + b"x", Message(signature))
    assert answer.get_remainder() == b""


def test_a_malformed_request_or_an_unknown_key_is_refused(keys: list[PKey]) -> None:
    other = hostkeys._text_to_sign(SESSION, b"x")
    for request in (
        b"",
        string(b""),
        string(other),
        listed(keys) + string(other),
        listed(keys)[:-1],
        listed(keys) + b"\0\0\0",
        pack(">I", 0xFFFFFFFF),
        listed(keys[:1]) * 17,
    ):
        assert hostkeys.proofs(keys, request, SESSION, "ssh-ed25519") is None


def test_prepared_keys_are_announced_but_not_used(tmp_path: Path) -> None:
    host.create_key(tmp_path / HOST_KEYS / KINDS[0], "")
    following = tmp_path / host.NEXT_HOST_KEYS / KINDS[0]
    host.create_key(following, "")

    [present, announced] = hostkeys.load(host.announced_host_key_files(tmp_path))

    assert host.host_key_files(tmp_path) == [tmp_path / HOST_KEYS / KINDS[0]]
    assert isinstance(announced, Ed25519Key)
    assert present != announced
    assert host.announced_host_key_files(tmp_path)[1] == following
