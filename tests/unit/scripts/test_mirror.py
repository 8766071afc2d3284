"""What scripts/mirror does about things that come at the wrong moment; tests/wire has the rest."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from io import FileIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import office
import pytest
from unit.publisher.filed_site import KEY, NOON, PageFiler

from config import load
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from publisher.catalog import catalog
from publisher.catalog.feed_queries import FeedQueries
from publisher.feed.feed import Feed


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, which has no module's name."""
    path = str(Path(__file__).parents[3] / "scripts" / "mirror")
    spec = spec_from_loader("mirror", SourceFileLoader("mirror", path))
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@dataclass
class Served:
    """A party's tree as paramiko shows it; `meanwhile` is called with each path that is opened."""

    tree: Path
    opened: list[str] = field(default_factory=list)
    meanwhile: Callable[[str], object] = lambda path: None

    def open_sftp(self) -> "Served":
        return self

    @property
    def sock(self) -> Any:
        return SimpleNamespace(settimeout=lambda seconds: None)

    def stat(self, path: str) -> os.stat_result:
        return (self.tree / path.lstrip("/")).stat()

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        self.opened.append(path.lstrip("/"))
        self.meanwhile(path.lstrip("/"))
        with FileIO(self.tree / path.lstrip("/")) as file:

            def readv(wanted: list[tuple[int, int]]) -> Iterator[bytes]:
                return (os.pread(file.fileno(), size, at) for at, size in wanted)

            stat = os.fstat(file.fileno())
            yield SimpleNamespace(read=file.read, readv=readv, stat=lambda: stat)


@dataclass
class RunningSite:
    """A site of one party that files and closes segments when it is told to."""

    settings: Settings
    filer: PageFiler

    def file(self, *boxes: str) -> None:
        """File the result sheets of these boxes, each of a board of its own, and list them."""
        for box in boxes:
            sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", f"k-{box}", box, 1)
            self.filer.file(sheet, f"page of {box}")
        store = self.settings.site / "store"
        with FeedQueries(catalog.url(self.settings.site)) as filings:
            feed = Feed(
                self.settings, filings, KEY, lambda: datetime.fromtimestamp(NOON, UTC),
                lambda sha256: store / sha256[:2] / sha256[2:4] / sha256,
            )  # fmt: skip
            feed.begin()
            feed.tick(0)

    @property
    def tree(self) -> Path:
        return self.settings.site / "trees" / "parti-a"


@pytest.fixture
def night(tmp_path: Path) -> RunningSite:
    site = office.site(tmp_path / "site")
    (site / "state").mkdir()
    settings = load.load(site)
    return RunningSite(settings, PageFiler(settings))


@pytest.fixture
def mirror(script: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """A mirror of one session that has an empty folder."""
    made = script.Mirror(tmp_path / "mirror", [KEY.public_key()], None, 1, lambda **said: None)
    made.take_up(recheck=False)
    yield made
    made.held.close()


def whole(folder: Path) -> dict[str, bytes]:
    own = ("akis/son.txt", ".mirror.json", ".mirror.lock")
    return {path: content for path, content in office.listing(folder).items() if path not in own}


def test_pages_that_come_while_sums_are_fetched_go_before_them_and_the_rest_follows(
    mirror: Any, night: RunningSite
) -> None:
    night.file("1", "2", "3")
    served = Served(night.tree)

    def late(path: str) -> None:
        if path.endswith("/SHA256SUMS") and path.count("/") == 3:
            served.meanwhile = lambda path: None
            night.file("4")
            while not mirror.waiting:
                threading.Event().wait(0.01)

    served.meanwhile = late
    mirror.round(served, threading.Event(), 0.0)

    kinds = [path.rpartition("/")[2] for path in served.opened if path.count("/") >= 3]
    page = "cb-sandik-sonuc-s1.jpg"
    assert kinds == [page] * 3 + ["SHA256SUMS.sig", "SHA256SUMS"] + [page] + [
        "SHA256SUMS.sig", "SHA256SUMS",
    ] * 3  # fmt: skip
    assert (mirror.complete, mirror.unsummed) == (2, {})
    assert whole(mirror.folder) == whole(night.tree)


def test_sums_that_never_fit_their_root_are_taken_twice_and_no_more(
    mirror: Any, night: RunningSite
) -> None:
    night.file("1", "2")
    roots = {path: path.read_bytes() for path in night.tree.glob("*/SHA256SUMS*")}
    night.filer.file(Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "k-1", "1", 1), "more")
    night.file()
    for path, content in roots.items():
        path.unlink()
        path.write_bytes(content)
    served = Served(night.tree)

    mirror.round(served, threading.Event(), 0.0)

    boards = [path.split("/")[2] for path in served.opened if path.endswith("k-1/SHA256SUMS")]
    assert boards == ["k-1", "k-1"]
    assert mirror.unsummed == {}
    assert whole(mirror.folder) == whole(night.tree)


def test_what_could_not_be_fetched_is_wanted_still_and_in_the_same_order(
    mirror: Any, night: RunningSite
) -> None:
    night.file("1", "2", "3")
    served = Served(night.tree)

    def broken_off(path: str) -> None:
        if "sandik-2" in path:
            served.meanwhile = lambda path: None
            raise EOFError

    served.meanwhile = broken_off
    with pytest.raises(EOFError):
        mirror.round(served, threading.Event(), 0.0)
    assert (mirror.waiting, mirror.files) == (2, 1)
    mirror.round(served, threading.Event(), 0.0)

    pages = [path.split("/")[3] for path in served.opened if path.endswith(".jpg")]
    assert pages == ["sandik-1", "sandik-2", "sandik-2", "sandik-3"]
    assert (mirror.waiting, mirror.files, mirror.complete) == (0, 3, 1)


BOARDS = "2023-05-14-cb-mv/34-istanbul-1"


def sums(folder: Path) -> dict[str, bytes]:
    return {path: content for path, content in office.listing(folder).items() if "SHA256" in path}


def put(tree: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (tree / path).unlink()
        (tree / path).write_bytes(content)


def again(script: ModuleType, mirror: Any, tree: Path) -> Any:
    """Another run over the same folder, to its end."""
    mirror.held.close()
    made = script.Mirror(mirror.folder, mirror.keys, None, 1, lambda **said: None)
    made.take_up(recheck=False)
    made.held.close()
    made.round(Served(tree), threading.Event(), 0.0)
    return made


def outdated(mirror: Any, night: RunningSite) -> dict[str, bytes]:
    """Have a board's sums mirrored that name a page more than those returned."""
    night.file("1")
    old = sums(night.tree)
    night.filer.file(Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "k-1", "1", 1), "more")
    night.file()
    mirror.round(Served(night.tree), threading.Event(), 0.0)
    return old


def test_older_sums_take_the_place_of_none_and_no_run_takes_them_for_all(
    script: ModuleType, mirror: Any, night: RunningSite
) -> None:
    old = outdated(mirror, night)
    new = sums(night.tree)
    assert sums(mirror.folder) == new
    put(night.tree, old)

    for _ in range(2):
        run = again(script, mirror, night.tree)
        assert sums(mirror.folder) == new
        assert list(run.unsummed) == [f"{BOARDS}/k-1"]

    put(night.tree, new)
    assert again(script, mirror, night.tree).unsummed == {}


def test_a_root_that_no_longer_names_a_folder_takes_the_place_of_none(
    script: ModuleType, mirror: Any, night: RunningSite
) -> None:
    night.file("1")
    old = {path: content for path, content in sums(night.tree).items() if path.count("/") == 1}
    night.file("2")
    mirror.round(Served(night.tree), threading.Event(), 0.0)
    new = sums(night.tree)
    put(night.tree, old)

    run = again(script, mirror, night.tree)

    assert sums(mirror.folder) == new
    assert list(run.unsummed) == [f"{BOARDS}/k-2"]


def test_signed_sums_of_another_board_are_not_kept_as_those_of_this_one(
    mirror: Any, night: RunningSite
) -> None:
    night.file("1", "2")
    true = sums(night.tree)
    others = {
        f"{BOARDS}/k-1/{name}": true[f"{BOARDS}/k-2/{name}"]
        for name in ("SHA256SUMS", "SHA256SUMS.sig")
    }
    put(night.tree, others)

    mirror.round(Served(night.tree), threading.Event(), 0.0)

    kept = sums(mirror.folder)
    assert sorted(kept) == [f"{BOARDS}/k-2/SHA256SUMS", f"{BOARDS}/k-2/SHA256SUMS.sig"]
    assert list(mirror.unsummed) == [f"{BOARDS}/k-1"]
    put(night.tree, {path: true[path] for path in others})
    mirror.summed_at = float("-inf")
    mirror.round(Served(night.tree), threading.Event(), 0.0)
    assert (sums(mirror.folder), mirror.unsummed) == (true, {})


def test_sums_of_which_only_the_signature_came_are_taken_for_lost(
    script: ModuleType, mirror: Any, night: RunningSite
) -> None:
    old = outdated(mirror, night)
    signature = f"{BOARDS}/k-1/SHA256SUMS.sig"
    put(mirror.folder, {signature: old[signature]})
    put(night.tree, old)

    run = again(script, mirror, night.tree)

    assert list(run.unsummed) == [f"{BOARDS}/k-1"]


def follows(script: ModuleType, mirror: Any, served: Served, stop: threading.Event) -> int:
    mirror.held.close()
    served.close = lambda: None  # type: ignore[attr-defined]
    mirror.connect = lambda: served
    options = SimpleNamespace(recheck=False, once=True, follow=False, poll=10.0, retries=0)
    code: int = script.follow(mirror, options, stop)
    return code


def test_a_run_that_is_stopped_before_all_is_here_does_not_say_that_it_is(
    script: ModuleType, mirror: Any, night: RunningSite
) -> None:
    night.file("1", "2", "3")
    stop = threading.Event()

    def told(path: str) -> None:
        if path.endswith(".jpg"):
            stop.set()

    served = Served(night.tree, meanwhile=told)

    assert follows(script, mirror, served, stop) == 3
    assert (mirror.files, mirror.waiting) == (1, 2)


def test_a_server_that_speaks_no_sftp_is_not_taken_for_a_break(
    script: ModuleType, mirror: Any, night: RunningSite
) -> None:
    def garbled(path: str) -> None:
        raise script.paramiko.SFTPError("Expected handle")

    served = Served(night.tree, meanwhile=garbled)

    assert follows(script, mirror, served, threading.Event()) == 3


def test_a_look_that_fails_waits_for_the_pages_that_are_under_way(
    mirror: Any, night: RunningSite
) -> None:
    night.file("1", "2", "3")
    under_way, failed = threading.Event(), threading.Event()

    def both(path: str) -> None:
        if path.endswith(".jpg"):
            under_way.set()
            failed.wait(10)
        elif under_way.is_set():
            failed.set()
            raise EOFError

    with pytest.raises(EOFError):
        mirror.round(Served(night.tree, meanwhile=both), threading.Event(), 0.0)

    assert threading.active_count() == 1
    assert (mirror.files, mirror.waiting) == (1, 2)


def test_a_disk_that_fails_is_not_taken_for_a_lost_connection(
    script: ModuleType, mirror: Any, night: RunningSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.file("1")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    served = Served(night.tree, meanwhile=lambda _: monkeypatch.setattr(os, "fsync", broken))

    assert follows(script, mirror, served, threading.Event()) == 4
