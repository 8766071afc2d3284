import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from unit.publisher.filed_site import KEY, NOON, PageFiler, pages, read_feed, read_sums

from config import layout, scope
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from keys.feed_segment import parse_segment
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed.feed import Feed
from publisher.feed.published_files import inodes

Step = Callable[[str], None]
CB, MV = (
    Sheet(secim, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)
    for secim in (Secim.CB, Secim.MV)
)
KONAK = Sheet(Secim.CB, Belge.SANDIK_SONUC, "35-izmir-2", "konak-1", "7", 1)
ANKARA = Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "06-ankara-1", None, None, 1)
ELECTION = "2023-05-14-cb-mv"


class Crash(BaseException):
    """Stands for a kill -9."""


@contextmanager
def open_feed(
    settings: Settings,
    step: Step = lambda step: None,
    at: int = NOON,
    elapsed: Callable[[], float] = lambda: 0.0,
) -> Iterator[Feed]:
    store = settings.site / "store"
    with FeedQueries(catalog.url(settings.site)) as filings:
        yield Feed(
            settings,
            filings,
            KEY,
            lambda: datetime.fromtimestamp(at, UTC),
            lambda sha256: store / sha256[:2] / sha256[2:4] / sha256,
            lambda: (("filing", b"ssps/filing\n12\n"),),
            step,
            elapsed,
        )


def run_feed(settings: Settings, *moments: float) -> None:
    with open_feed(settings) as made:
        made.begin()
        for now in moments:
            made.tick(now)


def tree(settings: Settings, party: str) -> Path:
    return settings.site / "trees" / party


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The test site's settings, with a second party whose scope is everything."""
    first = settings.parties[0]
    return replace(settings, parties=(*settings.parties, replace(first, id="parti-d")))


def test_a_feed_lists_only_pages_in_its_partys_scope(settings: Settings) -> None:
    filer = PageFiler(settings)
    listed = [
        filer.file(CB, "cb"), filer.file(CB, "cb once more", 2), filer.file(KONAK, "konak"),
        filer.file(ANKARA, "ankara"),
    ]  # fmt: skip

    run_feed(settings, 0)

    everything = read_feed(tree(settings, "parti-a"))
    assert [entry.path for entry in everything] == listed
    assert [(e.sheet, e.version, e.supersedes) for e in everything[:2]] == [
        ("sandik-sonuc", 1, ""),
        ("sandik-sonuc", 2, listed[0]),
    ]
    assert [entry.path for entry in read_feed(tree(settings, "parti-b"))] == listed[2:]
    own = b"".join(p.read_bytes() for p in (tree(settings, "parti-b") / "akis").iterdir())
    assert b"istanbul" not in own
    assert not tree(settings, "bagimsiz-c").exists()


def test_parties_with_the_same_scope_share_the_segment_files(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")

    run_feed(settings, 0)

    def inodes(party: str) -> list[int]:
        akis = tree(settings, party) / "akis"
        return [(akis / f"00000001.csv{end}").stat().st_ino for end in ("", ".sig")]

    assert inodes("parti-a") == inodes("parti-d")
    assert inodes("parti-a") != inodes("parti-b")


def test_a_segment_closes_after_two_seconds_with_new_pages_and_within_a_minute_without(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    with open_feed(settings) as made:
        made.begin()

        def segments(now: float) -> int:
            made.tick(now)
            return len(list((tree(settings, "parti-a") / "akis").glob("*.csv")))

        assert [segments(now) for now in (0, 1, 54, 55, 56, 100, 110)] == [1, 1, 1, 2, 2, 2, 3]
        filer.file(CB, "cb")
        assert [segments(now) for now in (111, 111.5, 112, 131, 166, 167)] == [3, 3, 4, 4, 4, 5]

    assert len(read_feed(tree(settings, "parti-a"))) == 1


@pytest.mark.parametrize(("cost", "pause"), [(0.05, 2.0), (0.25, 5.0), (3.0, 10.0)])
def test_segments_close_less_often_if_that_takes_long(
    settings: Settings, cost: float, pause: float
) -> None:
    """Each of the two feeds takes `cost` seconds to close a segment."""
    filer, spent = PageFiler(settings), iter(range(1000))
    with open_feed(settings, elapsed=lambda: next(spent) * cost) as made:
        made.begin()
        made.tick(0)
        filer.file(KONAK, "konak")

        def entries(now: float) -> int:
            made.tick(now)
            return len(read_feed(tree(settings, "parti-b")))

        assert [entries(now) for now in (pause - 0.1, pause)] == [0, 1]


def test_each_segment_has_the_election_its_closing_time_and_the_checkpoints(
    settings: Settings,
) -> None:
    PageFiler(settings)

    run_feed(settings, 0)

    segment = parse_segment((tree(settings, "parti-b") / "akis/00000001.csv").read_bytes())
    assert (segment.election, segment.closed_at, segment.entries) == (ELECTION, NOON, ())
    assert segment.checkpoints == (("filing", b"ssps/filing\n12\n"),)


def test_closing_times_never_decrease_even_if_the_clock_is_set_back(
    settings: Settings,
) -> None:
    PageFiler(settings)
    for at in (NOON + 600, NOON, NOON + 601):  # each is a run of its own
        with open_feed(settings, at=at) as made:
            made.begin()
            made.tick(0)
            made.tick(55)

    akis = tree(settings, "parti-a") / "akis"
    closed = [parse_segment(file.read_bytes()).closed_at for file in sorted(akis.glob("*.csv"))]
    assert closed == [NOON + 600] * 4 + [NOON + 601] * 2


def test_a_feed_continues_after_a_restart_and_lists_nothing_twice(settings: Settings) -> None:
    filer = PageFiler(settings)
    paths = [filer.file(CB, "cb")]
    run_feed(settings, 0)
    paths.append(filer.file(MV, "mv"))

    run_feed(settings, 0)
    run_feed(settings, 0)

    assert [entry.path for entry in read_feed(tree(settings, "parti-a"))] == paths


def test_a_start_links_exactly_the_segments_that_a_tree_lacks(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    with open_feed(settings) as made:
        made.begin()
        for number, sheet in enumerate((CB, MV, KONAK, ANKARA)):
            filer.file(sheet, str(number))
            made.tick(60.0 * number)
    whole = inodes(tree(settings, "parti-a") / "akis")
    assert len(whole) == 2 * 4 + 1
    (tree(settings, "parti-a") / layout.segment(2)).unlink()
    other = tree(settings, "parti-d") / f"{layout.segment(3)}.sig"
    other.unlink()
    other.write_text("of a feed that it had once")
    shown: list[str] = []

    for lacking in (["segment shown"] * 2, []):
        shown.clear()
        with open_feed(settings, shown.append) as made:
            made.begin()
        assert [step for step in shown if step == "segment shown"] == lacking

    assert inodes(tree(settings, "parti-a") / "akis") == whole
    assert (
        len(read_feed(tree(settings, "parti-a"))) == len(read_feed(tree(settings, "parti-d"))) == 4
    )


def test_a_tree_gets_no_segment_after_one_that_is_lost(settings: Settings) -> None:
    early = replace(settings, parties=settings.parties[:3])
    PageFiler(settings)
    run_feed(early, 0, 60, 120)
    for lost in list(settings.site.rglob("00000002.csv")):
        lost.unlink()

    with capture_logs() as logs:
        run_feed(settings)

    late = tree(settings, "parti-d") / "akis"
    assert sorted(path.name for path in late.glob("*.csv")) == ["00000001.csv"]
    assert not (late / "son.txt").exists()
    assert {Path(entry["path"]).name for entry in logs if entry["event"] == "not-shown"} == {
        "00000002.csv"
    }


def test_a_page_that_a_tree_could_not_take_is_listed_when_the_tree_has_it(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    first = filer.file(CB, "cb")
    with open_feed(settings) as made:
        made.begin()
        made.tick(0)
        late = filer.file(MV, "mv", gap="parti-d")
        other = filer.file(KONAK, "konak")
        with capture_logs() as logs:
            made.tick(60)
            made.tick(61)
        assert [e["event"] for e in logs] == ["feed-split"]

        assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [first, late, other]
        assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [first, other]
        assert "mv-sandik-sonuc-s1.jpg" not in str(read_sums(kadikoy(settings, "parti-d")))
        assert "sandik-1234/mv-sandik-sonuc-s1.jpg" in read_sums(kadikoy(settings, "parti-a"))

        filer.close_gaps()
        made.tick(120)

    run_feed(settings, 0)
    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [first, other, late]
    assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [first, late, other]
    assert read_sums(kadikoy(settings, "parti-a")) == read_sums(kadikoy(settings, "parti-d"))


def kadikoy(settings: Settings, party: str) -> Path:
    return tree(settings, party) / ELECTION / "34-istanbul-1" / "kadikoy-2"


def test_a_new_party_gets_all_past_segments(settings: Settings) -> None:
    filer = PageFiler(settings)
    early = replace(settings, parties=settings.parties[:3])
    filer.file(CB, "cb")
    run_feed(early, 0, 60)
    run_feed(settings, 0)

    assert read_feed(tree(settings, "parti-d")) == read_feed(tree(settings, "parti-a"))
    assert len(list((tree(settings, "parti-d") / "akis").glob("*.csv"))) == 3


def test_a_new_party_whose_tree_lacks_a_page_gets_its_own_feed(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    early = replace(settings, parties=settings.parties[:3])
    path = filer.file(CB, "cb", gap="parti-d")
    run_feed(early, 0)

    run_feed(settings, 0, 60)

    assert read_feed(tree(settings, "parti-d")) == []
    filer.close_gaps()
    run_feed(settings, 0)
    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [path]
    assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [path]


def test_a_tree_that_cannot_take_its_feed_does_not_delay_the_others(settings: Settings) -> None:
    filer = PageFiler(settings)
    planted = tree(settings, "parti-d") / "akis"
    planted.write_text("in the way")
    with open_feed(settings) as made, capture_logs():
        made.begin()
        made.tick(0)
        path = filer.file(CB, "cb")
        made.tick(60)
        assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [path]

        planted.unlink()
        planted.mkdir()
        made.tick(61)

    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [path]


def test_a_page_whose_original_is_lost_is_not_listed_until_it_is_restored(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    filer.file(CB, "cb")
    (original,) = (p for p in (settings.site / "store").rglob("*") if p.is_file())
    aside = original.rename(settings.site / "aside")
    with open_feed(settings) as made, capture_logs() as logs:
        made.begin()
        for now in (0, 60, 61, 120):
            made.tick(now)
        assert read_feed(tree(settings, "parti-a")) == []
        assert [e["event"] for e in logs].count("not-listed") == 1

        aside.rename(original)
        made.tick(180)

    assert len(read_feed(tree(settings, "parti-a"))) == 1


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if possible: hundreds of sites on a disk would take minutes."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.no_cover
def test_after_a_crash_at_any_step_each_page_is_listed_once_and_no_segment_changed(
    settings: Settings, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the process dies, not the machine
    steps: list[str] = []
    play(copied(settings, memory / "probe"), steps.append)
    assert len(steps) > 100
    assert len(set(steps)) >= 12

    for boundary in range(len(steps)):
        place = copied(settings, memory / str(boundary))
        seen = play(place, crash_after(boundary))
        for party in ("parti-a", "parti-b", "parti-d"):
            listed = [entry.path for entry in read_feed(tree(place, party))]
            assert sorted(listed) == sorted(pages(tree(place, party))), (boundary, party)
        for path, content in seen.items():
            assert (place.site / path).read_bytes() == content, (boundary, path)
        assert read_sums(kadikoy(place, "parti-a")) == read_sums(kadikoy(place, "parti-d"))
        assert list((place.site / "trees").rglob(".*")) == []
        shutil.rmtree(place.site)


def play(settings: Settings, step: Step) -> dict[Path, bytes]:
    """File pages with a gap, and restart the feed after a crash; return all segments ever shown."""
    filer = PageFiler(settings)
    seen: dict[Path, bytes] = {}
    acts: list[Callable[[], object]] = [
        lambda: [filer.file(CB, "cb"), filer.file(KONAK, "konak")],
        lambda: [filer.file(MV, "mv", gap="parti-d"), filer.file(CB, "cb again", 2)],
        lambda: [filer.close_gaps(), filer.file(ANKARA, "ankara")],
    ]
    watched: list[Step] = [step]
    now = 0.0
    while True:
        try:
            with open_feed(settings, lambda name: watched[0](name)) as made, capture_logs():
                made.begin()
                while True:
                    now += 60
                    made.tick(now)
                    if not acts:
                        made.tick(now + 60)
                        return seen
                    acts.pop(0)()
        except Crash:
            watched[0] = lambda name: None
        finally:
            for file in (settings.site / "trees").rglob("akis/*.csv*"):
                seen.setdefault(file.relative_to(settings.site), file.read_bytes())


def crash_after(boundary: int) -> Step:
    left = iter(range(boundary))

    def step(_: str) -> None:
        if next(left, None) is None:
            raise Crash

    return step


def copied(settings: Settings, site: Path) -> Settings:
    (site / "state").mkdir(parents=True)
    return replace(settings, site=site)


def test_a_party_whose_scope_changes_reads_another_feed(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(CB, "cb")
    filer.file(KONAK, "konak")
    run_feed(settings, 0)
    narrowed = scope.parse(["34-istanbul-1"])
    changed = replace(
        settings, parties=(*settings.parties[:3], replace(settings.parties[3], scope=narrowed))
    )
    shutil.rmtree(tree(settings, "parti-d"))
    PageFiler(changed).store.link(*kept(settings, "parti-a", "cb-"))

    run_feed(changed, 0)

    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [
        f"{ELECTION}/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg"
    ]


def kept(settings: Settings, party: str, name: str) -> tuple[str, str, str]:
    entry = next(e for e in read_feed(tree(settings, party)) if f"/{name}" in e.path)
    return entry.sha256, "parti-d", entry.path
