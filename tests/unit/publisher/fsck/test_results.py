import json
import shutil
from copy import copy
from pathlib import Path

import pytest
import sqlalchemy as sa
from unit.publisher.results.results_site import ELECTION, ResultsSite, row
from unit.publisher.results.snapshots.test_snapshot import close, exported

from config.site import original_file
from publisher.fsck.results import verify_results
from publisher.results import tables as t


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> ResultsSite:
    """A site with two batches, a rejected row, a duplicate, and two snapshots with exports."""
    found = ResultsSite(tmp_path_factory.mktemp("results") / "site")
    found.take_in(found.deliver(row(1), row(2), row(77)))
    exported(found, close(found))
    found.take_in(found.deliver(row(1), row(2, surum=2, neden="itiraz kabul", gecersiz=6)))
    exported(found, close(found))
    return found


@pytest.fixture
def site(original: ResultsSite, tmp_path: Path) -> ResultsSite:
    """A copy of the site, which the test may change."""
    found = copy(original)
    found.path = shutil.copytree(original.path, tmp_path / "site")
    return found


ROW = "state/results.sqlite: result 1: 34-istanbul-1/kadikoy-2/sandik-1"


def problems(site: ResultsSite, quick: bool = False) -> list[str]:
    found = verify_results(site.path, ELECTION, quick, lambda *_: None)
    return [f"{finding.place}: {finding.problem}" for finding in found]


def test_a_sound_site_has_no_problem(site: ResultsSite) -> None:
    assert problems(site) == []


def test_a_site_without_results_has_no_problem(tmp_path: Path) -> None:
    assert list(verify_results(tmp_path, ELECTION, False, lambda *_: None)) == []


def change(site: ResultsSite, **values: object) -> None:
    with site.store() as store:
        chosen = t.result.c.sandik == "1"
        store.connection.execute(sa.update(t.result).where(chosen).values(**values))
        store.commit()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"gecersiz": 4}, f"{ROW}: has gecersiz 4, but its record and batch 5"),
        ({"votes": '{"parti-a": 9}'}, f'{ROW}: has votes {{"parti-a": 9}}, but its record'),
        ({"line": 3}, f"{ROW}: has line 3, but its record and batch 1"),
        ({"seq": 99}, "ledgers/results: number 0 is unknown to the results database: 34-istanbul"),
    ],
)
def test_a_changed_row_is_named(
    site: ResultsSite, values: dict[str, object], expected: str
) -> None:
    change(site, **values)

    assert problems(site)[0].startswith(expected)


def test_a_changed_batch_is_named_unless_quick(site: ResultsSite) -> None:
    with site.store() as store:
        sha256 = store.batches()[0].sha256 or ""
    kept = site.path / original_file(sha256)
    kept.chmod(0o644)
    kept.write_bytes(kept.read_bytes().replace(b"245", b"246"))

    assert "has other bytes: the batch parti-" in problems(site)[0]
    assert problems(site, quick=True) == []
    kept.unlink()
    assert "is missing: the batch parti-" in problems(site, quick=True)[0]


@pytest.mark.parametrize("name", ["mv.parquet", "mv.changes.ndjson", "mv.csv", "manifest.json"])
def test_a_changed_file_of_a_snapshot_is_named(site: ResultsSite, name: str) -> None:
    file = site.path / "snapshots/00000002" / name
    file.chmod(0o644)
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content + b" ")

    assert problems(site) == [f"snapshots/00000002/{name}: was changed"]


def test_a_missing_file_is_named_but_an_older_export_may_go(site: ResultsSite) -> None:
    (site.path / "snapshots/00000001/mv.csv").unlink()
    assert problems(site) == []

    (site.path / "snapshots/00000001/mv.parquet").unlink()
    assert problems(site) == ["snapshots/00000001/mv.parquet: is missing"]


def test_a_manifest_that_does_not_follow_is_named(site: ResultsSite) -> None:
    file = site.path / "snapshots/00000002/manifest.json"
    manifest = json.loads(file.read_bytes())
    manifest["previous"] = "0" * 64
    file.unlink()
    file.write_text(json.dumps(manifest))

    assert problems(site) == ["snapshots/00000002/manifest.json: was changed"]
