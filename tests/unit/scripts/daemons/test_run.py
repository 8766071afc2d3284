import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import structlog
from office import Ssps
from slow_rest import slow_rest

from config import load
from config.fault import Fault, Faults
from config.settings import Settings
from keys.kernel import capabilities, process
from keys.operations import server_state
from portal import broker, programs
from scripts.daemons import portal, staff, starts
from scripts.daemons import run as daemons
from scripts.daemons.portal import run_portal
from scripts.daemons.staff import run_staff


def test_no_daemon_starts_on_a_site_with_faults(site: Path, ssps: Ssps) -> None:
    (site / "site.toml").write_text("[election]\n")
    (site / "keys/signing/signing_key").chmod(0o644)

    for command in ("run", "publish", "serve"):
        done = ssps(command, "--site", site)

        assert done.exit_code == 1
        assert "site.toml: election.id: is missing, add it" in done.stderr
        assert "keys/signing/signing_key: permissions 0644" in done.stderr


@pytest.fixture
def daemon_log() -> Iterator[None]:
    """Undo how a daemon configures its log."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize("part", ["run", "serve", "portal", "staff"])
def test_a_reload_is_held_until_the_daemon_can_act_on_it(
    site: Path, part: str, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []

    def read(_: Path) -> Settings:
        held.append(signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        raise Faults([Fault("site.toml", "", "is not read in this test")])

    for module in (daemons, portal, staff):
        monkeypatch.setattr(module, "load_ready_settings", read)

    assert ssps(part, "--site", site).exit_code == 1
    assert held == [True]
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.usefixtures("daemon_log")
@pytest.mark.parametrize("part", ["run", "publish", "serve", "portal", "staff"])
def test_with_json_what_keeps_a_daemon_from_starting_is_in_its_log(
    site: Path, part: str, ssps: Ssps
) -> None:
    (site / "site.toml").write_text("[election]\n")

    done = ssps(part, "--json", "--site", site)

    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (done.exit_code, done.stdout) == (1, "")
    assert {(line["part"], line["event"], line["level"]) for line in lines} == {
        (part, "daemon-failed", "error")
    }
    assert lines[0]["cause"] == "site.toml: election.id: is missing, add it"


@pytest.mark.parametrize("part", slow_rest(["run", "serve", "publish"], 1))
def test_a_second_daemon_is_refused_at_once_and_leaves_nothing_behind(
    site: Path, part: str
) -> None:
    code = (
        "import sys; from pathlib import Path; from keys.operations import server_state\n"
        "with server_state.claim(Path(sys.argv[1]), sys.argv[2]): print(flush=True), input()"
    )
    command = [sys.executable, "-c", code, str(site), part]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()

        began = time.monotonic()
        second = subprocess.run(
            [sys.executable, "-m", "scripts.ssps", part, "--site", str(site)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert second.returncode == 1
        assert f"process {first.pid} already runs `ssps {part}`, stop that one first" in (
            second.stderr
        )
        assert time.monotonic() - began < 30  # it waited for 60 s before
        assert server_state.holder(site, "signer") is None
        assert not (site / "ledgers/operations").exists()  # it has not started, and says nothing
        first.communicate(b"\n")


@pytest.mark.parametrize(
    ("part", "start"),
    [
        ("serve", daemons.run_server),
        ("publish", daemons.run_publisher),
        ("portal", run_portal),
        ("staff", run_staff),
    ],
)
def test_a_daemon_claims_its_part_of_the_site_before_it_waits_for_a_ledger(
    site: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    start: Callable[[Settings], object],
) -> None:
    # So the second of two that are started at the same moment is refused at once.
    def prepare(*_: object) -> None:
        raise Faults([Fault("holder", "", str(server_state.holder(site, part)))])

    monkeypatch.setattr(starts, "prepare", prepare)
    monkeypatch.setattr(broker, "fork", lambda **_: nullcontext())
    monkeypatch.setattr(programs, "ONE_THREAD", {})
    for module, name in (
        (process, "forbid_inspection"),
        (capabilities, "clear_ambient"),
        (signal, "signal"),
        (os, "umask"),
    ):
        monkeypatch.setattr(module, name, lambda *_: None)

    with pytest.raises(Faults, match=f"holder: {os.getpid()}"):
        start(load.load(site))
