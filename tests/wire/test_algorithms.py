import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1
from paramiko.message import Message
from wire.login_client import FAILURE, SUCCESS, login_client
from wire.server import OPENS, SECRET, RunningServer, StartServer, setting, until

from keys.credentials import ring, rotation
from keys.operations import ring_files
from keys.server_keys import host
from sftpd.ssh.algorithms import CIPHERS, HOST_KEYS, KEX, MACS, OLD_KEX, PLAIN_MACS

COMPATIBLE = 'algorithms = "compatible"'
PARAMIKO_KEX = [name for name in KEX if name != "curve25519-sha256"]  # it knows the old name only
NOT_POST_QUANTUM = "does not provide protection against post-quantum attacks"


def add_rsa_key(site: Path) -> None:
    host.create_key(site / "keys/host" / "ssh_host_rsa_key", "", bits=4096)


def audit_findings(server: RunningServer) -> dict[str, dict[str, set[str]]]:
    """Return the findings of ssh-audit: level -> algorithm -> messages."""
    command = [sys.executable, "-m", "ssh_audit.ssh_audit", "-j", "-t", "20"]
    done = subprocess.run(
        [*command, "-p", str(server.port), "127.0.0.1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found: dict[str, dict[str, set[str]]] = {"fail": {}, "warn": {}}
    report = json.loads(done.stdout)
    assert report["banner"]["raw"] == "SSH-2.0-ssps"
    for kind in ("kex", "key", "enc", "mac"):
        assert report[kind]
        for item in report[kind]:
            for level, named in found.items():
                if notes := item.get("notes", {}).get(level):
                    named[item["algorithm"]] = set(notes)
    assert not report["cves"]
    return found


def test_ssh_audit_finds_only_the_classical_fallback(serve: StartServer) -> None:
    found = audit_findings(serve(before=add_rsa_key))

    assert found["fail"] == {}
    assert set(found["warn"]) == set(KEX[1:])
    for words in found["warn"].values():
        assert all(NOT_POST_QUANTUM in text for text in words)


def test_ssh_audit_finds_nothing_on_a_post_quantum_site(serve: StartServer) -> None:
    server = serve(before=lambda site: (add_rsa_key(site), setting('algorithms = "pq-only"')(site)))

    assert audit_findings(server) == {"fail": {}, "warn": {}}
    assert server.sftp("parti-a", "ls\n", f"-oKexAlgorithms={KEX[1]}").returncode == 255
    assert kex_of(server, PARAMIKO_KEX[::-1]) == "mlkem768x25519-sha256"


def kex_of(server: RunningServer, offered: Sequence[str] = ()) -> object:
    """Log in with paramiko, offering these key exchanges or its own; return the one chosen."""
    with (
        socket.create_connection(("127.0.0.1", server.port)) as sock,
        paramiko.Transport(sock) as transport,
    ):
        if offered:
            transport.get_security_options().kex = offered
        key = paramiko.Ed25519Key(filename=str(server.site / "clients" / "parti-a"))
        transport.connect(username="parti-a", pkey=key)
        with paramiko.SFTPClient.from_transport(transport) as sftp:  # type: ignore[union-attr]
            assert sftp.listdir("/")
    return server.records("login")[-1].event.detail["kex"]


def test_every_offered_algorithm_works(serve: StartServer) -> None:
    server = serve(before=add_rsa_key)
    for name in PARAMIKO_KEX:
        assert kex_of(server, [name]) == name
    for name in CIPHERS:
        assert server.sftp("parti-a", "ls\n", f"-oCiphers={name}").returncode == 0, name
    for name in MACS:
        more = ("-oCiphers=aes256-ctr", f"-oMACs={name}")
        assert server.sftp("parti-a", "ls\n", *more).returncode == 0, name
    for name in HOST_KEYS:
        only = f"-oHostKeyAlgorithms={name}"
        assert server.sftp("parti-a", "ls\n", only).returncode == 0, name
    for name in KEX[1:]:
        assert server.sftp("parti-a", "ls\n", f"-oKexAlgorithms={name}").returncode == 0, name
    assert {record.event.detail["cipher"] for record in server.records("login")} >= set(CIPHERS)


def test_the_first_key_exchange_offered_is_post_quantum(serve: StartServer) -> None:
    assert kex_of(serve()) == "mlkem768x25519-sha256"


def test_curl_of_debian_12_connects_only_to_a_compatible_site(
    serve: StartServer, tmp_path: Path
) -> None:
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True)
    if "libssh2/1.10." not in version.stdout:
        pytest.skip("this curl is not built with libssh2 1.10 as in Debian 12")
    content = os.urandom(1_000_000)

    def add_page(site: Path) -> None:
        (site / "trees/parti-a/2023-05-14-cb-mv/sayfa.jpg").write_bytes(content)

    strict = serve(before=add_page, name="strict")
    server = serve(before=lambda site: (add_page(site), setting(COMPATIBLE)(site)))

    assert curl(strict, "/").returncode != 0
    listed = curl(server, "/2023-05-14-cb-mv/")
    by_key = curl(server, "/2023-05-14-cb-mv/sayfa.jpg", "-o", str(tmp_path / "got"))
    by_password = curl(server, "/2023-05-14-cb-mv/sayfa.jpg", user=f"parti-a:{SECRET}")
    tail = curl(server, "/2023-05-14-cb-mv/sayfa.jpg", "-r", "900000-")

    assert by_key.returncode == 0, by_key.stderr
    assert b"sayfa.jpg" in listed.stdout
    assert (tmp_path / "got").read_bytes() == by_password.stdout == content
    assert tail.stdout == content[900_000:]
    assert {record.event.detail["client"] for record in server.records("login")} == {
        "SSH-2.0-libssh2_1.10.0"
    }


def curl(
    server: RunningServer, path: str, *more: str, user: str = "parti-a:"
) -> "subprocess.CompletedProcess[bytes]":
    key = server.site / "clients" / "parti-a"
    public = (server.site / "keys/host/ssh_host_ed25519_key.pub").read_text().split()[1]
    print_of = base64.b64encode(hashlib.sha256(base64.b64decode(public)).digest()).decode()
    known = ["--hostpubsha256", print_of.rstrip("=")]
    keys = ["--key", str(key), "--pubkey", f"{key}.pub"] if user.endswith(":") else []
    return subprocess.run(
        ["curl", "-sS", "-u", user, *known, *keys, f"sftp://127.0.0.1:{server.port}{path}", *more],
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_modern_clients_get_the_same_algorithms_on_a_compatible_site(serve: StartServer) -> None:
    server = serve(before=setting(COMPATIBLE))

    agreed = server.sftp("parti-a", "ls\n", "-v", "-oCiphers=aes128-ctr").stderr
    assert agreed.count("cipher: aes128-ctr MAC: hmac-sha2-256-etm@openssh.com") == 2
    server.sftp("parti-a", "ls\n")
    assert "-gcm@" in str(server.records("login")[-1].event.detail["cipher"])
    plain_first = ("-v", "-oCiphers=aes128-ctr", f"-oMACs={PLAIN_MACS[0]},{MACS[0]}")
    agreed = server.sftp("parti-a", "ls\n", *plain_first).stderr
    assert agreed.count(f"MAC: {MACS[0]} ") == 2
    for name in PLAIN_MACS:
        more = ("-oCiphers=aes128-ctr", f"-oMACs={name}")
        assert server.sftp("parti-a", "ls\n", *more).returncode == 0, name
    found = audit_findings(server)
    assert found["fail"] == {}
    # A client that offers encrypt-then-MAC, as ssh-audit does, gets no other MAC.
    assert set(found["warn"]) == set(KEX[1:])


def test_signatures_over_sha1_are_refused(serve: StartServer) -> None:
    server = serve()
    line = host.create_key(server.site / "clients" / "rsa", "rsa", bits=3072)
    start = OPENS - timedelta(days=1)
    credential = ring.key_credential(
        line, label="", not_before=start, not_after=None, added_by="test"
    )
    ring_files.apply(server.site, rotation.add(ring.load(server.site, "parti-a"), credential))
    key = paramiko.RSAKey(filename=str(server.site / "clients" / "rsa"))
    sha1 = _Sha1(filename=str(server.site / "clients" / "rsa"))

    with login_client(server) as client:
        assert client.probe("parti-a", key, "ssh-rsa")[0] == FAILURE
        assert client.sign("parti-a", sha1, "ssh-rsa")[0] == FAILURE
        # A SHA-1 signature that claims to be SHA-256.
        assert client.sign("parti-a", sha1, "rsa-sha2-256")[0] == FAILURE
        assert client.sign("parti-a", key, "rsa-sha2-512")[0] == SUCCESS
    with login_client(server) as client:
        assert client.sign("parti-a", key, "rsa-sha2-256")[0] == SUCCESS
    only = "-oPubkeyAcceptedAlgorithms=ssh-rsa"
    assert server.sftp("parti-a", "ls\n", only, key="rsa").returncode == 255


def test_signatures_over_sha1_are_accepted_only_where_the_site_says_so(serve: StartServer) -> None:
    def prepare(site: Path) -> None:
        add_rsa_key(site)
        setting("sha1_signatures = true")(site)

    server = serve(before=prepare)
    line = host.create_key(server.site / "clients" / "rsa", "rsa", bits=3072)
    start = OPENS - timedelta(days=1)
    credential = ring.key_credential(
        line, label="", not_before=start, not_after=None, added_by="test"
    )
    ring_files.apply(server.site, rotation.add(ring.load(server.site, "parti-a"), credential))
    sha1 = _Sha1(filename=str(server.site / "clients" / "rsa"))

    with login_client(server) as client:
        assert client.sign("parti-a", sha1, "rsa-sha2-256")[0] == FAILURE
        assert client.sign("parti-a", sha1, "ssh-rsa")[0] == SUCCESS
    only = ("-oHostKeyAlgorithms=ssh-rsa", "-oPubkeyAcceptedAlgorithms=ssh-rsa")
    done = server.sftp("parti-a", "ls\n", *only, key="rsa")
    assert done.returncode == 0, done.stderr
    assert '"event": "weak-algorithm"' in server.log.read_text()


@pytest.mark.parametrize("name", OLD_KEX)
def test_an_old_client_connects_only_to_a_compatible_site(serve: StartServer, name: str) -> None:
    server, strict = serve(before=setting(COMPATIBLE)), serve(name="strict")

    only = f"-oKexAlgorithms={name}"
    assert server.sftp("parti-a", "ls\n", only).returncode == 0
    assert server.records("login")[-1].event.detail["kex"] == name
    assert server.sftp("parti-a", "ls\n", f"{only},{KEX[2]}").returncode == 0
    assert server.records("login")[-1].event.detail["kex"] == KEX[2]

    assert strict.sftp("parti-a", "ls\n", only).returncode == 255
    until(lambda: strict.records("session-end"))
    [end] = strict.details("session-end")
    assert str(end["client"]).startswith("SSH-2.0-OpenSSH_")
    assert end["missing"] == f"key exchange: {name}"
    assert end["reason"] == "protocol error"


class _Sha1(paramiko.RSAKey):
    """Signs with SHA-1 (RFC 4253, section 6.6)."""

    def sign_ssh_data(self, data: bytes, algorithm: str | None = None) -> Message:
        signature = Message()
        signature.add_string("ssh-rsa")
        signed = self.key.sign(data, PKCS1v15(), SHA1())  # type: ignore[union-attr]  # noqa: S303
        signature.add_string(signed)
        return signature
