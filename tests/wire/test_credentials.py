"""The operator's commands change credentials while the server runs and real clients read."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from click.testing import CliRunner, Result
from fido_token import SoftwareToken, string
from wire.server import OPENS, SECRET, RunningServer, StartServer, until

from keys.credentials import fido, ring
from keys.server_keys import host
from scripts.ssps import main

PARTIES = {f"parti-{letter}": "127.0.0.1" for letter in "abc"}
NOW = OPENS + timedelta(hours=1)


def ssps(server: RunningServer, *words: object) -> Result:
    done = CliRunner().invoke(main, [*map(str, words), "--site", str(server.site)])
    assert done.exit_code == 0, done.output
    return done


@dataclass
class Reader:
    """A session that reads a file over and over; `ended_at` is when it was disconnected."""

    server: RunningServer
    user: str
    password: str | None
    read: int = 0
    ended_at: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with self.server.connect(self.user, password=self.password) as client:
            sftp = client.open_sftp()
            while not self.stop.is_set():
                try:
                    with sftp.open("page") as file:
                        self.read += len(file.read())
                except (OSError, EOFError, paramiko.SSHException):
                    self.ended_at = time.monotonic()
                    return


@contextmanager
def reading(server: RunningServer, *credentials: tuple[str, str | None]) -> Iterator[list[Reader]]:
    readers = [Reader(server, user, password) for user, password in credentials]
    threads = [threading.Thread(target=reader.run) for reader in readers]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(reader.read for reader in readers))
        yield readers
    finally:
        for reader in readers:
            reader.stop.set()
        for thread in threads:
            thread.join()


def test_a_rotation_under_load_ends_only_sessions_of_ended_credentials(serve: StartServer) -> None:
    server = serve(PARTIES, before=lambda site: (site / "state").mkdir())
    (server.site / "keys").chmod(0o700)
    new = server.site / "new"
    for party in PARTIES:
        server.add_file("page", 200_000, party)
        host.create_key(new / party, "yeni")
    words = ["key", "rotate", "--all", "--public-keys", new, "--not-before", NOW.isoformat()]
    words += ["--overlap", "1h", "--why", "yearly", "--apply"]
    by_key = [(party, None) for party in PARTIES]
    by_password = [(party, SECRET) for party in PARTIES]

    with reading(server, *by_key, *by_password) as readers:
        done = ssps(server, *words)
        before = [reader.read for reader in readers]
        until(lambda: all(m.read > b for m, b in zip(readers, before, strict=True)))
        assert [m.ended_at for m in readers] == [None] * 6  # old and new credentials overlap

        ends, began = NOW + timedelta(hours=1), time.monotonic()
        server.set_time(ends)
        until(lambda: all(m.ended_at for m in readers[:3]))
        assert all(m.ended_at is not None and m.ended_at - began < 1.0 for m in readers[:3])
        before = [reader.read for reader in readers[3:]]
        until(lambda: all(m.read > b for m, b in zip(readers[3:], before, strict=True)))
        assert [m.ended_at for m in readers[3:]] == [None] * 3

    assert "in force: the server" in done.stderr
    for party in PARTIES:
        assert server.sftp(party, "ls\n").returncode == 255
        shutil.copy(new / party, server.site / "clients" / f"{party}-2")
        assert server.sftp(party, "ls\n", key=f"{party}-2").returncode == 0


def test_a_revocation_reports_the_sessions_that_it_ended(serve: StartServer) -> None:
    server = serve(PARTIES)
    name = ring.load(server.site, "parti-a").credentials[0].fingerprint
    server.add_file("page", 200_000)

    with reading(server, ("parti-a", None), ("parti-a", SECRET)) as (by_key, by_password):
        began = time.monotonic()
        done = ssps(server, "key", "revoke", "parti-a", name, "--why", "lost")
        assert by_key.ended_at is not None
        assert by_key.ended_at - began < 1.5  # includes the time of the command
        assert by_password.ended_at is None

    [end] = [d for d in server.details("session-end") if d["reason"] == "key revoked"]
    assert end["credential"] == name
    assert f"ended: session {end['session']} from 127.0.0.1" in done.stderr


class Agent:
    """An SSH agent (draft-ietf-sshm-ssh-agent) with one FIDO token that is always touched."""

    def __init__(self, path: Path, key: SoftwareToken) -> None:
        self.path = path
        self._key = key
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            with peer, peer.makefile("rb") as file:
                while head := file.read(4):
                    request = file.read(int.from_bytes(head, "big"))
                    peer.sendall(string(self._answer(request)))

    def _answer(self, request: bytes) -> bytes:
        if request[0] == 11:
            return b"\x0c" + (1).to_bytes(4, "big") + string(self._key.blob) + string(b"token")
        if request[0] == 13:
            size = int.from_bytes(request[1:5], "big")
            rest = request[5 + size :]
            data = rest[4 : 4 + int.from_bytes(rest[:4], "big")]
            return b"\x0e" + string(self._key.sign(data))
        return b"\x05"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.mark.parametrize("kind", fido.KINDS)
def test_openssh_logs_in_with_a_key_on_a_fido_token(
    serve: StartServer, tmp_path: Path, kind: str
) -> None:
    server, key, other = serve(), SoftwareToken(kind), SoftwareToken(kind)
    public = tmp_path / "token.pub"
    public.write_text(key.public_line + "\n")
    ssps(
        server,
        "key",
        "add",
        "parti-a",
        "--public-key",
        public,
        "--why",
        "token",
        "--not-before",
        OPENS.isoformat(),
    )

    codes = []
    with ExitStack() as stack:
        for number, held in enumerate((key, other)):
            agent = Agent(tmp_path / f"agent-{number}", held)
            stack.callback(agent.close)
            # OpenSSH uses the first value of an option.
            options = [f"-oIdentityAgent={agent.path}", "-oIdentitiesOnly=no"]
            options += server.ssh("parti-a", key="stranger")
            command = ["sftp", *options, "-b", "/dev/null", "127.0.0.1"]
            codes.append(subprocess.run(command, capture_output=True).returncode)

    assert codes == [0, 255]
    [login] = server.details("login")
    assert login["credential"] == ring.load(server.site, "parti-a").credentials[-1].fingerprint


Damage = Callable[[Path], object]


@pytest.mark.parametrize("damage", [lambda p: p.write_text("[[cred"), lambda p: p.write_bytes(b"")])
def test_a_command_fails_if_the_server_cannot_apply_the_change(
    serve: StartServer, damage: Damage
) -> None:
    server = serve(PARTIES)
    damage(ring.ring_path(server.site, "parti-a"))

    done = CliRunner().invoke(
        main,
        ["key", "add", "parti-a", "--password", "--why", "x", "--site", str(server.site)],
    )

    assert done.exit_code == 1
    assert "keys/parties/parti-a.toml: " in done.output
    assert server.sftp("parti-a", "ls\n").returncode == 0  # with the last good ring
