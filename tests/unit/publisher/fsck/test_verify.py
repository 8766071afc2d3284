import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import postgres
import pytest
from unit.publisher.consistency import assert_consistent
from unit.publisher.feed.test_feed import ELECTION, run_feed
from unit.publisher.filed_site import KEY
from unit.publisher.filing.test_filer import ANKARA, CB, KONAK, MV, drop, open_context, run
from unit.publisher.requests.test_handler import handle_pending

from config import layout, scope
from config.event import Event, Value
from config.fault import Faults
from config.settings import Settings
from config.site import CATALOG, FILING, LEDGERS, OPERATIONS, SIGNING_KEYS, result_view
from keys import digest
from keys.ledger import segments
from keys.ledger.writer import Ledger
from keys.server_keys import host, sshsig, stamp_key
from publisher.catalog import catalog
from publisher.database import name_of
from publisher.feed.published_files import PublishedFiles
from publisher.feed.tools import Tools
from publisher.filing.filer import Filer
from publisher.filing.recovery import Recovery
from publisher.fsck import rebuild, rebuild_catalog
from publisher.fsck.finding import publisher_is_running
from publisher.fsck.merging import merge_sorted, walk_sorted
from publisher.fsck.repair import Repair, Repairer
from publisher.fsck.verify import verify
from publisher.requests import queue
from publisher.store.quarantine import FOUND_IN_TREE, Quarantine, QuarantineNote

TREE = "trees/parti-a/2023-05-14-cb-mv"
PAGE = f"{TREE}/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.png"
PATH = PAGE.removeprefix("trees/parti-a/")


def findings(settings: Settings, quick: bool = False) -> list[str]:
    return [str(finding) for finding in verify(settings, quick=quick, pause=lambda seconds: None)]


def repair_everything(settings: Settings) -> None:
    """Do what `ssps verify --repair` does."""
    found = list(verify(settings, pause=lambda seconds: None))
    lines = [str(finding.repair) for finding in found if finding.repair]
    identity = f"repair-{len(list((settings.site / 'ledgers').iterdir()))}"
    queue.submit(
        settings.site, queue.Request(identity, "repair", ("ayse",), "h", "w", {"repairs": lines})
    )
    handle_pending(settings)
    answer = queue.take_answer(settings.site, identity)
    assert answer is not None
    assert answer.done, answer


@pytest.fixture
def site_with_pages(settings: Settings) -> Settings:
    """A site on which six pages were filed or quarantined."""
    pages = {"a.png": CB, "b.png": MV, "c.png": KONAK, "d.png": ANKARA, "e.png": f"{CB}; rescan"}
    drop(settings, {**pages, "f.png": "9999999999"})
    run(settings)
    return settings


def original(settings: Settings) -> Path:
    inode = (settings.site / PAGE).stat().st_ino
    return next(p for p in (settings.site / "store").rglob("*") if p.stat().st_ino == inode)


def test_two_sorted_listings_are_merged_by_key(tmp_path: Path) -> None:
    left = [(b"a", 1), (b"c", 3)]
    right = [(b"b", "x"), (b"c", "y"), (b"d", "z")]
    assert list(merge_sorted(left, right)) == [
        (b"a", 1, None), (b"b", None, "x"), (b"c", 3, "y"), (b"d", None, "z"),
    ]  # fmt: skip
    for name in ("a-b/x", "a/x", "a.b", "b/c/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    refused: list[OSError] = []
    found = [key for key, _ in walk_sorted(str(tmp_path), refused.append)]
    assert found == sorted(found) == [b"a-b/x", b"a.b", b"a/x", b"b/c/d"]
    assert list(walk_sorted(str(tmp_path / "none"), refused.append)) == []
    assert len(refused) == 1


def test_a_consistent_site_has_no_findings(site_with_pages: Settings) -> None:
    assert_consistent(site_with_pages)
    assert findings(site_with_pages) == []
    assert findings(site_with_pages, quick=True) == []


def test_an_empty_site_has_no_findings(settings: Settings) -> None:
    assert findings(settings) == []


def unlink(settings: Settings) -> None:
    (settings.site / PAGE).unlink()


def replace_a_page(settings: Settings) -> None:
    unlink(settings)
    (settings.site / PAGE).write_text("planted")


def add_a_foreign_file(settings: Settings) -> None:
    (settings.site / PAGE).with_name("mv-sandik-sonuc-s9.jpg").write_text("planted")


def link_out_of_scope(settings: Settings) -> None:
    shown = settings.site / PAGE.replace("parti-a", "parti-b")
    shown.parent.mkdir(parents=True)
    shown.hardlink_to(settings.site / PAGE)


def lose_the_original(settings: Settings) -> None:
    original(settings).unlink()


def shift_time(settings: Settings) -> None:
    os.utime(settings.site / PAGE, (1, 1))


def change_mode(settings: Settings) -> None:
    (settings.site / PAGE).chmod(0o644)


def lose_the_note(settings: Settings) -> None:
    next((settings.site / "quarantine").glob("*.json")).unlink()


def corrupt_the_note(settings: Settings) -> None:
    next((settings.site / "quarantine").glob("*.json")).write_text("{}")


REPAIRABLE: dict[Callable[[Settings], None], str] = {
    unlink: "is missing",
    replace_a_page: "is not the original that was filed",
    add_a_foreign_file: "was never filed",
    link_out_of_scope: "is not for this party",
    lose_the_original: "is missing",
    shift_time: "its mtime is not the filing time",
    change_mode: "has mode 0644, not 0444",
    lose_the_note: "is missing or not a note",
    corrupt_the_note: "is missing or not a note",
}


@pytest.mark.parametrize("harm", REPAIRABLE, ids=lambda harm: harm.__name__)
def test_a_problem_that_the_catalog_can_solve_is_found_and_repaired(
    site_with_pages: Settings, harm: Callable[[Settings], None]
) -> None:
    harm(site_with_pages)

    first, *_ = findings(site_with_pages)
    assert REPAIRABLE[harm] in first
    assert first.endswith("`ssps verify --repair` repairs it")
    repair_everything(site_with_pages)

    assert findings(site_with_pages) == []


def test_a_repair_moves_foreign_files_to_quarantine_and_deletes_none(
    site_with_pages: Settings,
) -> None:
    replace_a_page(site_with_pages)
    add_a_foreign_file(site_with_pages)

    repair_everything(site_with_pages)

    held = [path.read_bytes() for path in (site_with_pages.site / "quarantine").iterdir()]
    assert held.count(b"planted") == 2


def corrupt_the_original(settings: Settings) -> None:
    path = original(settings)
    mtime = path.stat().st_mtime
    path.chmod(0o644)
    path.write_text("other bytes")
    path.chmod(0o444)
    os.utime(path, (mtime, mtime))


def add_a_foreign_original(settings: Settings) -> None:
    (settings.site / "store" / "ab").mkdir(exist_ok=True)
    (settings.site / "store" / "ab" / "stray").write_text("?")


def lose_a_quarantined(settings: Settings) -> None:
    note = next((settings.site / "quarantine").glob("*.json"))
    note.with_name(note.name.removesuffix(".json")).unlink()
    note.unlink()


def change_a_quarantined(settings: Settings) -> None:
    note = next((settings.site / "quarantine").glob("*.json"))
    changed = note.with_name(note.name.removesuffix(".json"))
    changed.chmod(0o644)
    changed.write_text("other")


def put_into_quarantine(settings: Settings) -> None:
    (settings.site / "quarantine" / "stray").write_text("?")


def lose_a_record(settings: Settings) -> None:
    segment = next((settings.site / LEDGERS / FILING).glob("*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(b"".join(lines[:2] + lines[3:]))


def change_a_record(settings: Settings) -> None:
    segment = next((settings.site / LEDGERS / FILING).glob("*.jsonl"))
    segment.write_bytes(segment.read_bytes().replace(b"cb-il-birlestirme", b"mv-il-birlestirme"))


def lose_what_was_found_in_a_tree(settings: Settings) -> None:
    identity = "20230514T140003000041-9f3c21ab"
    note = QuarantineNote(
        identity, "trees/a/x", FOUND_IN_TREE, None, (), 1, (), "2023-05-14T14:00:03Z"
    )
    Quarantine(settings.site).write_note(f"{identity}-x.jpg", note)


UNREPAIRABLE: dict[Callable[[Settings], None], str] = {
    corrupt_the_original: "has other bytes than were filed",
    add_a_foreign_original: "belongs to no filing",
    lose_a_quarantined: "is missing",
    change_a_quarantined: "has other bytes than were quarantined",
    put_into_quarantine: "was not put there by the publisher",
    lose_what_was_found_in_a_tree: "is missing",
    lose_a_record: "is missing",
    change_a_record: "the catalog 2023-05-14-cb-mv",
}


@pytest.mark.parametrize("harm", UNREPAIRABLE, ids=lambda harm: harm.__name__)
def test_a_problem_without_repair_is_found_with_advice(
    site_with_pages: Settings, harm: Callable[[Settings], None]
) -> None:
    harm(site_with_pages)

    found = list(verify(site_with_pages, pause=lambda seconds: None))

    assert any(UNREPAIRABLE[harm] in finding.problem for finding in found), found
    assert not any(finding.repair or finding.note for finding in found)


def test_quick_does_not_hash_the_originals(site_with_pages: Settings) -> None:
    corrupt_the_original(site_with_pages)
    assert findings(site_with_pages, quick=True) == []


def test_pages_in_flight_are_not_findings_while_the_publisher_runs(
    site_with_pages: Settings,
) -> None:
    with open_context(site_with_pages, lambda step: None) as context:
        assert publisher_is_running(site_with_pages.site)
        (site_with_pages.site / "store" / ".staged-20230514T140003000041-9f3c21ab").write_text(
            "half"
        )
        (site_with_pages.site / "store" / "zz").mkdir()
        later = site_with_pages.site / "store" / "zz" / "c"
        later.write_text("just kept")

        def filed(seconds: float) -> None:
            later.unlink()

        assert [str(f) for f in verify(site_with_pages, pause=filed)] == []
        del context
    assert not publisher_is_running(site_with_pages.site)


def test_an_incomplete_tree_is_one_finding(site_with_pages: Settings) -> None:
    parties = tuple(
        replace(p, scope=scope.ALL) if p.id == "parti-b" else p for p in site_with_pages.parties
    )
    (finding,) = verify(replace(site_with_pages, parties=parties))
    assert str(finding).startswith("trees/parti-b: is not complete for the party's scope, start")


def test_a_repair_that_the_catalog_does_not_prove_is_refused(site_with_pages: Settings) -> None:
    with open_context(site_with_pages, lambda step: None) as context:
        filer = Filer(context)
        repairer = Repairer(context, filer, Recovery(context, filer))
        wrong = [
            Repair("link", "parti-b", PATH),
            Repair("link", "parti-x", PATH),
            Repair("hide", "parti-a", PATH),
            Repair("original", "0" * 64),
            Repair("times", "0" * 64),
            Repair("note", "../catalog.sqlite"),
        ]
        assert len(repairer.repair_all(wrong)) == len(wrong)
    assert (site_with_pages.site / PAGE).exists()


@pytest.mark.parametrize("line", ["", "link", "link parti-a", "remove x y", "times", "note a b"])
def test_an_invalid_repair_line_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="not a repair"):
        Repair.parse(line)


def rebuild_tree(settings: Settings, party: str = "parti-a") -> queue.Answer:
    found = settings.party(party)
    assert found is not None
    built = rebuild.build(settings, found)
    drop(settings, {"late.png": "3000000001"})
    run(settings)
    identity = f"20230514T180000000000-rebuild-{party}"
    detail: Mapping[str, Value] = {
        "party": party,
        "upto": built.last_filing,
        "folders": list(built.folders),
    }
    for _ in range(2):  # as after a crash before the answer
        queue.submit(settings.site, queue.Request(identity, "rebuild", ("a",), "h", "w", detail))
        handle_pending(settings)
    answer = queue.take_answer(settings.site, identity)
    assert answer is not None
    rebuild.clear_staging(settings, party)
    return answer


def test_a_rebuilt_tree_has_the_pages_that_were_filed_meanwhile(site_with_pages: Settings) -> None:
    add_a_foreign_file(site_with_pages)
    (site_with_pages.site / TREE / "SHA256SUMS").write_text("the publisher's own")
    unlink(site_with_pages)

    assert rebuild_tree(site_with_pages).done

    [kept] = findings(site_with_pages)
    assert kept.startswith(f"{TREE}/SHA256SUMS: is not signed by the site")
    assert (site_with_pages.site / TREE / "SHA256SUMS").read_text() == "the publisher's own"
    assert sorted(p.name for p in (site_with_pages.site / "trees").iterdir()) == [
        "parti-a",
        "parti-b",
    ]
    held = [path.read_bytes() for path in (site_with_pages.site / "quarantine").iterdir()]
    assert held.count(b"planted") == 1


def shown_results(settings: Settings) -> tuple[Path, Path]:
    """Prepare a file of a snapshot and show it in a tree; return it, and what is in the tree."""
    (scope,) = [party.scope for party in settings.parties if party.id == "parti-a"]
    prepared = settings.site / result_view(7, scope) / "mv.csv"
    prepared.parent.mkdir(parents=True)
    prepared.write_text("results")
    shown = settings.site / "trees/parti-a" / settings.election.id / "sonuclar/00000007/mv.csv"
    shown.parent.mkdir(parents=True)
    shown.hardlink_to(prepared)
    return prepared, shown


def test_a_rebuilt_tree_still_shows_results(site_with_pages: Settings) -> None:
    prepared, shown = shown_results(site_with_pages)

    assert rebuild_tree(site_with_pages).done

    assert shown.samefile(prepared)
    assert findings(site_with_pages) == []


def test_a_file_among_the_results_that_was_not_published_is_found(
    site_with_pages: Settings,
) -> None:
    _, shown = shown_results(site_with_pages)
    shown.unlink()
    shown.write_text("other results")
    (shown.parent / "planted.csv").write_text("more results")

    found = findings(site_with_pages)

    assert len(found) == 2
    assert "mv.csv: is not the file that was published" in found[0]
    assert "planted.csv: is not the file that was published" in found[1]


def test_a_lost_tree_can_be_rebuilt(site_with_pages: Settings) -> None:
    for path in sorted((site_with_pages.site / "trees" / "parti-b").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (site_with_pages.site / "trees" / "parti-b").rmdir()

    assert rebuild_tree(site_with_pages, "parti-b").done

    assert findings(site_with_pages) == []


def in_catalog(settings: Settings, statement: str, *values: object) -> None:
    assert postgres.change(catalog.url(settings.site), statement, *values) > 0


FIRST = "UPDATE filing SET {} WHERE id = (SELECT min(id) FROM filing)"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (FIRST.format("karekod = '7777777777'"), "has karekod 7777777777, but the filing ledger"),
        (FIRST.format("kurul = 'baska-1'"), "has kurul baska-1, but the filing ledger"),
        (FIRST.format("cevre = 'baska-1'"), "has cevre baska-1, but the filing ledger"),
        (FIRST.format("sandik = '99'"), "has sandik 99, but the filing ledger"),
        (FIRST.format("secim = 'bb'"), "has secim bb, but the filing ledger"),
        (FIRST.format("belge = 'x'"), "has belge x, but the filing ledger"),
        (FIRST.format("page = 7"), "has page 7, but the filing ledger 1"),
        (FIRST.format("version = 9"), "has version 9, but the filing ledger 1"),
        (FIRST.format("frame = 3"), "has frame 3, but the filing ledger 1"),
        (FIRST.format("seq = 4711"), "lacks the filing of number"),
        ("UPDATE arrival SET name = 'x.png' WHERE outcome = 'filed'", "arrival.name x.png"),
        (
            "UPDATE arrival SET sha256 = '" + "0" * 64 + "' WHERE outcome = 'filed'",
            f"has arrival.sha256 {'0' * 64}, but the filing ledger",
        ),
        ("UPDATE arrival SET outcome = 'duplicate' WHERE outcome = 'filed'", "arrival.outcome"),
        ("UPDATE arrival SET outcome = 'odd' WHERE outcome = 'quarantined'", "has outcome odd"),
        ("UPDATE arrival SET outcome = 'filed' WHERE outcome = 'quarantined'", "has outcome filed"),
        ("UPDATE arrival SET what = NULL WHERE outcome = 'quarantined'", "has what None"),
        ("UPDATE arrival SET reason = 'x' WHERE outcome = 'quarantined'", "has reason x"),
        ("UPDATE arrival SET seq = 9000 + seq WHERE outcome = 'filed'", "its last record is"),
        ("DELETE FROM arrival WHERE outcome = 'filed'", "has arrival.id None"),
        ("DELETE FROM arrival WHERE outcome = 'quarantined'", "lacks the arrival of number"),
        ("UPDATE total SET number = 99 WHERE name = 'filed'", "total of filed is 99, but"),
        ("UPDATE total SET number = 99 WHERE name = 'versions'", "total of versions is 99, but"),
        ("UPDATE total SET number = 99 WHERE name = 'quarantined'", "total of quarantined is 99"),
        ("UPDATE tally SET number = 99", "is 99, but the rows add up to 1"),
        ("DELETE FROM tally", "is None, but the rows add up to 1"),
    ],
)
def test_a_row_that_is_not_what_was_recorded_is_named(
    site_with_pages: Settings, statement: str, problem: str
) -> None:
    in_catalog(site_with_pages, statement)

    told = findings(site_with_pages)

    named = [line for line in told if problem in line]
    assert named, told
    assert named[0].startswith(f"{name_of(site_with_pages.site, CATALOG)}: ")


@pytest.mark.parametrize("damage", [b'{"damaged', b'{"event": "absent"}'])
def test_a_damaged_ledger_is_not_blamed_on_the_catalog(
    site_with_pages: Settings, damage: bytes
) -> None:
    segment = segments.list_segments(site_with_pages.site / "ledgers/filing")[0].path
    first, *others = segment.read_bytes().splitlines(keepends=True)
    segment.write_bytes(damage.ljust(len(first) - 1) + b"\n" + b"".join(others))

    told = findings(site_with_pages)

    named = [line for line in told if line.startswith("ledgers/filing:")]
    assert named and all(line.count("ssps audit verify") == 1 for line in named)
    assert [line for line in told if "catalog" in line] == []


@pytest.mark.parametrize("damage", ["not a record", "without an id"])
def test_a_damaged_operations_ledger_is_named_by_the_check_and_by_a_rebuild(
    site_with_pages: Settings, damage: str
) -> None:
    detail = {"command": "desk identify", "file": "x", "sheets": "1:1000000000"}
    with Ledger(site_with_pages.site / LEDGERS / OPERATIONS) as ledger:
        ledger.append(Event("asked", "ayse", "h", "x", detail=detail))
        ledger.append(Event("desk identify", "ayse", "h", "x"))
    segment = segments.list_segments(site_with_pages.site / LEDGERS / OPERATIONS)[0].path
    if damage == "not a record":
        segment.write_bytes(b"{" + segment.read_bytes())

    told = findings(site_with_pages)

    assert len(told) == 1 and told[0].startswith("ledgers/operations: ")
    assert told[0].endswith(", run `ssps audit verify`")
    with pytest.raises(Faults, match=r"ledgers/operations: .*: run `ssps audit verify`"):
        rebuild_catalog.build(site_with_pages)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("sha256", b"0" * 64),
        ("sha1", b"0" * 40),
        ("md5", b"0" * 32),
        ("sha256", b"short"),
        ("sha256", b""),
    ],
)
def test_a_stamp_that_is_not_of_the_bytes_is_found_and_repaired(
    site_with_pages: Settings, attribute: str, value: bytes
) -> None:
    page = original(site_with_pages)
    if not digest.supported(page.parent):
        pytest.skip("this file system has no extended attributes")
    before = page.stat()
    page.chmod(0o644)
    os.setxattr(page, f"user.ssps.{attribute}", value)
    page.chmod(0o444)

    [told] = findings(site_with_pages)
    assert "is stamped with other digests than its bytes have" in told

    repair_everything(site_with_pages)
    assert findings(site_with_pages) == []
    after = page.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


@pytest.mark.parametrize("key", [None, bytes(32)])
def test_an_original_without_a_seal_of_this_site_is_noted_and_sealed(
    site_with_pages: Settings, key: bytes | None
) -> None:
    page = original(site_with_pages)
    before = page.stat()
    page.chmod(0o644)
    with page.open("rb") as file:
        if not digest.stamp(file.fileno(), digest.compute(file.fileno()), key):
            pytest.skip("this file system has no extended attributes")
    page.chmod(0o444)

    [told] = findings(site_with_pages)
    assert told.startswith("store: 1 original is not sealed: the server hashes what it opens")

    repair_everything(site_with_pages)
    assert findings(site_with_pages) == []
    with page.open("rb") as file:
        claim = digest.Claim.of(file.fileno())
    assert digest.check(claim, stamp_key.load(site_with_pages.site)) is digest.Proof.PROVEN
    after = page.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_a_seal_with_other_digests_is_found(site_with_pages: Settings) -> None:
    page = original(site_with_pages)
    page.chmod(0o644)
    with page.open("rb") as file:
        actual = digest.compute(file.fileno())
        digest.reseal(file.fileno(), actual._replace(md5="0" * 32), bytes(32))
    page.chmod(0o444)

    [told] = findings(site_with_pages)
    assert "is stamped with other digests than its bytes have" in told

    repair_everything(site_with_pages)
    assert findings(site_with_pages) == []


def test_changed_bytes_under_an_old_stamp_are_found(site_with_pages: Settings) -> None:
    page = original(site_with_pages)
    before, content = page.stat(), page.read_bytes()
    page.chmod(0o644)
    page.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(page, ns=(before.st_atime_ns, before.st_mtime_ns))
    page.chmod(0o444)

    [told] = findings(site_with_pages)
    assert "has other bytes than were filed" in told


def test_originals_that_were_linked_later_are_sealed_by_a_repair(
    site_with_pages: Settings,
) -> None:
    page = original(site_with_pages)
    time.sleep(2 * digest.SETTLE_NS / 1e9)
    os.link(page, site_with_pages.site / "linked")
    (site_with_pages.site / "linked").unlink()
    assert findings(site_with_pages) == []

    told = [str(one) for one in verify(site_with_pages, relinked=True)]

    assert told == [
        "store: 1 original is not sealed: the server hashes what it opens, "
        "`ssps verify --repair` repairs it"
    ]


def test_an_own_file_with_a_wrong_stamp_is_found(site_with_pages: Settings) -> None:
    files = PublishedFiles(site_with_pages.site)
    files.replace_in_tree("parti-a", "BENIOKU.txt", b"oku\n", 1_684_072_800)
    assert findings(site_with_pages) == []
    readme = site_with_pages.site / "trees/parti-a/BENIOKU.txt"
    readme.chmod(0o644)
    readme.write_bytes(b"yok\n")
    readme.chmod(0o444)

    [told] = findings(site_with_pages)

    assert told.startswith("trees/parti-a/BENIOKU.txt: is stamped with other digests")


BOARD = f"trees/parti-a/{ELECTION}/34-istanbul-1/kadikoy-2/SHA256SUMS"


def test_sums_of_another_folder_or_without_signature_or_label_are_found(
    site_with_pages: Settings,
) -> None:
    public = site_with_pages.site / SIGNING_KEYS / "signing_key.pub"
    public.parent.mkdir(parents=True, exist_ok=True)
    public.write_text(sshsig.allowed_signers(KEY.public_key()))
    run_feed(site_with_pages, 0)
    assert findings(site_with_pages) == []
    board = site_with_pages.site / BOARD
    root = site_with_pages.site / f"trees/parti-a/{ELECTION}"
    kept = {name: (board.parent / name).read_bytes() for name in layout.SUMS_FILES}

    def problems(folder: Path | None) -> list[str]:
        for name in layout.SUMS_FILES:
            copied = (folder / name).read_bytes() if folder else b""
            (board.parent / name).unlink()
            (board.parent / name).write_bytes(copied)
        found = findings(site_with_pages)
        for name, content in kept.items():
            (board.parent / name).write_bytes(content)
        return [line for line in found if line.startswith(BOARD)]

    [moved] = problems(root)
    assert f"SHA256SUMS.kunye beside it is of other sums, of {ELECTION}," in moved
    [unsigned] = problems(None)
    assert "is not signed by the site, restart the publisher" in unsigned
    (board.parent / "SHA256SUMS.kunye").unlink()
    [unlabelled] = [f for f in verify(site_with_pages) if f.place == BOARD]
    assert unlabelled.note
    assert unlabelled.problem == "has no label"


def test_a_tool_that_is_not_the_published_one_is_found(site_with_pages: Settings) -> None:
    keys = site_with_pages.site / SIGNING_KEYS
    keys.mkdir(parents=True)
    host.create_key(keys / host.SIGNING_KEY, "ssps")
    files = PublishedFiles(site_with_pages.site)
    tools = Tools(site_with_pages, files, lambda content: b"signature", b"client")
    tools.show([p for p in site_with_pages.parties if p.mirrors], 1_684_072_800)
    assert findings(site_with_pages) == []
    client = site_with_pages.site / "trees/parti-a/araclar/mirror.py"
    client.unlink()
    client.write_bytes(b"another client")

    assert findings(site_with_pages) == [
        "trees/parti-a/araclar/mirror.py: is not the file that was published, restart the "
        "publisher, which links it again; examine what is there"
    ]
