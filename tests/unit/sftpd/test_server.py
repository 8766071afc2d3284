import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import office
import pytest
from structlog.testing import capture_logs
from unit.fake_clock import FakeClock

from config import load
from config.settings import Settings
from keys.operations import site_keys
from sftpd import server
from sftpd.monitor.loop import Loop
from sftpd.server import Signals, reload_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load.load(office.site(tmp_path / "site"))


def rewrite(settings: Settings, file: str, old: str, new: str) -> None:
    path = settings.site / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_reload_returns_the_changed_settings(settings: Settings) -> None:
    rewrite(settings, "parties.toml", '"127.0.0.1", "2001:db8::7"', '"192.0.2.7"')
    rewrite(settings, "site.toml", "[sftp]", "[sftp]\nmax_sessions = 9")
    result = reload_settings(settings)

    assert result.settings is not None
    party = result.settings.party("parti-b")
    assert party is not None
    assert [str(address) for address in party.static_ips] == ["192.0.2.7"]
    assert result.settings.sftp.max_sessions == 9
    assert (result.faults, result.restart) == ((), ())


def test_a_reload_of_a_faulty_file_returns_every_fault_and_no_settings(settings: Settings) -> None:
    rewrite(settings, "parties.toml", 'kind = "party"', 'kind = "partei"')
    result = reload_settings(settings)

    assert result.settings is None
    assert [fault.key for fault in result.faults] == ["parti-a.kind", "parti-b.kind"]


def test_a_reload_keeps_and_names_the_settings_that_need_a_restart(settings: Settings) -> None:
    rewrite(settings, "site.toml", "2023-05-14-cb-mv", "2024-03-31-bb")
    rewrite(settings, "site.toml", "14 Mayıs", "15 Mayıs")
    rewrite(settings, "site.toml", ":2222", ':22"\nmetrics = "127.0.0.1:9100')
    path = settings.site / "site.toml"
    path.write_text(path.read_text() + '\n[ledger]\nsync = "always"\n', encoding="utf-8")
    result = reload_settings(settings)

    assert result.restart == ("election.id", "sftp.listen", "sftp.metrics", "ledger.sync")
    assert result.settings is not None
    title = result.settings.election.title
    assert title.startswith("15 Mayıs")
    assert replace(result.settings.election, title=settings.election.title) == settings.election
    assert result.settings.sftp == settings.sftp
    assert result.settings.ledger == settings.ledger


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert len(loop) == 0
    loop.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_wakes_the_loop(loop: Loop, stop: signal.Signals) -> None:
    signals = Signals()
    with signals.handled(loop):
        os.kill(os.getpid(), signal.SIGHUP)
        loop.run_once()  # would wait for ever
        assert (signals.reload, signals.stop_count) == (True, 0)
        os.kill(os.getpid(), stop)
        loop.run_once()
        assert signals.stop_count == 1


def test_a_keystroke_that_arrives_twice_counts_as_one_stop(loop: Loop) -> None:
    clock = FakeClock()
    signals = Signals(clock)
    with signals.handled(loop):
        for later in (0.0, 0.24, 0.1):
            clock.now += later
            os.kill(os.getpid(), signal.SIGINT)
            loop.run_once()

    assert signals.stop_count == 2


def test_the_signal_handlers_of_before_are_restored(loop: Loop) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Signals().handled(loop):
        assert [signal.getsignal(number) for number in numbers] != before

    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_periodic_task_that_lacks_something_now_does_not_end_the_server() -> None:
    def update_live_file() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with capture_logs() as logs:
        server._attempt(update_live_file)

    assert [(log["event"], log["name"]) for log in logs] == [("task-failed", "update_live_file")]


def test_a_stamp_key_that_cannot_be_read_now_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    running = object.__new__(server.Server)
    running._stamp_keys = {}
    rehearsal = SimpleNamespace(id="prova", folder=tmp_path)
    running._config = cast(
        server.Config, SimpleNamespace(settings=SimpleNamespace(rehearsals=[rehearsal]))
    )
    monkeypatch.setattr(site_keys, "stamp_key_on_record", fail)
    assert running._stamp_key("prova") is None

    monkeypatch.setattr(site_keys, "stamp_key_on_record", lambda _: b"key")
    assert running._stamp_key("prova") == b"key"
