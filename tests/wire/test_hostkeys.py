import shutil
import signal
import subprocess
from pathlib import Path

import paramiko
from wire.served import Serve, Served, until
from wire.test_server import connected

from config.site import HOST_KEYS
from keys.server_keys import host
from sftpd.ssh import hostkeys


def next_key(site: Path, kind: str) -> str:
    """Make the next key of a kind, and return it as known_hosts has it."""
    bits = 4096 if kind == "rsa" else 0
    line = host.create_key(site / host.NEXT_HOST_KEYS / f"ssh_host_{kind}_key", "", bits=bits)
    return " ".join(line.split()[:2])


def known(path: Path) -> set[str]:
    """The keys that a client knows of the server."""
    return {" ".join(line.split()[1:3]) for line in path.read_text().splitlines()}


def sftp(served: Served, *options: str) -> subprocess.CompletedProcess[str]:
    """Log in with options of OpenSSH's that go before the test's own."""
    command = ["sftp", *options, *served.ssh("parti-a"), "-b", "-", "127.0.0.1"]
    return subprocess.run(
        command, input="ls\n", capture_output=True, text=True, timeout=30, check=False
    )


def learning(served: Served, hosts: Path, *more: str) -> None:
    """Log in as a client that takes up new host keys, and is never asked."""
    done = sftp(
        served,
        *more,
        f"-oUserKnownHostsFile={hosts}",
        "-oUpdateHostKeys=yes",
        "-oHostKeyAlias=ssps",
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_a_client_learns_the_next_keys_before_the_old_one_goes(
    serve: Serve, tmp_path: Path
) -> None:
    following: list[str] = []

    def prepare(site: Path) -> None:
        following.extend((next_key(site, "ed25519"), next_key(site, "rsa")))

    served = serve(before=prepare)
    folder = served.site / HOST_KEYS
    old = " ".join((folder / "ssh_host_ed25519_key.pub").read_text().split()[:2])
    hosts = tmp_path / "hosts"
    hosts.write_text(f"ssps {old}\n")

    learning(served, hosts)
    assert known(hosts) == {old, *following}

    served.stop()
    for path in (folder / "next").iterdir():
        shutil.move(path, folder / path.name)
    served = serve(again=True)

    for algorithm in ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"):
        learning(served, hosts, "-oUpdateHostKeys=no", f"-oHostKeyAlgorithms={algorithm}")
    learning(served, hosts)
    # The old one is taken back: it is not announced any more.
    assert known(hosts) == set(following)


def test_a_key_changes_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    served = serve()
    folder = served.site / HOST_KEYS
    hosts = tmp_path / "hosts"
    old = " ".join((folder / "ssh_host_ed25519_key.pub").read_text().split()[:2])
    hosts.write_text(f"ssps {old}\n")

    following = next_key(served.site, "ed25519")
    reload(served, 1)
    learning(served, hosts)
    assert known(hosts) == {old, following}

    for path in (folder / "next").iterdir():
        shutil.move(path, folder / path.name)
    reload(served, 2)
    learning(served, hosts)
    assert known(hosts) == {following}


def reload(served: Served, times: int) -> None:
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.log.read_text().count("settings-reloaded") == times)


def test_a_next_key_is_not_used_yet(serve: Serve, tmp_path: Path) -> None:
    following: list[str] = []
    served = serve(before=lambda site: following.append(next_key(site, "ed25519")))
    hosts = tmp_path / "hosts"
    hosts.write_text(f"ssps {following[0]}\n")

    done = sftp(served, f"-oUserKnownHostsFile={hosts}", "-oHostKeyAlias=ssps")

    assert done.returncode == 255
    assert "HOST IDENTIFICATION HAS CHANGED" in done.stderr


def test_a_key_that_is_not_ours_is_not_proved(serve: Serve) -> None:
    served = serve()
    with connected(served, "parti-a") as client:
        transport = client.get_transport()
        assert transport is not None
        ours = transport.get_remote_server_key().asbytes()
        stranger = paramiko.Ed25519Key(filename=str(served.site / "clients" / "stranger"))
        assert transport.global_request(hostkeys.PROVE, (ours,)) is not None
        assert transport.global_request(hostkeys.PROVE, (stranger.asbytes(),)) is None
        assert transport.global_request(hostkeys.PROVE, (ours, stranger.asbytes())) is None
        assert transport.global_request("no-such@example.com", (ours,)) is None
