"""Several publishers work on one site; each fault that a host or PostgreSQL can have is tried.

After each of them the others go on, no page is lost and none is filed twice. The seconds until the
next page is filed are printed (`pytest -s`); the limit for them is generous.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import postgres
import pytest
import sqlalchemy as sa
from running_site import SSPS, until

from config.event import FilingEvent, ResultsEvent
from config.site import FILING, RESULTS_LEDGER, SITE_TOML
from publisher.election import terms

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.EVERYTHING, reason="has a database of its own"),
]
PAGE_EVENTS = (FilingEvent.FILED, FilingEvent.DUPLICATE, FilingEvent.QUARANTINED)
BOXES = 10
LIMIT_SECONDS = 60.0  # until the others go on; it is printed how long it took
Query = Callable[[str], list[tuple[object, ...]]]


@dataclass
class Night:
    """A site with several publishers, and the pages that scanners have not delivered yet."""

    site: Path
    delivery: Path
    query: Query
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    delivered: int = 0

    def start(self, *hosts: str) -> None:
        for host in hosts:
            with self.log(host).open("wb") as log:  # what it logged before it was killed is past
                self.running[host] = subprocess.Popen(
                    [*SSPS, "publish", "--json", "--site", str(self.site)],
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "SSPS_HOST": host},
                )
        until(lambda: all(map(self.works, hosts)), f"{hosts} work: {self.logs()}")

    def works(self, host: str) -> bool:
        return self.leader() == host or self.logged(host, "reading-for-leader")

    def log(self, host: str) -> Path:
        return self.site.parent / f"{host}.jsonl"

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.site.parent.glob("*.jsonl"))

    def logged(self, host: str, event: str) -> bool:
        return f'"event": "{event}"' in self.log(host).read_text()

    def leader(self) -> str:
        ((host,),) = self.query("SELECT host FROM publishers.leader WHERE task = 'filing'")
        return str(host)

    def others(self) -> list[str]:
        return [host for host in self.running if host != self.leader()]

    def processes(self, host: str) -> list[int]:
        """Return the publisher of a host and all processes that it has started."""
        return tree_of(self.running[host].pid)

    def signal(self, host: str, number: signal.Signals) -> None:
        for process in self.processes(host):
            with suppress(ProcessLookupError):  # it ends when the publisher does
                os.kill(process, number)

    def deliver(self, count: int | None = None) -> None:
        """Put pages into the intake as a scanner does, and the batches of results with them."""
        for folder in ("intake", "results"):
            for path in sorted((self.delivery / folder).rglob("*"))[:count]:
                if path.is_file():
                    target = self.site / path.relative_to(self.delivery)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.rename(target)
                    self.delivered += folder == "intake"
                    time.sleep(0.05)

    def records(self, kind: str = FILING) -> list[str]:
        """Return what was recorded of pages, or of results, by all leaders."""
        wanted = PAGE_EVENTS if kind == FILING else (ResultsEvent.ACCEPTED,)
        found = terms.records(self.site, terms.scan(self.site, kind))
        events = [record.event for record in found if record.event.event in wanted]
        return [e.origin if kind == FILING else f"{e.what} {dict(e.detail)}" for e in events]

    def until_next_record(self, since: float, what: str) -> None:
        before = len(self.records())
        self.deliver(5)  # on an idle machine all others may be filed by now
        until(lambda: len(self.records()) > before, f"{what}: {self.logs()}", LIMIT_SECONDS)
        print(f"\n{what}: {time.monotonic() - since:.1f} s until the next page was filed")

    def ssps(self, *words: str) -> str:
        done = subprocess.run(
            [*SSPS, *words, "--site", str(self.site)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def finish(self) -> None:
        """Deliver the rest, wait until all is filed, and check that nothing was lost or doubled."""
        self.deliver()
        pages = self.delivered
        until(lambda: len(self.records()) >= pages, f"{pages} pages: {self.logs()}", 180)
        snapshots = self.site / "snapshots"
        until(lambda: any(snapshots.glob("0*")), f"a snapshot is closed: {self.logs()}")
        # The leader ends last, so that no other is elected just before its own end.
        for host in (*self.others(), self.leader()):
            self.running[host].send_signal(signal.SIGTERM)
            assert self.running[host].wait(60) == 0, self.log(host).read_text()[-3000:]
        self.running.clear()

        names, results = self.records(), self.records(RESULTS_LEDGER)
        assert len(names) == len(set(names)) == pages
        assert len(results) == len(set(results)) > 0
        assert self.ssps("verify") == ""  # it prints findings only
        self.ssps("audit", "verify")


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site without a database, and what its scanners and SECSIS will deliver."""
    folder = tmp_path_factory.mktemp("evening")
    site = folder / "site"
    words = ["--boxes", str(BOXES), "--parties", "2"]
    subprocess.run([*SSPS, "rehearse", "init", str(site), *words], check=True, capture_output=True)
    scan = [*SSPS, "rehearse", "scan", "--site", str(site)]
    subprocess.run(scan, check=True, capture_output=True)
    for name in ("intake", "results"):
        (site / name).rename(folder / name)
        (site / name).mkdir()
    return folder


@contextmanager
def night_on(evening: Path, folder: Path, url: str, query: Query) -> Iterator[Night]:
    for name in ("site", "intake", "results"):
        shutil.copytree(evening / name, folder / name, symlinks=True)
    (folder / "delivery").mkdir()
    for name in ("intake", "results"):
        (folder / name).rename(folder / "delivery" / name)
    with (folder / "site" / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url}"\n')
    night = Night(folder / "site", folder / "delivery", query)
    night.ssps("catalog", "migrate", "--why", "a new site")
    try:
        yield night
    finally:
        for host in list(night.running):
            night.signal(host, signal.SIGKILL)
            night.running[host].wait()


@pytest.fixture
def night(evening: Path, tmp_path: Path, postgres_server: postgres.Server) -> Iterator[Night]:
    url = postgres_server.new_database(empty=True)
    with ExitStack() as stack:

        def query(text: str) -> list[tuple[object, ...]]:
            with postgres.changing(url) as connection:
                return [tuple(row) for row in connection.execute(sa.text(text))]

        yield stack.enter_context(
            night_on(evening, tmp_path, url.render_as_string(hide_password=False), query)
        )


def tree_of(process: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True)
    return [process, *(each for child in found.stdout.split() for each in tree_of(int(child)))]


@pytest.mark.hosts
def test_two_publishers_read_and_one_of_them_files(night: Night) -> None:
    night.start("pub1", "pub2")
    night.deliver()
    until(lambda: len(night.records()) == night.delivered, f"all are filed: {night.logs()}", 180)

    # Each says every two seconds how many it has read.
    both = "SELECT count(*) FROM publishers.reader WHERE pages > 0"
    until(lambda: night.query(both) == [(2,)], f"both have read: {night.logs()}")
    written = {term.ledger for term in terms.scan(night.site, FILING)[1:]}
    assert written == {f"filing@{night.leader()}"}
    shown = night.ssps("status")
    assert f"publisher {night.leader()} files pages" in " ".join(shown.split())
    night.finish()


def test_the_leader_is_killed(night: Night) -> None:
    night.start("pub1", "pub2", "pub3")
    night.deliver(15)
    until(lambda: len(night.records()) > 3, f"pages are filed: {night.logs()}")
    killed = night.leader()
    night.signal(killed, signal.SIGKILL)
    since = time.monotonic()
    night.running.pop(killed).wait()

    night.until_next_record(since, "the leader was killed")
    assert night.leader() != killed
    night.start(killed)
    night.finish()


@pytest.mark.hosts
def test_a_reader_is_killed_while_it_has_pages(night: Night) -> None:
    night.start("pub1", "pub2")
    (reader,) = night.others()
    delivering = threading.Thread(target=night.deliver)
    delivering.start()
    claimed = "SELECT 1 FROM publishers.reading WHERE claim <> '' AND answer IS NULL"
    until(lambda: bool(night.query(claimed)), f"the reader has pages: {night.logs()}")
    night.signal(reader, signal.SIGKILL)
    since = time.monotonic()
    night.running.pop(reader).wait()
    delivering.join()

    night.until_next_record(since, "a reader was killed")
    night.start(reader)  # it signs what it had recorded
    night.finish()


@pytest.mark.hosts
def test_the_leader_is_frozen_past_its_lease(night: Night) -> None:
    night.start("pub1", "pub2")
    night.deliver(15)
    until(lambda: len(night.records()) > 3, f"pages are filed: {night.logs()}")
    frozen = night.leader()
    night.signal(frozen, signal.SIGSTOP)
    since = time.monotonic()
    night.deliver(10)

    night.until_next_record(since, "the leader was frozen")
    assert night.leader() != frozen
    night.signal(frozen, signal.SIGCONT)
    until(lambda: night.logged(frozen, "publisher-halted"), f"it halts: {night.logs()}")
    until(lambda: night.logged(frozen, "reading-for-leader"), f"it reads: {night.logs()}")
    night.finish()


@pytest.mark.hosts
def test_the_sessions_of_the_leader_are_ended(night: Night) -> None:
    night.start("pub1", "pub2")
    night.deliver(15)
    until(lambda: len(night.records()) > 3, f"pages are filed: {night.logs()}")
    night.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        f"WHERE application_name LIKE 'ssps filing {night.leader()}%'"
    )
    since = time.monotonic()
    night.deliver(10)

    night.until_next_record(since, "the leader's sessions were ended")
    night.finish()


@pytest.mark.hosts
def test_postgresql_is_paused_for_longer_than_a_lease(
    night: Night, postgres_server: postgres.Server
) -> None:
    night.start("pub1", "pub2")
    night.deliver(15)
    until(lambda: len(night.records()) > 3, f"pages are filed: {night.logs()}")
    with postgres_server.paused():
        night.deliver(10)
        time.sleep(8)  # what is tried: it is longer than the lease
    since = time.monotonic()

    night.until_next_record(since, "PostgreSQL was paused for 8 s")
    night.finish()


@pytest.mark.hosts
def test_a_replica_takes_over(
    evening: Path, tmp_path: Path, postgres_server: postgres.Server
) -> None:
    with postgres.running_pair(postgres_server) as pair:

        def query(text: str) -> list[tuple[object, ...]]:
            with postgres.changing(pair.url) as connection:
                return [tuple(row) for row in connection.execute(sa.text(text))]

        url = pair.url.render_as_string(hide_password=False)
        with night_on(evening, tmp_path, url, query) as night:
            night.start("pub1", "pub2")
            night.deliver(15)
            until(lambda: len(night.records()) > 3, f"pages are filed: {night.logs()}")
            since = time.monotonic()
            pair.kill_primary()
            pair.promote()
            night.deliver(10)

            night.until_next_record(since, "the primary was killed and its replica promoted")
            night.finish()
            taken = json.loads(night.ssps("catalog", "show", "--json"))["rows"]
            assert taken["catalog.arrival"] == night.delivered
