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
from wire.served import OPENS, Serve, Served, until
from wire.test_server import add_file, connected, sum_of, told

from config import load
from keys.credentials import ring
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from keys.operations import ring_files, server_state, settings_record

HOUR = timedelta(hours=1)
TWO = {"parti-a": "127.0.0.1", "parti-b": "127.0.0.2"}


def rewrite(served: Served, file: str, old: str, new: str) -> None:
    path = served.site / file
    text = path.read_text()
    assert old in text
    fresh = path.with_suffix(".new")
    fresh.write_text(text.replace(old, new, 1))
    fresh.replace(path)


def reloaded(served: Served, times: int = 1) -> None:
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.log.read_text().count("settings-reloaded") >= times)


@contextmanager
def downloading(served: Served, user: str = "parti-a", source: str = "127.0.0.1") -> Iterator[None]:
    """A session in the middle of a file."""
    if not (served.site / "trees" / user / "big").exists():
        add_file(served, "big", 50_000_000, user)
    with (
        connected(served, user, source=source) as client,
        client.open_sftp() as sftp,
        sftp.open("big") as file,
    ):
        assert file.read(100_000)
        with suppress(OSError, EOFError, paramiko.SSHException):
            yield


def gone_within(served: Served, seconds: float) -> None:
    began = time.monotonic()
    until(lambda: not served.children())
    assert time.monotonic() - began < seconds


def banner(served: Served, source: str = "127.0.0.1") -> bytes:
    with (
        suppress(ConnectionResetError),
        socket.create_connection(("127.0.0.1", served.port), source_address=(source, 0)) as s,
    ):
        s.settimeout(10)
        return s.recv(4)
    return b""


def revoke(served: Served, party: str = "parti-a") -> None:
    found = ring.load(served.site, party)
    keys = [c for c in found.credentials if c.kind is not ring.CredentialKind.PUBLIC_KEY]
    ring_files.apply(served.site, replace(found, credentials=tuple(keys)))


# SIGHUP


def test_a_party_that_is_added_comes_in_and_new_settings_hold(serve: Serve) -> None:
    served = serve(TWO, per_party=3)
    rewrite(served, "parties.toml", "127.0.0.2", "127.0.0.3")
    rewrite(served, "site.toml", "max_sessions_per_party = 3", "max_sessions_per_party = 1")
    reloaded(served)

    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 0
    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 255
    with connected(served, "parti-a"):
        assert served.sftp("parti-a", "ls\n").returncode == 255
    reasons = {d["reason"] for d in told(served, "connection-refused")}
    assert reasons == {"address"}
    assert [d["reason"] for d in told(served, "login-refused")] == ["too many sessions"]


def test_a_bad_file_keeps_the_old_settings_and_says_so_loudly(serve: Serve) -> None:
    served = serve(TWO)
    with connected(served, "parti-a") as client:
        rewrite(served, "parties.toml", 'kind = "party"', 'kind = "partei"')
        rewrite(served, "parties.toml", "127.0.0.2", "127.0.0.999")
        served.process.send_signal(signal.SIGHUP)
        until(lambda: served.log.read_text().count("settings-rejected") == 2)
        assert client.open_sftp().listdir("/")
        assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    log = served.log.read_text()
    assert "error" in log
    assert "parti-a.kind" in log
    assert "127.0.0.999" in log


AGREED = """
from scripts.daemons import settings_record
real = server.serve
record = settings_record.record_if_changed
agree = lambda read: record(read, "taken up", wait_seconds=0, signed=False)
server.serve = lambda settings, **how: real(settings, record_new_settings=agree, **how)
"""


def test_edited_settings_wait_for_their_record_while_others_write_that_ledger(
    serve: Serve,
) -> None:
    served = serve(TWO, patch=AGREED)
    operations = served.site / "ledgers/operations"
    with Ledger(operations) as busy, connected(served, "parti-a") as client:
        rewrite(served, "parties.toml", "127.0.0.2", "127.0.0.3")
        served.process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert client.open_sftp().listdir("/")
        assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 255
        assert busy.next_seq == 0
    until(lambda: "settings-reloaded" in served.log.read_text())

    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 0
    record, keys = read_records(operations)
    assert keys.event.event == "keys"  # the first record of this site's key files
    assert record.event.detail["after"] == settings_record.digest_lines(
        load.load(served.site).digests
    )


def test_settings_that_cannot_be_put_on_record_are_not_put_in_force(serve: Serve) -> None:
    served = serve(TWO, patch=AGREED)
    (served.site / "ledgers/operations").write_text("not a folder")
    rewrite(served, "parties.toml", "127.0.0.2", "127.0.0.3")
    served.process.send_signal(signal.SIGHUP)
    until(lambda: "settings-rejected" in served.log.read_text())

    assert "cannot be recorded" in served.log.read_text()
    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.2").returncode == 0
    assert served.sftp("parti-b", "ls\n", "-oBindAddress=127.0.0.3").returncode == 255


def test_what_waits_for_a_restart_is_named(serve: Serve) -> None:
    served = serve()
    rewrite(served, "site.toml", "127.0.0.1:0", "127.0.0.1:1")
    reloaded(served)
    assert "restart-needed" in served.log.read_text()
    assert "sftp.listen" in served.log.read_text()
    assert served.sftp("parti-a", "ls\n").returncode == 0


# Live sessions


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('id = "parti-a"', 'id = "parti-a"\nsuspended = true', "party suspended"),
        ('id = "parti-a"', 'id = "parti-z"', "party removed"),
        ('static_ips = ["127.0.0.1"]', 'static_ips = ["127.0.0.9"]', "address withdrawn"),
    ],
)
def test_a_live_session_ends_within_a_second_of_a_reload(
    serve: Serve, old: str, new: str, reason: str
) -> None:
    served = serve(TWO)
    with downloading(served, "parti-b", "127.0.0.2"), downloading(served):
        rewrite(served, "parties.toml", old, new)
        served.process.send_signal(signal.SIGHUP)
        began = time.monotonic()
        until(lambda: len(served.children()) == 1)
        assert time.monotonic() - began < 1.0
        until(lambda: told(served, "session-end"))
    end = served.records("session-end")[0].event
    assert (end.who, end.detail["reason"]) == ("parti-a", reason)
    until(lambda: len(told(served, "session-end")) == 2)
    ends = {r.event.who: r.event.detail["reason"] for r in served.records("session-end")}
    assert ends["parti-b"] == "closed"
    assert served.sftp("parti-a", "ls\n").returncode == 255


def test_a_revoked_key_ends_its_sessions_within_a_second_and_no_others(serve: Serve) -> None:
    served = serve()
    with connected(served, "parti-a", password="Yedi-Kule-Kapisi-17") as by_password:
        with downloading(served):
            revoke(served)
            began = time.monotonic()
            until(lambda: len(served.children()) == 1)
            assert time.monotonic() - began < 1.0
        assert by_password.open_sftp().listdir("/")
    until(lambda: len(told(served, "session-end")) == 2)
    assert [d["reason"] for d in told(served, "session-end")] == ["key revoked", "closed"]
    [close] = told(served, "close")
    assert close["complete"] is False
    assert int(str(close["bytes"])) >= 100_000


def test_a_session_that_will_not_end_is_killed_in_time(serve: Serve) -> None:
    served = serve()
    with downloading(served):
        [child] = served.children()
        os.kill(child, signal.SIGSTOP)
        revoke(served)
        gone_within(served, 1.0)
    assert [d["reason"] for d in told(served, "session-end")] == ["key revoked"]


def test_a_session_ends_when_its_key_or_the_access_does(serve: Serve) -> None:
    served = serve()
    found = ring.load(served.site, "parti-a")
    ends = OPENS + 2 * HOUR
    keys = tuple(replace(c, not_after=ends) for c in found.credentials)
    ring_files.apply(served.site, replace(found, credentials=keys))
    with downloading(served):
        served.at(ends)
        gone_within(served, 1.0)
    ring_files.apply(served.site, found)
    closes = (OPENS + 3 * HOUR).isoformat()
    rewrite(served, "site.toml", "[sftp]", f"closes = {closes}\n[sftp]")
    reloaded(served)
    with downloading(served):
        served.at(OPENS + 3 * HOUR)
        gone_within(served, 1.0)
    assert [d["reason"] for d in told(served, "session-end")] == ["key expired", "access closed"]


def test_a_damaged_key_file_leaves_the_old_ring_in_force(serve: Serve) -> None:
    served = serve()
    with connected(served, "parti-a") as client:
        path = ring.ring_path(served.site, "parti-a")
        content = path.read_bytes()
        path.write_text("[[credential]")
        until(lambda: (word := server_state.read(served.site)) and word.damaged == ("parti-a",))
        assert "keys-unreadable" in served.log.read_text()
        assert served.sftp("parti-a", "ls\n").returncode == 0
        assert served.sftp("parti-a", "ls\n", key="stranger").returncode == 255
        assert client.open_sftp().listdir("/")
        path.write_bytes(content)
        assert served.sftp("parti-a", "ls\n").returncode == 0
        assert client.open_sftp().listdir("/")


def test_who_connected_before_a_reload_is_judged_after_it(serve: Serve) -> None:
    served = serve()
    key = paramiko.Ed25519Key(filename=str(served.site / "clients" / "parti-a"))
    with socket.create_connection(("127.0.0.1", served.port)) as sock:
        transport = paramiko.Transport(sock)
        try:
            transport.start_client(timeout=10)
            rewrite(served, "parties.toml", 'id = "parti-a"', 'id = "parti-a"\nsuspended = true')
            reloaded(served)
            with pytest.raises(paramiko.AuthenticationException):
                transport.auth_publickey("parti-a", key)
        finally:
            transport.close()
    assert [d["reason"] for d in told(served, "login-refused")] == ["suspended"]
    assert not told(served, "login")


# SIGTERM


def test_a_running_transfer_finishes_and_idle_sessions_end(serve: Serve, tmp_path: Path) -> None:
    served = serve(drain=20.0)
    digest = add_file(served, "big", 3_000_000)
    with connected(served, "parti-a") as idle:
        assert idle.open_sftp().listdir("/")
        command = ["sftp", "-q", *served.ssh("parti-a"), "-l", "12000", "-b", "-", "127.0.0.1"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            assert client.stdin is not None
            client.stdin.write(f"get big {tmp_path}/got\n".encode())
            client.stdin.flush()
            until(lambda: told(served, "open"))
            served.process.send_signal(signal.SIGTERM)
            until(lambda: len(served.children()) == 1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", served.port))
            client.stdin.close()
            assert client.wait(20) == 0
    assert served.process.wait(10) == 0
    assert sum_of(tmp_path / "got") == digest
    assert [d["complete"] for d in told(served, "close")] == [True]
    assert {d["reason"] for d in told(served, "session-end")} <= {"server stopped", "closed"}


def test_a_transfer_that_takes_too_long_is_ended(serve: Serve) -> None:
    served = serve(drain=1.0)
    with downloading(served):
        began = time.monotonic()
        assert served.stop() == 0
        assert 0.9 < time.monotonic() - began < 3.0
    assert told(served, "session-end")[0]["reason"] == "server stopped"


def test_a_second_signal_ends_them_all(serve: Serve) -> None:
    served = serve(drain=None)
    with downloading(served):
        served.process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert len(served.children()) == 1
        began = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - began < 1.5
    [close] = told(served, "close")
    assert close["reason"] == "session ended"
    assert told(served, "session-end")[0]["reason"] == "server stopped"


# What is left behind


def descriptors(served: Served) -> int:
    return len(os.listdir(f"/proc/{served.process.pid}/fd"))  # noqa: PTH208


def test_connections_that_ended_in_every_way_leave_nothing(serve: Serve) -> None:
    served = serve(sessions=16, grace=1.0)
    assert served.sftp("parti-a", "ls\n").returncode == 0
    until(lambda: not served.children())
    before = descriptors(served)
    for turn in range(30):
        with suppress(OSError), socket.create_connection(("127.0.0.1", served.port)) as sock:
            sock.settimeout(5)
            if turn % 3:
                sock.recv(100)
            sock.send((b"", b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + bytes(100))[turn % 3])
        banner(served, "127.0.0.3")
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV):
        with connected(served, "parti-a"):
            until(lambda: len(served.children()) == 1)
            os.kill(served.children()[0], number)
            until(lambda: not served.children())
    held = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(30)]
    until(lambda: len(served.children()) == 16)
    until(lambda: not served.children())
    for sock in held:
        sock.close()
    until(lambda: descriptors(served) == before)
    threads = Path(f"/proc/{served.process.pid}/status").read_text()
    assert "Threads:\t1\n" in threads
    assert served.sftp("parti-a", "ls\n").returncode == 0
    until(lambda: not served.children())
    ids = [d["session"] for d in told(served, "session-end")]
    assert len(ids) == len(set(ids))


def test_a_machine_without_room_refuses_and_recovers(serve: Serve) -> None:
    # There is none as long as a file named `full` stands in the site.
    patch = (
        "import os, errno\n"
        "pidfd_open = os.pidfd_open\n"
        "def full(pid):\n"
        "    if (site / 'full').exists(): raise OSError(errno.EMFILE, 'Too many open files')\n"
        "    return pidfd_open(pid)\n"
        "os.pidfd_open = full\n"
    )
    served = serve(patch=patch)
    (served.site / "full").touch()
    assert banner(served) == b""
    until(lambda: told(served, "connection-refused"))
    assert told(served, "connection-refused")[0]["reason"] == "resources"
    assert not served.children()
    (served.site / "full").unlink()
    until(lambda: served.sftp("parti-a", "ls\n").returncode == 0)
