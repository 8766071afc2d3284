import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from unit.publisher.feed.test_feed import CB, Crash, open_feed, run_feed, tree
from unit.publisher.filed_site import NOON, PageFiler, read_feed, read_sums

from config.settings import Settings
from config.site import result_view
from publisher.feed.chain import CHAINS
from publisher.feed.feed import CLOSE_SECONDS

pytestmark = pytest.mark.both_databases

ELECTION = "2023-05-14-cb-mv"
FOLDER = f"{ELECTION}/sonuclar"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The test site's settings, with a second party whose scope is everything."""
    first = settings.parties[0]
    return replace(settings, parties=(*settings.parties, replace(first, id="parti-d")))


def prepare(
    settings: Settings, number: int, parties: Sequence[str] = ("parti-a", "parti-b")
) -> None:
    """Do what the results process does for the scopes of these parties."""
    for party in settings.parties:
        if party.id in parties:
            folder = settings.site / result_view(number, party.scope)
            folder.mkdir(parents=True)
            for name in ("mv.csv", "manifest.json", "manifest.json.sig"):
                (folder / name).write_text(f"{name} {number} {party.scope}")
                (folder / name).chmod(0o444)
                os.utime(folder / name, (NOON - 60, NOON - 60))


def results_in(settings: Settings, party: str) -> list[str]:
    folder = tree(settings, party) / FOLDER
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def listed(settings: Settings, party: str) -> list[str]:
    return [e.path for e in read_feed(tree(settings, party)) if e.sheet == "sonuclar"]


NAMES = ["SHA256SUMS", "SHA256SUMS.sig", "manifest.json", "manifest.json.sig", "mv.csv"]


def test_a_prepared_snapshot_is_in_the_tree_the_feed_and_the_sums(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7)

    run_feed(settings, 0, 60)

    for party in ("parti-a", "parti-b", "parti-d"):
        assert results_in(settings, party) == [f"00000007/{name}" for name in NAMES]
        assert listed(settings, party) == [f"{FOLDER}/00000007/{name}" for name in NAMES[2:]]
        root = tree(settings, party) / ELECTION
        sums = read_sums(root / "sonuclar/00000007")
        assert sums.keys() == set(NAMES[2:])
        content = (root / "sonuclar/00000007/SHA256SUMS").read_bytes()
        named = read_sums(root)
        assert named["sonuclar/00000007/SHA256SUMS"] == sha256(content).hexdigest()
    wide, narrow = (
        (tree(settings, party) / FOLDER / "00000007/mv.csv").read_text()
        for party in ("parti-a", "parti-b")
    )
    assert wide == "mv.csv 7 all"
    assert narrow.startswith("mv.csv 7 ")
    assert "all" not in narrow
    assert not tree(settings, "bagimsiz-c").exists()


def test_a_snapshot_does_not_wait_for_a_page_or_for_the_segment_of_a_silent_minute(
    settings: Settings,
) -> None:
    PageFiler(settings).file(CB, "cb")
    with open_feed(settings) as feed:
        feed.begin()
        feed.tick(0)
        prepare(settings, 7)
        feed.tick(CLOSE_SECONDS)
        assert listed(settings, "parti-a") == [f"{FOLDER}/00000007/{name}" for name in NAMES[2:]]
        segments = len(list((tree(settings, "parti-a") / CHAINS).glob("*.csv")))
        feed.tick(2 * CLOSE_SECONDS)
    assert len(list((tree(settings, "parti-a") / CHAINS).glob("*.csv"))) == segments


def test_every_snapshot_is_listed_once_also_after_a_restart(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7)
    run_feed(settings, 0, 60)
    prepare(settings, 9)
    run_feed(settings, 0, 60)
    run_feed(settings, 0, 60)

    numbers = [path.split("/")[2] for path in listed(settings, "parti-a")]
    assert numbers == ["00000007"] * 3 + ["00000009"] * 3
    assert read_sums(tree(settings, "parti-a") / ELECTION).keys() >= {
        "sonuclar/00000007/SHA256SUMS",
        "sonuclar/00000009/SHA256SUMS",
    }


def test_a_start_shows_again_what_a_tree_lacks(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7)
    run_feed(settings, 0, 60)
    (tree(settings, "parti-d") / FOLDER / "00000007/mv.csv").unlink()

    run_feed(settings, 0)

    assert results_in(settings, "parti-d") == [f"00000007/{name}" for name in NAMES]


def test_a_party_without_a_prepared_snapshot_gets_the_next(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7, ["parti-a"])
    run_feed(settings, 0)
    assert results_in(settings, "parti-b") == []

    prepare(settings, 8)
    run_feed(settings, 0)

    assert [path.split("/")[2] for path in listed(settings, "parti-b")] == ["00000008"] * 3


@pytest.mark.parametrize("step", ["signed", "position kept", "closed", "segment shown"])
def test_killed_at_any_step_it_is_listed_exactly_once(settings: Settings, step: str) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7)

    def crash(done: str) -> None:
        if done == step:
            raise Crash

    with open_feed(settings, crash) as made, pytest.raises(Crash):
        made.begin()
        made.tick(0)
    run_feed(settings, 0, 60)

    for party in ("parti-a", "parti-b"):
        assert len(listed(settings, party)) == 3


def test_a_tree_that_cannot_take_it_gets_a_feed_of_its_own(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7)
    blocked = tree(settings, "parti-d") / ELECTION / "sonuclar"
    blocked.write_text("not a folder")

    run_feed(settings, 0, 60)

    assert len(listed(settings, "parti-a")) == 3
    assert listed(settings, "parti-d") == []
    blocked.unlink()
    run_feed(settings, 0)
    assert len(listed(settings, "parti-d")) == 3


def test_a_file_of_a_snapshot_has_the_time_that_the_feed_lists(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")
    prepare(settings, 7)

    run_feed(settings, 0)

    entries = {e.path: e for e in read_feed(tree(settings, "parti-a")) if e.sheet == "sonuclar"}
    path = Path(FOLDER) / "00000007/mv.csv"
    shown = (tree(settings, "parti-a") / path).stat()
    assert entries[str(path)].filed_at == int(shown.st_mtime)
    assert (tree(settings, "parti-a") / FOLDER / "00000007/SHA256SUMS").stat().st_mtime == NOON
