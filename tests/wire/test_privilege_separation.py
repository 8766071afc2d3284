"""A session has no secret but its own: neither in its memory nor within its reach."""

import base64
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from wire.attacker import key_exchanged, logged_in, private_memory
from wire.server import SECRET, RunningServer, StartServer, until

from config.site import HOST_KEYS, RINGS, SIGNING_KEYS
from keys.credentials import ring
from keys.kernel import user_namespace
from keys.server_keys import host, stamp_key

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can read another memory")
PARTIES = {"parti-a": "127.0.0.1", "parti-b": "127.0.0.2", "parti-c": "127.0.0.3"}
CONTACT = """
[party.contact]
name = "Kisi {id}"
email = "gizli-{id}@example.org"
phone = "+90 312 555 {number}"
"""


def add_secrets(site: Path) -> None:
    """Give the site an RSA host key and a prepared one, and each party a contact."""
    host.create_key(site / HOST_KEYS / "ssh_host_rsa_key", "", bits=2048)
    host.create_key(site / host.NEXT_HOST_KEYS / "ssh_host_ed25519_key", "")
    path = site / "parties.toml"
    head, *parties = path.read_text().split("[[party]]")
    for number, id_ in enumerate(PARTIES):
        contact = CONTACT.format(id=id_, number=f"{number}4 5{number}")
        parties[number] = parties[number] + contact
    path.write_text("[[party]]".join([head, *parties]))


def secrets(site: Path) -> dict[str, bytes]:
    """Return every secret of a site, in each form in which a program holds it."""
    found: dict[str, bytes] = {}
    for folder in (site / HOST_KEYS, site / SIGNING_KEYS):
        for path in folder.rglob("*_key"):
            found |= {f"{path.name} {form}": text for form, text in key_forms(path)}
    if (key := stamp_key.load(site)) is not None:
        found |= {"stamp key": key, "stamp key as text": key.hex().encode()}
    for path in (site / RINGS).glob("*.toml"):
        for credential in ring.load(site, path.stem).credentials:
            if credential.kind is ring.CredentialKind.PASSWORD:
                found[f"hash of {path.stem}"] = credential.secret.encode()
                found[f"end of the hash of {path.stem}"] = credential.secret[-43:].encode()
    for number, id_ in enumerate(PARTIES):
        found[f"mail of {id_}"] = f"gizli-{id_}@example.org".encode()
        found[f"phone of {id_}"] = f"+90 312 555 {number}4 5{number}".encode()
    return found


def key_forms(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a private key as raw bytes, as numbers in both byte orders, and as text."""
    lines = path.read_bytes().splitlines()
    yield "file", lines[len(lines) // 2]
    key = load_ssh_private_key(path.read_bytes(), None)
    if isinstance(key, Ed25519PrivateKey):
        seed = key.private_bytes_raw()
        yield "seed", seed
        yield "base64", base64.b64encode(seed)[:40]
        yield "hexadecimal", seed.hex().encode()
    if isinstance(key, RSAPrivateKey):
        numbers = key.private_numbers()
        for name in ("p", "q", "d"):
            number = getattr(numbers, name)
            size = (number.bit_length() + 7) // 8
            yield f"{name}, big end first", number.to_bytes(size, "big")
            yield f"{name}, little end first", number.to_bytes(size, "little")


def memory(pid: int) -> bytes:
    """Return everything that a process has in memory and could read."""
    found = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb") as mem:
        for line in maps:
            place, rights, *_, name = [*line.split(maxsplit=5), ""][:7]
            if not rights.startswith("r") or "[v" in name:
                continue
            start, end = (int(at, 16) for at in place.split("-"))
            try:
                mem.seek(start)
                found.append(mem.read(end - start))
            except OSError:
                continue
    return b"".join(found)


def secrets_in(pid: int, known: dict[str, bytes]) -> list[str]:
    held = memory(pid)
    assert len(held) > 1 << 20
    return [name for name, text in known.items() if text in held]


@needs_root
def test_no_secret_of_the_site_or_of_a_party_is_in_the_memory_of_a_session(
    serve: StartServer,
) -> None:
    server = serve(PARTIES, before=add_secrets)
    known = secrets(server.site)
    assert len(known) > 20
    with key_exchanged(server) as before_login:
        [child] = server.children()
        assert secrets_in(child, known) == []
        # A refused password, so that the hashes of this party were compared.
        with pytest.raises(paramiko.AuthenticationException):
            before_login.auth_password("parti-a", "wrong", fallback=False)
        assert secrets_in(child, known) == []
    until(lambda: not server.children())
    with server.connect("parti-a", password=SECRET) as client, client.open_sftp() as sftp:
        assert sftp.listdir("/") == ["2023-05-14-cb-mv", "BENIOKU.txt"]
        [child] = server.children()
        assert secrets_in(child, known) == []
        server.reload()
        with server.connect("parti-b", source="127.0.0.2"):
            for pid in server.children():
                assert secrets_in(pid, known) == []


@needs_root
def test_the_scan_finds_the_secrets_where_they_are(serve: StartServer) -> None:
    server = serve(PARTIES, before=add_secrets)
    known = secrets(server.site)

    signer, forker = server.server_process("hostkeys"), server.server_process("forker")
    assert [name for name in secrets_in(signer, known) if "seed" in name or " d, " in name]
    assert [name for name in secrets_in(server.process.pid, known) if "hash of" in name]
    assert "stamp key" in secrets_in(server.process.pid, known)
    assert secrets_in(forker, known) == []


PROBE = """
import structlog
from sftpd.ssh.transport import Transport
real_run = Transport.run
probed = (site / "probe").read_text().splitlines() if (site / "probe").exists() else []
def probing_run(transport):
    opened = []
    for path in probed:
        try:
            Path(path).read_bytes()
            opened.append(path)
        except IsADirectoryError:
            opened.append(path)
        except OSError:
            pass
    structlog.get_logger().info("probed", opened=opened)
    real_run(transport)
Transport.run = probing_run
"""


def test_before_the_login_no_file_of_the_site_or_the_machine_can_be_opened(
    serve: StartServer,
) -> None:
    def name_targets(site: Path) -> None:
        add_secrets(site)
        files = [path for path in site.rglob("*") if path.is_file() and path.name != "probe"]
        own = site / "trees" / "parti-a"
        targets = [path for path in files if not path.is_relative_to(own)]
        assert len(targets) > 12
        machine = ["/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/self/maps"]
        if os.geteuid() == 0 or user_namespace.lets_change_root():
            targets += [own / "BENIOKU.txt"]  # out of reach behind an empty root directory
        (site / "probe").write_text("\n".join([*map(str, targets), *machine]))

    server = serve(PARTIES, before=name_targets, patch=PROBE)
    with key_exchanged(server):
        until(lambda: server.log.read_text().count('"probed"') == 2)

    lines = map(json.loads, server.log.read_text().splitlines())
    # The first one is the login that the forker makes itself, without a sandbox.
    unrestricted, opened = [line["opened"] for line in lines if line["event"] == "probed"]
    assert len(unrestricted) > 12
    assert opened == []


def test_a_secret_that_is_planted_in_a_tree_is_not_served(serve: StartServer) -> None:
    server = serve()
    tree = server.site / "trees" / "parti-a"
    (tree / "anahtar").hardlink_to(server.site / SIGNING_KEYS / host.SIGNING_KEY)
    (tree / "partiler").hardlink_to(server.site / "parties.toml")
    (tree / "halka").hardlink_to(ring.ring_path(server.site, "parti-a"))
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        assert sftp.listdir("/") == ["2023-05-14-cb-mv", "BENIOKU.txt"]
        for name in ("anahtar", "partiler", "halka"):
            with pytest.raises(FileNotFoundError):
                sftp.open(name)
            with pytest.raises(FileNotFoundError):
                sftp.stat(name)
    assert "file-not-published" in server.log.read_text()


@pytest.mark.parametrize("name", ["judge", "hostkeys", "forker"])
def test_a_helper_process_that_is_killed_is_replaced_and_no_session_ends(
    serve: StartServer, name: str
) -> None:
    server = serve()
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        killed = server.server_process(name)
        os.kill(killed, signal.SIGKILL)
        until(lambda: f'"name": "{name}"' in server.log.read_text())
        until(lambda: server.sftp("parti-a", "ls\n").returncode == 0, 30)
        assert server.server_process(name) != killed
        assert sftp.listdir("/") == ["2023-05-14-cb-mv", "BENIOKU.txt"]
    assert server.sftp("parti-a", "ls\n").returncode == 0
    lines = map(json.loads, server.log.read_text().splitlines())
    assert [line["name"] for line in lines if line["event"] == "process-died"] == [name]


def test_the_helpers_end_with_the_server(serve: StartServer) -> None:
    server = serve()
    processes = [server.server_process(name) for name in ("judge", "hostkeys", "forker")]
    server.process.kill()
    server.process.wait()
    until(lambda: not any(is_running(pid) for pid in processes))
    server.mark_ended()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_session_has_no_descriptor_but_its_own(serve: StartServer) -> None:
    server = serve()
    with logged_in(server):
        [child] = server.children()
        if os.geteuid() != 0:
            pytest.skip("only root can list the descriptors of another process")
        held = sorted(str(path.readlink()) for path in Path(f"/proc/{child}/fd").iterdir())
    sockets = [name for name in held if name.startswith("socket:")]
    others = [name for name in held if "memfd:closes" not in name and name not in sockets]
    tree = str(server.site / "trees" / "parti-a")
    assert len(sockets) == 2  # the client and the monitor
    assert set(others) <= {"/dev/null", str(server.log), tree, held[0]}


@needs_root
def test_a_session_takes_little_memory(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a") as client, client.open_sftp() as sftp:
        with sftp.open("BENIOKU.txt") as file:
            assert file.read() == b"parti-a\n"
        [child] = server.children()
        assert private_memory(child) < 6 << 20


def test_the_monitor_is_the_parent_of_each_session(serve: StartServer) -> None:
    server: RunningServer = serve()
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.recv(8)
        [child] = server.children()
        parent = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1]
    assert int(parent) == server.process.pid
