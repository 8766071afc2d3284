"""scripts/mirror when files change at the wrong moment; see also tests/wire/test_mirror."""

import errno
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from io import FileIO
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType, SimpleNamespace
from typing import Any

import office
import pytest
from unit.publisher.filed_site import KEY, NOON, PageFiler

from config import load
from config.settings import Settings
from config.sheet import Belge, Secim, Sheet
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed.feed import Feed

SCRIPT = Path(__file__).parents[3] / "scripts" / "mirror"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """Loads the script, whose name cannot be imported."""
    path = str(SCRIPT)
    spec = spec_from_loader("mirror", SourceFileLoader("mirror", path))
    assert spec is not None
    assert spec.loader is not None
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@dataclass
class Served:
    """A party's tree behind the mirror's session; calls `meanwhile` with each opened path."""

    tree: Path
    opened: list[str] = field(default_factory=list)
    meanwhile: Callable[[str], object] = lambda path: None

    def close(self) -> None:
        pass

    def stat(self, path: str) -> tuple[int, int]:
        found = (self.tree / path.lstrip("/")).stat()
        return found.st_size, int(found.st_mtime)

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        self.opened.append(path.lstrip("/"))
        self.meanwhile(path.lstrip("/"))
        with FileIO(self.tree / path.lstrip("/")) as file:

            def read(start: int, end: int) -> Iterator[bytes]:
                while start < end and (data := os.pread(file.fileno(), 1000, start)):
                    start += len(data)
                    yield data

            yield SimpleNamespace(read=read, content=lambda most: file.read())


@dataclass
class FedSite:
    """A site with one party, which files pages and closes segments."""

    settings: Settings
    filer: PageFiler

    def file(self, *boxes: str) -> None:
        """File a result sheet for each box, each on a board of its own, and close a segment."""
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
def night(tmp_path: Path) -> FedSite:
    site = office.site(tmp_path / "site")
    (site / "state").mkdir()
    settings = load.load(site)
    return FedSite(settings, PageFiler(settings))


@pytest.fixture
def mirror(script: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """A mirror with one session and an empty folder."""
    made = script.Mirror(tmp_path / "mirror", [KEY.public_key()], None, 1, lambda **said: None)
    made.resume(recheck=False)
    yield made
    made.lock_file.close()


def whole(folder: Path) -> dict[str, bytes]:
    own = ("akis/son.txt", ".mirror.json", ".mirror.lock")
    return {path: content for path, content in office.listing(folder).items() if path not in own}


def test_new_pages_are_fetched_before_the_remaining_sums(mirror: Any, night: FedSite) -> None:
    night.file("1", "2", "3")
    served = Served(night.tree)

    def late(path: str) -> None:
        if path.endswith("/SHA256SUMS") and path.count("/") == 3:
            served.meanwhile = lambda path: None
            night.file("4")
            while not mirror.waiting:
                threading.Event().wait(0.01)

    served.meanwhile = late
    mirror.run_round(served, threading.Event(), 0.0)

    kinds = [path.rpartition("/")[2] for path in served.opened if path.count("/") >= 3]
    page = "cb-sandik-sonuc-s1.jpg"
    signed = ["SHA256SUMS.sig", "SHA256SUMS", "SHA256SUMS.kunye.sig", "SHA256SUMS.kunye"]
    assert kinds == [page] * 3 + signed + [page] + signed * 3
    assert (mirror.complete, mirror.unsummed) == (2, {})
    assert whole(mirror.folder) == whole(night.tree)


def test_sums_that_do_not_match_the_root_are_fetched_twice_only(
    mirror: Any, night: FedSite
) -> None:
    night.file("1", "2")
    roots = {path: path.read_bytes() for path in night.tree.glob("*/SHA256SUMS*")}
    night.filer.file(Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "k-1", "1", 1), "more")
    night.file()
    for path, content in roots.items():
        path.unlink()
        path.write_bytes(content)
    served = Served(night.tree)

    mirror.run_round(served, threading.Event(), 0.0)

    boards = [path.split("/")[2] for path in served.opened if path.endswith("k-1/SHA256SUMS")]
    assert boards == ["k-1", "k-1"]
    assert mirror.unsummed == {}
    assert whole(mirror.folder) == whole(night.tree)


def test_a_failed_fetch_stays_queued_in_the_same_order(mirror: Any, night: FedSite) -> None:
    night.file("1", "2", "3")
    served = Served(night.tree)

    def broken_off(path: str) -> None:
        if "sandik-2" in path:
            served.meanwhile = lambda path: None
            raise EOFError

    served.meanwhile = broken_off
    with pytest.raises(EOFError):
        mirror.run_round(served, threading.Event(), 0.0)
    assert (mirror.waiting, mirror.files) == (2, 1)
    mirror.run_round(served, threading.Event(), 0.0)

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


def run_again(script: ModuleType, mirror: Any, tree: Path) -> Any:
    """Run the mirror on the same folder again."""
    mirror.lock_file.close()
    made = script.Mirror(mirror.folder, mirror.keys, None, 1, lambda **said: None)
    made.resume(recheck=False)
    made.lock_file.close()
    made.run_round(Served(tree), threading.Event(), 0.0)
    return made


def outdated(mirror: Any, night: FedSite) -> dict[str, bytes]:
    """Mirror a board's sums, and return older ones that name one page less."""
    night.file("1")
    old = sums(night.tree)
    night.filer.file(Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "k-1", "1", 1), "more")
    night.file()
    mirror.run_round(Served(night.tree), threading.Event(), 0.0)
    return old


def test_older_sums_never_replace_newer_ones(
    script: ModuleType, mirror: Any, night: FedSite
) -> None:
    old = outdated(mirror, night)
    new = sums(night.tree)
    assert sums(mirror.folder) == new
    put(night.tree, old)

    for _ in range(2):
        run = run_again(script, mirror, night.tree)
        assert sums(mirror.folder) == new
        assert list(run.unsummed) == [f"{BOARDS}/k-1"]

    put(night.tree, new)
    assert run_again(script, mirror, night.tree).unsummed == {}


def test_a_root_that_dropped_a_folder_never_replaces_the_newer_one(
    script: ModuleType, mirror: Any, night: FedSite
) -> None:
    night.file("1")
    old = {path: content for path, content in sums(night.tree).items() if path.count("/") == 1}
    night.file("2")
    mirror.run_round(Served(night.tree), threading.Event(), 0.0)
    new = sums(night.tree)
    put(night.tree, old)

    run = run_again(script, mirror, night.tree)

    assert sums(mirror.folder) == new
    assert list(run.unsummed) == [f"{BOARDS}/k-2"]


def test_signed_sums_of_another_board_are_not_accepted(mirror: Any, night: FedSite) -> None:
    night.file("1", "2")
    true = sums(night.tree)
    others = {
        f"{BOARDS}/k-1/{name}": true[f"{BOARDS}/k-2/{name}"]
        for name in ("SHA256SUMS", "SHA256SUMS.sig")
    }
    put(night.tree, others)

    mirror.run_round(Served(night.tree), threading.Event(), 0.0)

    kept = sums(mirror.folder)
    assert sorted(kept) == [
        f"{BOARDS}/k-2/{name}"
        for name in ("SHA256SUMS", "SHA256SUMS.kunye", "SHA256SUMS.kunye.sig", "SHA256SUMS.sig")
    ]
    assert list(mirror.unsummed) == [f"{BOARDS}/k-1"]
    put(night.tree, {path: true[path] for path in others})
    mirror.sums_checked_at = float("-inf")
    mirror.run_round(Served(night.tree), threading.Event(), 0.0)
    assert (sums(mirror.folder), mirror.unsummed) == (true, {})


def test_sums_whose_signature_does_not_match_count_as_lost(
    script: ModuleType, mirror: Any, night: FedSite
) -> None:
    old = outdated(mirror, night)
    signature = f"{BOARDS}/k-1/SHA256SUMS.sig"
    put(mirror.folder, {signature: old[signature]})
    put(night.tree, old)

    run = run_again(script, mirror, night.tree)

    assert list(run.unsummed) == [f"{BOARDS}/k-1"]


def run(script: ModuleType, mirror: Any, served: Served, stop: threading.Event) -> int:
    mirror.lock_file.close()
    mirror.connect = lambda: served
    options = SimpleNamespace(
        recheck=False, once=True, follow=False, poll=10.0, retries=0, max_age=0.0
    )
    code: int = script.run(mirror, options, stop)
    return code


def test_a_run_stopped_early_does_not_report_completion(
    script: ModuleType, mirror: Any, night: FedSite
) -> None:
    night.file("1", "2", "3")
    stop = threading.Event()

    def told(path: str) -> None:
        if path.endswith(".jpg"):
            stop.set()

    served = Served(night.tree, meanwhile=told)

    assert run(script, mirror, served, stop) == 3
    assert (mirror.files, mirror.waiting) == (1, 2)


def test_a_server_that_breaks_the_sftp_protocol_is_a_lost_connection(
    script: ModuleType, mirror: Any, night: FedSite
) -> None:
    def garbled(path: str) -> None:
        raise script.paramiko.SFTPError("Expected handle")

    served = Served(night.tree, meanwhile=garbled)

    assert run(script, mirror, served, threading.Event()) == 3


def test_a_failed_read_of_the_feed_waits_for_running_fetches(mirror: Any, night: FedSite) -> None:
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
        mirror.run_round(Served(night.tree, meanwhile=both), threading.Event(), 0.0)

    assert threading.active_count() == 1
    assert (mirror.files, mirror.waiting) == (1, 2)


def test_pages_are_fetched_while_the_feed_is_read(
    script: ModuleType, mirror: Any, night: FedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "SEGMENTS_AT_ONCE", 2)
    for box in range(1, 6):
        night.file(str(box))
    page_fetched = threading.Event()

    def meanwhile(path: str) -> None:
        if path.endswith(".jpg"):
            page_fetched.set()
        elif path == "akis/00000005.csv":
            assert page_fetched.wait(10)

    mirror.run_round(Served(night.tree, meanwhile=meanwhile), threading.Event(), 60.0)

    assert (mirror.files, mirror.complete, mirror.waiting) == (5, 5, 0)
    assert whole(mirror.folder) == whole(night.tree)


def test_segments_before_a_wrong_one_are_kept(
    script: ModuleType, mirror: Any, night: FedSite
) -> None:
    for box in range(1, 4):
        night.file(str(box))
    put(night.tree, {"akis/00000003.csv.sig": (night.tree / "akis/00000002.csv.sig").read_bytes()})

    with pytest.raises(script.VerificationError, match=r"akis/00000003\.csv: "):
        mirror.run_round(Served(night.tree), threading.Event(), 60.0)

    kept = {path.name for path in (mirror.folder / "akis").iterdir()}
    assert kept == {f"0000000{number}.csv{end}" for number in (1, 2) for end in ("", ".sig")}


def test_a_disk_error_is_not_a_lost_connection(
    script: ModuleType, mirror: Any, night: FedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.file("1")

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    served = Served(night.tree, meanwhile=lambda _: monkeypatch.setattr(os, "fsync", broken))

    assert run(script, mirror, served, threading.Event()) == 4


@pytest.mark.parametrize(
    ("lag", "max_age", "code", "said"),
    [
        (299, 300, 0, ""),
        (404, 300, 5, "404 seconds ago"),
        (404, 0, 0, ""),
        (404, 500, 0, ""),
        (-299, 300, 0, ""),
        (-404, 300, 5, "set this machine's clock"),
    ],
)
def test_a_mirror_says_how_old_its_newest_segment_is(
    mirror: Any, monkeypatch: pytest.MonkeyPatch, lag: int, max_age: float, code: int, said: str
) -> None:
    closed = 1_684_072_800
    mirror.newest = SimpleNamespace(number=7, closed_at=closed)
    monkeypatch.setattr(time, "time", lambda: closed + lag)

    assert mirror.outcome(max_age) == code
    assert said in mirror.staleness(max_age)
    assert bool(said) == bool(mirror.staleness(max_age))


@pytest.mark.parametrize("option", ["--help", "-h", "--once", "--version"])
def test_without_paramiko_it_says_what_to_install(tmp_path: Path, option: str) -> None:
    (tmp_path / "paramiko.py").write_text("raise ImportError('No module named paramiko')")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), option], env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    helps = option in ("--help", "-h")
    text = done.stdout if helps else done.stderr
    assert done.returncode == (0 if helps else 2)
    assert "apt install python3-paramiko" in text
    assert f"{sys.executable} -m pip install paramiko" in text
    assert ("--known-hosts FILE" in text, "Exit codes:" in text) == (helps, helps)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "wrong"),
    [("ssh-ed25519 AAAA a public key", "is not a private key"), ("", "is not a private key")],
)
def test_a_file_that_is_not_a_private_key_is_refused(
    script: ModuleType, tmp_path: Path, content: str, wrong: str
) -> None:
    key = tmp_path / "key"
    key.write_text(content)
    with pytest.raises(ValueError, match=wrong):
        script.check_key(str(key))


@pytest.mark.parametrize(
    ("active", "said", "log", "refused"),
    [
        (True, "Authentication failed.", "", True),
        (True, "Bad authentication type; allowed types: ['password']", "", True),
        (True, "Authentication timeout.", "", False),
        (False, "Authentication failed: transport shut down or saw EOF", "", False),
        (False, "Authentication failed.", "Disconnect (code 12): Too many sessions", False),
        (False, "Authentication failed.", "Disconnect (code 14): No more methods", True),
    ],
)
def test_only_a_refusal_ends_the_mirror_and_not_an_interrupted_login(
    script: ModuleType, active: bool, said: str, log: str, refused: bool
) -> None:
    transport = SimpleNamespace(is_active=lambda: active)
    client = SimpleNamespace(get_transport=lambda: transport)
    farewell = script.Farewell()
    farewell.handle(logging.makeLogRecord({"msg": log}))

    assert script.is_refused(client, Exception(said), farewell) is refused


def test_the_reason_of_a_disconnection_cannot_control_the_terminal(script: ModuleType) -> None:
    farewell = script.Farewell()
    farewell.handle(logging.makeLogRecord({"msg": "Disconnect (code 11): Suspended\x1b[2J\nnow"}))

    assert (farewell.code, farewell.text) == (11, "Suspended [2J now")


GOOD_LINE = (
    "[h]:22 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPhoN4VQ9LZlYNItEb42gHEkjOqk/UueFoKe+dmXJwek"
)


@pytest.mark.parametrize(
    "text", [GOOD_LINE[:-7], f"{GOOD_LINE[:40]}\n{GOOD_LINE[40:]}", "h ssh-rsa x", "\udcff\udcfe"]
)
def test_a_line_of_known_hosts_that_was_broken_is_named(
    script: ModuleType, tmp_path: Path, text: str
) -> None:
    hosts = tmp_path / "known_hosts"
    hosts.write_text(f"# hosts\n\n{GOOD_LINE}\n")
    script.check_known_hosts(str(hosts))
    hosts.write_bytes(f"# hosts\n{text}\n".encode("utf-8", "surrogateescape"))

    with pytest.raises(ValueError, match="known_hosts: line 2 cannot be read"):
        script.check_known_hosts(str(hosts))


def test_an_address_that_is_not_this_machine_s_cannot_be_bound(script: ModuleType) -> None:
    script.check_bind("127.0.0.1")
    for wrong, said in (("203.0.113.9", "9: Cannot assign"), ("evim", "is not an IP")):
        with pytest.raises(ValueError, match=said):
            script.check_bind(wrong)


def test_a_name_that_does_not_exist_ends_the_mirror_before_its_first_connection(
    script: ModuleType, mirror: Any
) -> None:
    def connect() -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    mirror.lock_file.close()
    mirror.connect = connect
    options = SimpleNamespace(recheck=False, host="yok.invalid")

    with pytest.raises(script.CannotConnect, match=r"yok\.invalid: no server has this name"):
        script.run(mirror, options, threading.Event())


def test_a_key_with_a_passphrase_is_refused(script: ModuleType, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    with pytest.raises(ValueError, match="has a passphrase"):
        script.check_key(str(key))


def test_the_depth_follows_rate_and_round_trip(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(script.time, "monotonic", lambda: now)
    depth = script.Depth()
    assert depth.limit == script.LOW_DEPTH

    for _ in range(20):  # 12.5 MB/s with answers after 50 ms
        now += 0.02
        depth.measure(0.05, 250_000)
    full = script.LOW_DEPTH + 3 * 12_500_000 * 0.05
    assert depth.limit == pytest.approx(full, rel=0.25)

    for _ in range(20):
        now += 0.02
        depth.measure(0.05, 25_000_000)
    assert depth.limit == script.HIGH_DEPTH


def test_a_large_file_lets_waiting_files_request_first(script: ModuleType) -> None:
    depth = script.Depth()
    half = script.LOW_DEPTH // 2
    assert depth.reserve(half, wait=True)
    assert depth.reserve(half, wait=False)
    assert not depth.reserve(half, wait=False)
    other = threading.Thread(target=depth.reserve, args=(script.LOW_DEPTH,), kwargs={"wait": True})
    other.start()
    while not depth.waiting:
        threading.Event().wait(0.01)

    depth.release(half)
    assert not depth.reserve(half, wait=False)
    depth.release(half)
    other.join(10)

    assert not other.is_alive()
    assert (depth.used, depth.waiting) == (script.LOW_DEPTH, 0)


class SilentChannel:
    """A channel that notes what is sent and receives what the test gives."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.received: SimpleQueue[bytes] = SimpleQueue()
        self.received.put(struct.pack(">IBI", 5, 2, 3))
        self.invoke_subsystem = self.settimeout = lambda value: None

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        return self.received.get(timeout=10)


def test_requests_are_sent_before_earlier_ones_are_answered(script: ModuleType) -> None:
    channel = SilentChannel()
    transport = SimpleNamespace(open_session=lambda window_size: channel)
    session = script.Session(SimpleNamespace(get_transport=lambda: transport))
    file = script.RemoteFile(session, b"handle")

    first, second, third = (file.request(at, 100) for at in (0, 100, 200))
    assert len(channel.sent) == 1 + 3
    data = struct.pack(">IBII", 13, script.DATA, 2, 4) + b"late"
    missing = struct.pack(">IBII", 9, script.STATUS, 1, script.NO_SUCH_FILE)
    for part in (data[:7], data[7:] + missing, b""):
        channel.received.put(part)

    assert second.result(10) == b"late"
    with pytest.raises(FileNotFoundError):
        first.result(10)
    with pytest.raises(EOFError, match="closed the connection"):
        third.result(10)
    with pytest.raises(EOFError, match="closed the connection"):
        file.request(0, 1)
