import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import damaged_pages
import pytest
from PIL import Image
from unit.publisher import hostile

from publisher.page import Reason
from publisher.reading.worker_client import ClientClosed, WorkerClient, WorkerUnavailable

pytestmark = pytest.mark.slow

# A worker that does to itself what a hostile page could do to it.
ODD_WORKER = """
import os, resource, socket, subprocess, sys, threading, time
from contextlib import suppress
from publisher.page import ReadResult, Reading, Reason
from publisher.reading.worker import main

first = False
with suppress(OSError):
    os.rmdir(sys.argv[1])
    first = True

def read(data):
    if data == b"three pages":
        time.sleep(0.2)
        yield ReadResult("TIFF", frames=3)
        for page in (b"1", b"2", b"3"):
            time.sleep(0.2)
            yield page
    elif data == b"try everything":
        yield ReadResult("PNG", readings=tuple(Reading(name, "", "", 0) for name in tried()))
    else:
        yield one(data)

def one(data):
    if data == b"die" or (data == b"die once" and first):
        os.abort()
    if data == b"hang":
        time.sleep(60)
    if data == b"limits":
        names = ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_CORE", "RLIMIT_NOFILE")
        limits = [str(resource.getrlimit(getattr(resource, name))[1]) for name in names]
        return ReadResult("PNG", readings=(Reading(" ".join(limits), "", "", 0),))
    return ReadResult("PNG", os.getpid())

def tried():
    for name, call in {
        "read a file": lambda: open("/etc/hostname"),
        "write a file": lambda: open("/tmp/x", "w"),
        "stat a file": lambda: os.stat("/etc/hostname"),
        "list a folder": lambda: os.listdir("/"),
        "remove a file": lambda: os.unlink("/tmp/x"),
        "internet": lambda: socket.socket(socket.AF_INET),
        "local socket": lambda: socket.socket(socket.AF_UNIX),
        "process": os.fork,
        "program": lambda: os.execv("/bin/true", ["true"]),
        "signal": lambda: os.kill(int(sys.argv[2]), 0),
        "thread": lambda: threading.Thread(target=int).start(),
        "memory": lambda: bytearray(2 << 30),
    }.items():
        try:
            call()
            yield f"{name} was possible"
        except (OSError, RuntimeError, MemoryError) as error:
            yield f"{name}: {type(error).__name__}"

main(int(sys.argv[2]), read)
"""


@pytest.fixture
def odd(tmp_path: Path) -> Iterator[Callable[..., WorkerClient]]:
    (tmp_path / "worker.py").write_text(ODD_WORKER)
    (tmp_path / "mark").mkdir()
    command = (sys.executable, str(tmp_path / "worker.py"), str(tmp_path / "mark"))
    made: list[WorkerClient] = []

    def make(**options: float) -> WorkerClient:
        made.append(WorkerClient(command, **{"deadline": 0.3, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for client in made:
        client.close()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_page_is_read_in_another_process(
    draw: Callable[..., Image.Image], encode: Callable[..., bytes]
) -> None:
    client = WorkerClient()
    try:
        seen = client.read(encode(draw("1093717526", "1093717526")))
        process = client.process_id
    finally:
        client.close()

    assert seen.texts == ("1093717526",)
    assert process is not None
    assert not alive(process)


@pytest.mark.slow
def test_every_format_is_read_inside_the_sandbox(
    draw: Callable[..., Image.Image], encode: Callable[..., bytes]
) -> None:
    page = draw("1093717526", "1093717526")
    client = WorkerClient()
    try:
        for content in (
            encode(page.convert("CMYK")),
            encode(page.convert("RGB"), "PNG"),
            encode(page, "TIFF", compression="jpeg"),
            encode(page.convert("1"), "TIFF", compression="group4"),
            encode(page, "TIFF", compression="tiff_lzw", save_all=True, append_images=[page]),
            hostile.pdf([page.convert("RGB"), page]),
        ):
            seen = client.read(content)
            for extract in seen.extracts or (content,):
                page_seen = client.read(extract)
                assert (page_seen.fault, page_seen.texts) == (None, ("1093717526",))
    finally:
        client.close()


def test_a_scanned_sheet_is_read_inside_the_sandbox() -> None:
    clean = next(kind for kind in damaged_pages.KINDS if kind.name == "clean")
    sheet = damaged_pages.page(clean, 0, 1)
    client = WorkerClient()
    try:
        seen = client.read(sheet.content)
    finally:
        client.close()

    assert (seen.fault, seen.texts) == (None, (sheet.karekod,))


@pytest.mark.slow
def test_a_page_that_kills_its_worker_does_not_affect_other_pages(
    odd: Callable[..., WorkerClient],
) -> None:
    client = odd()

    assert client.read(b"good").fault is None
    assert client.read(b"die").fault is Reason.READER_DIED
    assert client.read(b"good").fault is None


@pytest.mark.slow
def test_a_page_that_hangs_its_worker_does_not_affect_other_pages(
    odd: Callable[..., WorkerClient],
) -> None:
    client = odd()
    client.read(b"good")
    hung = client.process_id

    assert client.read(b"hang").fault is Reason.READER_TIMEOUT
    assert hung is not None
    assert not alive(hung)
    assert client.read(b"good").fault is None


def test_each_page_of_a_file_has_its_own_deadline(odd: Callable[..., WorkerClient]) -> None:
    seen = odd().read(b"three pages")

    assert (seen.frames, seen.fault, seen.extracts) == (3, None, (b"1", b"2", b"3"))


@pytest.mark.slow
def test_a_page_whose_worker_died_is_tried_once_more_on_a_new_worker(
    odd: Callable[..., WorkerClient],
) -> None:
    assert odd().read(b"die once").fault is None


@pytest.mark.slow
def test_a_worker_is_replaced_after_max_pages_files(odd: Callable[..., WorkerClient]) -> None:
    client = odd(max_pages=2)

    processes = [client.read(b"good").width for _ in range(5)]

    assert [processes.count(process) for process in dict.fromkeys(processes)] == [2, 2, 1]


def test_a_worker_has_limits_and_no_privileges(odd: Callable[..., WorkerClient]) -> None:
    client = odd()

    assert client.read(b"limits").texts == (f"{1536 << 20} 0 0 16",)
    status = Path(f"/proc/{client.process_id}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status


def test_a_worker_that_a_page_took_over_can_only_compute(
    odd: Callable[..., WorkerClient],
) -> None:
    assert odd(deadline=5.0).read(b"try everything").texts == (
        "read a file: PermissionError",
        "write a file: PermissionError",
        "stat a file: PermissionError",
        "list a folder: PermissionError",
        "remove a file: PermissionError",
        "internet: PermissionError",
        "local socket: PermissionError",
        "process: PermissionError",
        "program: PermissionError",
        "signal: PermissionError",
        "thread: RuntimeError",
        "memory: MemoryError",
    )


def test_a_worker_that_does_not_start_raises_unavailable() -> None:
    for command in (("/nonexistent",), (sys.executable, "-c", "pass")):
        client = WorkerClient(command)
        with pytest.raises(WorkerUnavailable, match="does not start"):
            client.read(b"good")
        client.close()


def test_closing_the_client_ends_a_read_at_once(odd: Callable[..., WorkerClient]) -> None:
    client = odd(deadline=60.0)
    client.read(b"good")
    process, raised = client.process_id, []

    def read() -> None:
        try:
            client.read(b"hang")
        except ClientClosed as error:
            raised.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    client.close()
    thread.join(5)

    assert len(raised) == 1
    assert process is not None
    assert not alive(process)


@pytest.mark.slow
def test_a_worker_dies_with_its_publisher(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(ODD_WORKER)
    reading, writing = os.pipe()
    command = (sys.executable, str(tmp_path / "worker.py"), str(tmp_path))
    publisher = os.posix_spawn(
        sys.executable,
        [
            sys.executable,
            "-c",
            "import os, sys, signal, threading\n"
            "from publisher.reading.worker_client import WorkerClient\n"
            f"client = WorkerClient({command!r}, 60.0)\n"
            "client.read(b'good')\n"
            f"os.write({writing}, str(client.process_id).encode())\n"
            "threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
            "client.read(b'hang')\n",
        ],
        {"PYTHONPATH": str(Path(__file__).parents[4])},
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, writing)],
    )
    os.close(writing)
    worker = int(os.read(reading, 20))
    os.waitpid(publisher, 0)
    os.close(reading)

    until = time.monotonic() + 5
    while alive(worker) and time.monotonic() < until:
        os.sched_yield()
    # A zombie that was not reaped is dead, too.
    state = Path(f"/proc/{worker}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
