import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from scripts.rehearsal import skewed, standin


@pytest.mark.parametrize(
    ("module", "words", "kept"),
    [
        (skewed, ["publish"], {"clock"}),
        (skewed, ["serve"], {"clock"}),
        (standin, [], {"reader", "workers"}),
    ],
)
def test_a_rehearsals_daemon_is_the_real_one_but_for_what_it_changes(
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
    monkeypatch.setattr(module, "log_as", lambda _: None)
    monkeypatch.setattr(skewed, "ready", lambda _: None)
    monkeypatch.setattr(standin.load, "load", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["", *words, str(tmp_path), str(tmp_path / "clock")])

    module.main()

    assert [set(how) for how in asked] == [kept]
