"""Credentials changed under a running server: by its operator's own commands, with real clients."""

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
from wire.served import OPENS, SECRET, Serve, Served, until
from wire.test_server import add_file, connected, told

from keys.credentials import fido, ring
from keys.server_keys import host
from scripts.ssps import main

PARTIES = {f"parti-{letter}": "127.0.0.1" for letter in "abc"}
NOW = OPENS + timedelta(hours=1)


def ssps(served: Served, *words: object) -> Result:
    done = CliRunner().invoke(main, [*map(str, words), "--site", str(served.site)])
    assert done.exit_code == 0, done.output
    return done


@dataclass
class Mirror:
    """A party's session that reads on and on; `broke` is when it could no more."""

    served: Served
    user: str
    password: str | None
    read: int = 0
    broke: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with connected(self.served, self.user, password=self.password) as client:
            sftp = client.open_sftp()
            while not self.stop.is_set():
                try:
                    with sftp.open("page") as file:
                        self.read += len(file.read())
                except (OSError, EOFError, paramiko.SSHException):
                    self.broke = time.monotonic()
                    return


@contextmanager
def mirroring(served: Served, *credentials: tuple[str, str | None]) -> Iterator[list[Mirror]]:
    mirrors = [Mirror(served, user, password) for user, password in credentials]
    threads = [threading.Thread(target=mirror.run) for mirror in mirrors]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(mirror.read for mirror in mirrors))
        yield mirrors
    finally:
        for mirror in mirrors:
            mirror.stop.set()
        for thread in threads:
            thread.join()


def test_all_parties_are_rotated_under_load_and_only_what_ended_breaks(serve: Serve) -> None:
    served = serve(PARTIES, before=lambda site: (site / "state").mkdir())
    (served.site / "keys").chmod(0o700)
    new = served.site / "new"
    for party in PARTIES:
        add_file(served, "page", 200_000, party)
        host.create_key(new / party, "yeni")
    words = ["key", "rotate", "--all", "--public-keys", new, "--not-before", NOW.isoformat()]
    words += ["--overlap", "1h", "--why", "yearly", "--apply"]
    by_key = [(party, None) for party in PARTIES]
    by_password = [(party, SECRET) for party in PARTIES]

    with mirroring(served, *by_key, *by_password) as mirrors:
        done = ssps(served, *words)
        before = [mirror.read for mirror in mirrors]
        until(lambda: all(m.read > b for m, b in zip(mirrors, before, strict=True)))
        assert [m.broke for m in mirrors] == [None] * 6  # old and new overlap

        ends, began = NOW + timedelta(hours=1), time.monotonic()
        served.at(ends)
        until(lambda: all(m.broke for m in mirrors[:3]))
        assert all(m.broke is not None and m.broke - began < 1.0 for m in mirrors[:3])
        before = [mirror.read for mirror in mirrors[3:]]
        until(lambda: all(m.read > b for m, b in zip(mirrors[3:], before, strict=True)))
        assert [m.broke for m in mirrors[3:]] == [None] * 3

    assert "in force: the server" in done.stderr
    for party in PARTIES:
        assert served.sftp(party, "ls\n").returncode == 255
        shutil.copy(new / party, served.site / "clients" / f"{party}-2")
        assert served.sftp(party, "ls\n", key=f"{party}-2").returncode == 0


def test_a_revocation_names_the_sessions_that_it_ended(serve: Serve) -> None:
    served = serve(PARTIES)
    name = ring.load(served.site, "parti-a").credentials[0].fingerprint
    add_file(served, "page", 200_000)

    with mirroring(served, ("parti-a", None), ("parti-a", SECRET)) as (by_key, by_password):
        began = time.monotonic()
        done = ssps(served, "key", "revoke", "parti-a", name, "--why", "lost")
        assert by_key.broke is not None
        assert by_key.broke - began < 1.5  # of which the command itself takes some
        assert by_password.broke is None

    [end] = [d for d in told(served, "session-end") if d["reason"] == "key revoked"]
    assert end["credential"] == name
    assert f"ended: session {end['session']} from 127.0.0.1" in done.stderr


class Agent:
    """An SSH agent (draft-ietf-sshm-ssh-agent) that holds one token, touched each time."""

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
def test_openssh_logs_in_with_a_key_on_a_token(serve: Serve, tmp_path: Path, kind: str) -> None:
    served, key, other = serve(), SoftwareToken(kind), SoftwareToken(kind)
    public = tmp_path / "token.pub"
    public.write_text(key.public_line + "\n")
    ssps(
        served,
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
            # OpenSSH goes by the first that is said.
            options = [f"-oIdentityAgent={agent.path}", "-oIdentitiesOnly=no"]
            options += served.ssh("parti-a", key="stranger")
            command = ["sftp", *options, "-b", "/dev/null", "127.0.0.1"]
            codes.append(subprocess.run(command, capture_output=True).returncode)

    assert codes == [0, 255]
    [login] = told(served, "login")
    assert login["credential"] == ring.load(served.site, "parti-a").credentials[-1].fingerprint


Spoil = Callable[[Path], object]


@pytest.mark.parametrize("spoil", [lambda p: p.write_text("[[cred"), lambda p: p.write_bytes(b"")])
def test_a_command_does_not_claim_what_the_server_cannot_take(serve: Serve, spoil: Spoil) -> None:
    served = serve(PARTIES)
    spoil(ring.ring_path(served.site, "parti-a"))

    done = CliRunner().invoke(
        main,
        ["key", "add", "parti-a", "--password", "--why", "x", "--site", str(served.site)],
    )

    assert done.exit_code == 1
    assert "keys/parties/parti-a.toml: " in done.output
    assert served.sftp("parti-a", "ls\n").returncode == 0  # by the ring that was good last
