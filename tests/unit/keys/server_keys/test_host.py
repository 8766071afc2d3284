import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.site import HOST_KEYS, SIGNING_KEYS
from keys.operations import site_keys
from keys.server_keys import host, sshsig

NOW = datetime(2023, 5, 14, 12, tzinfo=UTC)
ED25519 = HOST_KEYS / "ssh_host_ed25519_key"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(host, "_RSA_BITS", 3072)  # faster
    host.create_site_keys(tmp_path)
    (tmp_path / "keys").chmod(0o700)
    return tmp_path


def fingerprints(site: Path, *, following: bool = False) -> list[str]:
    return [line.fingerprint for line in host.public_host_keys(site, next_keys=following)]


@pytest.mark.slow
def test_the_next_keys_are_announced_and_then_used(site: Path) -> None:
    before = fingerprints(site)

    host.prepare_next(site / HOST_KEYS)
    following = fingerprints(site, following=True)
    host.prepare_next(site / HOST_KEYS)
    assert fingerprints(site, following=True) == following  # the announced ones are kept
    assert fingerprints(site) == before
    assert len(host.announced_host_key_files(site)) == 4

    host.promote_next(site / HOST_KEYS, NOW)
    assert fingerprints(site) == following
    assert fingerprints(site, following=True) == []
    assert [key.fingerprint for key, _ in host.former_keys(site / HOST_KEYS)] == sorted(
        before, key=before.index
    )
    assert {until for _, until in host.former_keys(site / HOST_KEYS)} == {NOW}
    assert host.faults(site) == []
    public = (site / HOST_KEYS / "ssh_host_ed25519_key.pub").read_text().split()
    assert host.read_public_key(site / ED25519).blob == public[1]


@pytest.mark.slow
@pytest.mark.parametrize("moves", range(2))
def test_an_interrupted_promotion_is_finished_by_a_second_call(
    site: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    host.prepare_next(site / HOST_KEYS)
    following = fingerprints(site, following=True)
    replace, left = Path.replace, list(range(moves))

    def dies(self: Path, target: Path) -> Path:
        if self.parent.name == "next":
            if not left:
                raise OSError(5, "Input/output error")
            left.pop()
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(OSError, match="Input/output"):
            host.promote_next(site / HOST_KEYS, NOW)
    assert len(host.host_key_files(site)) == 2

    host.promote_next(site / HOST_KEYS, NOW)

    assert fingerprints(site) == following


@pytest.mark.slow
def test_next_keys_can_be_withdrawn(site: Path) -> None:
    before = fingerprints(site)
    host.prepare_next(site / HOST_KEYS)
    host.withdraw_next(site / HOST_KEYS)
    assert (fingerprints(site), fingerprints(site, following=True)) == (before, [])
    assert list((site / HOST_KEYS / "next").iterdir()) == []


def test_sshfp_records_are_those_of_ssh_keygen(site: Path) -> None:
    for path in host.host_key_files(site):
        command = ["ssh-keygen", "-r", "sonuc.example", "-f", f"{path}.pub"]
        theirs = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        ours = (
            host.read_public_key(path)
            .sshfp("sonuc.example.")
            .replace("sonuc.example.", "sonuc.example")
        )
        assert ours in theirs.splitlines()


def test_a_signature_by_a_former_key_still_verifies_with_openssh(site: Path) -> None:
    old = sshsig.sign(site_keys.signing_key(site), b"first")
    host.prepare_next(site / SIGNING_KEYS)
    host.promote_next(site / SIGNING_KEYS, NOW)
    new = sshsig.sign(site_keys.signing_key(site), b"second")
    (site / "allowed").write_text(host.allowed_signers(site, "ysk"))

    codes = []
    for message, signature in ((b"first", old), (b"second", new), (b"second", old)):
        (site / "sig").write_bytes(signature)
        command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "ysk", "-n", "ssps"]
        command += ["-s", "sig"]
        done = subprocess.run(command, input=message, cwd=site, capture_output=True)
        codes.append(done.returncode)

    assert codes == [0, 0, 255]
