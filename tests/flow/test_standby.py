"""The first machine dies in the middle of the night; the standby goes on by documented commands.

The commands are those of docs/deploy/standby.md, with folders of this machine. What cannot be run
here has a stand-in: a replicated disk is the dead machine's folder under another name, a snapshot
of a disk is a copy that is made while all processes stand still, and `systemctl enable` starts
`ssps run`. `pytest -s` prints how long everything took, and what was lost.
"""

import json
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import postgres
import pytest
from machines import (
    Marked,
    database_of_both,
    documented,
    promote,
    psql,
    replicated_postgresql,
    signal_all,
)
from running_site import ADDRESS, SSPS, RunningSite, answers, free_port, pages, until

from config.site import FILING, LEDGERS, OPERATIONS, RESULTS, RESULTS_LEDGER, SITE_TOML, TRANSFER
from keys.server_keys import sshsig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.EVERYTHING, reason="has databases of its own"),
    pytest.mark.skipif(postgres.programs() is None, reason="needs Debian's postgresql"),
]
ROOT = Path(__file__).resolve().parents[2]
CHAPTER = "standby.md"
DELIVERED = ("filed", "duplicate", "quarantined")


@dataclass
class Machine:
    """A machine: a folder that is its disk, its PostgreSQL, and the processes with its mark."""

    name: str
    folder: Path
    port: int
    database: postgres.Server
    run: Marked | None = None

    @property
    def site(self) -> Path:
        return self.folder / "ssps"

    @property
    def here(self) -> RunningSite:
        return RunningSite(self.site, self.port, self.folder / "log.jsonl")

    def start(self) -> None:
        command = [*SSPS, "run", "--site", str(self.site)]
        self.run = Marked.start(str(self.folder), command, self.here.log)
        until(lambda: answers(self.port), f"{self.name} answers: {self.here.log}")

    def signal(self, number: signal.Signals) -> None:
        signal_all(str(self.folder), number)

    def die(self) -> None:
        """Lose power: every process ends at once, and so does PostgreSQL."""
        if self.run is not None:
            self.run.kill()
        self.database.stop(signal.SIGKILL)


@dataclass
class Night:
    """Two machines and the share that both mount."""

    first: Machine
    second: Machine
    share: Path

    def ssps(self, command: str, machine: Machine) -> str:
        """Run a documented `ssps` command; the path of the site is another one here."""
        words = shlex.split(command.replace("/srv/ssps", str(machine.site)))
        done = subprocess.run([*SSPS, *words[1:]], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stderr

    def scanned(self) -> int:
        return len((self.first.site / "scanned.csv").read_text().splitlines())

    def copy(self, interrupted: threading.Event) -> None:
        """Copy once as documented, unless the first machine dies; a stand-in is the snapshot."""
        now, copied = self.second.folder / "now", self.second.folder / "ssps-next"
        shutil.rmtree(now, ignore_errors=True)
        self.first.signal(signal.SIGSTOP)
        try:
            command = ["cp", "-a", str(self.first.site), str(now)]
            subprocess.run(command, check=True, capture_output=True)
        finally:
            self.first.signal(signal.SIGCONT)
        places = {
            "/mnt/ssps-now/": f"{now}/",
            "standby:/srv/ssps-next/": f"{copied}/",
            "ssh standby ": "",
            " /srv/ssps-next/": f" {copied}/",
            " /srv/ssps/": f" {self.second.site}/",
        }
        for line in documented(CHAPTER, "Copy at intervals"):
            if interrupted.is_set():
                return
            command_here = line
            for place, one in places.items():
                command_here = command_here.replace(place, one)
            subprocess.run(shlex.split(command_here), check=True, capture_output=True)

    def promote(self, *, copied: bool) -> dict[str, float]:
        """Give the commands of the chapter on the second machine; return how long each took."""
        database, took = self.second.database, {}
        for line in documented(CHAPTER, "Promote"):
            begun = time.monotonic()
            if line == "sudo -u postgres pg_ctlcluster 15 main promote":
                promote(database)
            elif line.startswith("sudo -u postgres psql -c "):
                psql(database, shlex.split(line)[-1])
            elif line == "systemctl enable --now ssps.target":
                self.second.start()
            else:
                assert line.split()[3] in ("recover", "rebuild"), f"not tried here: {line}"
                if not copied:
                    continue
                self.ssps(line, self.second)
            took[line] = time.monotonic() - begun
        return took


@pytest.fixture
def night(tmp_path: Path) -> Iterator[Night]:
    """A rehearsal on the first machine, whose PostgreSQL has a synchronous replica."""
    port, share = free_port(), tmp_path / "share"
    with replicated_postgresql() as (primary, replica):
        first = Machine("the first machine", tmp_path / "first", port, primary)
        second = Machine("the standby", tmp_path / "second", port, replica)
        for machine in (first, second):
            machine.folder.mkdir()
        words = ["--boxes", "8", "--parties", "2", "--port", str(port)]
        command = [*SSPS, "rehearse", "init", str(first.site), *words]
        subprocess.run(command, check=True, capture_output=True)
        settle(first.site, share, database_of_both(primary, replica))
        first.here.ssps("catalog", "migrate", "--why", "a new site")
        try:
            yield Night(first, second, share)
            assert second.run is not None
            second.run.stop(second.here.log)
        finally:
            for machine in (first, second):
                if machine.run is not None:
                    machine.run.kill()


def settle(site: Path, share: Path, database: str) -> None:
    """State the database and the share in the settings, as the chapter says."""
    (share / "intake").mkdir(parents=True)
    (site / RESULTS).rename(share / "results")
    (site / RESULTS).symlink_to(share / "results")
    text = (site / SITE_TOML).read_text()
    intake = f'[intake]\nfolders = ["{share}/intake"]\nkeep_seconds = 600.0\n'
    text = re.sub(r"\[intake\]\nfolders = .*\n", intake, text)
    assert "keep_seconds" in text
    (site / SITE_TOML).write_text(f'{text}\n[catalog]\nurl = "{database}"\n')


@pytest.mark.hosts
def test_nothing_is_lost_when_the_disk_is_replicated(night: Night, tmp_path: Path) -> None:
    mirrored, client = follow(night, tmp_path / "mirror")
    known = scan_until_the_first_machine_dies(night)
    night.first.site.rename(night.second.site)  # the disk that both have
    night.first.site.symlink_to(night.second.site)  # where the scanner looks up its pages

    took = night.promote(copied=False)
    everything_arrives(night)
    client(night.second)

    assert delivered_once(night) == night.scanned()
    for ledger, lines in known.items():
        assert records(night.second, ledger)[: len(lines)] == lines, "a record was lost"
    assert pages(mirrored) == night.second.here.tree("parti-a")
    report(took, "nothing")


@pytest.mark.hosts
def test_a_standby_with_copies_files_what_they_lack(night: Night, tmp_path: Path) -> None:
    seed(night)
    stop = threading.Event()

    def copy_again_and_again() -> None:
        while not stop.is_set():
            night.copy(stop)

    copying = threading.Thread(target=copy_again_and_again)
    known = scan_until_the_first_machine_dies(night, copying.start, stop.set)
    copying.join()
    kept = {name: len(records(night.second, name)) for name in known}

    took = night.promote(copied=True)
    everything_arrives(night, "--repair", "--why", "restored")

    assert delivered(night) >= night.scanned()
    sheets = night.second.here.tree("parti-a")
    target = tmp_path / "fetched"
    target.mkdir()
    assert night.second.here.sftp("parti-a", f"get -r / {target}").returncode == 0
    assert pages(target) == sheets
    for ledger, lines in known.items():
        assert records(night.second, ledger)[: kept[ledger]] == lines[: kept[ledger]]
    lost = [f"{len(lines) - kept[name]} of {name}" for name, lines in known.items()]
    report(took, f"records {', '.join(lost)}; no page")


def seed(night: Night) -> None:
    """Give the standby the state of the first machine by the documented pipe."""
    night.first.start()
    [line] = documented(CHAPTER, "Prepare")
    export, _, imported = line.partition(" | ssh standby ")
    command = [*SSPS, *shlex.split(export.replace("/srv/ssps", str(night.first.site)))[1:]]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sending:
        words = shlex.split(imported.replace("/srv/ssps", str(night.second.site)))[1:]
        subprocess.run([*SSPS, *words], stdin=sending.stdout, check=True, capture_output=True)
        assert sending.wait() == 0
    assert (night.second.site / "keys/host/ssh_host_ed25519_key").exists()
    (night.second.site / RESULTS).symlink_to(night.share / "results")  # both mount it


def scan_until_the_first_machine_dies(
    night: Night, begun: Callable[[], None] = lambda: None, dying: Callable[[], None] = lambda: None
) -> dict[str, list[str]]:
    """Scan everything, kill the first machine at a random instant, and return its ledgers."""
    first = night.first
    if first.run is None:
        first.start()
    begun()
    moment = random.SystemRandom().randint(3, 20)
    command = [*SSPS, "rehearse", "scan", "--site", str(first.site), "--rate", "20"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as scanning:
        until(lambda: delivered_by(first) >= moment, f"{moment} pages are filed")
        dying()
        first.die()
        print(f"killed after {delivered_by(first)} pages")
        assert scanning.wait(300) == 0
    return {name: records(first, name) for name in (FILING, TRANSFER, OPERATIONS, RESULTS_LEDGER)}


def records(machine: Machine, ledger: str) -> list[str]:
    """Return the complete lines of a ledger."""
    found = []
    for path in sorted((machine.site / LEDGERS / ledger).glob("*.jsonl")):
        found += [line for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    return found


def delivered_by(machine: Machine) -> int:
    return sum(json.loads(line)["event"] in DELIVERED for line in records(machine, FILING))


def delivered(night: Night) -> int:
    """Return how many scanned pages the second machine has on record, each counted once."""
    return len(origins(night))


def origins(night: Night) -> Counter[str]:
    """Return how often each scanned file is on record on the second machine."""
    events = [json.loads(line) for line in records(night.second, FILING)]
    return Counter(event["from"] for event in events if event["event"] in DELIVERED)


def delivered_once(night: Night) -> int:
    """Return how many pages are on record; each source may be there only once."""
    found = origins(night)
    assert set(found.values()) == {1}
    return len(found)


def everything_arrives(night: Night, *repair: str) -> None:
    here = night.second.here
    until(lambda: here.done() >= night.scanned(), f"everything is filed: {here.status()}", 180)
    until(lambda: here.status()["waiting"] == 0, "nothing waits")
    if repair:
        here.ssps("verify", *repair)
    assert here.ssps("verify", "--quick") == ""


def follow(night: Night, folder: Path) -> tuple[Path, Callable[[Machine], None]]:
    """Return the folder of a party's mirror, and a function that runs it until it is complete."""
    first = night.first
    first.start()
    signers = folder.parent / "signers"
    signers.write_text(sshsig.site_allowed_signers(first.site))
    own = folder.parent / "client"
    shutil.copytree(first.site / "clients", own)
    command = [
        sys.executable, str(ROOT / "scripts/mirror"), "--host", ADDRESS, "--port", str(first.port),
        "--user", "parti-a", "--key", str(own / "parti-a/id_ed25519"),
        "--known-hosts", str(own / "known_hosts"), "--signers", str(signers), "--to", str(folder),
        "--json", "--max-age", "0",
    ]  # fmt: skip
    following = subprocess.Popen([*command, "--follow"], stdout=subprocess.DEVNULL)

    def finish(machine: Machine) -> None:
        try:
            tree = machine.site / "trees/parti-a"
            until(lambda: digests_of_pages(folder) == digests_of_pages(tree), "mirrored", 120)
        finally:
            following.terminate()
            following.wait()

    return folder, finish


def digests_of_pages(folder: Path) -> dict[str, str]:
    return pages(folder) if folder.is_dir() else {}


def report(took: dict[str, float], lost: str) -> None:
    for line, seconds in took.items():
        print(f"{seconds:6.2f} s  {line}")
    print(f"{sum(took.values()):6.2f} s  from the first command to the first answer; lost: {lost}")
