"""Three hosts as docs/deploy/three-hosts.md has them; each role is killed once during a night.

Hosts a and b are processes on this machine with other names and ports, HAProxy runs with the
documented configuration, and PostgreSQL has a synchronous replica. `pytest -s` prints how long each
death was noticed. SSPS_BOXES=2010 plays the hundredth part of the country.
"""

import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import postgres
import pytest
from machines import (
    ROOT,
    Marked,
    database_of_both,
    documented,
    promote,
    psql,
    replicated_postgresql,
)
from running_site import ADDRESS, SSPS, RunningSite, answers, free_port, pages, until

from config.site import FILING, LEDGERS, SITE_TOML, ledgers_of_kind
from keys.ledger import segments
from keys.ledger.record import Record
from keys.server_keys import sshsig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.EVERYTHING, reason="has databases of its own"),
    pytest.mark.skipif(postgres.programs() is None, reason="needs Debian's postgresql"),
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed"),
]
CONFIGURATION = ROOT / "docs/deploy/three-hosts/haproxy.cfg"
BOXES = int(os.environ.get("SSPS_BOXES", "40"))
PARTIES = 3
BALANCER = "127.0.0.9"  # its address towards the hosts
DELIVERED = ("filed", "duplicate", "quarantined")
HOSTS = ("a", "b")


@dataclass
class Ports:
    """Where everything listens on this machine."""

    sftp: int = field(default_factory=free_port)  # of the balancer
    web: int = field(default_factory=free_port)
    gateways: dict[str, int] = field(default_factory=lambda: {h: free_port() for h in HOSTS})
    portals: dict[str, int] = field(default_factory=lambda: {h: free_port() for h in HOSTS})


class ThreeHosts:
    """All processes of the night, by their host and role, such as ("a", "serve")."""

    def __init__(
        self, folder: Path, ports: Ports, primary: postgres.Server, replica: postgres.Server
    ) -> None:
        self.folder, self.ports = folder, ports
        self.primary, self.replica = primary, replica
        self.site = folder / "site"
        self.log = folder / "log.jsonl"
        self.here = RunningSite(self.site, ports.sftp, self.log)
        self.running: dict[tuple[str, str], Marked] = {}
        self.mirrors: list[Marked] = []

    def start(self, host: str, role: str) -> None:
        mark = f"{self.folder}/{host}/{role}"
        command = [*SSPS, role, "--site", str(self.site)]
        self.running[host, role] = Marked.start(mark, command, self.log, SSPS_HOST=host)

    def start_balancer(self) -> None:
        """Run HAProxy with the documented configuration, and the addresses of this machine."""
        text, ports = CONFIGURATION.read_text(), self.ports
        places = {
            "bind :22": f"bind {ADDRESS}:{ports.sftp}",
            "bind :443": f"bind {ADDRESS}:{ports.web}",
        }
        for address, host in (("10.0.0.11", "a"), ("10.0.0.12", "b")):
            places[f"{address}:22"] = f"{ADDRESS}:{ports.gateways[host]}"
            places[f"{address}:443"] = f"{ADDRESS}:{ports.portals[host]}"
        for documented_place, here in places.items():
            assert documented_place in text
            text = text.replace(f"{documented_place}\n", f"{here}\n")
        # A gateway takes a client with the balancer's own address for a health check.
        text = text.replace("    mode tcp\n", f"    mode tcp\n    source {BALANCER}\n", 1)
        text = text.replace("maxconn 20000", "maxconn 500")  # which needs a limit of 40,000 files
        file = self.folder / "haproxy.cfg"
        file.write_text(text)
        command = ["haproxy", "-db", "-q", "-f", str(file)]
        mark = f"{self.folder}/c/haproxy"
        self.running["c", "haproxy"] = Marked.start(mark, command, self.folder / "haproxy.log")

    def follow(self) -> None:
        """Let every party mirror through the balancer."""
        signers = self.folder / "signers"
        signers.write_text(sshsig.site_allowed_signers(self.site))
        for party in self.parties():
            command = [
                sys.executable, str(ROOT / "scripts/mirror"), "--host", ADDRESS,
                "--port", str(self.ports.sftp), "--user", party,
                "--key", str(self.here.key(party)), "--known-hosts", str(self.here.known_hosts),
                "--signers", str(signers), "--to", str(self.mirror_of(party)),
                "--max-age", "0", "--follow", "--eager",
            ]  # fmt: skip
            mark = f"{self.folder}/mirror/{party}"
            log = self.folder / f"mirror-{party}.log"
            self.mirrors.append(Marked.start(mark, command, log))

    def mirror_of(self, party: str) -> Path:
        return self.folder / "mirrors" / party

    def parties(self) -> list[str]:
        return sorted(p.name for p in (self.site / "trees").iterdir() if p.name.startswith("parti"))

    def records(self, kind: str = FILING) -> list[Record]:
        """Return the records of every host's ledger of a kind."""
        ledgers = self.site / LEDGERS
        return [
            record
            for name in ledgers_of_kind(ledgers, kind)
            if (ledgers / name).exists()
            for record in segments.read_records(ledgers / name)
        ]

    def delivered(self) -> int:
        return sum(record.event.event in DELIVERED for record in self.records())

    def scanned(self) -> int:
        return len((self.site / "scanned.csv").read_text().splitlines())

    def promote(self) -> None:
        """Give the commands of the chapter after the death of the first PostgreSQL."""
        for line in documented("three-hosts.md", "When something is lost"):
            if line == "sudo -u postgres pg_ctlcluster 15 main promote":
                promote(self.replica)
            else:
                assert line.startswith("sudo -u postgres psql -c "), line
                psql(self.replica, shlex.split(line)[-1])

    def end(self) -> None:
        for each in [*self.mirrors, *self.running.values()]:
            each.kill()


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
        settle(made.site, ports, database_of_both(primary, replica))
        made.here.ssps("catalog", "migrate", "--why", "a new site")
        try:
            for host in HOSTS:
                for role in ("publish", "serve", "portal"):
                    made.start(host, role)
            made.start_balancer()
            for port in (*ports.gateways.values(), *ports.portals.values()):
                until(partial(listens, port), f"something listens on {port}")
            until(lambda: answers(ports.sftp), "a gateway answers through the balancer")
            yield made
        finally:
            made.end()


def settle(site: Path, ports: Ports, database: str) -> None:
    """State balancer, hosts and database in the settings, as the chapter says."""
    text = (site / SITE_TOML).read_text()
    text = text.replace("[sftp]\n", f'[sftp]\nproxies = ["{BALANCER}"]\n', 1)
    balanced = f'[portal]\nproxies = ["{BALANCER}"]\nproxy_protocol = true\n'
    text = text.replace("[portal]\n", balanced, 1)
    text += f'\n[catalog]\nurl = "{database}"\n'
    for host in HOSTS:
        text += f'\n[hosts.{host}]\nsftp_listen = "{ADDRESS}:{ports.gateways[host]}"\n'
        text += f'portal_listen = "{ADDRESS}:{ports.portals[host]}"\n'
    (site / SITE_TOML).write_text(text)


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((ADDRESS, port), timeout=1):
        return True
    return False


def speaks_tls(port: int) -> bool:
    """Say whether a portal answers behind the balancer, which accepts connections in any case."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection((ADDRESS, port), timeout=2) as plain,
        context.wrap_socket(plain),
    ):
        return True
    return False


@pytest.mark.hosts
def test_each_role_dies_once_and_nothing_is_lost(hosts: ThreeHosts) -> None:
    hosts.follow()
    command = [*SSPS, "rehearse", "scan", "--site", str(hosts.site), "--rate", "8"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as scanning:
        until(lambda: hosts.delivered() >= 3, "pages are filed")
        for role in ("publish", "serve", "portal"):
            for host in HOSTS:
                killed_and_started_again(hosts, host, role)
        hosts.running["c", "haproxy"].kill()
        hosts.start_balancer()
        until(lambda: answers(hosts.ports.sftp), "the balancer is back")
        begun = time.monotonic()
        hosts.primary.stop(signal.SIGKILL)
        hosts.promote()
        goes_on(hosts, "the PostgreSQL that takes changes", begun)
        assert scanning.wait(600) == 0

    everything_is_there(hosts)


def killed_and_started_again(hosts: ThreeHosts, host: str, role: str) -> None:
    begun = time.monotonic()
    hosts.running[host, role].kill()
    goes_on(hosts, f"{role} of {host}", begun)
    hosts.start(host, role)
    ports = {"serve": hosts.ports.gateways, "portal": hosts.ports.portals}.get(role)
    if ports is not None:
        until(lambda: listens(ports[host]), f"{role} of {host} listens again")


def goes_on(hosts: ThreeHosts, what: str, begun: float) -> None:
    """Wait until pages are filed and both services answer again."""
    before = hosts.delivered()
    waiting: dict[str, Callable[[], bool]] = {
        "filing": lambda: hosts.delivered() > before or hosts.delivered() >= hosts.scanned(),
        "SFTP": lambda: answers(hosts.ports.sftp),
        "web": lambda: speaks_tls(hosts.ports.web),
    }
    for name, met in waiting.items():
        until(met, f"{name} goes on after the death of {what}", 60)
        print(f"{what} killed: {name} goes on after {time.monotonic() - begun:.1f} s")


def everything_is_there(hosts: ThreeHosts) -> None:
    scanned = hosts.scanned()
    until(lambda: hosts.here.done() >= scanned, f"all is filed: {hosts.here.status()}", 300)
    origins = Counter(r.event.origin for r in hosts.records() if r.event.event in DELIVERED)
    assert len(origins) == scanned
    filed = Counter(r.event.what for r in hosts.records() if r.event.event == "filed")
    assert set(filed.values()) == {1}
    for party in hosts.parties():
        until(partial(same_pages, hosts, party), f"the mirror of {party} is complete", 120)
    assert hosts.here.ssps("verify", "--quick") == ""
    hosts.here.ssps("audit", "verify")


def same_pages(hosts: ThreeHosts, party: str) -> bool:
    mirror = hosts.mirror_of(party)
    return mirror.is_dir() and pages(mirror) == pages(hosts.site / "trees" / party)
