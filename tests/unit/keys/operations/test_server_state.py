import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import office
import pytest

from config import load
from config.site import RELOAD, SERVER_STATE, lock_file
from keys.operations import server_state
from keys.operations.server_state import ServerState

HOLD = """\
import sys
import time
from pathlib import Path
from keys.operations import server_state
with server_state.claim(Path(sys.argv[1]), "serve"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs this site's server."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_state_of_the_running_server_is_read(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    word = ServerState(other.pid, {"parti-a": "1f"}, ("parti-b",), {"parti-a": "2e"}, ("SHA256:h",))
    server_state.write(tmp_path, word)

    assert server_state.holder(tmp_path, "serve") == other.pid
    assert server_state.read(tmp_path) == word
    assert (tmp_path / SERVER_STATE).stat().st_mode & 0o777 == 0o600


def test_the_state_of_an_ended_server_is_ignored(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    server_state.write(tmp_path, ServerState(other.pid))
    other.kill()
    other.wait()

    assert server_state.holder(tmp_path, "serve") is None
    assert server_state.read(tmp_path) is None


def test_the_state_of_another_process_and_rubbish_are_ignored(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    server_state.write(tmp_path, ServerState(other.pid + 1))
    assert server_state.read(tmp_path) is None
    for rubbish in (b"", b"[]", b'{"pid":', b'{"pid": 1}'):
        (tmp_path / SERVER_STATE).write_bytes(rubbish)
        assert server_state.read(tmp_path) is None


def test_a_second_server_is_refused_with_the_process_of_the_first(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    message = f"process {other.pid} already runs `ssps serve`"
    with (
        pytest.raises(server_state.AlreadyRunning, match=message),
        server_state.claim(tmp_path, "serve"),
    ):
        pass


def test_a_daemon_that_gives_no_sign_of_life_hangs(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    lock = tmp_path / lock_file("serve")
    assert list(server_state.hanging(tmp_path)) == []
    os.utime(lock, (time.time() - 90, time.time() - 90))

    [(part, seconds)] = server_state.hanging(tmp_path)

    assert (part, 85 < seconds < 95) == ("serve", True)
    other.kill()
    other.wait()
    assert list(server_state.hanging(tmp_path)) == []
    with server_state.claim(tmp_path, "serve"):
        assert list(server_state.hanging(tmp_path)) == []


def test_a_part_that_does_not_run_has_no_holder(tmp_path: Path) -> None:
    assert server_state.holder(tmp_path, "serve") is None
    with server_state.claim(tmp_path, "run"):
        assert server_state.holder(tmp_path, "serve") is None


def test_the_digest_of_a_party_changes_with_its_settings(tmp_path: Path) -> None:
    site = office.site(tmp_path / "site")
    before = {p.id: server_state.party_digest(p) for p in load.load(site).parties}
    path = site / "parties.toml"
    path.write_text(path.read_text().replace('scope = "all"', 'scope = ["01-adana"]'))

    after = {p.id: server_state.party_digest(p) for p in load.load(site).parties}

    assert [id_ for id_ in before if before[id_] != after[id_]] == ["parti-a"]


def test_a_daemon_that_asks_about_itself_keeps_its_lock(tmp_path: Path) -> None:
    """Closing any descriptor of the lock's file would release it (fcntl(2))."""
    asked = "import sys; from pathlib import Path; from keys.operations import server_state; "
    asked += "print(server_state.holder(Path(sys.argv[1]), server_state.STAFF))"
    with server_state.claim(tmp_path, server_state.STAFF):
        assert server_state.holder(tmp_path, server_state.STAFF) == os.getpid()
        command = [sys.executable, "-c", asked, str(tmp_path)]
        other = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(other.stdout) == os.getpid()
    assert server_state.holder(tmp_path, server_state.STAFF) is None


def test_a_named_host_has_a_lock_and_a_state_of_its_own(tmp_path: Path) -> None:
    with (
        server_state.claim(tmp_path, "serve"),
        server_state.claim(tmp_path, "serve", "gw1"),
        server_state.claim(tmp_path, "serve", "gw2"),
    ):
        server_state.write(tmp_path, ServerState(os.getpid(), damaged=("parti-b",)), host="gw2")

        found = server_state.read(tmp_path, host="gw2")
        assert found is not None and found.damaged == ("parti-b",)
        assert server_state.read(tmp_path, host="gw1") is None
        assert server_state.read(tmp_path) is None
        assert server_state.running(tmp_path, "serve", "portal") == (
            ("serve", ""),
            ("serve", "gw1"),
            ("serve", "gw2"),
        )
    assert server_state.running(tmp_path, "serve") == ()


def test_a_named_host_without_a_sign_of_life_counts_as_gone(tmp_path: Path) -> None:
    with server_state.claim(tmp_path, "serve", "gw2"):
        server_state.write(tmp_path, ServerState(os.getpid()), host="gw2")
        assert server_state.read(tmp_path, host="gw2") is not None

        silent = time.time() - server_state.GONE_AFTER - 1
        os.utime(tmp_path / lock_file("serve", "gw2"), (silent, silent))

        assert not server_state.is_alive(tmp_path, "serve", "gw2")
        assert server_state.read(tmp_path, host="gw2") is None


def test_each_sign_of_life_is_given_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, now = tmp_path / lock_file("serve", "gw2"), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with server_state.claim(tmp_path, "serve", "gw2") as beat:
        for passed, is_touched in ((1.0, False), (1.0, True), (1.5, False), (0.5, True)):
            os.utime(path, (0, 0))
            now[0] += passed
            beat()
            assert (path.stat().st_mtime > 0) is is_touched


def test_the_only_host_gives_no_signs_of_life(tmp_path: Path) -> None:
    with server_state.claim(tmp_path, "serve") as beat:
        os.utime(tmp_path / lock_file("serve"), (0, 0))
        beat()
        assert (tmp_path / lock_file("serve")).stat().st_mtime == 0
    assert server_state.ask_to_reload(tmp_path) is False
    assert not (tmp_path / RELOAD).exists()


def test_daemons_of_named_hosts_are_asked_to_reload_by_a_file(tmp_path: Path) -> None:
    with server_state.claim(tmp_path, "serve", "gw2"):
        serve = server_state.ReloadRequests(tmp_path, "serve", "gw2")
        assert not serve.is_asked()

        assert server_state.ask_to_reload(tmp_path)

        assert [serve.is_asked(), serve.is_asked()] == [True, False]


def test_a_daemon_of_ssps_run_is_not_asked_besides_it(tmp_path: Path) -> None:
    with server_state.claim(tmp_path, "run", "gw2"), server_state.claim(tmp_path, "serve", "gw2"):
        run = server_state.ReloadRequests(tmp_path, "run", "gw2")
        serve = server_state.ReloadRequests(tmp_path, "serve", "gw2")

        assert server_state.ask_to_reload(tmp_path)

        assert (run.is_asked(), serve.is_asked()) == (True, False)


def test_a_share_that_fails_for_a_moment_hides_no_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server_state.claim(tmp_path, "serve", "gw2"):
        serve = server_state.ReloadRequests(tmp_path, "serve", "gw2")
        server_state.ask_to_reload(tmp_path)

        with monkeypatch.context() as failing:
            failing.setattr(Path, "stat", stale)
            assert not serve.is_asked()
        assert serve.is_asked()


def stale(*_: object, **__: object) -> None:
    """Fail as NFS does if another host has removed the file meanwhile."""
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
