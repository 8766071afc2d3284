"""Story "A page arrives", with real processes: from a scanner's file to every entitled tree."""

import io
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import postgres
import pytest
import running_site
from PIL import Image
from running_site import RunningSite, digests, until

from config import layout, load
from config.registry import Registry
from config.site import REGISTRY_INDEX
from publisher.results.reading import open_results


@pytest.fixture(scope="module")
def filed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    """A running site with four parties; some of its pages were written slowly into the intake."""
    with running_site.running_rehearsal(
        tmp_path_factory.mktemp("night"), parties=4, seed=7
    ) as found:
        found.scan("--count", 40)
        found.scan("--count", 6, "--rude")
        found.scan()
        yield found


def scanned(filed: RunningSite) -> list[list[str]]:
    """Return name, SHA-256, karekod and kind of each page from the scanner's list."""
    return [line.split(",") for line in (filed.site / "scanned.csv").read_text().splitlines()]


def test_every_page_is_in_every_tree_whose_scope_covers_it(
    filed: RunningSite,
) -> None:
    registry = Registry(filed.site / REGISTRY_INDEX)
    wanted: dict[str, set[tuple[object, str]]] = {}
    for party in load.load(filed.site).parties:
        wanted[party.id] = set()
        for _, digest, karekod, _ in scanned(filed):
            entry = registry.lookup(karekod)
            if entry and party.scope.covers(entry.sheet):
                wanted[party.id].add((entry.sheet, digest))
    registry.close()

    for party_id, sheets in wanted.items():
        found = filed.tree(party_id)
        assert {(layout.parse(path).sheet, digest) for path, digest in found.items()} == sheets
        assert len(found) == len(sheets)
    assert len(wanted["parti-a"]) > len(wanted["parti-d"]) > 0


def test_the_trees_share_one_copy_of_each_page(filed: RunningSite) -> None:
    entitled = [filed.site / "trees" / p for p in ("parti-a", "parti-d")]
    path = min(filed.tree("parti-d"))

    inodes = {(tree / path).stat().st_ino for tree in entitled}

    digest = filed.tree("parti-d")[path]
    original = filed.site / "store" / digest[:2] / digest[2:4] / digest
    assert inodes == {original.stat().st_ino}
    assert original.stat().st_mode & 0o222 == 0
    assert original.stat().st_mtime_ns % 10**9 == 0


def test_the_store_has_each_original_once_under_its_digest(filed: RunningSite) -> None:
    store = digests(filed.site / "store")

    assert all(Path(path).name == digest for path, digest in store.items())
    with open_results(filed.site) as reader:
        batches = reader.batch_digests()
    assert set(store.values()) - batches == set(filed.tree("parti-a").values())


def test_a_rescan_is_filed_as_a_later_version(filed: RunningSite) -> None:
    versions = [path for path in filed.tree("parti-a") if layout.parse(path).version > 1]

    assert versions
    for path in versions:
        placed = layout.parse(path)
        first = layout.folder(placed.election, placed.sheet)
        assert any(
            layout.parse(other).version == 1
            for other in filed.tree("parti-a")
            if other.startswith(first) and layout.parse(other).sheet == placed.sheet
        )


def test_a_page_that_could_not_be_filed_is_in_quarantine_with_its_reason(
    filed: RunningSite,
) -> None:
    kinds = Counter(kind for _, _, _, kind in scanned(filed))
    unreadable = {d for _, d, karekod, kind in scanned(filed) if not karekod or kind == "unknown"}

    quarantined = set(digests(filed.site / "quarantine").values())

    assert unreadable <= quarantined, kinds
    reasons = [
        r.event.detail["reason"] for r in filed.records("filing") if "reason" in r.event.detail
    ]
    status = filed.status()
    assert len(reasons) == status["quarantined"] + status["ignored"]
    assert reasons.count("blank-back") == status["ignored"]


def test_the_filing_ledger_has_each_page_once(filed: RunningSite) -> None:
    every = filed.records("filing")
    # From time to time the newest checkpoints of the other ledgers are recorded too.
    records = [r for r in every if r.event.event != "anchor"]

    events = Counter(r.event.event for r in records)
    status = filed.status()
    assert events == {
        "filed": status["filed"] + status["versions"],
        "duplicate": status["duplicates"],
        "quarantined": status["quarantined"] + status["ignored"],
    }
    assert events.total() == len(scanned(filed))
    assert [r.seq for r in every] == list(range(len(every)))
    assert Counter(r.event.origin for r in records) == Counter(s[0] for s in scanned(filed))


def test_missing_is_expected_minus_filed(
    filed: RunningSite,
) -> None:
    status = filed.status()

    assert status["missing"] == status["expected"] - status["filed"]
    assert status["missing"] >= 0
    assert status["waiting"] == 0


def test_no_temporary_files_are_left(filed: RunningSite) -> None:
    assert digests(filed.site / "intake") == {}
    # Snapshots of results may just be written: the publisher and the results process go on.
    found = [p for p in filed.site.rglob(".*") if p.is_file() and "snapshots" not in p.parts]
    assert [p for p in found if p.name != postgres.MARK] == []
    assert digests(filed.site / "state/spool") == {}


def shows(filed: RunningSite, party: str, path: str) -> bool:
    return path in filed.tree(party)


def test_a_new_page_is_visible_within_seconds(filed: RunningSite, tmp_path: Path) -> None:
    """A correction after an objection: a filed sheet arrives with other pixels."""
    path = min(p for p in filed.tree("parti-d") if p.endswith("-s1.jpg"))
    content = (filed.site / "trees/parti-d" / path).read_bytes()
    with Image.open(io.BytesIO(content)) as page:
        page.load()
        page.paste(0, (20, 20, 60, 60))
        page.save(tmp_path / "correction.jpg", quality=85)
    correction = (tmp_path / "correction.jpg").read_bytes()
    later = path.replace(".jpg", ".v2.jpg")
    if later in filed.tree("parti-d"):
        later = path.replace(".jpg", ".v3.jpg")

    (tmp_path / "correction.jpg").rename(filed.site / "intake/correction.jpg")

    for party in ("parti-a", "parti-d"):
        until(partial(shows, filed, party, later), f"{later} in {party}", seconds=20)
        assert (filed.site / "trees" / party / later).read_bytes() == correction
    assert (filed.site / "trees/parti-d" / path).read_bytes() == content
