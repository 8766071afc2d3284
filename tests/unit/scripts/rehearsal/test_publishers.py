import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from soak import clock_skew

from config import load
from scripts.rehearsal import simulated_reader


@pytest.mark.parametrize(
    ("module", "words", "kept"),
    [
        (clock_skew, ["publish"], {"clock"}),
        (clock_skew, ["serve"], {"clock"}),
        (simulated_reader, [], {"new_client", "workers"}),
    ],
)
def test_a_rehearsal_daemon_changes_only_clock_or_reader(
    module: ModuleType,
    words: list[str],
    kept: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "rehearsal.toml").touch()
    asked: list[dict[str, Any]] = []
    for run in ("run_publisher", "run_server"):
        monkeypatch.setattr(module, run, lambda _, **how: asked.append(how), raising=False)
    monkeypatch.setattr(module, "configure_logging", lambda _: None)
    monkeypatch.setattr(clock_skew, "load_ready_settings", lambda _: None)
    monkeypatch.setattr(load, "load", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["", *words, str(tmp_path), str(tmp_path / "clock")])

    module.main()

    assert [set(how) for how in asked] == [kept]
