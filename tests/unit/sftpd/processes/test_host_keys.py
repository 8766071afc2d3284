from pathlib import Path
from struct import pack

import pytest
from paramiko.ed25519key import Ed25519Key
from paramiko.message import Message
from paramiko.pkey import PKey

from config.fault import Faults
from config.site import HOST_KEYS
from keys.server_keys import host
from sftpd.processes import host_keys
from sftpd.processes.host_keys import HostKeys, SigningWork

SESSION = b"s" * 32
KINDS = ("ssh_host_ed25519_key", "ssh_host_rsa_key")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[PKey]:
    """An ed25519 and an RSA key."""
    folder = tmp_path_factory.mktemp("keys")
    for name in KINDS:
        host.create_key(folder / name, "", bits=2048 if "rsa" in name else 0)
    return [key for key, _ in host_keys.load(folder / name for name in KINDS).values()]


def string(data: bytes) -> bytes:
    return pack(">I", len(data)) + data


def is_signed_by(key: PKey, text: bytes, signature: bytes) -> bool:
    public = type(key)(data=key.asbytes())  # type: ignore[arg-type]
    return bool(public.verify_ssh_sig(text, Message(signature)))


def test_the_file_name_says_the_kind_of_key(keys: list[PKey]) -> None:
    assert [key.get_name() for key in keys] == ["ssh-ed25519", "ssh-rsa"]


def test_every_key_that_cannot_be_loaded_is_a_fault(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in KINDS]
    paths[0].write_text("rubbish")

    with pytest.raises(Faults) as caught:
        host_keys.load(paths)

    assert [fault.file for fault in caught.value.faults] == [str(path) for path in paths]


@pytest.mark.parametrize("size", host_keys.HASH_SIZES)
@pytest.mark.parametrize(
    ("algorithm", "number"),
    [("ssh-ed25519", 0), ("rsa-sha2-512", 1), ("rsa-sha2-256", 1), ("ssh-rsa", 1)],
)
def test_the_hash_of_a_key_exchange_is_signed(
    keys: list[PKey], algorithm: str, number: int, size: int
) -> None:
    signature = HostKeys(keys, 2).sign_exchange(algorithm, bytes(size))

    assert signature is not None
    assert Message(signature).get_text() == algorithm
    assert is_signed_by(keys[number], bytes(size), signature)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        bytes(31),
        bytes(33),
        bytes(65),
        string(b"hostkeys-prove-00@openssh.com") + string(SESSION) + string(b"key"),
    ],
)
def test_nothing_but_a_hash_is_signed(keys: list[PKey], text: bytes) -> None:
    assert HostKeys(keys, 2).sign_exchange("ssh-ed25519", text) is None


@pytest.mark.parametrize("algorithm", ["ecdsa-sha2-nistp256", "", "rsa-md5"])
def test_an_unknown_algorithm_is_refused(keys: list[PKey], algorithm: str) -> None:
    assert HostKeys(keys, 2).sign_exchange(algorithm, bytes(32)) is None


def test_a_prepared_key_is_proved_and_does_not_sign_exchanges(keys: list[PKey]) -> None:
    prepared = HostKeys(keys, 1)  # the RSA key is prepared

    assert prepared.sign_exchange("rsa-sha2-512", bytes(32)) is None
    [proof] = prepared.prove([1], SESSION, "rsa-sha2-512") or []
    text = string(b"hostkeys-prove-00@openssh.com") + string(SESSION) + string(keys[1].asbytes())
    assert is_signed_by(keys[1], text, proof)
    assert not is_signed_by(keys[1], text + b"x", proof)


def test_proofs_come_in_the_order_of_the_numbers(keys: list[PKey]) -> None:
    proofs = HostKeys(keys, 2).prove([1, 0], SESSION, "rsa-sha2-256") or []

    assert [Message(proof).get_text() for proof in proofs] == ["rsa-sha2-256", "ssh-ed25519"]
    assert HostKeys(keys, 2).prove([0, 2], SESSION, "rsa-sha2-256") is None
    assert HostKeys(keys, 2).prove([-1], SESSION, "rsa-sha2-256") is None


@pytest.mark.parametrize("algorithm", ["", "ssh-ed25519", "\udcff"])
def test_a_proof_with_an_unknown_rsa_algorithm_is_refused(keys: list[PKey], algorithm: str) -> None:
    # The process would otherwise end, and with it the logins of all parties.
    assert HostKeys(keys, 2).prove([0, 1], SESSION, algorithm) is None


def test_prepared_keys_are_announced_but_not_used(tmp_path: Path) -> None:
    host.create_key(tmp_path / HOST_KEYS / KINDS[0], "")
    following = tmp_path / host.NEXT_HOST_KEYS / KINDS[0]
    host.create_key(following, "")

    loaded = host_keys.load(host.announced_host_key_files(tmp_path))
    [(present, _), (announced, _)] = loaded.values()
    ready = SigningWork(tmp_path, {}).prepare()

    assert (len(ready["announced"]), ready["in_use"]) == (2, 1)
    assert isinstance(announced, Ed25519Key)
    assert present != announced
    assert host.announced_host_key_files(tmp_path)[1] == following


def test_a_process_that_is_started_again_loads_only_the_same_files(tmp_path: Path) -> None:
    path = tmp_path / HOST_KEYS / KINDS[0]
    host.create_key(path, "")
    files = SigningWork(tmp_path, {}).prepare()["files"]
    assert list(files) == ["keys/host/ssh_host_ed25519_key"]
    assert SigningWork(tmp_path, files).prepare()["files"] == files
    host.create_key(path, "by hand")

    with pytest.raises(Faults, match="was changed since the server loaded it"):
        SigningWork(tmp_path, files).prepare()
