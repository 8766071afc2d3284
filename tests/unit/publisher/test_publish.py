import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from structlog.testing import capture_logs
from unit.publisher.consistency import assert_consistent

import publisher.publish
from config import layout, scope
from config.fault import Faults
from config.settings import Settings
from config.site import CATALOG, FILING, LEDGERS, REGISTRY_INDEX, SITE_TOML, TRANSFER, TREES
from keys.feed_segment import parse_segment
from keys.ledger.writer import Ledger, LedgerBusy
from publisher.catalog.queries import counts as catalog_counts
from publisher.catalog.queries.counts import Counts
from publisher.database import location
from publisher.election.leader import SCHEMA, Candidate
from publisher.fsck import finding
from publisher.intake import lease
from publisher.intake.held import HeldSources
from publisher.page import ReadResult
from publisher.publish import publish
from publisher.reading.worker_client import WorkerClient
from publisher.store.store import Store

pytestmark = pytest.mark.slow

CB, MV = "1093717526", "1093717527"
Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]


@contextmanager
def publishing(settings: Settings, **more: object) -> Iterator[threading.Event]:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=publish,
        args=(settings,),
        kwargs={"stop": stop, "ready": ready.set, "workers": 1, **more},
    )
    thread.start()
    try:
        assert ready.wait(20)
        yield stop
    finally:
        stop.set()
        begun = time.monotonic()
        thread.join(10)
        assert time.monotonic() - begun < 2, "the publisher stops within two seconds"
        assert [t.name for t in threading.enumerate() if t.name.startswith("reader")] == []


def wait_for(settings: Settings, done: Callable[[Counts], bool]) -> None:
    until = time.monotonic() + 20
    while not done(catalog_counts.counts(settings.site)):
        assert time.monotonic() < until, catalog_counts.counts(settings.site)
        threading.Event().wait(0.02)


def wait_until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        threading.Event().wait(0.02)


def test_a_page_is_filed_however_it_arrives_in_the_intake(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    intake = settings.site / "intake"
    (intake / "early.jpg").write_bytes(encode(draw(CB, CB)))

    with publishing(settings):
        wait_for(settings, lambda counts: counts.filed == 1)
        (settings.site / "outside").write_bytes(encode(draw(MV, MV), "PNG"))
        (settings.site / "outside").rename(intake / "renamed.png")
        wait_for(settings, lambda counts: counts.filed == 2)
        os.mkfifo(intake / "pipe")
        whole = encode(draw(CB, CB, note="again"))
        with (intake / "slow.jpg").open("wb", buffering=0) as file:
            file.write(whole[:1000])
            file.write(whole[1000:])
        wait_for(settings, lambda c: (c.versions, c.quarantined) == (1, 1) and not c.waiting)

    assert assert_consistent(settings).outcomes() == {
        "early.jpg": ["filed"],
        "renamed.png": ["filed"],
        "pipe": ["quarantined"],
        "slow.jpg": ["filed"],
    }


def test_a_page_whose_writer_pauses_is_read_after_it_is_closed(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    whole = encode(draw(CB, CB))
    with publishing(settings):
        with (settings.site / "intake" / "slow.jpg").open("wb", buffering=0) as file:
            file.write(whole[: len(whole) // 2])
            threading.Event().wait(0.3)  # six times what it takes to settle
            file.write(whole[len(whole) // 2 :])
            threading.Event().wait(0.3)
            assert catalog_counts.counts(settings.site) == Counts(), "it is still open"
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)

    assert assert_consistent(settings).outcomes() == {"slow.jpg": ["filed"]}


def test_a_page_written_slowly_from_another_machine_is_filed_when_it_is_complete(
    settings: Settings, draw: Draw, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease does not detect such a writer, so a page without its end is not claimed."""
    monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)
    whole = encode(draw(CB, CB))
    with publishing(settings):
        with (settings.site / "intake" / "slow.jpg").open("wb", buffering=0) as file:
            file.write(whole[:-2])
            threading.Event().wait(0.5)  # ten times what it takes to settle
            assert catalog_counts.counts(settings.site) == Counts()
            file.write(whole[-2:])
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)

    assert assert_consistent(settings).outcomes() == {"slow.jpg": ["filed"]}


def test_a_page_that_stays_truncated_is_quarantined(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    hasty = replace(settings, intake=replace(settings.intake, settle_seconds=0.01))
    (settings.site / "intake" / "slow.jpg").write_bytes(encode(draw(CB, CB))[:-2])
    with publishing(hasty):
        wait_for(settings, lambda counts: counts.quarantined == 1 and not counts.waiting)

    (event,) = assert_consistent(settings).events
    assert event.detail["reason"] == "incomplete"


@pytest.mark.slow
def test_a_half_tiff_is_quarantined_and_filed_when_it_is_complete(
    settings: Settings, draw: Draw, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that nobody finishes is quarantined, but kept for as long as it may grow."""
    monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)
    monkeypatch.setattr(HeldSources, "remove_quiet", lambda held, now: [])
    slow = replace(settings, intake=replace(settings.intake, quiet_seconds=0.5))
    whole = encode(draw(CB, CB), "TIFF")
    with publishing(slow):
        with (settings.site / "intake" / "slow.tif").open("wb", buffering=0) as file:
            file.write(whole[: len(whole) // 2])
            wait_for(settings, lambda counts: counts.quarantined == 1)
            file.write(whole[len(whole) // 2 :])
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)

    assert assert_consistent(settings).outcomes() == {"slow.tif": ["quarantined", "filed"]}


class SlowClient(WorkerClient):
    """Takes a second for each page of a split file, as a page does that no pass can read."""

    def read(self, data: bytes) -> ReadResult:
        seen = super().read(data)
        if seen.frames == 1 and not seen.texts:
            threading.Event().wait(1)
        return seen


@pytest.mark.slow
def test_a_file_of_64_slow_pages_does_not_hold_up_a_good_one(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    slow, *more = (draw(note=f"{number}").convert("1") for number in range(64))
    whole = encode(slow, "TIFF", compression="group4", save_all=True, append_images=more)
    intake = settings.site / "intake"
    with publishing(settings, new_client=SlowClient):
        (intake / "long.tif").write_bytes(whole)
        wait_for(settings, lambda counts: counts.waiting >= 32)
        begun = time.monotonic()
        (intake / "good.jpg").write_bytes(encode(draw(CB, CB)))
        wait_for(settings, lambda counts: counts.filed == 1)
        took, waiting = time.monotonic() - begun, catalog_counts.counts(settings.site).waiting

    assert took < 10, "of 64 seconds"
    assert waiting > 32


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["TIFF", "PDF"])
def test_a_page_added_to_a_file_that_was_whole_before_is_filed_too(
    settings: Settings, draw: Draw, encode: Encode, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Without leases such a file is claimed, and kept until it was quiet for long enough."""
    monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)
    careful = replace(settings, intake=replace(settings.intake, rescan_seconds=0.2))
    first, second = draw(CB, CB), draw(MV, MV)
    one, both = encode(first, kind), encode(first, kind, save_all=True, append_images=[second])
    scan = settings.site / "intake" / f"scan.{kind.lower()}"
    with publishing(careful), scan.open("wb", buffering=0) as file:
        file.write(one)
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)
        os.pwrite(file.fileno(), both, 0)
        os.ftruncate(file.fileno(), len(both))
        wait_for(settings, lambda counts: counts.filed == 2 and not counts.waiting)
        assert scan.exists()

    assert_consistent(settings)


def test_an_unchanged_source_is_removed_after_the_quiet_time_also_after_a_restart(
    settings: Settings, draw: Draw, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_take_lease", lambda descriptor: False)
    scan = settings.site / "intake" / "scan.jpg"
    scan.write_bytes(encode(draw(CB, CB)))
    with publishing(settings):  # quiet_seconds is 600
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)
    assert scan.exists()
    soon = replace(settings, intake=replace(settings.intake, quiet_seconds=0.3))
    with publishing(soon):
        wait_until(lambda: not scan.exists())

    assert assert_consistent(settings).outcomes() == {"scan.jpg": ["filed"]}


def test_a_process_that_keeps_a_file_open_does_not_lose_what_it_writes_later(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    hasty = replace(settings, intake=replace(settings.intake, quiet_seconds=0.3))
    scan = settings.site / "intake" / "scan.tif"
    one, two = encode(draw(CB, CB), "TIFF"), encode(draw(MV, MV), "TIFF")
    with publishing(hasty):
        with scan.open("wb", buffering=0) as file:
            file.write(one)
            wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)
            threading.Event().wait(1.0)  # three times what it takes to be quiet
            assert scan.exists(), "a file that is open is never removed"
            os.pwrite(file.fileno(), two, 0)
        wait_for(settings, lambda counts: counts.filed == 2 and not counts.waiting)
        wait_until(lambda: not scan.exists())


def test_the_publisher_does_not_start_without_its_ledger(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    (settings.site / "intake" / "a.jpg").write_bytes(encode(draw(CB, CB)))
    with publishing(settings):
        wait_for(settings, lambda counts: counts.filed == 1)
    for segment in (settings.site / LEDGERS / FILING).glob("*.jsonl"):
        segment.unlink()

    with pytest.raises(Faults, match=r"ledgers/filing: .*restore the ledger from a backup"):
        publish(settings, stop=threading.Event(), workers=1)


@pytest.mark.slow
def test_the_publisher_halts_on_a_full_disk_and_retries(
    settings: Settings, draw: Draw, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.site / "intake" / "a.jpg").write_bytes(encode(draw(CB, CB)))
    stage, full = Store.stage, [False, True]
    pauses: list[float] = []

    def staged(store: Store, arrival: str, content: bytes) -> Path:
        if full:
            if full.pop():
                raise OSError(28, "No space left on device")
            disk_full = sqlite3.OperationalError("database or disk is full")
            raise sa.exc.OperationalError("INSERT", {}, disk_full)
        return stage(store, arrival, content)

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout or 0)
            return False

    monkeypatch.setattr(Store, "stage", staged)
    stop = Stop()

    with capture_logs() as logs:
        thread = threading.Thread(
            target=publish, args=(settings,), kwargs={"stop": stop, "workers": 1}
        )
        thread.start()
        try:
            wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)
        finally:
            stop.set()
            thread.join(10)

    halts = [entry for entry in logs if entry["event"] == "publisher-halted"]
    assert [entry["log_level"] for entry in halts] == ["error", "error"]
    assert "No space left" in halts[0]["cause"]
    assert halts[1]["cause"] == "database or disk is full", "without the SQL statement"
    assert pauses == [1.0, 2.0]
    assert assert_consistent(settings).outcomes() == {"a.jpg": ["filed"]}


@postgres.own_database
def test_the_publisher_waits_until_postgresql_has_room_again(
    settings: Settings, draw: Draw, encode: Encode, postgres_server: postgres.Server
) -> None:
    url = postgres_server.new_database()
    with (settings.site / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url.render_as_string()}"\n')
    with postgres.changing(url) as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        on_filing = "CREATE TRIGGER full_disk BEFORE INSERT ON catalog.filing"
        connection.exec_driver_sql(f"{on_filing} EXECUTE FUNCTION full_disk()")

    with capture_logs() as logs, publishing(settings):
        (settings.site / "intake" / "a.jpg").write_bytes(encode(draw(CB, CB)))
        wait_until(lambda: any(entry["event"] == "publisher-halted" for entry in logs))
        assert catalog_counts.counts(settings.site).filed == 0
        with postgres.changing(url) as connection:
            connection.exec_driver_sql("DROP TRIGGER full_disk ON catalog.filing")
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)

    causes = {entry["cause"] for entry in logs if entry["event"] == "publisher-halted"}
    room = "No space left on device: make room on the server of PostgreSQL"
    assert causes == {f"site.toml: catalog.url: {room}"}
    assert assert_consistent(settings).outcomes() == {"a.jpg": ["filed"]}


@postgres.own_database
def test_a_publisher_without_another_goes_on_when_its_lease_ran_out(
    settings: Settings,
    draw: Draw,
    encode: Encode,
    postgres_server: postgres.Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = postgres_server.new_database()
    with (settings.site / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url.render_as_string()}"\n')
    late = [0.0]

    def now() -> float:
        """Return a time at which no renewal has come in the last seconds, for the other threads."""
        is_renewal = threading.current_thread().name == f"lease-{FILING}"
        return time.monotonic() + (0.0 if is_renewal else late[0])

    elects = Candidate(
        location(settings.site, CATALOG, SCHEMA), FILING, "", sole=True, monotonic=now
    )
    monkeypatch.setattr(publisher.publish, "candidate_for", lambda *_, **__: elects)

    with capture_logs() as logs, publishing(settings):
        late[0] = 7.0
        wait_until(lambda: any(entry["event"] == "publisher-halted" for entry in logs))
        late[0] = 0.0
        (settings.site / "intake" / "a.jpg").write_bytes(encode(draw(CB, CB)))
        wait_for(settings, lambda counts: counts.filed == 1 and not counts.waiting)

    causes = [entry["cause"] for entry in logs if entry["event"] == "publisher-halted"]
    assert causes == ["the lease ran out before it was renewed"]
    assert [e["term"] for e in logs if e["event"] == "leader-elected"][:2] == [1, 2]


def test_a_segment_has_each_ledgers_newest_checkpoint(settings: Settings) -> None:
    (settings.site / LEDGERS / TRANSFER).mkdir(parents=True)
    (settings.site / LEDGERS / TRANSFER / "checkpoint").write_bytes(b"as it was signed\n")
    shown = settings.site / TREES / "parti-a" / layout.segment(1)

    with publishing(settings, signer=Ed25519PrivateKey.generate()):
        wait_until(shown.exists)

    named = dict(parse_segment(shown.read_bytes()).checkpoints)
    assert named["transfer"] == b"as it was signed\n"


def test_a_party_whose_scope_changes_starts_a_new_feed_and_the_others_keep_theirs(
    settings: Settings,
) -> None:
    def head(tree: Path) -> str:
        path = tree / layout.segment(1)
        return path.read_text() if path.exists() else ""

    key = Ed25519PrivateKey.generate()
    a, b = (settings.site / TREES / party for party in ("parti-a", "parti-b"))
    own = (layout.README, layout.segment(1))
    with publishing(settings, signer=key):
        wait_until(lambda: all((tree / file).exists() for tree in (a, b) for file in own))
    first = [(tree / layout.segment(1)).read_bytes() for tree in (a, b)]
    narrowed = tuple(
        replace(party, scope=scope.parse(["06-ankara-1"])) if party.id == "parti-b" else party
        for party in settings.parties
    )

    with publishing(replace(settings, parties=narrowed), signer=key):
        wait_until(lambda: "akis: " in head(b) and head(b) != first[1].decode())

    assert (a / layout.segment(1)).read_bytes() == first[0]
    assert all((tree / layout.README).exists() for tree in (a, b))


def test_a_site_without_a_registry_is_a_fault_for_the_operator(settings: Settings) -> None:
    (settings.site / REGISTRY_INDEX).unlink()

    with pytest.raises(Faults, match="ssps registry import"):
        publish(settings, stop=threading.Event())


def test_a_starting_publisher_waits_while_another_process_tests_the_lock(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings.site / LEDGERS / FILING
    folder.mkdir(parents=True)
    asking = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    flock = fcntl.flock

    def asked(descriptor: int, how: int) -> None:
        """Release the lock as soon as the publisher has failed to get it once."""
        try:
            flock(descriptor, how)
        except BlockingIOError:
            flock(asking, fcntl.LOCK_UN)
            raise

    flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(fcntl, "flock", asked)
    with publishing(settings):
        assert finding.publisher_is_running(settings.site)
    assert not finding.publisher_is_running(settings.site)
    os.close(asking)


def test_a_second_publisher_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher.publish, "_LOCK_WAIT_SECONDS", 0.0)
    with (
        Ledger(settings.site / LEDGERS / FILING),
        pytest.raises(LedgerBusy, match="stop that one"),
    ):
        publish(settings, stop=threading.Event())
