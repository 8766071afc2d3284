"""What scripts/mirror does about things that come at the wrong moment; tests/wire has the rest."""

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
from unit.publisher.feeding import KEY, NOON, Filer

from config import load
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from publisher import catalog
from publisher.feed import Feed
from publisher.filings import Filings


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
class Night:
    """A site of one party that files and closes segments when it is told to."""

    settings: Settings
    filer: Filer

    def file(self, *boxes: str) -> None:
        """File the result sheets of these boxes, each of a board of its own, and list them."""
        for box in boxes:
            sheet = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", f"k-{box}", box, 1)
            self.filer.file(sheet, f"page of {box}")
        store = self.settings.site / "store"
        with Filings(catalog.url(self.settings.site)) as filings:
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
def night(tmp_path: Path) -> Night:
    site = office.site(tmp_path / "site")
    (site / "state").mkdir()
    settings = load.load(site)
    return Night(settings, Filer(settings))


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
    mirror: Any, night: Night
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
    mirror: Any, night: Night
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
    mirror: Any, night: Night
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
