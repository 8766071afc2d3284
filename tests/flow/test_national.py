"""A rehearsed polling night of a few boxes, from the first page to the parties' mirrors."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from config import load
from scripts.rehearsal import national
from scripts.rehearsal.mirror_clients import MIRROR_CLIENTS
from scripts.rehearsal.national import REAL, SHARED
from scripts.ssps import main


@pytest.fixture(autouse=True)
def database_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """State a database before the daemons start, in a run with all sites on PostgreSQL."""
    run = national._running_daemons

    def running(pages: str, port: int, log: Path, site: Path) -> AbstractContextManager[None]:
        load.catalog(site)
        return run(pages, port, log, site)

    monkeypatch.setattr(national, "_running_daemons", running)


@pytest.mark.parametrize("pages", [REAL, SHARED])
def test_a_rehearsed_night_ends_with_no_missing_sheet_and_identical_mirrors(
    tmp_path: Path, pages: str
) -> None:
    file = tmp_path / "report.json"
    words = ["rehearse", "--national", str(tmp_path / "night"), "--factor", "50000"]
    words += ["--pages", pages, "--parties", "4", "--minutes", "0.1", "--json", str(file)]
    words += ["--web-parties", "2"]

    with pytest.raises(SystemExit) as ended:
        main(words)

    report = json.loads(file.read_text())
    assert (ended.value.code, report["ok"], report["pages"]) == (0, True, pages)
    assert (report["boxes"], report["missing"], report["unaccounted"]) == (4, 0, [])
    assert report["never_came"] == report["absent"] > 0
    assert report["filed"] == report["sheets"] - report["never_came"] > 20
    assert report["mirrors"] == dict.fromkeys(MIRROR_CLIENTS, 1)
    assert (report["web_parties"], report["web_errors"]) == (2, [])
    assert report["web_told_p99"] is not None and report["service_verified_p99"] is not None
    assert (report["rounds_failed"], report["mirrors_that_differ"]) == ([], [])
    assert set(report["checks"].values()) == {"passed"}
    assert (report["recall"], report["precision"], report["results_rejected"]) == (1.0, 1.0, 0)
    lags = [report[f"results_{name}_max"] for name in ("recorded", "published")]
    assert lags == sorted(lags)
    assert lags[0] > 0
