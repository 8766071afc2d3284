"""A disk that is really full: a small file system of its own, which only root can mount."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import office
import pytest
from running_site import until
from structlog.testing import capture_logs
from unit.publisher.results.results_site import BALLOT, registry_csv, row
from unit.publisher.results.test_process import BOX, KEY, drop, recorded

from config import load, registry
from config.settings import Settings
from config.site import BALLOT_CSV, REGISTRY_INDEX, RESULTS, STATE, STORE
from publisher.results import process
from publisher.results.process import ResultsRun
from publisher.results.reading import open_results
from publisher.results.snapshots.folder import latest_number

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A site with a ballot and a registry on a file system of 8 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "ssps-test", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system of its own: {done.stderr.strip()}")
    try:
        site = office.site(disk / "site")
        for folder in (RESULTS, STORE, STATE):
            (site / folder).mkdir(exist_ok=True)
        (site / "kayit.csv").write_text(registry_csv(), encoding="utf-8")
        registry.import_csv(site / "kayit.csv", site / REGISTRY_INDEX)
        (site / BALLOT_CSV).write_text(BALLOT, encoding="utf-8")
        yield load.load(site)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(site: Path) -> Path:
    filler = site / "dolu"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 16
        while size:
            try:
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), size)
            except OSError:
                size //= 2
    return filler


def test_a_full_disk_stops_the_intake_until_there_is_room_and_nothing_is_lost(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, stop = settings.site, threading.Event()
    monkeypatch.setattr(ResultsRun, "_prepare_if_due", lambda self: None)
    rows = [row(box) for box in range(1, 9)]
    with capture_logs() as logs:
        working = threading.Thread(target=process.run, args=(settings, KEY), kwargs={"stop": stop})
        working.start()
        try:
            drop(settings, "1.ndjson", rows[0])
            until(lambda: latest_number(site) == 1, "the first snapshot")
            drop(settings, "2.ndjson", *rows[1:])
            filler = fill(site)
            until(lambda: any(e["event"] == "results-halted" for e in logs), "the full disk")
            assert working.is_alive()
            filler.unlink()
            until(lambda: published(site), "everything published")
        finally:
            stop.set()
            working.join(60)

    results = [what for event, what in recorded(settings) if event == "result"]
    assert sorted(results) == [BOX.format(box) for box in range(1, 9)]
    assert not list((site / RESULTS).iterdir())


def published(site: Path) -> bool:
    with open_results(site) as reader:
        return reader.number_of_results() == 8 and reader.is_published()
