"""Three hosts as docs/deploy/three-hosts.md has them; each role is killed once during a night.

`pytest -s` prints how long each death was noticed. `scripts/soak hosts` plays a longer night.
"""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import postgres
import pytest
from machines import ROOT, Marked, needs_haproxy, replicated_postgresql
from running_site import ADDRESS, SSPS, pages, until
from three_hosts import DELIVERED, Ports, ThreeHosts

from keys.server_keys import sshsig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.EVERYTHING, reason="has databases of its own"),
    pytest.mark.skipif(postgres.programs() is None, reason="needs Debian's postgresql"),
    needs_haproxy,
]
BOXES, PARTIES = 150, 3  # more pages than are scanned until all have died


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[ThreeHosts]:
    """A rehearsal whose roles run on two hosts behind a balancer."""
    ports = Ports()
    with replicated_postgresql() as (primary, replica):
        made = ThreeHosts(tmp_path, ports, primary, replica)
        words = ["--boxes", str(BOXES), "--parties", str(PARTIES), "--port", str(ports.sftp)]
        words += ["--web-port", str(ports.web)]
        command = [*SSPS, "rehearse", "init", str(made.site), *words]
        subprocess.run(command, check=True, capture_output=True)
        with made.run():
            yield made


@pytest.mark.hosts
def test_each_role_dies_once_and_nothing_is_lost(hosts: ThreeHosts) -> None:
    mirrors, over = follow(hosts), threading.Event()

    def scan() -> None:
        while not over.is_set():
            hosts.here.ssps("rehearse", "scan", "--count", "4")

    try:
        with ThreadPoolExecutor(1) as pool:
            scanning = pool.submit(scan)
            try:
                until(lambda: hosts.delivered() >= 3, "pages are filed")
                hosts.each_dies_once()
            finally:
                over.set()
            scanning.result()
        everything_is_there(hosts)
    finally:
        for mirror in mirrors:
            mirror.kill()


def follow(hosts: ThreeHosts) -> list[Marked]:
    """Let every party mirror through the balancer."""
    signers = hosts.folder / "signers"
    signers.write_text(sshsig.site_allowed_signers(hosts.site))
    started = []
    for party in parties(hosts):
        command = [
            sys.executable, str(ROOT / "scripts/mirror"), "--host", ADDRESS,
            "--port", str(hosts.ports.sftp), "--user", party,
            "--key", str(hosts.here.key(party)), "--known-hosts", str(hosts.here.known_hosts),
            "--signers", str(signers), "--to", str(mirror_of(hosts, party)),
            "--max-age", "0", "--follow", "--eager",
        ]  # fmt: skip
        log = hosts.folder / f"mirror-{party}.log"
        started.append(Marked.start(f"{hosts.folder}/mirror/{party}", command, log))
    return started


def parties(hosts: ThreeHosts) -> list[str]:
    return sorted(p.name for p in (hosts.site / "trees").iterdir() if p.name.startswith("parti"))


def mirror_of(hosts: ThreeHosts, party: str) -> Path:
    return hosts.folder / "mirrors" / party


def everything_is_there(hosts: ThreeHosts) -> None:
    scanned = len((hosts.site / "scanned.csv").read_text().splitlines())
    until(lambda: hosts.here.done() >= scanned, f"all is filed: {hosts.here.status()}", 300)
    origins = Counter(r.event.origin for r in hosts.records() if r.event.event in DELIVERED)
    assert len(origins) == scanned
    filed = Counter(r.event.what for r in hosts.records() if r.event.event == "filed")
    assert set(filed.values()) == {1}
    for party in parties(hosts):
        until(partial(same_pages, hosts, party), f"the mirror of {party} is complete", 120)
    assert hosts.here.ssps("verify", "--quick") == ""
    hosts.here.ssps("audit", "verify")


def same_pages(hosts: ThreeHosts, party: str) -> bool:
    mirror = mirror_of(hosts, party)
    return mirror.is_dir() and pages(mirror) == pages(hosts.site / "trees" / party)
