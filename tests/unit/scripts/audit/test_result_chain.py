import json
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.publisher.results.results_site import ResultsSite, row
from unit.publisher.results.snapshots.test_snapshot import KEY, close, exported

from config.site import LEDGERS, RESULTS_LEDGER, original_file
from scripts.audit.result_chain import (
    ResultFolders,
    batch_problem,
    find_results,
    read_recorded,
    record_of,
    rows_of,
    verify_results,
)

pytestmark = pytest.mark.slow

AGGREGATE = row(1, belge="ilce-birlestirme", sandik=None, sandik_turu=None, oylar={"parti-a": 7})


@pytest.fixture
def site(tmp_path: Path) -> ResultsSite:
    """A site with two snapshots, a correction, an aggregate, a rejected row and a CSV batch."""
    found = ResultsSite(tmp_path / "site")
    found.take_in(found.deliver(row(1, oylar={"parti-a": 245, "parti-b": 0}), row(2), row(77)))
    exported(found, close(found))
    csv = [
        "secim;cevre;kurul;sandik;sandik_turu;surum;neden;zaman;secmen;oy_kullanan;"
        "itirazsiz_gecerli;itirazli_gecerli;gecerli;gecersiz;oylar.parti-a",
        "mv;34-istanbul-1;kadikoy-2;2;normal;2;itiraz kabul;2023-05-14T19:30:00.25+03:00;"
        "300;250;245;0;245;6;245",
    ]
    found.take_in(found.deliver(*csv, name="duzeltme.csv"), found.deliver(AGGREGATE))
    exported(found, close(found))
    return found


def problems(site: ResultsSite) -> list[str]:
    return verify_results(ResultFolders(site.path), [KEY.public_key()]).findings


def test_sound_results_are_traced_from_the_newest_snapshot_to_the_batches(
    site: ResultsSite,
) -> None:
    # Nothing of this is in the database, which may also be in PostgreSQL.
    (site.path / "state/results.sqlite").unlink(missing_ok=True)

    verdict = verify_results(ResultFolders(site.path), [KEY.public_key()])

    assert verdict.findings == []
    assert (verdict.snapshots, verdict.rows, verdict.batches, verdict.lines) == (2, 3, 3, 4)


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    content = path.read_bytes()
    path.unlink()  # it may be a hard link
    path.write_bytes(change(content))


def batch(site: ResultsSite, name: str) -> Path:
    with site.store() as store:
        (sha256,) = [b.sha256 for b in store.batches() if b.name == name]
    return site.path / original_file(sha256 or "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00000001/mv.parquet", "snapshots/00000001/mv.parquet: was changed"),
        ("00000001/mv.csv", "snapshots/00000001/mv.csv: was changed"),
        ("00000002/mv.changes.ndjson", "snapshots/00000002/mv.changes.ndjson: was changed"),
        ("00000002/mv.sums.ndjson", "snapshots/00000002/mv.sums.ndjson: was changed"),
    ],
)
def test_a_changed_file_of_a_snapshot_is_found(site: ResultsSite, name: str, expected: str) -> None:
    rewrite(site.path / "snapshots" / name, lambda content: content + b" ")

    assert expected in problems(site)


def test_a_manifest_that_was_changed_is_found(site: ResultsSite) -> None:
    rewrite(
        site.path / "snapshots/00000001/manifest.json",
        lambda content: content.replace(b'"boxes": 2', b'"boxes": 3'),
    )

    found = problems(site)

    assert "snapshots/00000001/manifest.json: has no valid signature" in found[0]
    assert "snapshots/00000001/manifest.json: is not the one that the results ledger names" in found
    assert "snapshots/00000002/manifest.json: does not follow the snapshot before it" in found


def test_a_snapshot_that_another_key_signed_is_found(site: ResultsSite) -> None:
    other = Ed25519PrivateKey.generate().public_key()

    found = verify_results(ResultFolders(site.path), [other]).findings

    assert sum("has no valid signature" in text for text in found) == 4


@pytest.mark.parametrize("number", [1, 2])
def test_a_snapshot_that_is_missing_is_found(site: ResultsSite, number: int) -> None:
    for path in (site.path / f"snapshots/0000000{number}").iterdir():
        path.unlink()
    (site.path / f"snapshots/0000000{number}").rmdir()

    assert any(f"snapshots/0000000{number}: is missing" in text for text in problems(site))


def forge(site: ResultsSite, statement: str) -> None:
    """Change the rows of the newest snapshot, and sign the forgery with the site's own key."""
    folder = site.path / "snapshots/00000002"
    file = folder / "mv.parquet"
    with duckdb.connect() as database:
        database.execute(f"CREATE TABLE mv AS SELECT * FROM '{file}'")
        database.execute(statement)
        file.unlink()
        database.execute(f"COPY mv TO '{file}' (FORMAT parquet)")


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE mv SET gecersiz = 9 WHERE sandik = '1'",
            "mv 34-istanbul-1/kadikoy-2/sandik-1: version 1 with these numbers is not in",
        ),
        (
            "UPDATE mv SET neden = 'hata' WHERE sandik = '2'",
            "mv 34-istanbul-1/kadikoy-2/sandik-2: version 2 with these numbers is not in",
        ),
        ("DELETE FROM mv WHERE sandik = '1'", "has 2 rows, the results ledger 3"),
    ],
)
def test_a_row_that_is_not_on_record_is_found_even_if_its_file_was_signed_again(
    site: ResultsSite, statement: str, expected: str
) -> None:
    forge(site, statement)

    assert any(expected in text for text in problems(site))


def test_an_older_version_in_place_of_the_newest_is_found(site: ResultsSite) -> None:
    older = (site.path / "snapshots/00000001/mv.parquet").read_bytes()
    rewrite(site.path / "snapshots/00000002/mv.parquet", lambda _: older)

    text = "mv 34-istanbul-1/kadikoy-2/sandik-2: has version 1, the results ledger has version 2"
    assert f"snapshots/00000002: {text}" in problems(site)


def test_a_changed_batch_is_found(site: ResultsSite) -> None:
    file = batch(site, "duzeltme.csv")
    rewrite(file, lambda content: content.replace(b";245;6;", b";245;7;"))

    place = file.relative_to(site.path)
    assert problems(site) == [
        f"{place}: the batch duzeltme.csv was changed",
        f"{place}: line 2 of the batch duzeltme.csv does not state the numbers of record 4",
    ]


def test_a_missing_batch_is_found(site: ResultsSite) -> None:
    file = batch(site, "duzeltme.csv")
    file.unlink()

    (problem,) = problems(site)
    assert "the batch duzeltme.csv cannot be read (No such file or directory)" in problem


def test_without_a_store_the_rest_is_verified_and_that_is_said(
    site: ResultsSite, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    for folder in ("ledgers", "snapshots"):
        (copy / folder).parent.mkdir(exist_ok=True)
        (site.path / folder).rename(copy / folder)

    (folders,) = find_results([copy / LEDGERS / RESULTS_LEDGER])
    verdict = verify_results(folders, [KEY.public_key()])

    assert verdict.findings == []
    assert verdict.notes == ["the batches are not there, so records are not compared with them"]


def test_a_changed_record_is_found(site: ResultsSite) -> None:
    file = site.path / LEDGERS / RESULTS_LEDGER / "000000000000.jsonl"
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    lines[0]["detail"]["digest"] = "0" * 64
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))

    found = problems(site)

    assert any("version 1 with these numbers is not in the results ledger" in t for t in found)
    assert any("does not state the numbers of record 0" in t for t in found)


def test_a_row_leads_to_the_line_of_its_batch(site: ResultsSite) -> None:
    folders = ResultFolders(site.path)
    manifest = folders.manifest(2)
    (result,) = rows_of(folders.snapshot(2), manifest, "sandik = ?", ["2"])

    record = record_of(result, read_recorded(folders.ledger))

    assert record is not None
    assert (record.name, record.line, record.version) == ("duzeltme.csv", 2, 2)
    assert batch_problem(folders, result, record, manifest["election"]) is None
    rewrite(batch(site, "duzeltme.csv"), lambda content: content.replace(b";6;", b";8;"))
    assert "was changed" in str(batch_problem(folders, result, record, manifest["election"]))
