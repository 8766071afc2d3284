from collections.abc import Callable
from pathlib import Path

import pytest
from unit.publisher.results.results_site import ResultsSite


@pytest.fixture
def site(tmp_path: Path) -> ResultsSite:
    return ResultsSite(tmp_path / "site")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda rows: monkeypatch.setattr("publisher.results.intake.take_in.CHUNK_ROWS", rows)
