"""The publisher is killed ten times while 300 pages arrive; each is filed exactly once."""

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import office
import qrcode
from PIL import Image, ImageDraw
from unit.publisher.consistency import assert_consistent

from config import load, registry
from config.settings import Settings
from config.site import FILING, LEDGERS, REGISTRY_INDEX
from publisher.catalog.queries import counts

PAGES, KILLS, BOXES, SEED = 300, 10, 200, 20230514
PUBLISHER = """
import signal, sys, threading
from pathlib import Path
import structlog
from config import load
from publisher.publish import publish

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
publish(load.load(Path(sys.argv[1])), stop=stop, ready=lambda: print("ready", flush=True))
"""
FAST_INTAKE = "[intake]\nsettle_seconds = 0.4\nrescan_seconds = 0.5\n"


@dataclass(frozen=True)
class Scan:
    """A page as a scanner delivers it; `slowly` means bit by bit."""

    name: str
    content: bytes
    slowly: bool


def drawn(karekod: str | None, note: str) -> bytes:
    page = Image.new("L", (600, 420), 240)
    ImageDraw.Draw(page).text((20, 20), f"Sandik Sonuc Tutanagi {note}", fill=20)
    if karekod is not None:
        code = qrcode.QRCode(1, qrcode.constants.ERROR_CORRECT_L, box_size=5, border=4)
        code.add_data(karekod)
        printed = code.make_image().get_image().convert("L")
        for place in ((440, 20), (440, 240)):
            page.paste(printed, place)
    file = io.BytesIO()
    page.save(file, "JPEG", quality=80)
    return file.getvalue()


def scans(rng: random.Random) -> list[Scan]:
    """Return good pages, duplicates, re-scans, unknown codes, no codes, rubbish, empty files."""
    contents: list[bytes] = []
    for number in range(PAGES):
        kind = rng.choices(
            ("good", "again", "rescan", "unknown", "none", "rubbish", "empty"),
            (60, 8, 8, 8, 6, 8, 2),
        )[0]
        box = rng.randrange(BOXES)
        match kind:
            case "good":
                contents.append(drawn(f"{1000000000 + number % BOXES}", f"good {number}"))
            case "again" if contents:
                contents.append(rng.choice(contents))
            case "rescan":
                contents.append(drawn(f"{1000000000 + box}", f"rescan {number}"))
            case "unknown":
                contents.append(drawn(f"{9000000000 + number}", "unknown"))
            case "empty":
                contents.append(b"")
            case "rubbish":
                contents.append(rng.randbytes(3000))
            case _:
                contents.append(drawn(None, f"none {number}"))
    return [
        Scan(f"{number:03}.jpg", content, slowly=rng.random() < 0.2)
        for number, content in enumerate(contents)
    ]


def site(folder: Path) -> Settings:
    made = office.site(folder, office.SITE_TOML + FAST_INTAKE)
    rows = [
        f"{1000000000 + box},cb,sandik-sonuc,"
        f"{('35-izmir-2,konak-1', '34-istanbul-1,kadikoy-2')[box % 2]},normal,{box + 1},,1"
        for box in range(BOXES)
    ]
    (made / "registry.csv").write_text(office.registry_csv(*rows), encoding="utf-8")
    for name in ("state", "intake", "outside"):
        (made / name).mkdir()
    registry.import_csv(made / "registry.csv", made / REGISTRY_INDEX)
    load.catalog(made)  # states the database in site.toml if the suite runs on PostgreSQL
    return load.load(made)


def deliver(settings: Settings, pages: list[Scan], pause: float, rng: random.Random) -> None:
    """Rename pages into the intake, or write them there slowly, as a bad scanner does."""
    intake, outside = settings.site / "intake", settings.site / "outside"
    for page in pages:
        if page.slowly:
            with (intake / page.name).open("wb", buffering=0) as file:
                for start in range(0, len(page.content), 2000):
                    file.write(page.content[start : start + 2000])
                    time.sleep(rng.uniform(0, 0.02))
        else:
            (outside / page.name).write_bytes(page.content)
            (outside / page.name).rename(intake / page.name)
        time.sleep(pause)


@contextmanager
def publisher(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    with (settings.site / "publisher.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(settings.site)],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=Path(__file__).parents[2],
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def orphans() -> list[int]:
    """Return worker processes whose publisher has ended: their parent is init or this test."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if b"publisher.reading.worker" in command and parent in (1, os.getpid()):
            found.append(int(process.name))
    return found


def test_a_publisher_that_is_killed_ten_times_files_each_page_exactly_once(tmp_path: Path) -> None:
    rng = random.Random(SEED)  # noqa: S311 - the same night every time
    settings = site(tmp_path / "site")
    pages = scans(rng)
    before = set(orphans())
    delivery = threading.Thread(
        target=deliver,
        args=(settings, pages, 0.04, random.Random(SEED)),  # noqa: S311
    )
    delivery.start()
    filing = settings.site / LEDGERS / FILING

    def filed() -> int:
        return sum(path.stat().st_size for path in filing.glob("*.jsonl"))

    done_at_kill = []
    for kill in range(KILLS):
        with publisher(settings) as process:
            # Some are killed during recovery, the others after they started to file.
            if kill % 3 and process.stdout is not None:
                begun = filed()
                assert process.stdout.readline() == b"ready\n"
                until = time.monotonic() + 5
                while filed() == begun and time.monotonic() < until:
                    time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.8))
            process.send_signal(signal.SIGKILL)
            process.wait()
        done_at_kill.append(filed())
    delivery.join()

    with publisher(settings) as process:
        until = time.monotonic() + 30
        while not _drained(settings) and time.monotonic() < until:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(5) == 0

    history = assert_consistent(settings)
    assert len(set(done_at_kill)) > 4, "the kills came while pages were filed"
    delivered = {page.name: sha256(page.content).hexdigest() for page in pages}
    slow = {page.name for page in pages if page.slowly}
    # If this machine is slow, a page may be read before its writer has finished. The half page
    # then goes to quarantine, and the complete one arrives again.
    halves = [
        event
        for event in history.events
        if event.detail["sha256"] != delivered[event.origin]
        and event.origin in slow
        and event.event == "quarantined"
    ]
    whole = [event for event in history.events if event not in halves]
    assert sorted(event.origin for event in whole) == sorted(delivered), (
        "each page is recorded once"
    )
    # Empty files have the same bytes, and each is quarantined: each is another scan's trouble.
    empty = sha256(b"").hexdigest()
    settled = [event.detail["sha256"] for event in whole if event.event != "duplicate"]
    assert sorted(str(each) for each in settled if each != empty) == sorted(
        set(delivered.values()) - {empty}
    ), "and no bytes are filed twice"
    assert list((settings.site / "intake").iterdir()) == []
    assert set(orphans()) <= before
    log = (settings.site / "publisher.log").read_text()
    assert "tree-complete" in log
    assert "[error" not in log
    assert "Traceback" not in log


def _drained(settings: Settings) -> bool:
    left = [*(settings.site / "intake").iterdir(), *(settings.site / "state/spool").iterdir()]
    return not left and counts.counts(settings.site).waiting == 0
