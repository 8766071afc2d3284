import csv
import hashlib
import json
from pathlib import Path

import pytest
from unit.publisher.results.results_site import ELECTION, ResultsSite, row
from unit.publisher.results.snapshots.test_snapshot import KEY, close, exported, manifest

from config.scope import ALL, Scope, parse
from config.site import result_view
from config.snapshot import MANIFEST, SIGNATURE
from keys import digest
from keys.server_keys import sshsig
from publisher.results.snapshots import views
from publisher.results.snapshots.prepared import missing_views

pytestmark = pytest.mark.slow

ISTANBUL, BOARD, ANKARA = (
    parse([place]) for place in ("34-istanbul-1", "34-istanbul-1/kadikoy-2", "06-ankara-1")
)
AGGREGATE = row(1, belge="ilce-birlestirme", sandik=None, sandik_turu=None, oylar={"parti-a": 7})


def prepared(site: ResultsSite, *scopes: Scope) -> Path:
    """Close a snapshot with exports, prepare it for these scopes, and return its folder."""
    folder = close(site)
    exported(site, folder)
    views.write_views(
        site.path, int(folder.name), scopes, site.ballot, lambda text: sshsig.sign(KEY, text)
    )
    return folder


def view(site: ResultsSite, scope: Scope, number: int = 1) -> Path:
    return site.path / result_view(number, scope)


def test_who_may_see_everything_gets_the_files_of_the_snapshot(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1), AGGREGATE))

    folder = prepared(site, ALL)

    names = {path.name for path in folder.iterdir()}
    assert {"manifest.json", "manifest.json.sig", "exports.json", "mv.csv", "mv.parquet"} <= names
    assert {path.name for path in view(site, ALL).iterdir()} == names
    assert all(path.samefile(folder / path.name) for path in view(site, ALL).iterdir())


@pytest.mark.parametrize(
    ("scope", "boxes", "aggregates", "sums"),
    [(ISTANBUL, 2, 1, 2), (BOARD, 2, 1, 1), (ANKARA, 0, 0, 0)],
)
def test_who_may_see_some_places_gets_only_their_rows(
    site: ResultsSite, scope: Scope, boxes: int, aggregates: int, sums: int
) -> None:
    site.take_in(site.deliver(row(1), row(2), AGGREGATE))

    folder = prepared(site, scope)

    found = view(site, scope)
    lines = (found / "mv.csv").read_text("utf-8-sig").splitlines()
    rows = list(csv.DictReader(lines, delimiter=";"))
    assert [line["Sandık No"] for line in rows] == ["1", "2"][:boxes]
    content = manifest(found)
    assert content["contests"]["mv"] == {"boxes": boxes, "aggregates": aggregates}
    assert content["scope"] == str(scope).split()
    assert content["number"] == 1
    whole = (folder / MANIFEST).read_bytes()
    assert content["snapshot"] == hashlib.sha256(whole).hexdigest()
    changes = (found / "mv.changes.ndjson").read_bytes().splitlines()
    assert len(changes) == boxes + aggregates
    assert {"mv.xlsx", "mv.ndjson.zst", "mv.parquet", "mv.changes.csv"} <= content["files"].keys()
    for name, stated in content["files"].items():
        assert hashlib.sha256((found / name).read_bytes()).hexdigest() == stated["sha256"]
    signature = (found / SIGNATURE).read_bytes()
    sshsig.verify(KEY.public_key(), (found / MANIFEST).read_bytes(), signature)


def test_a_party_of_one_board_gets_no_sums_of_the_district(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)))
    folder = close(site)
    places = (("kurul", "kadikoy-2"), ("kurul", "kadikoy-1"), ("cevre", None))
    lines: list[dict[str, str | None]] = [
        {"level": level, "cevre": "34-istanbul-1", "kurul": kurul} for level, kurul in places
    ]
    lines.append({"level": "ulke", "cevre": None, "kurul": None})
    file = folder / "mv.sums.ndjson"
    file.unlink()
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    exported(site, folder)
    sign = lambda text: sshsig.sign(KEY, text)  # noqa: E731

    views.write_views(site.path, 1, [BOARD, ISTANBUL], site.ballot, sign)

    def shown(scope: Scope) -> list[tuple[str, str | None]]:
        text = (view(site, scope) / "mv.sums.ndjson").read_bytes()
        return [(line["level"], line["kurul"]) for line in map(json.loads, text.splitlines())]

    assert shown(BOARD) == [("kurul", "kadikoy-2")]
    assert shown(ISTANBUL) == [("kurul", "kadikoy-2"), ("kurul", "kadikoy-1"), ("cevre", None)]


def test_a_view_is_complete_or_not_there(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)))
    left = view(site, ISTANBUL)
    fresh = left.with_name(f".{left.name}.new")
    fresh.mkdir(parents=True)
    (fresh / "mv.csv").write_text("half")

    prepared(site, ISTANBUL, ALL)

    assert not fresh.exists()
    assert "half" not in (left / "mv.csv").read_text("utf-8-sig")
    assert missing_views(site.path, 1, [ISTANBUL, ALL, ANKARA]) == [ANKARA]


def test_every_file_of_a_view_is_stamped_with_its_digests(site: ResultsSite) -> None:
    if not digest.supported(site.path):
        pytest.skip("the file system has no extended attributes")
    site.take_in(site.deliver(row(1)))

    prepared(site, ISTANBUL, ALL)

    for scope in (ISTANBUL, ALL):
        for path in view(site, scope).iterdir():
            with path.open("rb") as file:
                assert digest.read_stamp(file.fileno()) == digest.compute(file.fileno())
            assert path.stat().st_mode & 0o777 == 0o444


def test_the_election_is_named(site: ResultsSite) -> None:
    site.take_in(site.deliver(row(1)))

    prepared(site, ISTANBUL)

    assert manifest(view(site, ISTANBUL))["election"] == ELECTION
