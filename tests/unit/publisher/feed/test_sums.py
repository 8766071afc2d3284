import re
import shutil
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs
from unit.publisher.feed.test_feed import ANKARA, CB, ELECTION, KONAK, MV, open_feed, run_feed, tree
from unit.publisher.filed_site import KEY, NOON, PageFiler, digests, pages, read_sums

from config import layout
from config.settings import Settings
from keys.server_keys import sshsig
from publisher.catalog import tables as t
from publisher.feed import readme
from publisher.feed.sums import format_sums, parse_sums
from publisher.feed.sums_label import format_label, label_of, parse_label


def test_sums_are_parsed_as_they_were_formatted() -> None:
    sums = [("sandik-1/a.jpg", "a" * 64), ("sandik-2/a.jpg", "b" * 64)]

    assert format_sums(sums).decode().splitlines()[0] == f"{'a' * 64}  sandik-1/a.jpg"
    assert parse_sums(format_sums(sums)) == sums
    for odd in (b"x", b"a" * 64 + b" a.jpg\n", format_sums(sums)[:-1], b"# a comment\n"):
        with pytest.raises(ValueError):
            parse_sums(odd)


@pytest.mark.parametrize("party", ["parti-a", "parti-b"])
def test_every_page_of_a_tree_is_proved_by_the_signed_root(settings: Settings, party: str) -> None:
    filer = PageFiler(settings)
    for number, sheet in enumerate((CB, MV, KONAK, ANKARA)):
        filer.file(sheet, f"page {number}")

    run_feed(settings, 0)

    root = tree(settings, party) / ELECTION
    proved = set()
    for sums, digest in read_sums(root).items():
        assert digests(root, "SHA256SUMS")[sums] == digest
        folder = (root / sums).parent
        assert read_sums(folder) == digests(folder, ".jpg")
        proved |= {str((folder / page).relative_to(root.parent)) for page in read_sums(folder)}
    assert proved == pages(tree(settings, party))


def test_sums_include_new_pages_after_a_minute_and_trees_share_them(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    with open_feed(settings) as made:
        made.begin()
        made.tick(0)
        konak = [
            tree(settings, p) / ELECTION / "35-izmir-2/konak-1" for p in ("parti-a", "parti-b")
        ]
        before = read_sums(konak[0])
        filer.file(KONAK, "konak again", 2)
        made.tick(30)
        assert read_sums(konak[0]) == before
        made.tick(60)

    assert list(read_sums(konak[0])) == [
        "sandik-7/cb-sandik-sonuc-s1.jpg",
        "sandik-7/cb-sandik-sonuc-s1.v2.jpg",
    ]
    assert (konak[0] / "SHA256SUMS").samefile(konak[1] / "SHA256SUMS")
    assert (konak[0] / "SHA256SUMS").stat().st_mode & 0o777 == 0o444
    assert list((settings.site / "trees").rglob(".*")) == []


CHANGING = ("SHA256SUMS", "SHA256SUMS.sig", "35-izmir-2/konak-1/SHA256SUMS",
            "35-izmir-2/konak-1/SHA256SUMS.sig", "../akis/son.txt")  # fmt: skip


def sizes_and_mtimes(settings: Settings, party: str) -> dict[str, tuple[int, float]]:
    """Return what a client that compares size and mtime sees."""
    root = tree(settings, party) / ELECTION
    found = {path: (root / path).stat() for path in CHANGING}
    return {path: (stat.st_size, stat.st_mtime) for path, stat in found.items()}


@pytest.mark.parametrize("again", [False, True], ids=["one run", "a run each"])
def test_a_file_that_replaces_another_in_the_same_second_has_a_later_mtime(
    settings: Settings, again: bool
) -> None:
    filer = PageFiler(settings)
    seen = []
    filer.file(KONAK, "konak")
    with ExitStack() as stack:
        made = None
        for number in range(1, 6):
            if made is None or again:
                made = stack.enter_context(open_feed(settings))  # its clock always says NOON
                made.begin()
            made.tick(number * 60.0)
            seen.append(sizes_and_mtimes(settings, "parti-a"))
            filer.file(replace(KONAK, sandik=str(number)), f"box {number}")

    for before, after in pairwise(seen):
        for path in CHANGING:
            assert after[path][1] > before[path][1], path
    assert max(time for _, time in seen[-1].values()) <= NOON + 10


def test_sums_of_a_tree_whose_gap_closed_have_a_later_mtime(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    with open_feed(settings) as made, capture_logs():
        made.begin()
        made.tick(0)
        filer.file(replace(KONAK, sandik="8"), "konak 8", gap="parti-b")
        made.tick(60)
        apart = sizes_and_mtimes(settings, "parti-b")
        filer.close_gaps()
        made.tick(120)
        together = sizes_and_mtimes(settings, "parti-b")

    for path in CHANGING[2:4]:
        assert together[path][1] > apart[path][1], path
    konak = [tree(settings, p) / ELECTION / CHANGING[2] for p in ("parti-a", "parti-b")]
    assert konak[0].samefile(konak[1])


def test_mtimes_return_to_the_present_after_the_clock_was_ahead(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    with open_feed(settings, at=NOON + 86_400) as made:
        made.begin()
        made.tick(0)
    filer.file(replace(KONAK, sandik="8"), "konak 8")
    with open_feed(settings) as made:
        made.begin()
        made.tick(60)

    sums = sizes_and_mtimes(settings, "parti-a")
    assert {time for path, (_, time) in sums.items() if path in CHANGING[:4]} == {NOON}


def test_sums_that_a_power_loss_emptied_are_written_again(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    run_feed(settings, 0)
    board = tree(settings, "parti-a") / ELECTION / "35-izmir-2/konak-1"
    good = read_sums(board)
    for name in ("SHA256SUMS.sig", "SHA256SUMS"):
        file = board / name  # the same inode everywhere
        file.chmod(0o644)
        file.write_bytes(b"")

        run_feed(settings, 0)

        assert read_sums(board) == good
        assert read_sums(tree(settings, "parti-b") / ELECTION / "35-izmir-2/konak-1") == good


def test_sums_merged_page_by_page_equal_those_computed_at_a_start(settings: Settings) -> None:
    filer = PageFiler(settings)
    boxes = [replace(KONAK, sandik=box) for box in ("7", "70", "7-a", "12", "100")]
    with open_feed(settings) as made:
        made.begin()
        for number, box in enumerate(boxes):
            filer.file(box, f"box {number}")
            filer.file(box, f"box {number} again", 2)
            made.tick(number * 60.0)
    grown = (tree(settings, "parti-a") / ELECTION / CHANGING[2]).read_bytes()
    shutil.rmtree(settings.site / "feed/sums")

    run_feed(settings, 0)

    assert (tree(settings, "parti-a") / ELECTION / CHANGING[2]).read_bytes() == grown
    assert len(grown.splitlines()) == 10


def test_a_board_whose_first_page_is_not_recorded_has_no_sums(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    with filer.engine.begin() as connection:
        connection.execute(sa.update(t.filing).values(seq=None))
    sums = tree(settings, "parti-a") / ELECTION / CHANGING[2]
    with open_feed(settings) as made, capture_logs() as logs:
        made.begin()
        made.tick(0)
        assert not sums.exists()
        assert not (sums.parents[2] / "SHA256SUMS").exists()

        with filer.engine.begin() as connection:
            connection.execute(sa.update(t.filing).values(seq=0))
        made.tick(60)

    assert list(read_sums(sums.parent)) == ["sandik-7/cb-sandik-sonuc-s1.jpg"]
    assert logs == []


def test_the_commands_in_benioku_verify_a_mirror_as_printed(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    for number, sheet in enumerate((CB, KONAK, ANKARA)):
        filer.file(sheet, f"page {number}")
    run_feed(settings, 0)
    mirror = tree(settings, "parti-a")
    (mirror / "allowed_signers").write_text(sshsig.allowed_signers(KEY.public_key()))
    text = (mirror / "BENIOKU.txt").read_text(encoding="utf-8")
    steps = text[text.index("DOĞRULAMA\n") : text.index("DEĞİŞİKLİK AKIŞI\n")]

    printed = [line.strip() for line in steps.splitlines() if re.match(" {5}[^ ]", line)]
    commands = printed[:3]
    age = readme.AGE_COMMAND.format(election=ELECTION)
    assert printed == [*readme.commands(ELECTION), *readme.TOOL_COMMANDS, age]
    assert [verified(mirror, command) for command in commands] == [True, True, True]

    page = mirror / ELECTION / "35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.jpg"
    page.unlink()
    page.write_text("another page")
    assert [verified(mirror, command) for command in commands] == [True, True, False]
    sums = page.parents[1] / "SHA256SUMS"
    sums.unlink()
    sums.write_text("")
    assert not verified(mirror, commands[1])
    root = mirror / ELECTION / "SHA256SUMS"
    root.unlink()
    root.write_text("")
    assert not verified(mirror, commands[0])


def test_the_command_in_benioku_names_sums_of_another_folder_or_time_or_without_a_label(
    settings: Settings,
) -> None:
    filer = PageFiler(settings)
    for number, sheet in enumerate((CB, KONAK, ANKARA)):
        filer.file(sheet, f"page {number}")
    run_feed(settings, 0)
    mirror = settings.site / "mirror"
    shutil.copytree(tree(settings, "parti-a"), mirror)
    (mirror / "allowed_signers").write_text(sshsig.allowed_signers(KEY.public_key()))

    def wrong() -> list[str]:
        command = ["bash", "-c", readme.commands(ELECTION)[3]]
        done = subprocess.run(command, cwd=mirror, capture_output=True, text=True, check=True)
        return sorted(line for line in done.stdout.splitlines() if line.startswith(ELECTION))

    assert wrong() == []
    konak, istanbul = (
        mirror / ELECTION / place for place in ("35-izmir-2/konak-1", "34-istanbul-1/kadikoy-2")
    )
    for name in layout.SUMS_FILES:  # signed sums of one board, in the folder of another
        put(konak / name, (istanbul / name).read_bytes())
    assert wrong() == [f"{ELECTION}/35-izmir-2/konak-1/SHA256SUMS"]
    text = (istanbul / "SHA256SUMS.kunye").read_text()
    put(konak / "SHA256SUMS.kunye", text.replace("34-istanbul-1/kadikoy-2", "35-izmir-2/konak-1"))
    (istanbul / "SHA256SUMS.kunye").unlink()
    assert len(wrong()) == 2


def test_the_command_in_benioku_accepts_a_feed_only_of_this_election_and_of_the_last_minutes(
    settings: Settings,
) -> None:
    PageFiler(settings).file(KONAK, "konak")
    run_feed(settings, 0)
    mirror = settings.site / "mirror"
    shutil.copytree(tree(settings, "parti-a"), mirror)
    (mirror / "allowed_signers").write_text(sshsig.allowed_signers(KEY.public_key()))
    segment = mirror / "akis" / (mirror / "akis/son.txt").read_text().strip()
    closed = datetime.now(UTC)

    def accepted(signed: bytes) -> bool:
        put(segment, signed)
        put(Path(f"{segment}.sig"), sshsig.sign(KEY, signed))
        return verified(mirror, readme.AGE_COMMAND.format(election=ELECTION))

    old = segment.read_bytes()
    fresh = re.sub(rb"# kapanis: .*", f"# kapanis: {closed:%Y-%m-%dT%H:%M:%SZ}".encode(), old)
    assert [accepted(old), accepted(fresh)] == [False, True]
    assert not accepted(fresh.replace(b"# secim: ", b"# secim: x"))
    put(Path(f"{segment}.sig"), sshsig.sign(KEY, b"another segment"))
    assert not verified(mirror, readme.AGE_COMMAND.format(election=ELECTION))


def put(path: Path, content: bytes | str) -> None:
    path.unlink()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_the_label_of_sums_names_election_folder_time_and_number(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    run_feed(settings, 0)
    label = tree(settings, "parti-a") / ELECTION / "35-izmir-2/konak-1/SHA256SUMS.kunye"

    content = label.read_bytes()

    digest = sha256((label.parent / "SHA256SUMS").read_bytes()).hexdigest()
    assert content.decode().splitlines() == [
        "ssps kunye 1",
        f"secim: {ELECTION}",
        f"yer: {ELECTION}/35-izmir-2/konak-1",
        f"zaman: {datetime.fromtimestamp(NOON, UTC):%Y-%m-%dT%H:%M:%SZ}",
        f"no: {parse_label(content).number}",
        f"{digest}  SHA256SUMS",
    ]
    sshsig.verify(KEY.public_key(), content, Path(f"{label}.sig").read_bytes())
    assert label.stat().st_mode & 0o777 == 0o444


@pytest.mark.parametrize("odd", [b"", b"ssps kunye 2\n", b"\n", b"x", b"yer: a\n"], ids=range(5))
def test_a_label_of_another_form_is_refused(odd: bytes) -> None:
    good = format_label(label_of("E/a/b/SHA256SUMS", NOON, 7, b"sums"))
    assert parse_label(good).folder == "E/a/b"
    for changed in (odd, good + odd, good.replace(b"yer: E/", b"yer: F/"), good[:-1]):
        if changed != good:
            with pytest.raises(ValueError):
                parse_label(changed)


def test_sums_of_an_earlier_version_get_their_labels_at_the_next_start(settings: Settings) -> None:
    filer = PageFiler(settings)
    filer.file(KONAK, "konak")
    run_feed(settings, 0)
    labels = sorted(settings.site.rglob("SHA256SUMS.kunye*"))
    assert len(labels) == 2 * (1 + 2 * 2)  # in feed/, and in two trees: of the board, and the root
    for label in labels:
        label.unlink()

    run_feed(settings, 0)

    assert sorted(settings.site.rglob("SHA256SUMS.kunye*")) == labels


def verified(mirror: Path, command: str) -> bool:
    done = subprocess.run(["bash", "-c", command], cwd=mirror, capture_output=True, check=False)
    return done.returncode == 0


def test_benioku_states_the_scope_and_the_opening_time(settings: Settings) -> None:
    text = readme.text(settings, settings.parties[1])

    assert "B Partisi için" in text
    assert "Kapsamınız: 06-ankara-1 35-izmir-2/konak-1" in text
    assert "Erişim 2023-05-14T17:00:00+03:00 itibarıyla açılır" in text
    assert settings.election.title in text
    lifted = replace(
        settings, election=replace(settings.election, ban_lifts=settings.election.opens)
    )
    assert "Yayın yasağı 2023-05-14T17:00:00+03:00" in readme.text(lifted, settings.parties[1])
