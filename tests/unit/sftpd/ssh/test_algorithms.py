import pytest

from sftpd.ssh.algorithms import GCM_CIPHERS, MACS, preferred_ciphers, preferred_macs

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
