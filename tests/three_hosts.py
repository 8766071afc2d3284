"""All roles of docs/deploy/three-hosts.md as processes of this machine, each killed once.

Hosts a and b are processes with other names and ports, HAProxy on host c runs with the documented
configuration, and PostgreSQL has a synchronous replica.
"""

import csv
import shlex
import signal
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import postgres
from machines import HAPROXY_PROGRAM, ROOT, Marked, database_of_both, documented, promote, psql
from running_site import ADDRESS, RunningSite, answers, free_port, until

from config.site import FILING, LEDGERS, SITE_TOML, ledgers_of_kind
from keys.ledger import segments
from keys.ledger.record import Record
from scripts.rehearsal.national import REAL, daemon_command

CONFIGURATION = ROOT / "docs/deploy/three-hosts/haproxy.cfg"
CHAPTER = "three-hosts.md"
BALANCER = "127.0.0.9"  # its address towards the hosts
DELIVERED = ("filed", "duplicate", "quarantined")
HOSTS = ("a", "b")
ROLES = ("publish", "serve", "portal")
BACKENDS = {"serve": "sftp", "portal": "portal"}  # of HAProxy
_LOST = "When something is lost"  # the heading of the commands in the chapter
_REPLICA = "standby"  # its name in the chapter on standbys


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
        self,
        folder: Path,
        ports: Ports,
        primary: postgres.Server,
        replica: postgres.Server,
        pages: str = REAL,
    ) -> None:
        """`pages` is as for scripts/rehearsal/national; the site is `site` in `folder`."""
        self.folder, self.ports, self.pages = folder, ports, pages
        self.primary, self.replica = primary, replica
        self.site = folder / "site"
        self.log = folder / "log.jsonl"
        self.here = RunningSite(self.site, ports.sftp, self.log)
        self.running: dict[tuple[str, str], Marked] = {}
        # Seconds until each service went on, by death; None if no page was left to file.
        self.noticed: dict[str, dict[str, float | None]] = {}
        self._socket = folder / "haproxy.sock"
        self._pages_come: Callable[[], bool] = lambda: True
        self._read: Counter[str] = Counter()  # records of each ledger that `delivered` has counted
        self._delivered = 0

    @contextmanager
    def run(self) -> Iterator[None]:
        """Settle the site, and run everything until the end of the `with` block."""
        self._settle()
        self.here.ssps("catalog", "migrate", "--why", "a new site")
        try:
            for host in HOSTS:
                for role in ROLES:
                    self.start(host, role)
            self.start_balancer()
            for host in HOSTS:
                self._wait_until_up(host, "serve")
                self._wait_until_up(host, "portal")
            yield
        finally:
            for each in self.running.values():
                each.kill()

    def _settle(self) -> None:
        """State balancer, hosts and database in the settings, as the chapter says."""
        text = (self.site / SITE_TOML).read_text()
        text = text.replace("[sftp]\n", f'[sftp]\nproxies = ["{BALANCER}"]\n', 1)
        balanced = f'[portal]\nproxies = ["{BALANCER}"]\nproxy_protocol = true\n'
        text = text.replace("[portal]\n", balanced, 1)
        text += f'\n[catalog]\nurl = "{database_of_both(self.primary, self.replica)}"\n'
        for host in HOSTS:
            text += f'\n[hosts.{host}]\nsftp_listen = "{ADDRESS}:{self.ports.gateways[host]}"\n'
            text += f'portal_listen = "{ADDRESS}:{self.ports.portals[host]}"\n'
        (self.site / SITE_TOML).write_text(text)

    def start(self, host: str, role: str) -> None:
        mark = f"{self.folder}/{host}/{role}"
        command = daemon_command(self.site, role, self.pages)
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
        places = {
            "    user haproxy\n    group haproxy\n": "",  # tests need not run as root
            "/run/haproxy.sock": str(self._socket),
            "maxconn 20000": "maxconn 500",  # which needs a limit of 40,000 files
        }
        for documented_place, here in places.items():
            assert documented_place in text
            text = text.replace(documented_place, here)
        # A gateway takes a client with the balancer's own address for a health check.
        text = text.replace("    mode tcp\n", f"    mode tcp\n    source {BALANCER}\n", 1)
        file = self.folder / "haproxy.cfg"
        file.write_text(text)
        command = [HAPROXY_PROGRAM, "-db", "-q", "-f", str(file)]
        mark = f"{self.folder}/c/haproxy"
        self.running["c", "haproxy"] = Marked.start(mark, command, self.folder / "haproxy.log")

    def _wait_until_up(self, host: str, role: str) -> None:
        server = (BACKENDS[role], host)
        until(lambda: self._servers().get(server) == "UP", f"{role} of {host} is up: {self.log}")

    def _servers(self) -> dict[tuple[str, str], str]:
        """Return what HAProxy says of each server, by backend and host."""
        text = b""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self._socket))
            asked.sendall(b"show stat\n")
            while part := asked.recv(65536):
                text += part
        lines = csv.DictReader(text.decode().removeprefix("# ").splitlines())
        return {(line["pxname"], line["svname"]): line["status"] for line in lines}

    def records(self, kind: str = FILING) -> Iterator[Record]:
        """Yield the records of every host's ledger of a kind."""
        for folder in self._ledgers(kind):
            yield from segments.read_records(folder)

    def _ledgers(self, kind: str) -> Iterator[Path]:
        ledgers = self.site / LEDGERS
        for name in ledgers_of_kind(ledgers, kind):
            if (ledgers / name).exists():
                yield ledgers / name

    def delivered(self) -> int:
        """Return how many pages are on record; only what is new is read."""
        for folder in self._ledgers(FILING):
            for record in segments.read_records(folder, self._read[folder.name]):
                self._read[folder.name] = record.seq + 1
                self._delivered += record.event.event in DELIVERED
        return self._delivered

    def each_dies_once(
        self, pause: float = 0.0, pages_come: Callable[[], bool] = lambda: True
    ) -> None:
        """Kill every process, one after the other, and start it again, as an operator does.

        After each death filing, SFTP and web must go on; `noticed` has the seconds. `pause` is the
        number of seconds between two deaths. `pages_come` says whether there is more to file.
        """
        self._pages_come = pages_come
        for role in ROLES:
            for host in HOSTS:
                self._kill_daemon(host, role)
                time.sleep(pause)
        self._kill_balancer()
        time.sleep(pause)
        self._kill_replica()
        time.sleep(pause)
        self._kill_primary()

    def _kill_daemon(self, host: str, role: str) -> None:
        begun = time.monotonic()
        self.running[host, role].kill()
        self._goes_on(f"{role} of {host}", begun)
        self.start(host, role)
        if role in BACKENDS:
            self._wait_until_up(host, role)

    def _kill_balancer(self) -> None:
        begun = time.monotonic()
        self.running["c", "haproxy"].kill()
        self.start_balancer()
        self._goes_on("HAProxy", begun)

    def _kill_replica(self) -> None:
        """Kill the replica, go on without one as documented, and take it in again."""
        begun = time.monotonic()
        self.replica.stop(signal.SIGKILL)
        without = [line for line in documented(CHAPTER, _LOST) if " psql " in line]
        assert len(without) == 2
        for line in without:
            psql(self.primary, shlex.split(line)[-1])
        self._goes_on("the replica of PostgreSQL", begun)
        self.replica.start()
        psql(self.primary, f"ALTER SYSTEM SET synchronous_standby_names = '{_REPLICA}'")
        psql(self.primary, "SELECT pg_reload_conf()")
        until(self._is_replicated, "the replica has all changes again")

    def _is_replicated(self) -> bool:
        state = "SELECT sync_state FROM pg_stat_replication"
        return psql(self.primary, state).split() == ["sync"]

    def _kill_primary(self) -> None:
        begun = time.monotonic()
        self.primary.stop(signal.SIGKILL)
        for line in documented(CHAPTER, _LOST):
            if line == "sudo -u postgres pg_ctlcluster 15 main promote":
                promote(self.replica)
            else:
                assert line.startswith("sudo -u postgres psql -c "), line
                psql(self.replica, shlex.split(line)[-1])
        self._goes_on("the PostgreSQL that takes changes", begun)

    def _goes_on(self, what: str, begun: float) -> None:
        """Wait until pages are filed and both services answer again."""
        before = self.delivered()
        waiting: dict[str, Callable[[], bool]] = {
            "filing": lambda: self.delivered() > before or not self._pages_come(),
            "SFTP": lambda: answers(self.ports.sftp),
            "web": lambda: speaks_tls(self.ports.web),
        }
        noticed = self.noticed[what] = {}

        def all_go_on() -> bool:
            for name in [name for name, met in waiting.items() if name not in noticed and met()]:
                took = round(time.monotonic() - begun, 1)
                noticed[name] = took if name != "filing" or self.delivered() > before else None
            return len(noticed) == len(waiting)

        until(all_go_on, f"everything goes on after the death of {what}", 180)
        print(
            f"{before} pages filed, {what} killed: seconds until it goes on: {noticed}", flush=True
        )


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
