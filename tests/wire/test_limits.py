"""Limits on what a party may use after its logins: time without requests, opens, memory."""

import time
from contextlib import suppress
from pathlib import Path

import memory_cgroup
from wire.attacker import (
    OK,
    OPEN,
    OPENDIR,
    RawSftp,
    assert_record_complete,
    assert_still_serves,
    end_reasons,
    logged_in,
    only_child,
    string,
)
from wire.server import TWO_PARTIES, StartServer, setting, until

cgroup = memory_cgroup.cgroup


def test_a_session_that_requests_nothing_is_ended_in_spite_of_keepalives(
    serve: StartServer,
) -> None:
    server = serve(before=setting("idle_seconds = 1"))
    with logged_in(server) as idle, logged_in(server) as active:
        idle.set_keepalive(1)
        RawSftp.on_channel(idle.open_session())
        sftp = RawSftp.on_channel(active.open_session())
        began = time.monotonic()
        until(lambda: sftp.status(OPENDIR, string(b"/")) == OK and end_reasons(server) == ["idle"])
        assert time.monotonic() - began >= 0.9
        assert sftp.status(OPENDIR, string(b"/")) == OK
    assert_record_complete(server)


def test_a_party_that_opens_too_fast_waits_and_another_does_not(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, before=setting("opens_per_second = 20"))

    def seconds_for(sftp: RawSftp, opens: int) -> float:
        began = time.monotonic()
        for number in range(opens):
            if number % 2:
                sftp.close(sftp.open(b"BENIOKU.txt"))
            else:
                sftp.status(OPEN, string(b"missing") + bytes(8))
        return time.monotonic() - began

    with logged_in(server) as mine, logged_in(server, "parti-b", "127.0.0.2") as theirs:
        hasty = RawSftp.on_channel(mine.open_session())
        other = RawSftp.on_channel(theirs.open_session())
        assert seconds_for(hasty, 60) >= 0.9  # 40 at once, 20 more in a second
        assert seconds_for(other, 30) < 0.9
        server.edit("site.toml", "opens_per_second = 20", "opens_per_second = 5000")
        server.reload()
        assert seconds_for(hasty, 60) < 0.9
    assert_record_complete(server)


def test_the_kernel_limits_the_memory_of_a_session_after_its_login(serve: StartServer) -> None:
    server = serve()
    with logged_in(server):
        child = only_child(server)

        def limit_and_size() -> tuple[int, int]:
            lines = Path(f"/proc/{child}/limits").read_text().splitlines()
            [limit] = [line.split()[3] for line in lines if line.startswith("Max address space")]
            pages = int(Path(f"/proc/{child}/statm").read_text().split()[0])
            return int(limit), pages * 4096

        until(lambda: limit_and_size()[0] < limit_and_size()[1] + (128 << 20))
    assert_still_serves(server)


# No request is known that takes much memory, so this one has a fault.
LEAKING = (
    "from sftpd.sandbox import sandbox\n"
    "from sftpd.sftp.session import Session\n"
    "sandbox.SESSION_MEMORY = 1 << 30\n"
    "opendir, held = Session._opendir, []\n"
    "def leaking(self, *arguments):\n"
    "    held.append(bytes(80 << 20).replace(b'', b''))\n"
    "    held.append(bytearray(b'x') * (80 << 20))\n"
    "    return opendir(self, *arguments)\n"
    "Session._opendir = leaking\n"
    "from sftpd.sftp import session\n"
    "from sftpd.sftp.protocol import Request\n"
    "session._VERBS[Request.OPENDIR] = session._Verb('opendir', 's', session._reads, leaking)\n"
)


def test_a_session_that_takes_too_much_memory_is_ended(serve: StartServer) -> None:
    server = serve(TWO_PARTIES, before=setting("memory_mb_per_party = 64"), patch=LEAKING)
    with (
        logged_in(server) as mine,
        logged_in(server) as second,
        logged_in(server, "parti-b", "127.0.0.2") as theirs,
    ):
        leaking = RawSftp.on_channel(mine.open_session())
        modest = RawSftp.on_channel(second.open_session())
        other = RawSftp.on_channel(theirs.open_session())
        leaking.status(OPENDIR, string(b"/"))
        until(lambda: end_reasons(server) == ["too much memory"])
        for sftp in (modest, other):
            sftp.close(sftp.open(b"BENIOKU.txt"))
    assert "too-much-memory" in server.log.read_text()
    assert_record_complete(server)


def test_the_kernel_limits_the_memory_of_a_party_where_the_server_has_cgroups(
    cgroup: Path, serve: StartServer
) -> None:
    patch = (
        "import os\n"
        "from sftpd.monitor.children import Children\n"
        "Children.enforce_memory_limit = lambda *_: None\n"
        f"open('{cgroup}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "os.environ['SSPS_CGROUP'] = 'delegated'\n"
    )
    server = serve(TWO_PARTIES, before=setting("memory_mb_per_party = 64"), patch=LEAKING + patch)
    with (
        logged_in(server) as mine,
        logged_in(server) as second,
        logged_in(server, "parti-b", "127.0.0.2") as theirs,
    ):
        leaking, modest, other = map(
            RawSftp.on_channel, (each.open_session() for each in (mine, second, theirs))
        )
        with suppress(EOFError, AssertionError, OSError):
            leaking.status(OPENDIR, string(b"/"))
        until(lambda: "child-died" in server.log.read_text())
        for sftp in (modest, other):
            sftp.close(sftp.open(b"BENIOKU.txt"))
    assert {path.name for path in cgroup.glob("party-*")} == {"party-parti-a", "party-parti-b"}
    server.stop()
    until(lambda: not list(cgroup.glob("party-*")))


def test_the_kernel_ends_a_session_before_the_server_if_memory_runs_out(
    serve: StartServer,
) -> None:
    server = serve()
    with logged_in(server):
        scores = [
            int(Path(f"/proc/{pid}/oom_score").read_text())
            for pid in (server.process.pid, only_child(server))
        ]
        assert scores[0] + 100 < scores[1]
