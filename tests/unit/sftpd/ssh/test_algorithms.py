from dataclasses import replace

import pytest

from config.settings import Algorithms, SftpSettings
from sftpd.ssh import algorithms
from sftpd.ssh.algorithms import (
    GCM_CIPHERS,
    HOST_KEYS,
    KEX,
    MACS,
    OLD_KEX,
    PLAIN_MACS,
    PQ_KEX,
    PUBLIC_KEYS,
    preferred_ciphers,
    preferred_kex,
    preferred_macs,
)

DEFAULT = SftpSettings("127.0.0.1", 22, 512, 32)
COMPATIBLE = replace(DEFAULT, algorithms=Algorithms.COMPATIBLE)

GCM, CTR = b"aes128-ctr,aes128-gcm@openssh.com", b"aes128-ctr"
ETM, PLAIN = b"hmac-sha2-256,hmac-sha2-256-etm@openssh.com", b"hmac-sha2-256"


def kexinit(*lists: bytes) -> bytes:
    """Return a KEXINIT with the two key lists and `lists` after them."""
    names = [b"mlkem768x25519-sha256", b"ssh-ed25519", *lists]
    return bytes(17) + b"".join(len(x).to_bytes(4, "big") + x for x in names)


@pytest.mark.parametrize(
    ("message", "preferred"),
    [
        (kexinit(GCM, GCM), GCM_CIPHERS),
        (kexinit(GCM, CTR), None),
        (kexinit(CTR, GCM), None),
        (b"", None),
    ],
)
def test_gcm_alone_is_offered_if_the_client_lists_it_in_both_directions(
    message: bytes, preferred: tuple[str, ...] | None
) -> None:
    assert preferred_ciphers(message) == preferred


@pytest.mark.parametrize(
    ("message", "preferred"),
    [
        (kexinit(CTR, CTR, ETM, ETM), MACS),
        (kexinit(CTR, CTR, ETM, PLAIN), None),
        (kexinit(CTR, CTR), None),
    ],
)
def test_encrypt_then_mac_alone_is_offered_if_the_client_lists_it_in_both_directions(
    message: bytes, preferred: tuple[str, ...] | None
) -> None:
    assert preferred_macs(message) == preferred


def lists(*names: bytes) -> bytes:
    """Return a KEXINIT with these lists."""
    return bytes(17) + b"".join(len(x).to_bytes(4, "big") + x for x in names)


def test_old_key_exchanges_are_offered_only_to_a_client_without_a_better_one() -> None:
    offered = (*KEX, *OLD_KEX)

    assert preferred_kex(lists(b"ecdh-sha2-nistp256,curve25519-sha256"), offered) == KEX
    assert preferred_kex(lists(b"ecdh-sha2-nistp256,ext-info-c"), offered) is None
    assert preferred_kex(b"", offered) is None


def test_what_client_and_server_do_not_have_in_common_is_named() -> None:
    ours = lists(b"curve25519-sha256", b"ssh-ed25519", GCM, GCM, ETM, ETM)
    jsch = lists(
        b"ecdh-sha2-nistp256,diffie-hellman-group1-sha1,kex-strict-c-v00@openssh.com",
        b"ssh-rsa,ssh-dss", CTR, CTR, b"hmac-md5,hmac-sha1", b"hmac-md5,hmac-sha1",
    )  # fmt: skip

    assert algorithms.nothing_in_common(jsch, ours) == (
        "key exchange: ecdh-sha2-nistp256,diffie-hellman-group1-sha1; host key: ssh-rsa,ssh-dss; "
        "MAC: hmac-md5,hmac-sha1"
    )
    assert algorithms.nothing_in_common(ours, ours) == ""


def test_weak_algorithms_are_offered_only_if_a_setting_says_so() -> None:
    everything = replace(COMPATIBLE, sha1_signatures=True)
    offered = algorithms.offer(everything)

    assert algorithms.offer(DEFAULT) == algorithms.Offer(KEX, MACS, HOST_KEYS, PUBLIC_KEYS)
    assert algorithms.weaknesses(DEFAULT) == {}
    assert algorithms.offer(replace(DEFAULT, algorithms=Algorithms.PQ_ONLY)).kex == PQ_KEX
    assert set(algorithms.weaknesses(COMPATIBLE)) == {*OLD_KEX, *PLAIN_MACS}
    assert set(algorithms.weaknesses(everything)) == {*OLD_KEX, *PLAIN_MACS, "ssh-rsa"}
    assert offered.host_keys[-1] == offered.public_keys[-1] == "ssh-rsa"


@pytest.mark.parametrize(
    ("missing", "setting"),
    [
        ({"MAC": "hmac-md5,hmac-sha2-256"}, '`algorithms = "compatible"`'),
        ({"key exchange": "diffie-hellman-group1-sha1"}, ""),
        (
            {"key exchange": "ecdh-sha2-nistp256", "host key": "ssh-rsa"},
            '`algorithms = "compatible"` and `sha1_signatures = true`',
        ),
    ],
)
def test_the_setting_that_admits_a_client_is_named(missing: dict[str, str], setting: str) -> None:
    assert algorithms.setting_for(missing) == setting
