"""The operator's handbook holds: it names every alert, and its backup brings a site back."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from running_site import RunningSite, digests, running, running_rehearsal

from config import layout
from publisher.page import Reason

ROOT = Path(__file__).resolve().parents[2]
HANDBOOK = (ROOT / "scripts" / "HANDBOOK.md").read_text(encoding="utf-8")
ALERT = re.compile(r"log(?:\(\))?\.(?:error|warning|exception)\(\s*\"([^\"]+)\"")


def alerts() -> set[str]:
    found: set[str] = set()
    for package in ("sftpd", "publisher", "keys", "scripts"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8").replace("get_logger()", "log")
            found |= set(ALERT.findall(text))
    return found


def test_every_logged_alert_is_in_the_handbook() -> None:
    assert {alert for alert in alerts() if f"`{alert}`" not in HANDBOOK} == set()


def test_every_metric_is_in_the_handbook() -> None:
    source = "".join(path.read_text() for path in (ROOT / "sftpd").rglob("*.py"))
    metrics = set(re.findall(r"^    (ssps_\w+)", source, re.MULTILINE))

    assert len(metrics) >= 11
    assert {metric for metric in metrics if f"`{metric}`" not in HANDBOOK} == set()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_for_quarantine_is_in_the_handbook(reason: Reason) -> None:
    assert f"`{reason}`" in HANDBOOK


def commands(beginning: str, original: Path, copy: Path) -> list[str]:
    """Return the handbook's commands that begin so, on folders of this machine."""
    lines = [line for line in HANDBOOK.splitlines() if line.startswith(beginning)]
    places = {"backup:/srv/ssps/": f"{copy}/", " /srv/ssps/": f" {original}/"}
    for place, stands_for in places.items():
        lines = [line.replace(place, stands_for) for line in lines]
    return lines


def run(command: str) -> None:
    subprocess.run(shlex.split(command), check=True)


def test_a_site_restored_from_the_documented_backup_continues(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    first, second, back = commands("rsync ", tmp_path / "site", copy)
    with running_rehearsal(tmp_path) as here:
        here.scan("--count", 20)
        run(first)
        here.scan("--count", 10)
    run(second)
    before, pages = counts(here), here.tree("parti-a")
    here.site.rename(tmp_path / "lost")
    here.site.mkdir()

    run(back)

    assert here.ssps("check") == ""
    assert counts(here) == before
    assert here.tree("parti-a") == pages
    assert shared_with_the_store(here, "parti-a") == len(pages_of(pages))
    with running(here.site, here.port, here.log):
        here.scan("--count", 10)
        assert counts(here)["filed"] > before["filed"]
        assert {sequence.seq for sequence in here.records("filing")} == set(range(40))
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        # The same host key: a client that knew the lost machine asks nothing.
        assert here.sftp("parti-a", f"get -r / {mirror}").returncode == 0
        assert pages_of(digests(mirror)) == pages_of(here.tree("parti-a"))


def counts(here: RunningSite) -> dict[str, int]:
    names = ("expected", "filed", "missing", "versions", "duplicates", "quarantined", "waiting")
    return {name: here.status()[name] for name in names}


def pages_of(tree: dict[str, str]) -> dict[str, str]:
    def is_page(path: str) -> bool:
        try:
            layout.parse(path)
        except ValueError:
            return False
        return True

    return {path: digest for path, digest in tree.items() if is_page(path)}


def shared_with_the_store(here: RunningSite, party: str) -> int:
    """Count the pages of a tree that are one file with their originals."""
    store = {path.stat().st_ino for path in (here.site / "store").rglob("*") if path.is_file()}
    tree = (here.site / "trees" / party).rglob("*")
    return sum(path.stat().st_ino in store for path in tree if path.is_file())
