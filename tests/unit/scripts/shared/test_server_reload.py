"""A command waits until its change is in force on every host that is alive."""

import os
import time
from pathlib import Path

import pytest

from config.fault import Faults
from config.site import lock_file
from keys.operations import server_state
from keys.operations.server_state import ServerState
from scripts.shared import server_reload

NEW, OLD = ServerState(1, {"parti-a": "new"}), ServerState(2, {"parti-a": "old"})


def uses_new(state: ServerState) -> bool:
    return state.rings.get("parti-a") == "new"


def wait(site: Path) -> bool:
    return server_reload.wait_until_in_force(site, uses_new, "credentials of parti-a")


def test_a_change_must_be_in_force_on_every_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_reload, "TIMEOUT", 0.2)
    with (
        server_state.claim(tmp_path, "serve", "gw1"),
        server_state.claim(tmp_path, "serve", "gw2"),
    ):
        server_state.write(tmp_path, NEW, host="gw1")
        server_state.write(tmp_path, OLD, host="gw2")
        with pytest.raises(Faults, match="the running server of gw2 does NOT use them"):
            wait(tmp_path)

        server_state.write(tmp_path, NEW, host="gw2")
        capsys.readouterr()
        assert wait(tmp_path)

    assert capsys.readouterr().err.splitlines() == [
        "in force: the server of gw1 (process 1) uses the credentials of parti-a",
        "in force: the server of gw2 (process 1) uses the credentials of parti-a",
    ]


def test_a_host_that_dies_meanwhile_is_waited_for_until_it_counts_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server_reload, "TIMEOUT", 0.0)
    with (
        server_state.claim(tmp_path, "serve", "gw1"),
        server_state.claim(tmp_path, "serve", "gw2"),
    ):
        server_state.write(tmp_path, NEW, host="gw1")
        server_state.write(tmp_path, OLD, host="gw2")
        last_sign = time.time() - server_state.GONE_AFTER + 0.3
        os.utime(tmp_path / lock_file("serve", "gw2"), (last_sign, last_sign))

        assert wait(tmp_path)

    assert "the server of gw2 has ended or gave no sign of life for 15 s" in capsys.readouterr().err


def test_without_a_running_server_a_change_takes_effect_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not wait(tmp_path)
    assert "no server is running" in capsys.readouterr().err
