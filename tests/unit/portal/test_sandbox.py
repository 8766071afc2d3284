"""What code in the portal's process can do: the portal's own policy, in a forked child."""

import io
import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import confined
import postgres
import pytest
import web_site

from config import load
from config.settings import Settings
from config.site import ACCESS, CATALOG, LEDGERS
from keys.kernel import bpf, landlock, memory_file
from keys.server_keys import host
from portal import sandbox, server
from portal.data.numbers.snapshots import NO_SNAPSHOT
from portal.exports.file_name import Saved
from portal.exports.tables import ExportTable
from portal.exports.xlsx_file import write_xlsx

pytestmark = [
    pytest.mark.skipif(postgres.EVERYTHING, reason="test_sandbox_database tries PostgreSQL"),
    pytest.mark.skipif(
        not (landlock.abi() and bpf.supported()), reason="the kernel has no Landlock or no seccomp"
    ),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    site = web_site.make(tmp_path_factory.mktemp("sandbox") / "site")
    host.create_key(site / "keys" / "host" / "ssh_host_ed25519_key", "ssps")
    for folder in ("store/ab/cd", "snapshots/00000001", "trees/parti-a", "ledgers/access"):
        (site / folder).mkdir(parents=True, exist_ok=True)
    for file in ("store/ab/cd/x", "snapshots/00000001/x", "trees/parti-a/x", "ballot.csv"):
        (site / file).write_text("x")
    return load.load(site)


@pytest.fixture
def answers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Run actions in a confined child; for each, its result as text, or "denied"."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda *actions: confined.answers(lambda: server.confine(settings), *actions)


def test_no_secret_and_no_other_file_can_be_read(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    site = settings.site
    files = [
        Path("/etc/shadow"),
        Path("/etc/passwd"),
        site / "keys" / "signing" / "signing_key",
        site / "keys" / "host" / "ssh_host_ed25519_key",
        site / "keys" / "users" / "parti-a.toml",
        site / "parties.toml",
        site / "ballot.csv",
        site / "trees" / "parti-a" / "x",
        *(site / "ledgers" / "operations").glob("*.jsonl"),
    ]
    assert all(file.exists() for file in files)

    assert answers(*(file.read_bytes for file in files)) == ["denied"] * len(files)


def test_what_the_web_site_shows_can_be_read_and_its_ledger_written(
    settings: Settings, tmp_path: Path, answers: Callable[..., list[str]]
) -> None:
    site, ledger = settings.site, settings.site / LEDGERS / ACCESS

    def thread() -> str:
        found: list[str] = []
        started = threading.Thread(target=lambda: found.append("ran"))
        started.start()
        started.join()
        return found[0]

    found = answers(
        (site / "store" / "ab" / "cd" / "x").read_text,
        (site / "snapshots" / "00000001" / "x").read_text,
        lambda: (ledger / "000000000009.jsonl").write_text("line"),
        lambda: (tmp_path / "made.xlsx").write_text("row"),
        thread,
    )

    assert found == ["x", "x", "4", "3", "ran"]


def test_nothing_of_the_site_can_be_changed(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    site = settings.site
    original = site / "store" / "ab" / "cd" / "x"

    found = answers(
        lambda: (site / "parties.toml").write_text(""),
        lambda: (site / "trees" / "parti-a" / "y").write_text(""),
        lambda: (site / "snapshots" / "latest").write_text("9"),
        lambda: (site / "state" / "errands").mkdir(),
        lambda: (site / "state" / "portal.json").write_text("{}"),
        lambda: (site / "ledgers" / "operations" / "000000000000.jsonl").open("ab"),
        original.unlink,
        lambda: original.chmod(0o666),
        lambda: original.rename(site / "ledgers" / "access" / "x"),
        lambda: os.link(original, site / "ledgers" / "access" / "x"),
        lambda: (site / "ledgers" / "access" / "x").symlink_to("/etc/shadow"),
    )

    assert found == ["denied"] * len(found)
    assert len(found) == 11
    assert original.read_text() == "x"


def test_an_excel_file_is_written_although_no_time_of_a_file_can_be_changed(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    original = settings.site / "store" / "ab" / "cd" / "x"
    before = original.stat().st_mtime_ns

    def excel() -> bytes:
        table = ExportTable("Sandıklar", ("Sandık",), lambda: iter([("1001",)]), 0)
        file = io.BytesIO()
        write_xlsx(table, file, Saved("parti-a.ayse", 1, NO_SNAPSHOT, web_site.OPEN))
        return file.getvalue()[:2]

    found = answers(lambda: os.utime(original, (0, 0)), excel)

    assert found == ["None", "b'PK'"]
    assert original.stat().st_mtime_ns == before


def test_no_program_is_started_and_no_other_process_or_machine_reached(
    answers: Callable[..., list[str]],
) -> None:
    parent = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as outgoing:
        address = listening.getsockname()

        found = answers(
            lambda: os.execv("/bin/sh", ["sh", "-c", "exit"]),  # noqa: S606 - it must fail
            lambda: subprocess.run(["/bin/true"], check=True),
            os.fork,
            socket.socket,
            lambda: socket.socket(socket.AF_UNIX),
            lambda: outgoing.connect(address),
            lambda: outgoing.connect(("192.0.2.1", 443)),
            lambda: outgoing.bind(("127.0.0.1", 0)),
            lambda: os.kill(parent, signal.SIGTERM),
            lambda: os.setpriority(os.PRIO_PROCESS, parent, 5),
            lambda: confined.call("ptrace", 16, parent, 0, 0),  # PTRACE_ATTACH
            lambda: confined.call("mount", b"none", b"/mnt", b"tmpfs", 0, None),
            lambda: confined.call("unshare", 0x10000000),  # CLONE_NEWUSER
            lambda: os.setuid(1),
        )

    assert found == ["denied"] * 14


def test_connections_that_come_in_are_accepted(answers: Callable[..., list[str]]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        client.sendall(b"hello")
        found = answers(lambda: listening.accept()[0].recv(5).decode())

    assert found == ["hello"]


def test_a_database_is_read_beside_its_writer_without_writing(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    file = settings.site / CATALOG
    name = f"{file.as_uri()}?mode=ro"

    def count() -> int:
        with closing(sqlite3.connect(name, uri=True)) as reader:
            return int(reader.execute("SELECT count(*) FROM filing").fetchone()[0])

    def insert() -> None:
        with closing(sqlite3.connect(file)) as writing:
            writing.execute("INSERT INTO filing VALUES (3)")

    with closing(sqlite3.connect(file)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("CREATE TABLE filing (seq)")
        writer.executemany("INSERT INTO filing VALUES (?)", [(1,), (2,)])
        writer.commit()

        found = answers(count, insert)

    assert found[0] == "2"
    assert "readonly" in found[1]


def test_a_new_certificate_can_be_loaded_from_memory(answers: Callable[..., list[str]]) -> None:
    def read() -> str:
        with memory_file.of(b"pem") as descriptor:
            return Path(f"/proc/self/fd/{descriptor}").read_text()

    assert answers(read) == ["pem"]


def test_a_process_with_a_second_thread_is_not_taken_for_confined() -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        with pytest.raises(AssertionError, match="thread"):
            sandbox.confine([])
    finally:
        stop.set()
        other.join()


def test_a_kernel_without_landlock_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr(
                sandbox._log, "warning", lambda *a, **k: os.write(writing, repr((a, k)).encode())
            )
            sandbox.confine([])
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert told.read() == "(('sandbox-incomplete',), {'kernel': 'no Landlock'})"
