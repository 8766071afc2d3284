import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import postgres
import pytest
from structlog.testing import capture_logs
from unit.publisher.consistency import FilingHistory, assert_consistent

from config import registry, scope
from config.fault import Faults
from config.registry import Registry
from config.settings import QrSettings, Settings
from config.site import FILING, LEDGERS, REGISTRY_INDEX
from keys.ledger.writer import Ledger, Unwritable
from publisher.catalog import catalog, tables
from publisher.catalog.catalog import Catalog
from publisher.catalog.queries import counts
from publisher.database import SQLITE
from publisher.filing.filer import Filer, FilingContext
from publisher.filing.recovery import Recovery
from publisher.intake import spool
from publisher.intake.watch import Candidate
from publisher.page import Arrival, Page, Reading, ReadResult, Stamp
from publisher.reading.pool import read_page
from publisher.store.quarantine import Quarantine, parse_note
from publisher.store.store import Store

CB, MV, KONAK, ANKARA = "1093717526", "1093717527", "2000000001", "4000000001"
Step = Callable[[str], None]


class Crash(BaseException):
    """Stands for kill -9: code that catches Exception does not catch it."""


def read_content(content: bytes) -> ReadResult:
    """Read a test file: pages separated by `|`, each with its karekods; `;` begins a comment.

    A file that begins with `split|` has its pages as extracts, as the worker gives them.
    """
    if content.startswith(b"split|"):
        parts = tuple(part.strip() for part in content.split(b"|")[1:])
        return ReadResult("PNG", 9, 9, (), 3, None, len(parts), extracts=parts)
    pages = content.decode().partition(";")[0].split("|")
    readings = [
        Reading(code, "zxing-cpp", scan, 1, (), frame)
        for frame, page in enumerate(pages, start=1)
        for code in page.split()
        for scan in ("whole", "half")
    ]
    return ReadResult("PNG", 9, 9, tuple(readings), 3, None, len(pages))


def ticking() -> Callable[[], datetime]:
    ticks: Iterator[int] = count()
    start = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
    return lambda: start + timedelta(milliseconds=next(ticks))


CLOCK, TOKENS = ticking(), count()


@contextmanager
def open_filer(settings: Settings, step: Step = lambda step: None) -> Iterator[tuple[Filer, Store]]:
    """Open a filer after its recovery, with nothing left to read."""
    with open_context(settings, step) as context:
        filer = Filer(context)
        assert Recovery(context, filer).recover() == []
        yield filer, context.store


@contextmanager
def open_context(settings: Settings, step: Step) -> Iterator[FilingContext]:
    site = settings.site
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger(site / LEDGERS / FILING, CLOCK))
        opened_registry = Registry(site / REGISTRY_INDEX)
        stack.callback(opened_registry.close)
        store = Store(site)
        opened = stack.enter_context(Catalog(catalog.url(site)))
        yield FilingContext(
            settings, opened, ledger, store, Quarantine(site), opened_registry.lookup, CLOCK,
            lambda: f"{next(TOKENS):08x}", step, has_box=opened_registry.has_box,
        )  # fmt: skip


def run(
    settings: Settings, step: Step = lambda step: None, batch: int = 3, reader: Step | None = None
) -> None:
    """Recover, then file everything in the intake, as the publisher does."""
    with open_context(settings, step) as context:
        filer = Filer(context)
        waiting = Recovery(context, filer).recover()
        while True:
            waiting += filer.claim(candidates(settings.site / "intake")[:batch])
            if not waiting:
                return
            pages = [read(settings, arrival, context.store, reader) for arrival in waiting[:batch]]
            waiting = waiting[batch:]
            step("read")
            waiting += filer.file(pages)


def run_once(settings: Settings, step: Step = lambda step: None) -> None:
    """Recover, then file what is in the intake now, and the new arrivals that result."""
    with open_context(settings, step) as context:
        filer = Filer(context)
        waiting = Recovery(context, filer).recover()
        waiting += filer.claim(candidates(settings.site / "intake"))
        while waiting:
            waiting = filer.file([read(settings, one, context.store, None) for one in waiting])


def read(settings: Settings, arrival: Arrival, store: Store, reader: Step | None) -> Page:
    path = settings.site / "state" / "spool" / arrival.file
    found = read_page(arrival, path, read_content, store.stage)
    if reader is not None:
        reader(str(path))
    return found


def candidates(folder: Path) -> list[Candidate]:
    return [
        Candidate(folder, str(path), Stamp.of(path.lstat()))
        for path in sorted(folder.rglob("*"))
        if not path.is_dir() or path.is_symlink()
    ]


def drop(settings: Settings, pages: dict[str, str]) -> None:
    for name, content in pages.items():
        (settings.site / "intake" / name).write_text(content)


FILES = {
    "1-cb.png": CB,
    "2-mv.png": f"{MV} {MV}; both copies",
    "3-cb-rescan.png": f"{CB}; another scan",
    "4-cb-again.png": CB,
    "5-konak.png": KONAK,
    "6-ankara.png": ANKARA,
    "7-unknown.png": "9999999999",
    "8-none.png": "; no code",
    "9-none-again.png": "; no code",
    "A-two.png": f"{CB} {MV}",
    "D-pages.png": f"{MV} | {CB} | {MV}",
    "E-pages-again.png": f"{MV} | {CB} | {MV}",
    "F-pages-rescan.png": f"{CB} | {MV}; later",
    "G-boards.png": f"{CB} | {KONAK}",
    "H-gap.png": f"{CB} | ; empty back",
}
OUTCOMES = {
    "1-cb.png": ["filed"],
    "2-mv.png": ["filed"],
    "3-cb-rescan.png": ["filed"],
    "4-cb-again.png": ["duplicate"],
    "5-konak.png": ["filed"],
    "6-ankara.png": ["filed"],
    "7-unknown.png": ["quarantined"],
    "8-none.png": ["quarantined"],
    "9-none-again.png": ["duplicate"],
    "A-two.png": ["quarantined"],
    "B-link": ["quarantined"],
    "C-empty.png": ["quarantined"],
    "D-pages.png": ["filed", "filed"],
    "E-pages-again.png": ["duplicate"],
    "F-pages-rescan.png": ["filed", "filed"],
    "G-boards.png": ["quarantined"],
    "H-gap.png": ["quarantined"],
}


def drop_files(settings: Settings) -> None:
    drop(settings, FILES)
    (settings.site / "intake" / "B-link").symlink_to("/etc/passwd")
    (settings.site / "intake" / "C-empty.png").touch()


def assert_outcomes(settings: Settings) -> FilingHistory:
    history = assert_consistent(settings)
    assert history.outcomes() == OUTCOMES
    assert sorted(path.partition("/")[2] for path in history.paths()) == [
        "06-ankara-1/birlestirme/cb-il-birlestirme-s1.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v2.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v3.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.v4.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/mv-sandik-sonuc-s1.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/mv-sandik-sonuc-s1.v2.png",
        "34-istanbul-1/kadikoy-2/sandik-1234/mv-sandik-sonuc-s1.v3.png",
        "35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.png",
    ]
    return history


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a rename out of the intake fail, as from another file system."""
    rename = os.rename

    def refused(source: str | Path, target: Path, **at: int) -> None:
        if "src_dir_fd" in at:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refused)


def test_every_file_gets_its_outcome_and_the_site_is_consistent(settings: Settings) -> None:
    drop_files(settings)

    run(settings)

    history = assert_outcomes(settings)
    records = {event.origin: event for event in history.events}
    assert records["2-mv.png"].detail["karekod"] == MV
    assert records["2-mv.png"].detail["version"] == 1
    assert records["2-mv.png"].detail["parties"] == 1
    assert records["5-konak.png"].detail["parties"] == 2
    assert records["5-konak.png"].detail["engine"] == "zxing-cpp"
    assert records["3-cb-rescan.png"].detail["version"] == 2
    assert records["4-cb-again.png"].what == records["1-cb.png"].what
    assert records["A-two.png"].detail["reason"] == "several-sheets"
    assert records["B-link"].detail["reason"] == "not-a-file"
    assert (settings.site / "trees" / "bagimsiz-c").exists() is False


def test_a_filed_record_has_the_page_of_the_original_and_the_evidence(
    settings: Settings,
) -> None:
    drop(settings, {"a.png": f"{MV} | {CB}"})

    run(replace(settings, qr=QrSettings(witnesses=1)))

    history = assert_consistent(settings)
    first, second = history.events
    stamps = {name: first.detail[name] for name in ("stamp", "source_stamp")}
    assert {**first.detail, "page": "", "sha256": "", **dict.fromkeys(stamps, "")} == {
        **dict.fromkeys(stamps, ""),
        "decided_at": first.detail["decided_at"],
        "filed_at": int((settings.site / "trees/parti-a" / first.what).stat().st_mtime),
        "page": "",
        "sha256": "",
        "frame": 1,
        "frames": 2,
        "karekod": MV,
        "version": 1,
        "parties": 1,
        "copies": 1,
        "witnesses": 2,
        "witnesses_asked": 1,
        "engine": "zxing-cpp",
        "evidence": ["copy 1 by zxing-cpp, whole, 1 ms", "copy 1 by zxing-cpp, half, 1 ms"],
        "ms": 3,
    }
    assert all(str(value).count(":") == 2 for value in stamps.values())
    assert datetime.fromisoformat(str(first.detail["decided_at"])).tzinfo is not None
    assert (second.detail["frame"], second.detail["karekod"]) == (2, CB)
    assert first.detail["page"] == second.detail["page"]
    tree = settings.site / "trees" / "parti-a"
    assert (tree / first.what).samefile(tree / second.what)


def test_the_note_of_a_quarantined_file_says_which_page_has_which_code(settings: Settings) -> None:
    drop(settings, {"a.png": f"{CB} | {KONAK}"})

    run(settings)

    (note,) = (settings.site / "quarantine").glob("*.json")
    found = parse_note(note.read_bytes())
    assert (found.reason, found.frames, found.texts) == ("several-boards", 2, (CB, KONAK))
    assert found.readings[0] == f"page 1: {CB} by zxing-cpp, whole, 1 ms"
    assert found.readings[-1] == f"page 2: {KONAK} by zxing-cpp, half, 1 ms"


@pytest.mark.slow
@pytest.mark.no_cover
def test_after_a_crash_at_any_step_a_restart_finishes_everything_exactly_once(
    settings: Settings, tmp_path: Path
) -> None:
    """Crash after each single step of a run over all files, then start again."""
    steps: list[str] = []
    probe = copied(settings, tmp_path / "probe")
    drop_files(probe)
    run(probe, steps.append)
    assert len(steps) > 60
    assert len(set(steps)) > 15

    for boundary in range(len(steps)):
        site = copied(settings, tmp_path / str(boundary))
        drop_files(site)
        with pytest.raises(Crash):
            run(site, crash_at_step(boundary))
        run(site)
        assert_outcomes(site)


@pytest.mark.slow
def test_crashes_during_recovery_lose_nothing(settings: Settings, tmp_path: Path) -> None:
    for first in range(5, 95, 9):
        site = copied(settings, tmp_path / str(first))
        drop_files(site)
        for boundary in (first, 1, 2, 3, 5, 8, 13):
            try:
                run(site, crash_at_step(boundary))
            except Crash:
                continue
        run(site)
        assert_outcomes(site)


def crash_at_step(boundary: int) -> Step:
    left = iter(range(boundary))

    def step(_: str) -> None:
        if next(left, None) is None:
            raise Crash

    return step


def copied(settings: Settings, site: Path) -> Settings:
    for name in ("state", "intake"):
        (site / name).mkdir(parents=True)
    os.link(settings.site / REGISTRY_INDEX, site / REGISTRY_INDEX)
    return replace(settings, site=site)


def test_only_what_recovery_finds_elsewhere_is_committed_without_waiting_for_the_disk(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, waited, found = Catalog.commit, list[bool](), list[tuple[str, bool]]()

    def noted(self: Catalog, *, durable: bool = True) -> None:
        waited.append(durable)
        commit(self, durable=durable)

    def step(name: str) -> None:
        if name in ("received", "claims noted", "decided", "done"):
            found.append((name, waited[-1]))

    monkeypatch.setattr(Catalog, "commit", noted)
    drop(settings, {"a.png": CB})

    run(settings, step)

    assert found == [
        ("received", True),
        ("claims noted", False),
        ("decided", True),
        ("done", False),
    ]


def test_a_file_that_grows_after_its_claim_becomes_a_new_arrival(settings: Settings) -> None:
    drop(settings, {"a.png": CB})
    grown: list[str] = []

    def grow(path: str) -> None:
        if not grown:
            grown.append(path)
            Path(path).write_text(f"{CB}; and the rest")

    run(settings, reader=grow)

    history = assert_consistent(settings)
    assert history.outcomes() == {"a.png": ["filed", "filed"]}
    assert (history.counts.filed, history.counts.versions) == (1, 1)


def test_a_full_disk_quarantines_no_page_and_the_next_run_files_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_files(settings)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, method in (
        (Store, "stage"),
        (Store, "keep"),
        (Store, "link"),
        (Quarantine, "write_note"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, full)
            with pytest.raises(OSError, match="No space left"):
                run(settings)

    run(settings)
    assert_outcomes(settings)


def test_after_the_ledger_could_not_be_written_nothing_is_recorded_twice(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_files(settings)
    append, left = Ledger.append, iter(range(4))

    def refusing(ledger: Ledger, event: object) -> int:
        if next(left, None) is None:
            raise Unwritable("make room, then retry")
        return append(ledger, event)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "append", refusing)
        with pytest.raises(Unwritable):
            run(settings)

    run(settings)
    assert_outcomes(settings)


def test_the_same_page_is_filed_once_its_karekod_is_in_the_registry(settings: Settings) -> None:
    drop(settings, {"a.png": "7000000001"})
    run(settings)
    add_to_registry(settings, "7000000001,mv,il-birlestirme,06-ankara-1,,,,,1")
    drop(settings, {"b.png": "7000000001"})

    run(settings)

    assert assert_consistent(settings).outcomes() == {"a.png": ["quarantined"], "b.png": ["filed"]}


def test_a_new_party_gets_the_files_that_were_filed_before(settings: Settings) -> None:
    first, second, third = settings.parties
    drop_files(settings)
    run(replace(settings, parties=(first, third)))
    assert not (settings.site / "trees" / second.id).exists()

    run(settings)

    assert_outcomes(settings)


def test_a_narrowed_scope_loses_links_and_a_widened_scope_gains_them(settings: Settings) -> None:
    drop_files(settings)
    run(settings)
    first, second, third = settings.parties
    seen = scope.parse(["06-ankara-1", "34-istanbul-1/kadikoy-2"])

    for parties in (
        (replace(first, scope=second.scope), replace(second, scope=seen), third),
        (first, second, third),
    ):
        changed = replace(settings, parties=parties)
        run(changed)
        history = assert_outcomes(changed)
        assert history.counts.filed == 4


def test_a_change_of_scope_is_finished_after_a_crash(settings: Settings) -> None:
    drop_files(settings)
    run(settings)
    first, second, third = settings.parties
    changed = replace(settings, parties=(replace(first, scope=second.scope), second, third))

    for boundary in range(6):
        with pytest.raises(Crash):
            run(changed, crash_at_step(boundary))
    run(changed)

    assert_outcomes(changed)


def test_the_tree_of_a_removed_party_is_not_changed(settings: Settings) -> None:
    drop_files(settings)
    run(settings)
    first, second, _ = settings.parties
    before = sorted((settings.site / "trees" / second.id).rglob("*"))
    drop(settings, {"z.png": f"{KONAK}; again"})

    run(replace(settings, parties=(first,)))

    assert sorted((settings.site / "trees" / second.id).rglob("*")) == before


def test_a_party_that_returns_gets_what_was_filed_in_its_absence(settings: Settings) -> None:
    first, second, third = settings.parties
    drop(settings, {"1.png": CB})
    run(settings)

    for number, (remaining, content) in enumerate(
        (((second, third), KONAK), ((replace(first, kind=third.kind), second, third), MV))
    ):
        drop(settings, {f"later-{number}.png": content})
        with capture_logs() as logs:
            run(replace(settings, parties=remaining))
        warned = [entry["party"] for entry in logs if entry["event"] == "tree-without-party"]
        assert warned == ["parti-a"]
        run(settings)
        assert len(assert_consistent(settings).paths()) == 2 + number


def test_narrowing_a_scope_removes_files_that_only_the_tree_has(settings: Settings) -> None:
    """A tree restored from a backup has no hard links and may have pages that the store lacks."""
    drop(settings, {"1.png": CB, "2.png": KONAK})
    run(settings)
    site = settings.site
    tree, restored = site / "trees" / "parti-a", site / "restored"
    shutil.copytree(tree, restored)
    shutil.rmtree(tree)
    restored.rename(tree)
    box = next(tree.rglob("sandik-1234"))
    (box / "cb-sandik-sonuc-s9.png").write_text("planted")
    (box / "leak.jpg").write_text("unknown")
    (box / "SHA256SUMS").write_text("not a page")
    konak = Path(f"{settings.election.id}/35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.png")

    first, *others = settings.parties
    narrowed = replace(first, scope=scope.parse(["35-izmir-2"]))
    with capture_logs() as logs:
        run(replace(settings, parties=(narrowed, *others)))

    shown = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    assert shown == {konak, (box / "SHA256SUMS").relative_to(tree)}
    kept = {
        parse_note(note.read_bytes()).name: note.with_suffix("").read_text()
        for note in (site / "quarantine").glob("*.json")
    }
    where = f"trees/parti-a/{box.relative_to(tree)}"
    assert kept == {
        f"{where}/cb-sandik-sonuc-s9.png": "planted",
        f"{where}/leak.jpg": "unknown",
    }
    assert sorted(
        entry["path"] for entry in logs if entry["event"] == "foreign-file-in-tree"
    ) == sorted(kept)


def test_a_tree_that_cannot_be_narrowed_stays_incomplete_and_does_not_affect_other_trees(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_files(settings)
    run(settings)
    first, second, third = settings.parties
    seen = scope.parse(["06-ankara-1", "34-istanbul-1/kadikoy-2"])
    parties = (replace(first, scope=second.scope), replace(second, scope=seen), third)
    changed = replace(settings, parties=parties)
    remove = Store.remove

    def refused(store: Store, party: str, path: str) -> None:
        if party == first.id and "sandik-1234/mv" in path:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        remove(store, party, path)

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(Store, "remove", refused)
        run(changed)

    logged = {(entry["event"], entry["log_level"], entry["party"]) for entry in logs}
    assert logged == {
        ("not-removed-from-tree", "error", first.id),
        ("tree-exceeds-scope", "error", first.id),
        ("tree-complete", "info", second.id),
    }
    with Catalog(catalog.url(settings.site)) as opened:
        assert opened.completed_trees() == {second.id: str(seen)}
    run(changed)
    assert assert_consistent(changed).counts.filed == 4


def test_a_missing_original_is_a_gap_until_it_is_restored(settings: Settings) -> None:
    drop(settings, {"1.png": CB, "2.png": KONAK})
    run(settings)
    first, second, third = settings.parties
    wide = replace(settings, parties=(first, replace(second, scope=first.scope), third))
    lost = next(
        p for p in (settings.site / "store").rglob("*") if p.is_file() and CB in p.read_text()
    )
    lost.rename(settings.site / "lost")

    with capture_logs() as logs:
        run(wide)

    (gap,) = [entry for entry in logs if entry["event"] == "gap"]
    assert (gap["log_level"], gap["party"]) == ("error", second.id)
    assert "restore it from a backup" in gap["cause"]
    assert counts.counts(settings.site).gaps == 1
    (settings.site / "lost").rename(lost)
    run(wide)
    assert assert_consistent(wide).counts.filed == 2


def test_a_gap_is_logged_when_it_begins_and_when_it_closes(settings: Settings) -> None:
    planted = settings.site / "trees" / "parti-a" / settings.election.id
    planted.parent.mkdir(parents=True)
    planted.touch()
    drop(settings, {"1.png": CB})

    logged = []
    for _ in range(3):
        with capture_logs() as logs:
            run(settings)
        logged.append([entry["event"] for entry in logs if entry["event"].startswith("gap")])
    planted.unlink()
    with capture_logs() as logs:
        run(settings)

    assert logged == [["gap"], [], []]
    assert [entry["event"] for entry in logs if entry["event"].startswith("gap")] == ["gap-closed"]


@pytest.mark.parametrize("older", [True, False])
def test_a_ledger_that_is_lost_or_older_than_the_catalog_must_be_restored(
    settings: Settings, older: bool
) -> None:
    drop(settings, {"1.png": CB, "2.png": MV})
    run(settings)
    (segment,) = (settings.site / LEDGERS / FILING).glob("*.jsonl")
    whole = segment.read_bytes()
    segment.write_bytes(whole[: whole.index(b"\n") + 1] if older else b"")
    drop(settings, {"3.png": KONAK})

    for _ in range(2):
        with pytest.raises(Faults, match=r"^ledgers/filing: .*restore the ledger from a backup$"):
            run(settings)

    segment.write_bytes(whole)
    run(settings)
    assert assert_consistent(settings).counts.filed == 3


@pytest.mark.parametrize("older", [True, False])
def test_a_catalog_that_is_lost_or_older_than_the_ledger_must_be_restored(
    settings: Settings, older: bool
) -> None:
    place = catalog.url(settings.site)
    drop(settings, {"1.png": CB})
    run(settings)
    before = postgres.rows_of(place, tables.METADATA)
    drop(settings, {"2.png": MV})
    run(settings)
    whole = postgres.rows_of(place, tables.METADATA)
    if older:  # in PostgreSQL, what a replica has that lacked the last commits
        postgres.replace_rows(place, before)
    elif place.drivername == SQLITE:
        for path in (settings.site / "state").glob("catalog.sqlite*"):
            path.unlink()
    else:
        postgres.replace_rows(place, {table: [] for table in whole})

    for _ in range(2):
        with pytest.raises(Faults, match=r"restore the catalog from a backup$"):
            run(settings)

    postgres.replace_rows(place, whole)
    run(settings)
    assert assert_consistent(settings).counts.filed == 2


def test_a_catalog_from_before_the_decision_on_a_recorded_page_must_be_restored(
    settings: Settings,
) -> None:
    place = catalog.url(settings.site)
    copies: list[postgres.Rows] = []
    drop(settings, {"1.png": CB})

    def keep_a_copy(step: str) -> None:
        if step == "claims noted":
            copies.append(postgres.rows_of(place, tables.METADATA))

    run(settings, keep_a_copy)
    postgres.replace_rows(place, copies[0])

    with pytest.raises(Faults, match=r"restore the catalog from a backup$"):
        run(settings)


@pytest.mark.usefixtures("other_file_system")
def test_a_source_that_may_not_be_removed_is_filed_again_only_if_it_changes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def refused(path: str | Path, **at: int) -> None:
        if at:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refused)
    drop(settings, {"1.png": CB, "2.png": "9999999999"})
    with capture_logs() as logs:
        run_once(settings)
    run_once(settings)
    drop(settings, {"1.png": f"{CB}; another scan"})
    run_once(settings)

    history = assert_consistent(settings)
    assert history.outcomes() == {"1.png": ["filed", "filed"], "2.png": ["quarantined"]}
    held = [entry for entry in logs if entry["event"] == "source-not-removable"]
    assert [entry["log_level"] for entry in held] == ["error"], "one error per folder"
    assert "let the publisher delete files there" in held[0]["advice"]


@pytest.mark.usefixtures("other_file_system")
def test_a_source_that_may_not_be_removed_is_filed_once_even_after_a_crash(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink = os.unlink

    def refused(path: str | Path, **at: int) -> None:
        if at:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path)

    monkeypatch.setattr(os, "unlink", refused)
    drop(settings, {"1.png": CB})
    with pytest.raises(Crash):
        run_once(settings, crash_at("claimed"))

    run_once(settings)
    run_once(settings)

    assert assert_consistent(settings).outcomes() == {"1.png": ["filed"]}


@pytest.mark.slow
def test_a_quarantine_on_another_file_system_survives_crashes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rename = os.rename

    def refused(source: Path, target: Path, **at: int) -> None:
        if "quarantine" in target.parts and source.parent != target.parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(source, target, **at)

    monkeypatch.setattr(os, "rename", refused)

    for boundary in (0, *range(20, 90, 7)):
        site = copied(settings, tmp_path / str(boundary))
        drop_files(site)
        with pytest.raises(Crash):
            run(site, crash_at_step(boundary))
        run(site)
        assert_outcomes(site)


def test_a_foreign_file_blocks_a_link_in_one_tree_only_and_only_until_it_is_removed(
    settings: Settings,
) -> None:
    path = f"{settings.election.id}/35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.png"
    planted = settings.site / "trees" / "parti-a" / path
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"planted")
    drop(settings, {"a.png": KONAK})

    run(settings)

    assert counts.counts(settings.site).gaps == 1
    assert planted.read_bytes() == b"planted"
    assert (settings.site / "trees" / "parti-b" / path).read_text() == KONAK
    planted.unlink()
    run(settings)
    assert assert_consistent(settings).outcomes() == {"a.png": ["filed"]}


def test_a_missing_link_outside_the_new_scope_is_not_made(settings: Settings) -> None:
    first, second, third = settings.parties
    path = f"{settings.election.id}/35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.png"
    planted = settings.site / "trees" / second.id / path
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"planted")
    drop(settings, {"a.png": KONAK})
    run(settings)
    planted.unlink()

    changed = replace(settings, parties=(first, replace(second, scope=third.scope), third))
    with open_context(changed, lambda step: None) as context:
        Recovery(context, Filer(context)).recover(trees=False)  # as the publisher begins

    assert not planted.exists()
    assert counts.counts(settings.site).gaps == 0


def test_hostile_names_are_safe_on_disk_and_escaped_in_the_record(settings: Settings) -> None:
    folder = os.fsencode(settings.site / "intake")
    names = [b"a\nb\x1b[31m.png", b"\xff\xfe.png", b"x" * 251 + b".png", "ş/ı.png".encode()]
    (settings.site / "intake" / "ş").mkdir()
    for number, name in enumerate(names):
        with open(folder + b"/" + name, "wb") as file:  # noqa: PTH123 - a name of bytes
            file.write(b"; %d" % number)

    run(settings)

    assert set(assert_consistent(settings).outcomes()) == {
        "a\nb\x1b[31m.png",
        r"\udcff\udcfe.png",
        "x" * 251 + ".png",
        "ş/ı.png",
    }
    safe = {path.name.partition("-")[2][9:] for path in (settings.site / "quarantine").iterdir()}
    assert safe == {
        name + end
        for name in ("a_b__31m.png", "_udcff_udcfe.png", "x" * 76 + ".png", "_.png")
        for end in ("", ".json")
    }


def test_a_file_in_the_spool_without_a_catalog_row_is_filed(
    settings: Settings,
) -> None:
    site = settings.site / "state" / "spool"
    site.mkdir(parents=True)
    (site / "found.png").write_text(CB)
    (site / "20230514T140003000041-ffffffff-lost.png").write_text(MV)

    run(settings)

    assert sorted(assert_consistent(settings).outcomes().values()) == [["filed"], ["filed"]]


def test_a_page_whose_quarantine_crashed_is_filed_if_its_karekod_is_in_the_registry_now(
    settings: Settings,
) -> None:
    drop(settings, {"a.png": "7000000001"})
    with pytest.raises(Crash):
        run(settings, crash_at("set aside"))
    assert len(list((settings.site / "quarantine").iterdir())) == 1
    add_to_registry(settings, "7000000001,mv,il-birlestirme,06-ankara-1,,,,,1")

    run(settings)

    assert assert_consistent(settings).outcomes() == {"a.png": ["filed"]}


def test_unfinished_files_of_a_killed_run_are_removed(settings: Settings) -> None:
    run(settings)
    left = [
        settings.site / "store" / ".staged-20230514T140003000041-ffffffff",
        settings.site / "quarantine" / ".20230514T140003000041-ffffffff-a.png.json.77.new",
        settings.site / "state" / "spool" / ".20230514T140003000041-ffffffff-a.png",
    ]
    for path in left:
        path.write_bytes(b"half")

    run(settings)

    assert [path for path in left if path.exists()] == []
    assert assert_consistent(settings).events == []


def test_a_file_that_is_removed_from_the_intake_before_its_claim_is_forgotten(
    settings: Settings,
) -> None:
    drop(settings, {"a.png": CB, "b.png": MV})

    def remove_from_intake(step: str) -> None:
        if step == "received":
            (settings.site / "intake" / "a.png").unlink(missing_ok=True)

    run(settings, remove_from_intake)

    assert assert_consistent(settings).outcomes() == {"b.png": ["filed"]}


def test_a_file_that_is_removed_after_a_crash_before_its_claim_is_forgotten(
    settings: Settings,
) -> None:
    drop(settings, {"a.png": CB})
    with pytest.raises(Crash):
        run(settings, crash_at("received"))
    (settings.site / "intake" / "a.png").unlink()

    run(settings)

    assert assert_consistent(settings).events == []


@pytest.mark.usefixtures("other_file_system")
def test_a_copy_from_another_file_system_is_filed_once_if_a_crash_left_its_source(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(settings, {"a.png": CB})

    def crash(_: Arrival) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(spool, "finish_claim", crash)
        with pytest.raises(Crash):
            run(settings)
    assert (settings.site / "intake" / "a.png").exists()

    run(settings)

    assert assert_consistent(settings).outcomes() == {"a.png": ["filed"]}
    with open_filer(settings) as (filer, _):
        (source,) = filer.left_behind
        assert source.path == "a.png", "it is removed once it was quiet for long enough"


def crash_at(name: str) -> Step:
    def step(reached: str) -> None:
        if reached == name:
            raise Crash

    return step


def add_to_registry(settings: Settings, row: str) -> None:
    """Import the registry again, with one row added."""
    source = settings.site / "registry.csv"
    source.write_text(source.read_text() + row + "\n")
    registry.import_csv(source, settings.site / REGISTRY_INDEX)
