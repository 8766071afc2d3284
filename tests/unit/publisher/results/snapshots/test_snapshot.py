import csv
import gzip
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs
from unit.publisher.results.results_site import ELECTION, NOW, Killed, ResultsSite, row

from config.scope import parse as parse_scope
from config.site import SNAPSHOTS
from config.snapshot import MANIFEST, SIGNATURE
from keys.server_keys import sshsig
from publisher.results.snapshots.exports import prune_exports, write_exports
from publisher.results.snapshots.folder import latest_number
from publisher.results.snapshots.merge import merge
from publisher.results.snapshots.scoped import scoped_results
from publisher.results.snapshots.snapshot import SnapshotWriter

pytestmark = pytest.mark.slow

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@contextmanager
def writing(site: ResultsSite) -> Iterator[SnapshotWriter]:
    with site.opened() as (_, context):
        writer = SnapshotWriter(
            site.path,
            ELECTION,
            context.store,
            context.ledger,
            lambda text: sshsig.sign(KEY, text),
            lambda: NOW,
            site.step,
            merge=merge,
        )
        try:
            writer.recover()
            yield writer
        finally:
            writer.close()


def close(site: ResultsSite) -> Path:
    with writing(site) as writer:
        assert writer.due
        return site.path / SNAPSHOTS / f"{writer.close_snapshot().number:08}"


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return found


def parquet(file: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect() as database:
        return database.execute(
            f"SELECT sandik, surum, gecersiz, \"oylar.parti-a\" FROM '{file}'"
        ).fetchall()


def test_a_snapshot_has_the_newest_result_of_each_box(site: ResultsSite) -> None:
    later = row(2, surum=2, neden="itiraz kabul", gecersiz=6)
    site.take_in(site.deliver(row(2), row(1), later))

    folder = close(site)

    assert parquet(folder / "mv.parquet") == [("1", 1, 5, 101), ("2", 2, 6, 102)]
    assert manifest(folder)["contests"] == {"mv": {"aggregates": 0, "boxes": 2, "changes": 3}}
    assert latest_number(site.path) == 1


def test_every_version_that_became_the_newest_is_a_change_with_its_reason(
    site: ResultsSite,
) -> None:
    site.take_in(site.deliver(row(1)))
    close(site)
    site.take_in(
        site.deliver(
            row(1, surum=2, neden="itiraz kabul", gecersiz=6),
            row(1, surum=3, neden="yeniden sayım", gecersiz=7),
        )
    )

    folder = close(site)

    changes = [
        json.loads(line) for line in (folder / "mv.changes.ndjson").read_bytes().splitlines()
    ]
    assert [
        (c["surum"], c["neden"], c["eski"]["gecersiz"], c["yeni"]["gecersiz"]) for c in changes
    ] == [(2, "itiraz kabul", 5, 6), (3, "yeniden sayım", 6, 7)]


def test_manifests_are_signed_and_form_a_chain(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)))
    first = close(site)
    site.take_in(site.deliver(row(2)))
    second = close(site)

    content = (first / MANIFEST).read_bytes()
    sshsig.verify(KEY.public_key(), content, (first / SIGNATURE).read_bytes())
    assert manifest(first)["previous"] is None
    assert manifest(second)["previous"] == hashlib.sha256(content).hexdigest()
    assert manifest(second)["election"] == ELECTION
    for name, stated in manifest(second)["files"].items():
        assert hashlib.sha256((second / name).read_bytes()).hexdigest() == stated["sha256"]
    assert site.events()[-1] == ("snapshot", "2")


def test_a_contest_in_which_nothing_changed_keeps_its_file(site: ResultsSite) -> None:
    cb = row(1, secim="cb", oylar={"aday-1": 245})
    site.take_in(site.deliver(row(1), cb))
    first = close(site)
    site.take_in(site.deliver(row(2)))
    second = close(site)

    assert (second / "cb.parquet").samefile(first / "cb.parquet")
    assert not (second / "mv.parquet").samefile(first / "mv.parquet")
    assert (second / "cb.changes.ndjson").read_bytes() == b""


def test_aggregates_are_in_a_file_of_their_own(site: ResultsSite) -> None:
    aggregate = row(
        1, belge="ilce-birlestirme", sandik=None, sandik_turu=None, oylar={"parti-a": 7}
    )
    site.take_in(site.deliver(row(1), aggregate))

    folder = close(site)

    assert manifest(folder)["contests"]["mv"] == {"aggregates": 1, "boxes": 1, "changes": 2}
    assert parquet(folder / "mv-birlestirme.parquet") == [("", 1, 5, 7)]


def test_after_a_restart_nothing_is_due_until_something_changes(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)))
    close(site)

    with writing(site) as writer:
        assert not writer.due
    site.take_in(site.deliver(row(2)))
    with writing(site) as writer:
        assert writer.due


def _cut(parquet: Path) -> None:
    content = parquet.read_bytes()
    parquet.unlink()
    parquet.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [_cut, Path.unlink], ids=["cut", "removed"])
def test_after_damage_of_the_last_snapshot_the_next_one_is_made_from_the_database(
    site: ResultsSite, damage: Callable[[Path], None]
) -> None:
    site.take_in(site.deliver(row(1), row(2), row(1, secim="cb", oylar={"aday-1": 245})))
    damage(close(site) / "mv.parquet")
    site.take_in(site.deliver(row(2, surum=2, neden="itiraz kabul", gecersiz=6)))

    with capture_logs() as logs:
        folder = close(site)

    assert next(entry["event"] for entry in logs) == "snapshot-damaged"
    assert parquet(folder / "mv.parquet") == [("1", 1, 5, 101), ("2", 2, 6, 102)]
    contests = manifest(folder)["contests"]
    assert {name: (of["boxes"], of["changes"]) for name, of in contests.items()} == {
        "cb": (1, 0),
        "mv": (2, 1),
    }


@pytest.mark.parametrize("step", ["written", "renamed", "recorded", "noted"])
def test_killed_at_any_step_a_snapshot_is_closed_exactly_once(site: ResultsSite, step: str) -> None:
    site.take_in(site.deliver(row(1)))
    close(site)
    site.take_in(site.deliver(row(2)))
    site.kill_at = step
    with pytest.raises(Killed):
        close(site)

    with writing(site) as writer:
        if writer.due:
            writer.close_snapshot()

    assert latest_number(site.path) == 2
    assert [what for event, what in site.events() if event == "snapshot"] == ["1", "2"]
    names = sorted(path.name for path in (site.path / SNAPSHOTS).iterdir())
    assert names == ["00000001", "00000002", "latest"]


def exported(site: ResultsSite, folder: Path) -> None:
    write_exports(
        site.path, int(folder.name), ELECTION, site.ballot, lambda text: sshsig.sign(KEY, text)
    )


def test_exports_have_turkish_headings_and_the_same_numbers(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1), row(2)))
    folder = close(site)

    exported(site, folder)

    text = (folder / "mv.csv").read_bytes()
    assert text.startswith(b"\xef\xbb\xbfBelge;Se\xc3\xa7im \xc3\x87evresi;")
    first, *_ = csv.DictReader(text.decode("utf-8-sig").splitlines(), delimiter=";")
    assert first["Sandık No"] == "1"
    assert first["A Partisi"] == "101"
    assert first["Anlık Görüntü"] == "1"
    assert first["Durum"] == "GEÇİCİ SONUÇ"
    lines = gzip.decompress((folder / "mv.ndjson.gz").read_bytes())
    with (folder / "mv.ndjson.zst").open("rb") as packed:
        assert zstandard.ZstdDecompressor().stream_reader(packed, closefd=False).read() == lines
    assert json.loads(lines.splitlines()[0])["oylar"] == {
        "ortak": 5,
        "parti-a": 101,
        "parti-b": 139,
    }
    with zipfile.ZipFile(folder / "mv.xlsx") as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert "<v>101</v>" in sheet
    assert 'state="frozen"' in sheet


def test_a_reason_is_never_a_formula_in_a_spreadsheet(site: ResultsSite) -> None:
    reason = '=HYPERLINK("http://example.org";"itiraz")'
    site.take_in(site.deliver(row(1)))
    close(site)
    site.take_in(site.deliver(row(1, surum=2, neden=reason, gecersiz=6)))
    folder = close(site)

    exported(site, folder)

    for name in ("mv.csv", "mv.changes.csv"):
        text = (folder / name).read_text("utf-8-sig")
        first = next(iter(csv.DictReader(text.splitlines(), delimiter=";")))
        assert first["Değişiklik Nedeni"] == f"'{reason}"
    lines = gzip.decompress((folder / "mv.ndjson.gz").read_bytes())
    assert json.loads(lines)["neden"] == reason


def test_exports_are_listed_with_their_digests_and_signed(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)))
    folder = close(site)

    exported(site, folder)

    content = (folder / "exports.json").read_bytes()
    sshsig.verify(KEY.public_key(), content, (folder / "exports.json.sig").read_bytes())
    listed = json.loads(content)
    assert listed["manifest"] == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert sorted(listed["files"]) == [
        "mv.changes.csv",
        "mv.changes.xlsx",
        "mv.csv",
        "mv.ndjson.gz",
        "mv.ndjson.zst",
        "mv.xlsx",
    ]
    for name, stated in listed["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == stated["sha256"]


def test_an_export_row_is_a_row_of_a_batch(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1), row(2, surum=2, neden="itiraz kabul")))
    folder = close(site)
    exported(site, folder)
    exported_rows = gzip.decompress((folder / "mv.ndjson.gz").read_bytes()).decode()
    other = ResultsSite(site.path.with_name("other"))

    other.take_in(other.deliver(*exported_rows.splitlines()))

    assert other.quarantined() == []
    assert other.accepted() == [("1", 1, True), ("2", 2, True)]


def at(site: ResultsSite, minute: int) -> None:
    """Change the time at which the newest snapshot was closed."""
    folder = site.path / SNAPSHOTS / f"{latest_number(site.path):08}"
    stated = manifest(folder) | {"closed_at": f"2023-05-14T{18 + minute // 60}:{minute % 60:02}:00"}
    (folder / MANIFEST).unlink()
    (folder / MANIFEST).write_text(json.dumps(stated))


@pytest.mark.slow
def test_exports_of_the_newest_and_of_each_full_hour_are_kept(site: ResultsSite) -> None:
    for box, minute in enumerate((5, 40, 61, 70, 125), 1):
        site.take_in(site.deliver(row(box)))
        exported(site, close(site))
        at(site, minute)

    assert prune_exports(site.path, 5) == [1, 3]

    folders = sorted(path for path in (site.path / SNAPSHOTS).iterdir() if path.is_dir())
    assert [(f / "mv.csv").exists() for f in folders] == [False, True, False, True, True]
    assert [(f / "exports.json").exists() for f in folders] == [False, True, False, True, True]
    assert all((f / "mv.parquet").exists() for f in folders)


@pytest.mark.parametrize(
    ("scope", "boxes"),
    [("all", 2), (["34-istanbul-1"], 2), (["34-istanbul-1/kadikoy-2"], 2), (["06-ankara-1"], 0)],
)
def test_a_party_gets_only_the_results_in_its_scope(
    site: ResultsSite, scope: str | list[str], boxes: int
) -> None:
    site.take_in(site.deliver(row(1), row(2)))
    close(site)

    found = scoped_results(site.path, ELECTION, parse_scope(scope), site.ballot)

    (content,) = (c for path, c in found.items() if path == f"{ELECTION}/sonuclar/00000001/mv.csv")
    assert len(content.decode("utf-8-sig").splitlines()) == 1 + boxes


@pytest.mark.slow
def test_large_exports_are_written_in_two_processes_to_the_same_bytes(
    site: ResultsSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    cb = row(1, secim="cb", oylar={"aday-1": 245})
    site.take_in(site.deliver(row(1), row(2), cb))
    folder = close(site)
    exported(site, folder)
    names = ("mv.csv", "mv.ndjson.zst", "cb.csv", "cb.ndjson.gz")
    before = {name: (folder / name).read_bytes() for name in names}
    for path in folder.iterdir():
        if path.name.startswith("exports.json") or path.suffix in (".csv", ".zst", ".gz", ".xlsx"):
            path.unlink()
    monkeypatch.setattr("publisher.results.snapshots.exports._LARGE", 1)

    exported(site, folder)

    assert {name: (folder / name).read_bytes() for name in names} == before
    assert (folder / "mv.xlsx").exists()
