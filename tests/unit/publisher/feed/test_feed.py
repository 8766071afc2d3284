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
from publisher.catalog.feed_queries import FeedQueries
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
    """As sudden as kill -9."""


@contextmanager
def feed(settings: Settings, step: Step = lambda step: None, at: int = NOON) -> Iterator[Feed]:
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
        )


def fed(settings: Settings, *moments: float) -> None:
    with feed(settings) as made:
        made.begin()
        for now in moments:
            made.tick(now)


def tree(settings: Settings, party: str) -> Path:
    return settings.site / "trees" / party


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The small world's, with a second party that sees everything."""
    first = settings.parties[0]
    return replace(settings, parties=(*settings.parties, replace(first, id="parti-d")))


def test_a_feed_lists_what_its_party_sees_and_nothing_else(settings: Settings) -> None:
    filer = PageFiler(settings)
    listed = [
        filer.file(CB, "cb"), filer.file(CB, "cb once more", 2), filer.file(KONAK, "konak"),
        filer.file(ANKARA, "ankara"),
    ]  # fmt: skip

    fed(settings, 0)

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


def test_parties_of_the_same_scope_read_the_same_file(settings: Settings) -> None:
    PageFiler(settings).file(CB, "cb")

    fed(settings, 0)

    def inodes(party: str) -> list[int]:
        akis = tree(settings, party) / "akis"
        return [(akis / f"00000001.csv{end}").stat().st_ino for end in ("", ".sig")]

    assert inodes("parti-a") == inodes("parti-d")
    assert inodes("parti-a") != inodes("parti-b")


def test_silence_is_closed_within_the_minute_and_what_comes_in_within_ten_seconds(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    with feed(settings) as made:
        made.begin()

        def segments(now: float) -> int:
            made.tick(now)
            return len(list((tree(settings, "parti-a") / "akis").glob("*.csv")))

        assert [segments(now) for now in (0, 1, 54, 55, 56, 100, 110)] == [1, 1, 1, 2, 2, 2, 3]
        filer.file(CB, "cb")
        assert [segments(now) for now in (111, 119, 120, 131, 174, 175)] == [3, 3, 4, 4, 4, 5]

    assert len(read_feed(tree(settings, "parti-a"))) == 1


def test_each_segment_names_its_election_its_close_and_the_ledgers(settings: Settings) -> None:
    PageFiler(settings)

    fed(settings, 0)

    segment = parse_segment((tree(settings, "parti-b") / "akis/00000001.csv").read_bytes())
    assert (segment.election, segment.closed_at, segment.entries) == (ELECTION, NOON, ())
    assert segment.checkpoints == (("filing", b"ssps/filing\n12\n"),)


def test_no_segment_is_closed_before_the_one_before_it_though_the_clock_steps_back(
    settings: Settings,
) -> None:
    PageFiler(settings)
    for at in (NOON + 600, NOON, NOON + 601):  # each a run of its own
        with feed(settings, at=at) as made:
            made.begin()
            made.tick(0)
            made.tick(55)

    akis = tree(settings, "parti-a") / "akis"
    closed = [parse_segment(file.read_bytes()).closed_at for file in sorted(akis.glob("*.csv"))]
    assert closed == [NOON + 600] * 4 + [NOON + 601] * 2


def test_a_feed_goes_on_where_it_was_and_names_nothing_twice(settings: Settings) -> None:
    filer = PageFiler(settings)
    paths = [filer.file(CB, "cb")]
    fed(settings, 0)
    paths.append(filer.file(MV, "mv"))

    fed(settings, 0)
    fed(settings, 0)

    assert [entry.path for entry in read_feed(tree(settings, "parti-a"))] == paths


def test_a_start_links_what_a_tree_lacks_wherever_that_is_and_nothing_else(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    with feed(settings) as made:
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
        with feed(settings, shown.append) as made:
            made.begin()
        assert [step for step in shown if step == "segment shown"] == lacking

    assert inodes(tree(settings, "parti-a") / "akis") == whole
    assert (
        len(read_feed(tree(settings, "parti-a"))) == len(read_feed(tree(settings, "parti-d"))) == 4
    )


def test_a_segment_that_is_lost_is_not_passed_over(settings: Settings) -> None:
    early = replace(settings, parties=settings.parties[:3])
    PageFiler(settings)
    fed(early, 0, 60, 120)
    for lost in list(settings.site.rglob("00000002.csv")):
        lost.unlink()

    with capture_logs() as logs:
        fed(settings)

    late = tree(settings, "parti-d") / "akis"
    assert sorted(path.name for path in late.glob("*.csv")) == ["00000001.csv"]
    assert not (late / "son.txt").exists()
    assert {Path(entry["path"]).name for entry in logs if entry["event"] == "not-shown"} == {
        "00000002.csv"
    }


def test_what_a_tree_would_not_take_is_named_once_it_has(settings: Settings) -> None:
    filer = PageFiler(settings)
    first = filer.file(CB, "cb")
    with feed(settings) as made:
        made.begin()
        made.tick(0)
        late = filer.file(MV, "mv", gap="parti-d")
        other = filer.file(KONAK, "konak")
        with capture_logs() as logs:
            made.tick(60)
            made.tick(61)
        assert [e["event"] for e in logs] == ["feed-parted"]

        assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [first, late, other]
        assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [first, other]
        assert "mv-sandik-sonuc-s1.jpg" not in str(read_sums(kadikoy(settings, "parti-d")))
        assert "sandik-1234/mv-sandik-sonuc-s1.jpg" in read_sums(kadikoy(settings, "parti-a"))

        filer.close_gaps()
        made.tick(120)

    fed(settings, 0)
    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [first, other, late]
    assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [first, late, other]
    assert read_sums(kadikoy(settings, "parti-a")) == read_sums(kadikoy(settings, "parti-d"))


def kadikoy(settings: Settings, party: str) -> Path:
    return tree(settings, party) / ELECTION / "34-istanbul-1" / "kadikoy-2"


def test_a_party_that_comes_late_gets_the_whole_feed(settings: Settings) -> None:
    filer = PageFiler(settings)
    early = replace(settings, parties=settings.parties[:3])
    filer.file(CB, "cb")
    fed(early, 0, 60)
    fed(settings, 0)

    assert read_feed(tree(settings, "parti-d")) == read_feed(tree(settings, "parti-a"))
    assert len(list((tree(settings, "parti-d") / "akis").glob("*.csv"))) == 3


def test_a_party_that_comes_late_and_lacks_a_page_has_a_feed_of_its_own(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    early = replace(settings, parties=settings.parties[:3])
    path = filer.file(CB, "cb", gap="parti-d")
    fed(early, 0)

    fed(settings, 0, 60)

    assert read_feed(tree(settings, "parti-d")) == []
    filer.close_gaps()
    fed(settings, 0)
    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [path]
    assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [path]


def test_one_tree_that_refuses_its_feed_holds_up_nobody_else(settings: Settings) -> None:
    filer = PageFiler(settings)
    planted = tree(settings, "parti-d") / "akis"
    planted.write_text("in the way")
    with feed(settings) as made, capture_logs():
        made.begin()
        made.tick(0)
        path = filer.file(CB, "cb")
        made.tick(60)
        assert [e.path for e in read_feed(tree(settings, "parti-a"))] == [path]

        planted.unlink()
        planted.mkdir()
        made.tick(61)

    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [path]


def test_an_original_that_is_lost_is_not_named_before_it_is_restored(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(CB, "cb")
    (original,) = (p for p in (settings.site / "store").rglob("*") if p.is_file())
    aside = original.rename(settings.site / "aside")
    with feed(settings) as made, capture_logs() as logs:
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
    """A folder in memory, if there is one: hundreds of nights on a disk would take minutes."""
    shm = Path("/dev/shm")
    if not os.access(shm, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shm) as folder:
        yield Path(folder)


def test_a_crash_at_any_step_skips_nothing_repeats_nothing_and_changes_no_segment(
    settings: Settings, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the process dies, not the machine
    steps: list[str] = []
    story(copied(settings, memory / "probe"), steps.append)
    assert len(steps) > 100
    assert len(set(steps)) >= 12

    for boundary in range(len(steps)):
        place = copied(settings, memory / str(boundary))
        seen = story(place, bomb(boundary))
        for party in ("parti-a", "parti-b", "parti-d"):
            listed = [entry.path for entry in read_feed(tree(place, party))]
            assert sorted(listed) == sorted(pages(tree(place, party))), (boundary, party)
        for path, content in seen.items():
            assert (place.site / path).read_bytes() == content, (boundary, path)
        assert read_sums(kadikoy(place, "parti-a")) == read_sums(kadikoy(place, "parti-d"))
        assert list((place.site / "trees").rglob(".*")) == []
        shutil.rmtree(place.site)


def story(settings: Settings, step: Step) -> dict[Path, bytes]:
    """A night with a gap, gone through again from where a crash came; what was ever shown."""
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
            with feed(settings, lambda name: watched[0](name)) as made, capture_logs():
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


def bomb(boundary: int) -> Step:
    left = iter(range(boundary))

    def step(_: str) -> None:
        if next(left, None) is None:
            raise Crash

    return step


def copied(settings: Settings, site: Path) -> Settings:
    (site / "state").mkdir(parents=True)
    return replace(settings, site=site)


def test_a_party_of_another_scope_is_on_another_feed(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(CB, "cb")
    filer.file(KONAK, "konak")
    fed(settings, 0)
    narrowed = scope.parse(["34-istanbul-1"])
    changed = replace(
        settings, parties=(*settings.parties[:3], replace(settings.parties[3], scope=narrowed))
    )
    shutil.rmtree(tree(settings, "parti-d"))
    PageFiler(changed).store.link(*kept(settings, "parti-a", "cb-"))

    fed(changed, 0)

    assert [e.path for e in read_feed(tree(settings, "parti-d"))] == [
        f"{ELECTION}/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg"
    ]


def kept(settings: Settings, party: str, name: str) -> tuple[str, str, str]:
    entry = next(e for e in read_feed(tree(settings, party)) if f"/{name}" in e.path)
    return entry.sha256, "parti-d", entry.path
