"""What code in the staff site's process can do: its own policy, in a forked child."""

import os
import signal
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import confined
import postgres
import pytest
import staff_site
from staff_site import SITE_TOML
from structlog.testing import capture_logs

from config import load
from config.settings import Settings
from config.site import CATALOG, LEDGERS, REQUESTS, STAFF
from keys.kernel import bpf, landlock
from keys.operations import server_state
from keys.server_keys import host
from portal.staff import server
from publisher.catalog.queries import coverage
from publisher.status import health

pytestmark = [
    pytest.mark.skipif(
        not (landlock.abi() and bpf.supported()), reason="the kernel has no Landlock or no seccomp"
    ),
    pytest.mark.skipif(postgres.EVERYTHING, reason="with PostgreSQL it is not confined"),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    site = staff_site.make(tmp_path_factory.mktemp("sandbox") / "site")
    host.create_key(site / "keys" / "host" / "ssh_host_ed25519_key", "ssps")
    for folder in ("store/ab/cd", "quarantine", "trees/parti-a", "ledgers/staff", REQUESTS):
        (site / folder).mkdir(parents=True, exist_ok=True)
    for file in ("store/ab/cd/x", "quarantine/x", "trees/parti-a/x", "ballot.csv"):
        (site / file).write_text("x")
    return load.load(site)


@pytest.fixture
def answers(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Run actions in a confined child; for each, its result as text, or "denied"."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda *actions: confined.answers(lambda: server.confine(settings), *actions)


def test_no_secret_and_no_file_that_it_does_not_show_can_be_read(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    site = settings.site
    files = [
        Path("/etc/shadow"),
        site / "keys" / "signing" / "signing_key",
        site / "keys" / "host" / "ssh_host_ed25519_key",
        site / "keys" / "operators.toml",
        site / "parties.toml",
        site / "ballot.csv",
        site / "trees" / "parti-a" / "x",
    ]
    assert all(file.exists() for file in files)

    found = answers(
        *(file.read_bytes for file in files), Path(f"/proc/{os.getpid()}/environ").read_bytes
    )

    assert found == ["denied"] * 8


def test_what_the_staff_site_shows_can_be_read_and_its_ledger_written(
    settings: Settings, tmp_path: Path, answers: Callable[..., list[str]]
) -> None:
    site = settings.site

    found = answers(
        (site / "store" / "ab" / "cd" / "x").read_text,
        (site / "quarantine" / "x").read_text,
        lambda: (site / LEDGERS / STAFF / "000000000009.jsonl").write_text("line"),
        lambda: (tmp_path / "letter.pdf").write_text("page"),
        lambda: load.catalog(site).url,
    )

    assert found == ["x", "x", "4", "4", ""]


def test_nothing_of_the_site_can_be_changed(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    site = settings.site
    held = site / "quarantine" / "x"

    found = answers(
        lambda: (site / "parties.toml").write_text(""),
        lambda: (site / "trees" / "parti-a" / "y").write_text(""),
        lambda: (site / REQUESTS / "20230514T140003000041-9f3c21ab.json").write_text("{}"),
        lambda: (site / "state" / "staff.json").write_text("{}"),
        lambda: (site / "ledgers" / "operations" / "000000000000.jsonl").open("ab"),
        held.unlink,
        lambda: held.chmod(0o666),
        lambda: held.rename(site / "ledgers" / "staff" / "x"),
        lambda: (site / "ledgers" / "staff" / "x").symlink_to("/etc/shadow"),
    )

    assert found == ["denied"] * 9
    assert held.read_text() == "x"


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
            lambda: outgoing.connect(address),
            lambda: outgoing.bind(("127.0.0.1", 0)),
            lambda: os.kill(parent, signal.SIGTERM),
            lambda: confined.call("ptrace", 16, parent, 0, 0),  # PTRACE_ATTACH
        )

    assert found == ["denied"] * 8


def test_the_figures_of_the_site_are_those_of_a_process_that_is_not_confined(
    settings: Settings, answers: Callable[..., list[str]]
) -> None:
    site, now = settings.site, datetime.now(UTC)
    waiting = settings.intake.folders[0] / "scan.png"
    waiting.parent.mkdir(exist_ok=True)
    waiting.write_bytes(b"x")

    def in_intake() -> int:
        with coverage.open_coverage(site) as opened:
            rate = opened.filing_rate(settings.intake.folders, now, settings.intake.litter)
            return rate.in_intake

    with (
        closing(sqlite3.connect(site / CATALOG)) as writer,
        socket.create_server(("127.0.0.1", 0)) as listening,
        server_state.claim(site, server_state.PUBLISH),
    ):
        writer.execute("PRAGMA journal_mode = WAL")  # as the publisher or the broker has it open
        port = listening.getsockname()[1]
        asked: tuple[confined.Action, ...] = (
            in_intake,
            lambda: port in health.listening_ports(),
            lambda: server_state.holder(site, server_state.PUBLISH),
        )
        expected = [each() for each in asked]
        found = answers(*asked)

    assert expected == [1, True, os.getpid()]
    assert found == [str(each) for each in expected]


def test_a_staff_site_with_its_catalog_in_postgresql_is_not_confined(tmp_path: Path) -> None:
    url = "postgresql+psycopg://ssps@db.example:5432/ssps"
    site = staff_site.make(tmp_path / "site", f'{SITE_TOML}[catalog]\nurl = "{url}"\n')

    with capture_logs() as logs:
        server.confine(load.load(site))

    assert [log["event"] for log in logs] == ["staff-not-confined"]
    assert (site / "parties.toml").read_text()
