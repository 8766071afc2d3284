import shutil
import subprocess
from pathlib import Path

import paramiko
from wire.server import RunningServer, StartServer

from config.site import HOST_KEYS
from keys.server_keys import host
from sftpd.ssh import hostkeys


def prepare_key(site: Path, kind: str) -> str:
    """Prepare a host key of a kind, and return it in known_hosts form."""
    bits = 4096 if kind == "rsa" else 0
    line = host.create_key(site / host.NEXT_HOST_KEYS / f"ssh_host_{kind}_key", "", bits=bits)
    return " ".join(line.split()[:2])


def known_keys(path: Path) -> set[str]:
    """Return the keys in a known_hosts file."""
    return {" ".join(line.split()[1:3]) for line in path.read_text().splitlines()}


def sftp(server: RunningServer, *options: str) -> subprocess.CompletedProcess[str]:
    """Log in with OpenSSH options that take precedence over the usual ones."""
    command = ["sftp", *options, *server.ssh("parti-a"), "-b", "-", "127.0.0.1"]
    return subprocess.run(
        command, input="ls\n", capture_output=True, text=True, timeout=30, check=False
    )


def log_in_learning_keys(server: RunningServer, hosts: Path, *more: str) -> None:
    """Log in as a client that learns new host keys without asking its user."""
    done = sftp(
        server,
        *more,
        f"-oUserKnownHostsFile={hosts}",
        "-oUpdateHostKeys=yes",
        "-oHostKeyAlias=ssps",
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_a_client_learns_prepared_keys_before_the_old_key_is_removed(
    serve: StartServer, tmp_path: Path
) -> None:
    prepared: list[str] = []

    def prepare(site: Path) -> None:
        prepared.extend((prepare_key(site, "ed25519"), prepare_key(site, "rsa")))

    server = serve(before=prepare)
    folder = server.site / HOST_KEYS
    old = " ".join((folder / "ssh_host_ed25519_key.pub").read_text().split()[:2])
    hosts = tmp_path / "hosts"
    hosts.write_text(f"ssps {old}\n")

    log_in_learning_keys(server, hosts)
    assert known_keys(hosts) == {old, *prepared}

    server.stop()
    for path in (folder / "next").iterdir():
        shutil.move(path, folder / path.name)
    server = serve(again=True)

    for algorithm in ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"):
        log_in_learning_keys(
            server, hosts, "-oUpdateHostKeys=no", f"-oHostKeyAlgorithms={algorithm}"
        )
    log_in_learning_keys(server, hosts)
    # The old key is not announced any more, so the client has removed it.
    assert known_keys(hosts) == set(prepared)


def test_a_host_key_changes_without_a_restart(serve: StartServer, tmp_path: Path) -> None:
    server = serve()
    folder = server.site / HOST_KEYS
    hosts = tmp_path / "hosts"
    old = " ".join((folder / "ssh_host_ed25519_key.pub").read_text().split()[:2])
    hosts.write_text(f"ssps {old}\n")

    prepared = prepare_key(server.site, "ed25519")
    server.reload()
    log_in_learning_keys(server, hosts)
    assert known_keys(hosts) == {old, prepared}

    for path in (folder / "next").iterdir():
        shutil.move(path, folder / path.name)
    server.reload()
    log_in_learning_keys(server, hosts)
    assert known_keys(hosts) == {prepared}


def test_a_prepared_host_key_is_not_used_yet(serve: StartServer, tmp_path: Path) -> None:
    prepared: list[str] = []
    server = serve(before=lambda site: prepared.append(prepare_key(site, "ed25519")))
    hosts = tmp_path / "hosts"
    hosts.write_text(f"ssps {prepared[0]}\n")

    done = sftp(server, f"-oUserKnownHostsFile={hosts}", "-oHostKeyAlias=ssps")

    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_a_foreign_host_key_is_not_proved(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a") as client:
        transport = client.get_transport()
        assert transport is not None
        ours = transport.get_remote_server_key().asbytes()
        stranger = paramiko.Ed25519Key(filename=str(server.site / "clients" / "stranger"))
        assert transport.global_request(hostkeys.PROVE, (ours,)) is not None
        assert transport.global_request(hostkeys.PROVE, (stranger.asbytes(),)) is None
        assert transport.global_request(hostkeys.PROVE, (ours, stranger.asbytes())) is None
        assert transport.global_request("no-such@example.com", (ours,)) is None
