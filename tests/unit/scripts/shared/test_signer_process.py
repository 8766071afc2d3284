import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from unit.scripts.shared.test_signing import OPENED, signed

from config.event import Event
from keys.ledger import segments, writer
from keys.ledger.signer import Signer
from keys.operations.site_keys import KeyWatch
from scripts.shared import signer_process, signing
from scripts.shared.signer_process import SignerServer, socket_address

CHANGED = Event("password change", "parti-a", "192.0.2.7", "parti-a")


class Running:
    """A signer server in a thread of this process."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.stdin, self._parent = os.pipe()
        self.thread = threading.Thread(target=SignerServer(site).run, args=(self.stdin,))
        self.thread.start()

    def connect(self, request: str) -> socket.socket:
        found = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        found.settimeout(20)
        connected = False
        while not connected:
            with socket_address(self.site) as address:
                connected = found.connect_ex(address) == 0
        found.send(request.encode())
        return found

    def end(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
            self._parent = -1
        self.thread.join(20)
        assert not self.thread.is_alive()


def answer(connection: socket.socket) -> bytes:
    """Return the next message that is not a sign of life."""
    while (found := connection.recv(99)) == signer_process.READY:
        pass
    return found


@pytest.fixture
def running(site: Path) -> Iterator[Running]:
    found = Running(site)
    yield found
    found.end()
    os.close(found.stdin)


def test_a_ledger_is_signed_until_the_daemon_closes_the_connection(
    site: Path, running: Running
) -> None:
    with running.connect("sign transfer") as daemon, writer.Ledger(site / "ledgers/transfer") as to:
        assert daemon.recv(99) == b"ready"
        to.append(OPENED)
        daemon.shutdown(socket.SHUT_WR)
        assert answer(daemon) == b"signed"

    assert signed(site, "transfer").size == 1


def test_both_ledgers_are_signed_by_one_process(site: Path, running: Running) -> None:
    with running.connect("sign transfer") as one, running.connect("sign filing") as other:
        assert (one.recv(99), other.recv(99)) == (b"ready", b"ready")
        for name in ("transfer", "filing"):
            with writer.Ledger(site / "ledgers" / name) as ledger:
                ledger.append(OPENED)
        running.end()
        assert (answer(one), answer(other)) == (b"ended", b"ended")

    assert (signed(site, "transfer").size, signed(site, "filing").size) == (1, 1)


def test_a_disk_that_hangs_stops_the_signing_of_its_own_ledger_only(
    site: Path, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, woken = threading.Event(), threading.Event()
    sign = Signer.sign

    def sign_on_a_hanging_disk(self: Signer, last: bool = False) -> object:
        if last and self._folder.name == "filing":
            hangs.set()
            assert woken.wait(20)
        return sign(self, last)

    monkeypatch.setattr(Signer, "sign", sign_on_a_hanging_disk)
    monkeypatch.setattr(signing, "SIGN_INTERVAL", 0.01)
    with running.connect("sign transfer") as one, running.connect("sign filing") as other:
        assert (one.recv(99), other.recv(99)) == (b"ready", b"ready")
        other.shutdown(socket.SHUT_WR)
        assert hangs.wait(20)
        with writer.Ledger(site / "ledgers/transfer") as ledger:
            ledger.append(OPENED)
        one.shutdown(socket.SHUT_WR)
        assert answer(one) == b"signed"
        woken.set()
        assert answer(other) == b"signed"

    assert signed(site, "transfer").size == 1


def test_a_ledger_that_does_not_match_its_checkpoint_is_refused(
    site: Path, running: Running
) -> None:
    with writer.Ledger(site / "ledgers/transfer") as ledger:
        ledger.append(OPENED)
    with signing.open_signer(site, "transfer") as signer:
        signer.sign()
    segments.list_segments(site / "ledgers/transfer")[0].path.write_bytes(b"")

    with running.connect("sign transfer") as daemon, running.connect("sign filing") as other:
        refusal = daemon.recv(999).decode()
        assert answer(daemon) == b""
        assert other.recv(99) == b"ready"

    assert "has 0 records, but 1 were signed" in refusal


def test_a_name_that_is_not_a_ledger_is_refused(site: Path, running: Running) -> None:
    with running.connect("sign ../keys") as daemon:
        assert answer(daemon) == b"'../keys' is not a ledger of a site"


def test_the_operations_ledger_is_signed_within_seconds(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signer_process, "_OPERATIONS_INTERVAL", 0.01)
    running = Running(site)
    with writer.Ledger(site / "ledgers/operations") as operations:
        operations.append(CHANGED)

    deadline = threading.Event()
    while segments.read_checkpoint(site / "ledgers/operations") is None:
        deadline.wait(0.01)

    running.end()
    os.close(running.stdin)
    assert signed(site, "operations").size == 1


def test_the_operations_ledger_is_signed_although_the_key_files_cannot_be_read(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyWatch, "look", Mock(side_effect=PermissionError("keys")))
    running = Running(site)
    with writer.Ledger(site / "ledgers/operations") as operations:
        operations.append(CHANGED)

    running.end()

    os.close(running.stdin)
    assert signed(site, "operations").size == 1


def test_the_operations_ledger_is_signed_at_the_end(site: Path) -> None:
    running = Running(site)
    with writer.Ledger(site / "ledgers/operations") as operations:
        operations.append(CHANGED)

    running.end()

    os.close(running.stdin)
    assert signed(site, "operations").size == 1


def test_only_the_user_of_the_daemons_may_connect(site: Path, running: Running) -> None:
    with running.connect("sign transfer"):
        assert (site / "state/signer.sock").stat().st_mode & 0o777 == 0o600


def test_a_path_that_is_too_long_for_a_socket_works(tmp_path: Path) -> None:
    site = tmp_path / ("a" * 120)
    (site / "state").mkdir(parents=True)
    running = Running(site)

    with running.connect("sign transfer") as daemon:
        assert b"No such file" in daemon.recv(999)  # there is no key

    running.end()
    os.close(running.stdin)
