"""A site made by the code of November 2026 is opened, verified, filed into and served today.

tests/sites/2026-11-before-rooms.sh documents what the archive contains and how it was made.
"""

import csv
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import postgres
import pytest
from flow.test_publisher_killed import drawn
from running_site import ADDRESS, SSPS, RunningSite, digests, free_port, pages, running, until

pytestmark = pytest.mark.skipif(
    postgres.EVERYTHING, reason="an earlier version had its catalog in SQLite"
)

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "tests" / "sites" / "2026-11-before-rooms.tar.xz"
PORT = 22922  # that the archive names
# Settings keys that have been removed since; each must be accepted with a warning.
REMOVED = ("ledger.keep_days", "sftp.packet_layer")


_XATTR = "SCHILY.xattr."  # in the headers that GNU tar writes (pax)


def unpack(folder: Path) -> RunningSite:
    """Unpack the archive with links, times and attributes; give the site a free port.

    An ordinary user may set the attributes of a file only while it is writable, and `tar` does not
    see to that.
    """
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        archive.extractall(folder)  # noqa: S202 - it is ours
        for member in archive:
            path, attributes = folder / member.name, member.pax_headers
            named = {key: text for key, text in attributes.items() if key.startswith(_XATTR)}
            if named:
                path.chmod(member.mode | stat.S_IWUSR)
                for key, text in named.items():
                    value = text.encode("utf-8", "surrogateescape")
                    os.setxattr(path, key.removeprefix(_XATTR), value)
                path.chmod(member.mode)
    site, port = folder / "site", free_port()
    for path in (site / "site.toml", site / "clients" / "known_hosts"):
        path.write_text(path.read_text().replace(str(PORT), str(port)))
    return RunningSite(site, port, folder / "log.jsonl")


@pytest.fixture
def unpacked(tmp_path: Path) -> RunningSite:
    """Give each test that reads or changes the site's files one of its own."""
    return unpack(tmp_path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """Run the old site with today's daemons, for several tests."""
    old = unpack(tmp_path_factory.mktemp("served"))
    with running(old.site, old.port, old.log) as found:
        yield found


def ssps(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [*SSPS, *map(str, words), "--site", str(site)]
    # A daemon that starts although it must not is killed, and does not hold up the suite.
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def missing_result_sheets(old: RunningSite) -> list[str]:
    """Return the karekods of result sheets that no filing record names."""
    known = {record.event.detail.get("karekod") for record in old.records("filing")}
    with (old.site / "registry.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["belge"] == "sandik-sonuc"]
    return [row["karekod"] for row in rows if row["karekod"] not in known]


def scan(old: RunningSite, name: str, karekod: str) -> None:
    (old.site / name).write_bytes(drawn(karekod, name))
    (old.site / name).rename(old.site / "intake" / name)


def test_check_accepts_the_old_settings_and_names_the_removed_keys(unpacked: RunningSite) -> None:
    done = ssps(unpacked.site, "check")

    assert done.returncode == 0, done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    for key in REMOVED:
        assert f"site.toml: {key}: is no longer used" in said


def test_the_daemons_warn_of_each_removed_key(served: RunningSite) -> None:
    assert all(key in served.log.read_text() for key in REMOVED)


def test_the_old_ledgers_and_the_old_receipt_verify(unpacked: RunningSite) -> None:
    ledgers = ssps(unpacked.site, "audit", "verify")
    receipt = ssps(
        unpacked.site, "audit", "receipt", "verify", unpacked.site.parent / "receipt.txt"
    )

    assert ledgers.returncode == 0, ledgers.stdout + ledgers.stderr
    assert ledgers.stdout.count(" OK: ") == 3
    assert receipt.returncode == 0, receipt.stdout + receipt.stderr


def test_catalog_store_and_trees_of_the_old_site_agree(unpacked: RunningSite) -> None:
    done = ssps(unpacked.site, "verify")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_catalog_of_the_old_site_is_rebuilt(unpacked: RunningSite) -> None:
    before = unpacked.status()

    rebuilt = ssps(unpacked.site, "rebuild", "--catalog", "--why", "lost")

    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    done = ssps(unpacked.site, "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    shown = ("filed", "versions", "absent", "duplicates", "quarantined", "ruled")
    assert [unpacked.status()[name] for name in shown] == [before[name] for name in shown]


def test_the_work_of_the_killed_daemons_is_finished(unpacked: RunningSite) -> None:
    before = unpacked.status()
    assert unpacked.records()[-1].event.event == "open"

    with running(unpacked.site, unpacked.port, unpacked.log) as old:
        filed = before["filed"] + 2
        until(lambda: old.status()["filed"] == filed, "the two waiting pages are filed")

        assert old.status()["waiting"] == 0
        assert digests(old.site / "intake") == digests(old.site / "state" / "spool") == {}
    closed = [record.event for record in unpacked.records() if record.event.event == "close"]
    assert closed[-1].detail["complete"] is False
    assert ssps(unpacked.site, "audit", "verify").returncode == 0
    assert ssps(unpacked.site, "verify").returncode == 0


def test_a_new_page_is_filed_and_fetched(served: RunningSite, tmp_path: Path) -> None:
    until(lambda: served.status()["waiting"] == 0, "the two waiting pages are filed")
    old_tree = served.tree("parti-a")
    karekod = missing_result_sheets(served)[0]

    scan(served, "yeni.jpg", karekod)

    until(lambda: len(served.tree("parti-a")) > len(old_tree), "the new page is in the tree")
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    assert served.sftp("parti-a", f"get -r / {fetched}").returncode == 0
    assert pages(fetched) == served.tree("parti-a")
    assert old_tree.items() < pages(fetched).items()


def test_an_old_mirror_of_a_party_continues(served: RunningSite, tmp_path: Path) -> None:
    folder = served.site.parent / "mirror"
    before = pages(folder)
    until(lambda: served.status()["waiting"] == 0, "the two waiting pages are filed")
    signers = tmp_path / "allowed_signers"
    signers.write_text(served.ssps("key", "signing", "show"))
    command = [sys.executable, str(ROOT / "scripts" / "mirror"), "--to", str(folder)]
    command += ["--host", ADDRESS, "--port", str(served.port), "--user", "parti-a"]
    command += ["--key", str(served.key("parti-a")), "--known-hosts", str(served.known_hosts)]
    command += ["--signers", str(signers), "--recheck", "--max-age", "0"]

    def complete() -> bool:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return pages(folder) == served.tree("parti-a")

    until(complete, "the mirror has every page")

    assert before.items() < pages(folder).items()


def test_a_party_logs_in_with_its_old_key(served: RunningSite) -> None:
    done = served.sftp("parti-a", "ls /")

    assert done.returncode == 0, done.stderr
    assert "BENIOKU.txt" in done.stdout
    login = next(r.event for r in reversed(served.records()) if r.event.event == "login")
    assert login.who == "parti-a"


def test_a_tree_is_rebuilt_from_the_old_catalog(unpacked: RunningSite) -> None:
    before = unpacked.tree("parti-c")
    shutil.rmtree(unpacked.site / "trees" / "parti-c" / "prova-cb-mv")

    done = ssps(unpacked.site, "rebuild", "parti-c", "--why", "x", "--grace", "0")

    assert done.returncode == 0, done.stderr
    assert unpacked.tree("parti-c") == before


def test_old_records_answer_the_auditors_questions(unpacked: RunningSite) -> None:
    asked = ssps(unpacked.site, "audit", "query", "--party", "parti-b", "--json")

    found = [json.loads(line) for line in asked.stdout.splitlines()]
    assert asked.returncode == 0, asked.stderr
    assert {"login", "open", "close"} <= {record["event"] for record in found}
