"""One function takes the figures; the command, the wall and Prometheus show the same."""

import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import staff_site
from unit.portal.portal_site import BOXES, PortalSite, every_result

from config import load
from keys.operations import server_state
from publisher.status import figures, health, metrics
from publisher.status.figures import ScannerFolder
from publisher.status.health import Disk
from publisher.status.pace import FolderPace

NOW = datetime(2023, 5, 14, 18, 30, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a result of every box."""
    PortalSite(tmp_path / "site").publish(*every_result())
    return staff_site.make(tmp_path / "site", parties_toml="")


def test_the_figures_name_every_daemon_ledger_and_disk(site: Path) -> None:
    with server_state.claim(site, server_state.STAFF):
        found = figures.take(load.load(site), NOW).as_dict()

    up = {each["part"]: each["pid"] is not None for each in found["daemons"]}
    assert up == {"publish": False, "serve": False, "staff": True}
    assert found["open"] == {
        "stage": "2023-05-14-cb-mv",
        "since": "2023-05-14T17:00:00+03:00",
        "opens": "2023-05-14T17:00:00+03:00",
    }
    ledgers = {each["name"]: each["records"] for each in found["ledgers"]}
    assert ledgers["results"] == 2 * len(BOXES) + 1
    assert found["disks"][0]["total_bytes"] > 0
    assert found["snapshot"] == 1
    assert found["minutes"] == found["folders"] == []


def test_prometheus_gets_the_same_numbers(site: Path) -> None:
    taken = figures.take(load.load(site), NOW)

    page = metrics.render(taken, NOW + timedelta(seconds=2), 3).decode().splitlines()

    for line in (
        'ssps_site_results{state="here"} 42.0',
        'ssps_site_sheets{state="missing"} 110.0',
        'ssps_daemon_up{daemon="publish"} 0.0',
        'ssps_site_ledger_records_total{ledger="results"} 43.0',
        "ssps_site_open 1.0",
        "ssps_staff_sessions 3.0",
        "ssps_figures_age_seconds 2.0",
    ):
        assert line in page


def test_the_folders_that_prometheus_does_not_get_are_counted(site: Path) -> None:
    taken = figures.take(load.load(site), NOW)
    quiet = [ScannerFolder(f"intake/a{number}", 3, 1.0, None) for number in range(100)]
    pace = FolderPace("intake/z", NOW, 1, 1, 0)
    many = replace(taken, folders=(*quiet, ScannerFolder("intake/z", 7, 1.0, pace)))

    page = metrics.render(many, NOW, 0).decode().splitlines()

    assert len([line for line in page if line.startswith("ssps_scanner_waiting{")]) == 100
    assert 'ssps_scanner_waiting{folder="intake/z"} 7.0' in page
    assert 'ssps_scanner_pages{folder="intake/z"} 1.0' in page
    assert "ssps_scanners_not_listed 1.0" in page
    assert "ssps_scanners_not_listed_waiting 3.0" in page


def test_a_listening_port_is_found_without_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert port in health.listening_ports()
    assert port not in health.listening_ports()


def test_the_free_share_of_a_disk_is_the_smaller_one() -> None:
    assert Disk("/", 50, 100, 1, 100).free_share == 0.01
    assert Disk("/", 5, 100, 0, 0).free_share == 0.05
    assert Disk("/", 0, 0, 0, 0).free_share is None


def test_this_process_was_started_in_the_past() -> None:
    found = health.started(os.getpid())
    assert found is not None and timedelta(0) < datetime.now(UTC) - found < timedelta(days=1)
    assert health.started(1 << 22) is None
