import errno
import random
import time
from pathlib import Path

import pytest
from soak import fault_injection
from soak.fault_injection import SoakRun


def test_step_clock_steps_ahead_and_back(tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311 - nothing secret
    soak_run = SoakRun(tmp_path, 2222, rng, own_disk=False, seconds=60)
    soak_run.clock.write_text("0")

    said = [fault_injection.step_clock(soak_run) for _ in range(2)]

    assert said == ["clock stepped to 600 s ahead", "clock stepped to 0 s ahead"]
    assert soak_run.clock.read_text() == "0"


def test_replace_file_waits_until_the_disk_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = [OSError(errno.ENOSPC, "full"), OSError(errno.ENOSPC, "full")]
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    fault_injection.replace_file(tmp_path / "site.toml", "text")
    refusals.append(OSError(errno.EACCES, "not yours"))
    with pytest.raises(OSError, match="not yours"):
        fault_injection.replace_file(tmp_path / "site.toml", "other")

    assert (tmp_path / "site.toml").read_text() == "text"
