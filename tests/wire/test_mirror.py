"""scripts/mirror as a party runs it: in a process of its own, against the real server."""

import base64
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import office
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from unit.publisher.filed_site import KEY, PageFiler, digests, pages
from wire.server import RunningServer, StartServer, until
from wire.slow_link import slow_link

from config import load
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from keys.feed_segment import FeedEntry, format_segment, parse_segment
from keys.server_keys import sshsig
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed import readme
from publisher.feed.feed import Feed
from publisher.feed.published_files import PublishedFiles
from publisher.feed.sums_label import format_label, label_of
from publisher.feed.tools import Tools

ELECTION = "2023-05-14-cb-mv"
KONAK = Sheet(Secim.CB, Belge.SANDIK_SONUC, "35-izmir-2", "konak-1", "7", 1)
ANKARA = Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "06-ankara-1", None, None, 1)
ABROAD = Sheet(Secim.CB, Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME, None, None, None, 1)
SCRIPT = Path(__file__).parents[2] / "scripts" / "mirror"


@dataclass
class Party:
    """A party with the files that its client needs, and the site that it mirrors."""

    server: RunningServer
    settings: Settings
    filer: PageFiler
    folder: Path

    def file(self, box: int, belge: Belge = Belge.SANDIK_SONUC, content: str = "") -> str:
        sheet = Sheet(Secim.CB, belge, "34-istanbul-1", "kadikoy-2", str(box), 1)
        return self.filer.file(sheet, content or f"{belge} {box} " * 500)

    def feed(self) -> None:
        """Close a segment."""
        store = self.server.site / "store"
        with FeedQueries(catalog.url(self.server.site)) as filings:
            feed = Feed(
                self.settings, filings, KEY, lambda: datetime.now(UTC),
                lambda sha256: store / sha256[:2] / sha256[2:4] / sha256,
            )  # fmt: skip
            feed.begin()
            feed.tick(0)

    def command(self, *more: str, port: int = 0) -> list[str]:
        site = self.server.site
        return [
            sys.executable, str(SCRIPT), "--host", "127.0.0.1",
            "--port", str(port or self.server.port), "--user", "parti-a",
            "--key", str(site / "clients/parti-a"), "--known-hosts", str(site / "known_hosts"),
            "--signers", str(site / "allowed_signers"), "--to", str(self.folder), "--json", *more,
        ]  # fmt: skip

    def mirror(self, *more: str, port: int = 0) -> tuple[int, dict[str, Any]]:
        """Run the mirror once; return its exit code and its last line of JSON."""
        done = subprocess.run(
            self.command(*more, port=port), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout.splitlines()[-1])

    def opened(self) -> list[str]:
        return [r.event.what for r in self.server.records("open") if r.event.what.endswith(".jpg")]

    @property
    def tree(self) -> Path:
        return self.server.site / "trees" / "parti-a"


@pytest.fixture
def party(serve: StartServer, tmp_path: Path) -> Party:
    server = serve()
    settings = load.load(server.site)
    (server.site / "state").mkdir(exist_ok=True)
    signers = sshsig.allowed_signers(KEY.public_key())
    (server.site / "allowed_signers").write_text(signers)
    return Party(server, settings, PageFiler(settings), tmp_path / "mirror")


def test_a_mirror_is_complete_and_a_second_run_fetches_nothing(party: Party) -> None:
    for box in range(1, 30):
        party.file(box)
    party.feed()
    party.feed()

    code, last = party.mirror()
    assert (code, last["complete"], last["waiting"], last["files"]) == (0, 2, 0, 29)
    assert digests(party.folder, ".jpg") == digests(party.tree, ".jpg")
    page = next(iter(pages(party.tree)))
    assert (party.folder / page).stat().st_mtime == (party.tree / page).stat().st_mtime
    assert list(party.folder.rglob("*.part")) == []

    before = party.opened()
    code, last = party.mirror()
    assert (code, last["complete"], last["files"]) == (0, 2, 0)
    assert party.opened() == before


def test_a_feed_of_another_election_is_refused(party: Party) -> None:
    party.file(1)
    party.feed()

    code, last = party.mirror("--election", "2018-06-24-cb-mv")

    assert (code, last["error"]) == (
        1,
        f"VERIFICATION FAILED: akis/00000001.csv: belongs to the election {ELECTION}, not to "
        "2018-06-24-cb-mv",
    )
    assert pages(party.folder) == set()
    assert party.mirror("--election", ELECTION)[0] == 0


def test_signed_sums_of_another_board_are_refused(party: Party) -> None:
    party.file(1)
    party.filer.file(KONAK, "konak")
    party.feed()
    mine, other = (
        party.tree / ELECTION / place for place in ("34-istanbul-1/kadikoy-2", "35-izmir-2/konak-1")
    )
    files = {mine / name: (other / name).read_bytes() for name in ("SHA256SUMS", "SHA256SUMS.sig")}
    put(files)

    code, last = party.mirror()

    assert (code, last["unsummed"]) == (0, 1)
    assert not (party.folder / ELECTION / "34-istanbul-1/kadikoy-2/SHA256SUMS").exists()
    # A copy that another client has made is refused by the commands of the readme.
    (party.tree / "allowed_signers").write_text(sshsig.allowed_signers(KEY.public_key()))
    command = readme.commands(ELECTION)[1]
    done = subprocess.run(["bash", "-c", command], cwd=party.tree, capture_output=True, check=False)
    assert done.returncode != 0


def whole(folder: Path) -> dict[str, bytes]:
    """Return every file of a tree or a mirror, except those that only one of them has."""
    own = ("akis/son.txt", ".mirror.json", ".mirror.lock")
    return {path: content for path, content in office.listing(folder).items() if path not in own}


def test_a_mirror_has_every_file_and_verifies_with_the_commands_of_the_readme(party: Party) -> None:
    for sheet in (KONAK, ANKARA, ABROAD):
        party.filer.file(sheet, str(sheet))
    party.file(1)
    party.feed()

    code, last = party.mirror()

    assert (code, last["files"], last["unsummed"]) == (0, 4, 0)
    assert whole(party.folder) == whole(party.tree)
    assert {"BENIOKU.txt", f"{ELECTION}/SHA256SUMS.sig"} <= whole(party.folder).keys()
    shutil.copy(party.server.site / "allowed_signers", party.folder)
    for command in readme.COMMANDS:
        line = ["bash", "-c", command.format(election=ELECTION)]
        done = subprocess.run(line, cwd=party.folder, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b""), line


def test_only_changed_sums_and_readme_are_fetched_again(party: Party) -> None:
    def fetched() -> list[str]:
        """Run the mirror, and return which sums and readme it fetched."""
        before = len(party.server.records("open"))
        assert party.mirror()[0] == 0
        assert whole(party.folder) == whole(party.tree)
        opened = (record.event.what.lstrip("/") for record in party.server.records("open")[before:])
        root, board = f"{ELECTION}/SHA256SUMS", f"{ELECTION}/34-istanbul-1/kadikoy-2/SHA256SUMS"
        short = {root: "root", board: "board", "BENIOKU.txt": "readme"}
        return sorted(short[path] for path in opened if path in short)

    party.file(1)
    party.filer.file(KONAK, "konak")
    party.feed()
    assert fetched() == ["board", "readme", "root"]
    assert fetched() == ["root"]
    party.filer.file(replace(KONAK, page=2), "konak again")
    party.feed()
    assert fetched() == ["root"]
    party.file(2)
    party.feed()
    assert fetched() == ["board", "root"]
    (party.tree / "BENIOKU.txt").unlink()
    (party.tree / "BENIOKU.txt").write_text("other terms")
    assert fetched() == ["readme", "root"]
    (party.folder / ELECTION / "34-istanbul-1/kadikoy-2/SHA256SUMS").unlink()
    assert fetched() == ["board", "root"]


def show_tools(party: Party, client: bytes) -> None:
    """Show the tools in the party's tree, as the publisher does."""
    settings = party.settings
    files = PublishedFiles(settings.site)
    tools = Tools(settings, files, lambda content: sshsig.sign(KEY, content), client)
    tools.show(settings.parties, 1684080000)


def test_the_tools_are_mirrored_and_verified_and_fetched_again_only_if_they_change(
    party: Party,
) -> None:
    def fetched() -> list[str]:
        before = len(party.server.records("open"))
        assert party.mirror()[0] == 0
        assert whole(party.folder) == whole(party.tree)
        opened = (record.event.what for record in party.server.records("open")[before:])
        return sorted(path for path in opened if path.startswith("/araclar/mirror"))

    party.file(1)
    show_tools(party, b"client 1")
    party.feed()

    assert fetched() == ["/araclar/mirror.py", "/araclar/mirror.py.sig"]
    assert fetched() == []
    show_tools(party, b"client 2")
    assert fetched() == ["/araclar/mirror.py", "/araclar/mirror.py.sig"]
    assert (party.folder / "araclar/mirror.py").read_bytes() == b"client 2"


def test_a_tool_with_a_wrong_signature_is_not_kept(party: Party) -> None:
    party.file(1)
    show_tools(party, b"client 1")
    party.feed()
    assert party.mirror()[0] == 0
    show_tools(party, b"client 2")
    other = Ed25519PrivateKey.generate()
    for name in ("SHA256SUMS.sig", "mirror.py.sig"):
        (party.tree / "araclar" / name).unlink()
        (party.tree / "araclar" / name).write_bytes(sshsig.sign(other, b"client 2"))

    code, last = party.mirror()

    assert code == 1
    assert "araclar/SHA256SUMS" in last["error"]
    assert (party.folder / "araclar/mirror.py").read_bytes() == b"client 1"


def sums_of_tree(party: Party) -> dict[Path, bytes]:
    """Return the sums of the tree; `put` can restore them."""
    return {path: path.read_bytes() for path in party.tree.rglob("SHA256SUMS*")}


def put(files: dict[Path, bytes]) -> None:
    for path, content in files.items():
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def test_sums_behind_the_feed_are_fetched_again_later(party: Party) -> None:
    party.file(1)
    party.feed()
    old = sums_of_tree(party)
    party.file(2)
    party.feed()
    new = sums_of_tree(party)
    put(old)

    code, last = party.mirror()
    assert (code, last["complete"], last["files"], last["unsummed"]) == (0, 2, 2, 1)
    put(new)
    code, last = party.mirror()
    assert (code, last["files"], last["unsummed"]) == (0, 0, 0)
    assert whole(party.folder) == whole(party.tree)


def test_sums_ahead_of_the_feed_are_accepted_and_compared_with_it_later(
    party: Party,
) -> None:
    path = party.file(1)
    party.feed()
    content = (party.tree / path).read_bytes()
    ahead = f"{ELECTION}/34-istanbul-1/kadikoy-2"
    name = "sandik-2/cb-sandik-sonuc-s1.jpg"
    true, false = (
        f"{hashlib.sha256(page).hexdigest()}  {name}\n" for page in (b"page two", b"other")
    )
    first = (party.tree / ahead / "SHA256SUMS").read_text()
    resum(party, ahead, first + true)

    assert party.mirror()[0] == 0
    assert (party.folder / ahead / "SHA256SUMS").read_text() == first + true
    party.file(2, content="page two")
    party.feed()
    code, last = party.mirror()
    assert (code, last["files"], last["unsummed"]) == (0, 1, 0)
    assert (party.folder / path).read_bytes() == content

    resum(party, ahead, first + false)
    code, last = party.mirror()
    assert (code, last["error"]) == (
        1,
        f"VERIFICATION FAILED: {ahead}/SHA256SUMS: has another SHA-256 for {ahead}/{name} than the "
        "feed or earlier sums",
    )
    assert (party.folder / ahead / "SHA256SUMS").read_text() == first + true


def resum(party: Party, folder: str, content: str, key: Ed25519PrivateKey = KEY) -> None:
    """Replace the sums of a board and the root, with valid signatures."""
    root = "".join(
        line.replace(line[:64], hashlib.sha256(content.encode()).hexdigest())
        if f"{ELECTION}/{line[66:]}".startswith(f"{folder}/")
        else line
        for line in (party.tree / ELECTION / "SHA256SUMS").read_text().splitlines(keepends=True)
    )
    for place, text in ((folder, content), (ELECTION, root)):
        file = party.tree / place / "SHA256SUMS"
        label = format_label(label_of(f"{place}/SHA256SUMS", 1684072800, 1000, text.encode()))
        for path, made in ((file, text.encode()), (Path(f"{file}.kunye"), label)):
            signature = sshsig.sign(key if place == folder else KEY, made)
            put({path: made, Path(f"{path}.sig"): signature})


def test_sums_signed_by_another_key_fail_and_are_not_saved(party: Party) -> None:
    party.file(1)
    party.feed()
    board = f"{ELECTION}/34-istanbul-1/kadikoy-2"
    content = (party.tree / board / "SHA256SUMS").read_text()
    other = Ed25519PrivateKey.generate()
    resum(party, board, content, other)

    code, last = party.mirror()

    assert (code, last["error"]) == (
        1,
        f"VERIFICATION FAILED: {board}/SHA256SUMS: "
        "its signature is not by a key in allowed_signers",
    )  # fmt: skip
    assert not (party.folder / board / "SHA256SUMS").exists()


def test_result_sheets_are_fetched_first_and_counting_sheets_last(party: Party) -> None:
    for belge in (Belge.SAYIM_DOKUM_CETVELI, Belge.SANDIK_SONUC):
        for box in range(1, 6):
            party.file(box, belge)
        party.feed()

    assert party.mirror("--parallel", "1")[0] == 0

    kinds = ["sandik-sonuc" in path for path in party.opened()]
    assert kinds == [True] * 5 + [False] * 5


def test_an_interrupted_transfer_continues(party: Party) -> None:
    content = "a large page " * 100_000
    path = party.file(1, content=content)
    party.feed()
    part = party.folder / f"{path}.part"
    part.parent.mkdir(parents=True)
    part.write_text(content[:1_000_000])

    code, last = party.mirror()

    assert (code, last["files"]) == (0, 1)
    assert last["bytes"] == 1_300_000 - 1_000_000 + 65_536
    assert (party.folder / path).read_text() == content


def test_a_wrong_partial_file_is_fetched_again_completely(party: Party) -> None:
    path = party.file(1, content="a page " * 50_000)
    party.feed()
    part = party.folder / f"{path}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(300_000))

    assert party.mirror()[0] == 0
    assert (party.folder / path).read_text() == "a page " * 50_000


def change(party: Party, path: str, old: bytes, new: bytes) -> None:
    file = party.tree / path
    content = file.read_bytes()
    assert old in content
    file.unlink()
    file.write_bytes(content.replace(old, new))


FAILURES: dict[str, tuple[Callable[[Party], object], str]] = {
    "a segment was changed": (
        lambda party: change(party, "akis/00000002.csv", b"sandik-2", b"sandik-9"),
        "akis/00000002.csv: its signature is not by a key in allowed_signers",
    ),
    "a signature file is not a signature": (
        lambda party: change(party, "akis/00000002.csv.sig", b"BEGIN", b"BEGUN"),
        "akis/00000002.csv: its signature is not valid: not an SSH signature",
    ),
    "a segment is missing": (
        lambda party: (party.tree / "akis/00000002.csv").unlink(),
        "akis/00000002.csv is missing, although akis/son.txt names it or a later one",
    ),
    "a segment is a copy of another one": (
        lambda party: [
            Path(shutil.copy(party.tree / f"akis/00000001.csv{end}", party.folder / "x")).replace(
                party.tree / f"akis/00000002.csv{end}"
            )
            for end in ("", ".sig")
        ],
        "akis/00000002.csv: has the number 1 inside",
    ),
    "the feed goes back": (
        lambda party: change(party, "akis/son.txt", b"00000003", b"00000000"),
        "akis/son.txt names segment 0, but segment 1 was already fetched",
    ),
    "a page was changed": (
        lambda party: change(party, str(page(party, 2)), b"sandik", b"kanidS"),
        "its SHA-256 is not the one that akis/00000002.csv lists",
    ),
    "a page is missing": (
        lambda party: (party.tree / page(party, 2)).unlink(),
        "is missing, although akis/00000002.csv lists it",
    ),
}


def resigned(party: Party, number: int, key: Ed25519PrivateKey = KEY, **other: object) -> None:
    """Replace a segment by a changed one with a valid signature."""
    file = party.tree / f"akis/{number:08}.csv"
    content = format_segment(replace(parse_segment(file.read_bytes()), **other))  # type: ignore[arg-type]
    for path, new in ((file, content), (Path(f"{file}.sig"), sshsig.sign(key, content))):
        path.unlink()
        path.write_bytes(new)


def rerooted(party: Party, name: str) -> None:
    """Add a line to the root, with a valid signature."""
    file = party.tree / ELECTION / "SHA256SUMS"
    content = file.read_bytes() + f"{'0' * 64}  {name}\n".encode()
    put({file: content, Path(f"{file}.sig"): sshsig.sign(KEY, content)})


def climbing(path: str) -> tuple[FeedEntry, ...]:
    return (FeedEntry(path, 4, "0" * 64, 1684072800, "sandik-sonuc", 1),)


def lists(party: Party, path: str) -> None:
    resigned(party, 2, entries=climbing(path))


FAILURES |= {
    "a segment is signed by another key": (
        lambda party: resigned(party, 2, Ed25519PrivateKey.generate()),
        "akis/00000002.csv: its signature is not by a key in allowed_signers",
    ),
    "a segment names another segment as the one before it": (
        lambda party: resigned(party, 2, previous="f" * 64),
        "akis/00000002.csv: does not follow the segment before it: the chain is broken",
    ),
    "a segment has another value for supersedes": (
        lambda party: change(party, "akis/00000002.csv", b"sonuc,1,", b"sonuc,1,x.jpg"),
        "akis/00000002.csv: its signature is not by a key in allowed_signers",
    ),
    "the root names a path outside of the tree": (
        lambda party: rerooted(party, "../x/SHA256SUMS"),
        f"{ELECTION}/SHA256SUMS: names '{ELECTION}/../x/SHA256SUMS'",
    ),
    "a segment has an election outside of the tree": (
        lambda party: resigned(party, 2, election="../x"),
        "akis/00000002.csv: is not a valid segment: not an election: '../x'",
    ),
    "a page is shorter than listed": (
        lambda party: resigned(party, 3, entries=longer(party)),
        "is shorter than akis/00000003.csv lists",
    ),
    **{
        f"a segment lists {path}": (
            partial(lists, path=path),
            "akis/00000002.csv: is not a valid segment: not an entry",
        )
        for path in ("../x.jpg", "a/../../x.jpg", "/tmp/x.jpg", "a/.mirror.json", "a\\x.jpg")
    },
}


def longer(party: Party) -> tuple[FeedEntry, ...]:
    segment = parse_segment((party.tree / "akis/00000003.csv").read_bytes())
    return tuple(replace(entry, size=entry.size + 100_000) for entry in segment.entries)


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[:-100])


def page(party: Party, box: int) -> str:
    return next(path for path in pages(party.tree) if f"sandik-{box}/" in path)


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_verification_is_reported_and_ends_the_mirror(party: Party, name: str) -> None:
    party.file(1)
    party.feed()
    assert party.mirror()[0] == 0
    for box in (2, 3):
        party.file(box)
        party.feed()
    damage, message = FAILURES[name]
    damage(party)
    beside = set(party.folder.parent.rglob("*"))

    code, last = party.mirror()

    assert code == 1
    assert str(last["error"]).startswith("VERIFICATION FAILED: ")
    assert message in str(last["error"])
    new = set(party.folder.parent.rglob("*")) - beside
    assert all(path.is_relative_to(party.folder) or "site" in path.parts for path in new)


def test_an_existing_file_that_differs_is_reported_and_not_overwritten(party: Party) -> None:
    path = party.file(1)
    party.feed()
    mine = party.folder / path
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")

    code, last = party.mirror()

    assert code == 1
    assert "the file in DIR is not the one that akis/00000001.csv lists" in str(last["error"])
    assert mine.read_text() == "mine"


def test_files_deleted_or_truncated_in_the_mirror_are_noticed(
    party: Party,
) -> None:
    paths = [party.file(box) for box in (1, 2, 3, 4)]
    party.feed()
    assert party.mirror()[0] == 0
    gone, short, changed = (party.folder / path for path in paths[:3])
    gone.unlink()

    code, last = party.mirror()
    assert (code, last["files"], last["complete"]) == (0, 1, 1)
    assert digests(party.folder, ".jpg") == digests(party.tree, ".jpg")

    cut(short)
    code, last = party.mirror()
    assert code == 1
    assert "move it away, and it is fetched again" in str(last["error"])
    short.unlink()
    content = changed.read_bytes()
    changed.write_bytes(bytes(len(content)))
    assert party.mirror()[0] == 0

    code, last = party.mirror("--recheck")
    assert (code, str(last["error"])[: 21 + len(paths[2])]) == (
        1,
        f"VERIFICATION FAILED: {paths[2]}",
    )
    changed.unlink()
    assert party.mirror("--recheck")[0] == 0
    assert digests(party.folder, ".jpg") == digests(party.tree, ".jpg")


def test_an_empty_state_file_causes_no_transfer(
    party: Party,
) -> None:
    party.file(1)
    party.feed()
    assert party.mirror()[0] == 0
    (party.folder / ".mirror.json").write_text("")

    code, last = party.mirror()

    assert (code, last["complete"], last["bytes"]) == (0, 1, 0)


def test_a_killed_mirror_continues_its_partial_files(party: Party) -> None:
    paths = [party.file(box, content=f"a large page {box} " * 100_000) for box in (1, 2)]
    party.feed()
    sizes = [(party.tree / path).stat().st_size for path in paths]
    with slow_link(party.server.port, 50.0, 0.01) as link:
        known = party.server.site / "known_hosts"
        text = known.read_text()
        known.write_text(text.replace(f"]:{party.server.port}", f"]:{link.listen_port}"))
        process = subprocess.Popen(
            party.command(port=link.listen_port),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        parts = [party.folder / f"{path}.part" for path in paths]
        until(lambda: all(p.exists() and p.stat().st_size > 500_000 for p in parts), 30)
        process.kill()
        process.wait()
        had = sum(part.stat().st_size for part in parts)
        known.write_text(text)

    code, last = party.mirror()

    assert (code, last["files"]) == (0, 2)
    assert last["bytes"] == sum(sizes) - had + 2 * 65_536
    assert digests(party.folder, ".jpg") == digests(party.tree, ".jpg")


def test_a_full_disk_has_its_own_exit_code_and_the_next_run_continues(party: Party) -> None:
    path = party.file(1, content="a large page " * 100_000)
    party.feed()

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    done = subprocess.run(
        party.command(), capture_output=True, text=True, timeout=60, check=False, preexec_fn=full
    )

    assert done.returncode == 4, done.stdout
    assert "cannot write: " in json.loads(done.stdout.splitlines()[-1])["error"]
    code, last = party.mirror()
    assert (code, last["files"]) == (0, 1)
    assert last["bytes"] < 1_300_000
    assert (party.folder / path).read_text() == "a large page " * 100_000


def test_a_second_mirror_on_the_same_folder_is_refused(party: Party) -> None:
    party.file(1)
    party.feed()
    first = subprocess.Popen(party.command("--follow"), stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: len(pages(party.folder)) == 1)

        code, last = party.mirror()

        assert (code, "another mirror is using this folder" in str(last["error"])) == (2, True)
    finally:
        first.kill()
        first.communicate()
    assert party.mirror()[0] == 0


def test_another_host_key_fails_verification(party: Party, serve: StartServer) -> None:
    party.file(1)
    party.feed()
    other = serve(name="other")
    name, _, rest = (other.site / "known_hosts").read_text().partition(" ")
    ours = (party.server.site / "known_hosts").read_text().partition(" ")[2]
    assert rest != ours
    hosts = party.server.site / "swapped"
    hosts.write_text(f"{name} {ours}")

    code, last = party.mirror("--known-hosts", str(hosts), port=other.port)

    assert code == 1
    assert "the server's host key is not the one in" in str(last["error"])


def test_a_host_that_is_not_in_known_hosts_ends_the_mirror_at_once(party: Party) -> None:
    hosts = party.server.site / "empty"
    hosts.write_text("")
    kind, key = (party.server.site / "known_hosts").read_text().split()[1:3]
    fingerprint = base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest()).decode()

    code, last = party.mirror("--known-hosts", str(hosts))

    error = str(last["error"])
    assert code == 2
    assert f"has no key for [127.0.0.1]:{party.server.port}. Add the line from your letter" in error
    assert f"[127.0.0.1]:{party.server.port} {kind} " in error
    assert f"SHA256:{fingerprint.rstrip('=')}" in error
    assert party.server.records("login") == []


def test_files_do_not_wait_for_round_trips_to_each_other(party: Party) -> None:
    for box in range(1, 61):
        party.file(box)
    party.feed()
    with slow_link(party.server.port, 100.0, 0.4) as link:
        name = f"[127.0.0.1]:{party.server.port}"
        hosts = party.server.site / "known_hosts"
        hosts.write_text(hosts.read_text().replace(name, f"[127.0.0.1]:{link.listen_port}"))
        began = time.monotonic()

        code, last = party.mirror(port=link.listen_port)

        took = time.monotonic() - began
    assert (code, last["files"], link.connections) == (0, 60, 1)
    # One after the other needs 60 files x 2 round trips = 48 s; four at once, 12 s and the rest.
    assert took < 40


def test_follow_mirrors_new_pages_until_sigterm(party: Party) -> None:
    party.file(1)
    party.feed()
    process = subprocess.Popen(
        party.command("--follow", "--poll", "0.2"), stdout=subprocess.PIPE, text=True
    )
    try:
        until(lambda: len(pages(party.folder)) == 1)
        party.file(2)
        party.feed()
        until(lambda: len(pages(party.folder)) == 2)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    last = json.loads(out.splitlines()[-1])
    assert (last["complete"], last["waiting"]) == (2, 0)
    assert last["lag_seconds"] < 30


def test_a_tree_without_a_feed_is_not_complete(party: Party) -> None:
    party.file(1)

    code, last = party.mirror()

    assert (code, last) == (3, {"error": "the server has no feed yet: nothing was fetched"})
    assert pages(party.folder) == set()


def test_a_refused_login_and_wrong_usage_end_the_mirror_at_once(party: Party) -> None:
    key = party.server.site / "clients/stranger"
    listed = subprocess.run(
        ["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True
    ).stdout

    code, last = party.mirror("--key", str(key), "--follow")
    wrong = subprocess.run(
        party.command("--parallel", "65"), capture_output=True, text=True, check=False
    )

    error = str(last["error"])
    assert (code, error[:13]) == (2, "login refused")
    assert "Kullanici adi       parti-a     (--user)" in error
    assert f"    {listed.split()[1]}  anahtar     (--key {key})" in error
    assert wrong.returncode == 2


def test_a_party_that_may_not_come_in_now_is_told_why_and_tries_again(party: Party) -> None:
    party.file(1)
    party.feed()
    party.server.edit("site.toml", "max_sessions_per_party = 32", "max_sessions_per_party = 1")
    party.server.reload()
    with party.server.connect("parti-a"):
        code, last = party.mirror("--retries", "0")
        following = subprocess.Popen(
            party.command("--follow"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert following.stdout is not None
        first = following.stdout.readline()
    try:
        until(lambda: pages(party.folder))
    finally:
        following.terminate()
        following.communicate(timeout=20)
    party.server.edit("parties.toml", 'scope = "all"', 'scope = "all"\nsuspended = true')
    party.server.reload()
    suspended = party.mirror("--retries", "0")

    assert code == 3
    for said in (str(last["error"]), first):
        assert "connection lost: the server says: Too many sessions of your party" in said
    assert suspended[0] == 3
    assert "the server says: Your party's access is suspended" in str(suspended[1]["error"])


def test_a_key_file_that_does_not_exist_ends_the_mirror(party: Party, tmp_path: Path) -> None:
    missing = subprocess.run(
        party.command("--key", str(tmp_path / "none")), capture_output=True, text=True, check=False
    )

    assert missing.returncode == 2
    assert f"{tmp_path / 'none'}: No such file or directory" in missing.stderr


def test_over_a_slow_link_that_breaks_no_file_is_fetched_twice(
    party: Party,
) -> None:
    for belge in (Belge.SAYIM_DOKUM_CETVELI, Belge.SANDIK_SONUC):
        for box in (1, 2):
            party.file(box, belge, f"{belge} {box} " * 8_000)
    party.feed()
    sizes = sum(path.stat().st_size for path in party.tree.rglob("*.jpg"))
    # The server accepts one address of the party, and the link connects from the same one.
    with slow_link(party.server.port, 5.0, 0.05, 150_000, 220_000) as link:
        name = f"[127.0.0.1]:{party.server.port}"
        hosts = party.server.site / "known_hosts"
        hosts.write_text(hosts.read_text().replace(name, f"[127.0.0.1]:{link.listen_port}"))

        code, last = party.mirror("--parallel", "2", port=link.listen_port)

    assert (code, last["waiting"], last["files"]) == (0, 0, 4)
    assert digests(party.folder, ".jpg") == digests(party.tree, ".jpg")
    assert link.connections == 3
    assert link.bytes_to_client < sizes + 2 * 2 * 65_536 + 100_000
    first = [path for path in party.opened() if "sayim" in path]
    assert party.opened().index(first[0]) >= 2


def test_a_complete_mirror_of_a_server_that_stopped_does_not_exit_with_0(party: Party) -> None:
    party.file(1)
    party.feed()

    assert party.mirror()[0] == 0
    threading.Event().wait(2.0)
    code, last = party.mirror("--max-age", "1")

    assert code == 5
    assert last["error"].startswith("OLD: what is here was complete at ")
    assert digests(party.folder, ".jpg") == digests(party.tree, ".jpg")
    assert party.mirror("--max-age", "0")[0] == 0
