import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import paramiko
import pytest
from wire.server import OPENS, TWO_PARTIES, RunningServer, StartServer, until

from config import load
from keys.credentials import ring
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from keys.operations import ring_files, server_state, settings_record

HOUR = timedelta(hours=1)


@contextmanager
def downloading(
    server: RunningServer, user: str = "parti-a", source: str = "127.0.0.1"
) -> Iterator[None]:
    """Keep a session in the middle of a file."""
    if not (server.site / "trees" / user / "big").exists():
        server.add_file("big", 50_000_000, user)
    with (
        server.connect(user, source=source) as client,
        client.open_sftp() as sftp,
        sftp.open("big") as file,
    ):
        assert file.read(100_000)
        with suppress(OSError, EOFError, paramiko.SSHException):
            yield


def assert_sessions_end_within(server: RunningServer, seconds: float) -> None:
    began = time.monotonic()
    until(lambda: not server.children())
    assert time.monotonic() - began < seconds


def revoke_keys(server: RunningServer, party: str = "parti-a") -> None:
    found = ring.load(server.site, party)
    keys = [c for c in found.credentials if c.kind is not ring.CredentialKind.PUBLIC_KEY]
    ring_files.apply(server.site, replace(found, credentials=tuple(keys)))


# SIGHUP


def test_a_reload_applies_addresses_and_limits(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, per_party=3)
    server.edit("parties.toml", "127.0.0.2", "127.0.0.3")
    server.edit("site.toml", "max_sessions_per_party = 3", "max_sessions_per_party = 1")
    server.reload()

    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 0
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 255
    with server.connect("parti-a"):
        assert server.sftp("parti-a", "ls\n").returncode == 255
    reasons = {d["reason"] for d in server.details("connection-refused")}
    assert reasons == {"address"}
    assert [d["reason"] for d in server.details("login-refused")] == ["too many sessions"]


def test_a_reload_of_a_bad_file_logs_every_fault_and_keeps_the_settings(serve: StartServer) -> None:
    server = serve(TWO_PARTIES)
    with server.connect("parti-a") as client:
        server.edit("parties.toml", 'kind = "party"', 'kind = "partei"')
        server.edit("parties.toml", "127.0.0.2", "127.0.0.999")
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.log.read_text().count("settings-rejected") == 2)
        assert client.open_sftp().listdir("/")
        assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    log = server.log.read_text()
    assert "error" in log
    assert "parti-a.kind" in log
    assert "127.0.0.999" in log


HOLD_A_RELOAD = """
import os, signal
from keys.kernel import process
starting = process.holding_signals()
starting.__enter__()
os.kill(os.getpid(), signal.SIGHUP)
"""


def test_a_reload_that_is_asked_for_during_the_start_follows_it(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, patch=HOLD_A_RELOAD)

    until(lambda: "settings-reloaded" in server.log.read_text())
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0


RECORD_SETTINGS = """
from scripts.daemons import settings_record
real = server.serve
record = settings_record.record_if_changed
agree = lambda read: record(read, "taken up", wait_seconds=0, signed=False)
server.serve = lambda settings, **how: real(settings, record_new_settings=agree, **how)
"""


def test_a_reload_waits_until_the_operations_ledger_is_free(
    serve: StartServer,
) -> None:
    server = serve(TWO_PARTIES, patch=RECORD_SETTINGS)
    operations = server.site / "ledgers/operations"
    with Ledger(operations) as busy, server.connect("parti-a") as client:
        server.edit("parties.toml", "127.0.0.2", "127.0.0.3")
        server.process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert client.open_sftp().listdir("/")
        assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 255
        assert busy.next_seq == 0
    until(lambda: "settings-reloaded" in server.log.read_text())

    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 0
    record, keys = read_records(operations)
    assert keys.event.event == "keys"  # the first record of this site's key files
    assert record.event.detail["after"] == settings_record.digest_lines(
        load.load(server.site).digests
    )


def test_settings_that_cannot_be_recorded_are_not_applied(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, patch=RECORD_SETTINGS)
    (server.site / "ledgers/operations").write_text("not a folder")
    server.edit("parties.toml", "127.0.0.2", "127.0.0.3")
    server.process.send_signal(signal.SIGHUP)
    until(lambda: "settings-rejected" in server.log.read_text())

    assert "cannot be recorded" in server.log.read_text()
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    assert server.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 255


def test_a_reload_names_the_settings_that_need_a_restart(serve: StartServer) -> None:
    server = serve()
    server.edit("site.toml", "127.0.0.1:0", "127.0.0.1:1")
    server.reload()
    assert "restart-needed" in server.log.read_text()
    assert "sftp.listen" in server.log.read_text()
    assert server.sftp("parti-a", "ls\n").returncode == 0


# Live sessions


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('id = "parti-a"', 'id = "parti-a"\nsuspended = true', "party suspended"),
        ('id = "parti-a"', 'id = "parti-z"', "party removed"),
        ('static_ips = ["127.0.0.1"]', 'static_ips = ["127.0.0.9"]', "address withdrawn"),
    ],
)
def test_a_reload_ends_sessions_that_may_not_go_on(
    serve: StartServer, old: str, new: str, reason: str
) -> None:
    server = serve(TWO_PARTIES)
    with downloading(server, "parti-b", "127.0.0.2"), downloading(server):
        server.edit("parties.toml", old, new)
        server.process.send_signal(signal.SIGHUP)
        began = time.monotonic()
        until(lambda: len(server.children()) == 1)
        assert time.monotonic() - began < 1.0
        until(lambda: server.details("session-end"))
    end = server.records("session-end")[0].event
    assert (end.who, end.detail["reason"]) == ("parti-a", reason)
    until(lambda: len(server.details("session-end")) == 2)
    ends = {r.event.who: r.event.detail["reason"] for r in server.records("session-end")}
    assert ends["parti-b"] == "closed"
    assert server.sftp("parti-a", "ls\n").returncode == 255


def test_a_revoked_key_ends_its_sessions_and_no_others(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a", password="Yedi-Kule-Kapisi-17") as by_password:
        with downloading(server):
            revoke_keys(server)
            began = time.monotonic()
            until(lambda: len(server.children()) == 1)
            assert time.monotonic() - began < 1.0
        assert by_password.open_sftp().listdir("/")
    until(lambda: len(server.details("session-end")) == 2)
    assert [d["reason"] for d in server.details("session-end")] == ["key revoked", "closed"]
    [close] = server.details("close")
    assert close["complete"] is False
    assert int(str(close["bytes"])) >= 100_000


def test_a_session_that_does_not_end_is_killed(serve: StartServer) -> None:
    server = serve()
    with downloading(server):
        [child] = server.children()
        os.kill(child, signal.SIGSTOP)
        revoke_keys(server)
        assert_sessions_end_within(server, 1.0)
    assert [d["reason"] for d in server.details("session-end")] == ["key revoked"]


def test_a_session_ends_when_its_key_expires_or_access_closes(serve: StartServer) -> None:
    server = serve()
    found = ring.load(server.site, "parti-a")
    ends = OPENS + 2 * HOUR
    keys = tuple(replace(c, not_after=ends) for c in found.credentials)
    ring_files.apply(server.site, replace(found, credentials=keys))
    with downloading(server):
        server.set_time(ends)
        assert_sessions_end_within(server, 1.0)
    ring_files.apply(server.site, found)
    closes = (OPENS + 3 * HOUR).isoformat()
    server.edit("site.toml", "[sftp]", f"closes = {closes}\n[sftp]")
    server.reload()
    with downloading(server):
        server.set_time(OPENS + 3 * HOUR)
        assert_sessions_end_within(server, 1.0)
    assert [d["reason"] for d in server.details("session-end")] == ["key expired", "access closed"]


def test_a_damaged_key_file_leaves_the_old_ring_in_force(serve: StartServer) -> None:
    server = serve()
    with server.connect("parti-a") as client:
        path = ring.ring_path(server.site, "parti-a")
        content = path.read_bytes()
        path.write_text("[[credential]")
        until(lambda: (word := server_state.read(server.site)) and word.damaged == ("parti-a",))
        assert "keys-unreadable" in server.log.read_text()
        assert server.sftp("parti-a", "ls\n").returncode == 0
        assert server.sftp("parti-a", "ls\n", key="stranger").returncode == 255
        assert client.open_sftp().listdir("/")
        path.write_bytes(content)
        assert server.sftp("parti-a", "ls\n").returncode == 0
        assert client.open_sftp().listdir("/")


def test_a_login_is_checked_with_the_settings_of_the_moment(serve: StartServer) -> None:
    server = serve()
    key = paramiko.Ed25519Key(filename=str(server.site / "clients" / "parti-a"))
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            server.edit("parties.toml", 'id = "parti-a"', 'id = "parti-a"\nsuspended = true')
            server.reload()
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("parti-a", key)
        finally:
            transport.close()
    assert [d["reason"] for d in server.details("login-refused")] == ["suspended"]
    assert not server.details("login")


# SIGTERM


def test_draining_ends_idle_sessions_and_lets_a_transfer_finish(
    serve: StartServer, tmp_path: Path
) -> None:
    server = serve(drain=20.0)
    content = server.add_file("big", 3_000_000)
    with server.connect("parti-a") as idle:
        assert idle.open_sftp().listdir("/")
        command = ["sftp", "-q", *server.ssh("parti-a"), "-l", "12000", "-b", "-", "127.0.0.1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            assert client.stdin is not None
            client.stdin.write(f"get big {tmp_path}/got\n".encode())
            client.stdin.flush()
            until(lambda: server.details("open"))
            server.process.send_signal(signal.SIGTERM)
            until(lambda: len(server.children()) == 1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port))
            client.stdin.close()
            assert client.wait(20) == 0
    assert server.process.wait(10) == 0
    assert (tmp_path / "got").read_bytes() == content
    assert [d["complete"] for d in server.details("close")] == [True]
    assert {d["reason"] for d in server.details("session-end")} <= {"server stopped", "closed"}


def test_draining_ends_a_transfer_that_takes_too_long(serve: StartServer) -> None:
    server = serve(drain=1.0)
    with downloading(server):
        began = time.monotonic()
        assert server.stop() == 0
        assert 0.9 < time.monotonic() - began < 3.0
    assert server.details("session-end")[0]["reason"] == "server stopped"


def test_a_second_signal_ends_all_sessions(serve: StartServer) -> None:
    server = serve(drain=None)
    with downloading(server):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert len(server.children()) == 1
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 1.5
    [close] = server.details("close")
    assert close["reason"] == "session ended"
    assert server.details("session-end")[0]["reason"] == "server stopped"


# Descriptors


def descriptors(server: RunningServer) -> int:
    """Count those that stay open: the daemon opens files for moments, such as its status file."""
    counts = []
    for _ in range(10):
        counts.append(len(os.listdir(f"/proc/{server.process.pid}/fd")))  # noqa: PTH208
        time.sleep(0.02)
    return min(counts)


def test_connections_that_end_in_any_way_leave_no_descriptors(
    serve: StartServer,
) -> None:
    server = serve(sessions=16, grace=1.0)
    assert server.sftp("parti-a", "ls\n").returncode == 0
    until(lambda: not server.children())
    before = descriptors(server)
    for turn in range(30):
        with suppress(OSError), socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(5)
            if turn % 3:
                sock.recv(100)
            sock.send((b"", b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + bytes(100))[turn % 3])
        server.first_bytes("127.0.0.3")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        with server.connect("parti-a"):
            until(lambda: len(server.children()) == 1)
            os.kill(server.children()[0], number)
            until(lambda: not server.children())
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(30)]
    until(lambda: len(server.children()) == 16)
    until(lambda: not server.children())
    for sock in held:
        sock.close()
    until(lambda: descriptors(server) == before)
    threads = Path(f"/proc/{server.process.pid}/status").read_text()
    assert "Threads:\t1\n" in threads
    assert server.sftp("parti-a", "ls\n").returncode == 0
    until(lambda: not server.children())
    ids = [d["session"] for d in server.details("session-end")]
    assert len(ids) == len(set(ids))


def test_a_machine_without_descriptors_refuses_and_recovers(serve: StartServer) -> None:
    # No descriptors are left while a file named `full` is in the site.
    patch = (
        "import os, errno\n"
        "pidfd_open = os.pidfd_open\n"
        "def full(pid):\n"
        "    if (site / 'full').exists(): raise OSError(errno.EMFILE, 'Too many open files')\n"
        "    return pidfd_open(pid)\n"
        "os.pidfd_open = full\n"
    )
    server = serve(patch=patch)
    (server.site / "full").touch()
    until(lambda: server.first_bytes() == b"")
    until(lambda: server.details("connection-refused"))
    assert server.details("connection-refused")[0]["reason"] == "resources"
    until(lambda: not server.children())
    (server.site / "full").unlink()
    until(lambda: server.sftp("parti-a", "ls\n").returncode == 0)
