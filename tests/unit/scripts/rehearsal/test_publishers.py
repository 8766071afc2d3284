import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keys import sshsig
from scripts.rehearsal import skewed, standin


@pytest.mark.parametrize(("module", "words"), [(skewed, ["publish"]), (standin, [])])
def test_a_rehearsals_publisher_keeps_the_parties_feed(
    module: ModuleType, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rehearsal.toml").touch()
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(module, "publish", lambda _, **given: asked.append(given))
    monkeypatch.setattr(module, "log_as", lambda _: None)
    monkeypatch.setattr(module, "stopping", nullcontext)
    monkeypatch.setattr(skewed, "ready", lambda _: None)
    monkeypatch.setattr(standin.load, "load", lambda _: None)
    monkeypatch.setattr(sshsig, "signing_key", lambda site: f"the key of {site}")
    monkeypatch.setattr(sys, "argv", ["", *words, str(tmp_path), str(tmp_path / "clock")])

    module.main()

    assert [given["signer"] for given in asked] == [f"the key of {tmp_path}"]
