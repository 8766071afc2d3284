"""Two SFTP gateways of one site behind HAProxy: limits, changes, a gateway that dies, a drain."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import paramiko
import pytest
from machines import HAPROXY_PROGRAM, needs_haproxy
from running_site import ADDRESS, SSPS, RunningSite, answers, digests, free_port, pages, until

from config import load
from config.site import OPERATIONS, TRANSFER
from keys.ledger import segments
from keys.ledger.record import Record
from keys.operations import live_sessions
from keys.server_keys import host as host_keys
from scripts.rehearsal.rehearsal_site import own_address

pytestmark = [pytest.mark.slow, needs_haproxy]

ROOT = Path(__file__).parents[2]
BALANCER = "127.0.0.9"
HOSTS = {"gw1": "127.0.0.11", "gw2": "127.0.0.12"}
PARTY, CAP = "parti-a", 4
BIG = "buyuk.bin"
CONFIG = """\
global
    maxconn 200
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 3
    option redispatch 1
listen ssps
    bind {address}:{port}
    balance roundrobin
    source {balancer}
    option tcp-check
    tcp-check expect rstring ^SSH-2\\.0-
    timeout check 5s
    default-server check inter 200ms fall 2 rise 1 send-proxy-v2 check-send-proxy
    server gw1 {gw1}:{port}
    server gw2 {gw2}:{port}
"""


@dataclass
class Gateways:
    """A site with its balancer, and the gateways that run now."""

    site: RunningSite
    logs: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, host: str) -> None:
        environment = {**os.environ, "SSPS_HOST": host}
        with (self.logs / f"{host}.log").open("ab") as log:
            self.running[host] = subprocess.Popen(
                [*SSPS, "serve", "--site", str(self.site.site)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        before = self.log(host).count('"listening"')
        until(lambda: self.log(host).count('"listening"') > before, f"{host} listens")

    def stop(self, host: str) -> None:
        process = self.running[host]
        process.terminate()
        assert process.wait(60) == 0, self.log(host)
        del self.running[host]

    def kill(self, host: str) -> None:
        """Kill all processes of a gateway at once, as a loss of power would."""
        process = self.running.pop(host)
        with suppress(ProcessLookupError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def log(self, host: str) -> str:
        return (self.logs / f"{host}.log").read_text()

    def records(self, host: str, event: str) -> list[Record]:
        folder = self.site.site / "ledgers" / f"{TRANSFER}@{host}"
        return [r for r in segments.read_records(folder) if r.event.event == event]

    def live(self, party: str = PARTY) -> dict[str, list[str]]:
        """Return the numbers of a party's sessions by gateway, of those that are known."""
        found: dict[str, list[str]] = {host: [] for host in HOSTS}
        for session in live_sessions.read(self.site.site):
            if session.party == party:
                found[session.host].append(session.number)
        return found

    def has(self, number: int, party: str = PARTY) -> bool:
        """Say whether a party has that many sessions on all gateways together."""
        return sum(map(len, self.live(party).values())) == number

    def counted(self) -> bool:
        """Say whether each gateway has told the others of all its sessions."""
        for host in self.running:
            path = self.site.site / "state/hosts" / host / "gateway.json"
            if not path.exists():
                return False
            told = json.loads(path.read_text())["sessions"].get(PARTY, [])
            if len(told) != len(self.live()[host]):
                return False
        return True

    @contextmanager
    def connect(self, party: str = PARTY, key: Path | None = None) -> Iterator[paramiko.SFTPClient]:
        """Log in through the balancer."""
        client = paramiko.SSHClient()
        client.load_host_keys(str(self.site.known_hosts))
        with client:
            client.connect(
                ADDRESS, self.site.port, party, key_filename=str(key or self.site.key(party)),
                allow_agent=False, look_for_keys=False, banner_timeout=30,
            )  # fmt: skip
            yield client.open_sftp()


@contextmanager
def balancer(folder: Path, port: int) -> Iterator[None]:
    config = folder / "haproxy.cfg"
    config.write_text(CONFIG.format(address=ADDRESS, port=port, balancer=BALANCER, **HOSTS))
    with subprocess.Popen([HAPROXY_PROGRAM, "-db", "-q", "-f", str(config)]) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> RunningSite:
    """A site with filed pages, and settings for two gateways."""
    folder = tmp_path_factory.mktemp("gateways")
    port = free_port()
    found = RunningSite(folder / "site", port, folder / "publisher.log")
    words = ["rehearse", "init", found.site, "--boxes", 6, "--parties", 2, "--port", port]
    subprocess.run([*SSPS, *map(str, words)], check=True, capture_output=True)
    toml = found.site / "site.toml"
    text = toml.read_text()
    text = text.replace("max_sessions_per_party = 32", f"max_sessions_per_party = {CAP}")
    text = text.replace("# rate_mbit = 100 ", "rate_mbit = 8 ")
    text = text.replace('# proxies = ["192.0.2.1"]', f'proxies = ["{BALANCER}"]', 1)
    text += "".join(
        f'\n[hosts.{host}]\nsftp_listen = "{address}:{port}"\n' for host, address in HOSTS.items()
    )
    toml.write_text(text)
    load.catalog(found.site)  # states the database in site.toml if the suite runs on PostgreSQL
    file_pages(found)
    (found.site / "trees" / PARTY / BIG).write_bytes(os.urandom(3_000_000))
    (found.site / "trees" / PARTY / BIG).chmod(0o444)
    return found


def file_pages(site: RunningSite) -> None:
    """Have a publisher file pages and close a segment of the feed over all of them."""
    with site.log.open("ab") as log:
        publisher = subprocess.Popen(
            [*SSPS, "publish", "--site", str(site.site)], stdout=log, stderr=log
        )
    try:
        site.scan()
        until(lambda: listed(site) >= set(site.tree(PARTY)), "the feed lists all pages")
    finally:
        publisher.terminate()
        assert publisher.wait(60) == 0, site.log.read_text()


def listed(site: RunningSite) -> set[str]:
    """Return the paths in the party's change feed."""
    feed = site.site / "trees" / PARTY / "akis"
    lines = [line for file in feed.glob("0*.csv") for line in file.read_text().splitlines()]
    return {line.partition(",")[0] for line in lines if not line.startswith(("#", "path,"))}


@pytest.fixture
def gateways(site: RunningSite, tmp_path: Path) -> Iterator[Gateways]:
    found = Gateways(site, tmp_path)
    with balancer(tmp_path, site.port):
        try:
            for host in HOSTS:
                found.start(host)
            yield found
            until(lambda: not any(found.live().values()), "all sessions have ended")
            for host in list(found.running):
                found.stop(host)
        finally:  # if it failed
            for host in list(found.running):
                found.kill(host)


def test_a_session_limit_holds_for_all_gateways(gateways: Gateways) -> None:
    with ExitStack() as clients:
        for number in range(CAP):
            clients.enter_context(gateways.connect())
            until(partial(gateways.has, number + 1), "one session more")
            until(gateways.counted, "the gateways have told each other")
        assert all(gateways.live().values())

        # Each gateway alone has room. What one does not know of the other it knows a moment later.
        until(lambda: is_refused(gateways), "one session more is refused")
    refused = [r for host in HOSTS for r in gateways.records(host, "login-refused")]
    assert "too many sessions" in {str(r.event.detail["reason"]) for r in refused}


def is_refused(gateways: Gateways) -> bool:
    with suppress(paramiko.SSHException), gateways.connect():
        return False
    return True


@pytest.mark.hosts
def test_sessions_that_begin_at_one_moment_end_down_to_the_limit(gateways: Gateways) -> None:
    with ExitStack() as stack:
        clients = []
        for _ in range(3 * CAP):
            process = stack.enter_context(
                subprocess.Popen(
                    ["ssh", *gateways.site.ssh_options(PARTY), f"{PARTY}@{ADDRESS}", "-s", "sftp"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            stack.callback(process.kill)
            clients.append(process)

        def alive() -> int:
            return sum(client.poll() is None for client in clients)

        until(lambda: alive() <= CAP and gateways.counted(), "no more than the limit are left")
        until(lambda: gateways.has(alive()), "those are in")
        assert alive() == CAP


def test_a_suspension_and_an_ended_session_reach_all_gateways(gateways: Gateways) -> None:
    site = gateways.site
    with ExitStack() as clients:
        opened = [clients.enter_context(gateways.connect("parti-b")) for _ in range(2)]
        until(lambda: all(gateways.live("parti-b").values()), "a session on each gateway")
        [on_one], [on_other] = gateways.live("parti-b").values()
        assert (on_one.partition("@")[2], on_other.partition("@")[2]) == ("gw1", "gw2")

        site.ssps("party", "end-session", "parti-b", on_other, "--why", "test")
        until(lambda: gateways.live("parti-b") == {"gw1": [on_one], "gw2": []}, "one has ended")

        for _ in range(2):
            clients.enter_context(gateways.connect("parti-b"))
        until(partial(gateways.has, 3, "parti-b"), "three sessions")
        assert all(gateways.live("parti-b").values()), "one on each gateway at least"
        site.ssps("party", "suspend", "parti-b", "--why", "test")
        until(lambda: not any(gateways.live("parti-b").values()), "both have ended")
        for client in opened:
            with pytest.raises((OSError, EOFError)):
                client.listdir("/")
    for host in HOSTS:
        state = json.loads((site.site / "state/hosts" / host / "serving.json").read_text())
        assert state["faults"] == []
        ends = gateways.records(host, "session-end")
        assert "party suspended" in {str(r.event.detail["reason"]) for r in ends}
        print(f"{host}: ended {max(r.time for r in ends) - suspended_at(site)} after the command")
    with pytest.raises(paramiko.SSHException), gateways.connect("parti-b"):
        pass
    site.ssps("party", "resume", "parti-b", "--why", "test")


@pytest.mark.hosts
def test_a_revoked_key_ends_its_sessions_on_all_gateways(
    gateways: Gateways, tmp_path: Path
) -> None:
    key = tmp_path / "second"
    host_keys.create_key(key, "second")
    add = ("key", "add", "parti-b", "--public-key", f"{key}.pub", "--label", "second")
    gateways.site.ssps(*add, "--why", "test")
    with ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(gateways.connect("parti-b", key))
        until(lambda: all(gateways.live("parti-b").values()), "a session on each gateway")

        gateways.site.ssps("key", "revoke", "parti-b", "second", "--why", "test")
        until(lambda: not any(gateways.live("parti-b").values()), "both have ended")
    for host in HOSTS:
        ends = gateways.records(host, "session-end")
        assert "key revoked" in {str(r.event.detail["reason"]) for r in ends}
        with pytest.raises(paramiko.SSHException), gateways.connect("parti-b", key):
            pass


@pytest.mark.hosts
def test_an_address_that_fails_at_one_gateway_is_refused_by_the_other(gateways: Gateways) -> None:
    probes = 0

    def refused_by_the_other() -> bool:
        nonlocal probes
        with ThreadPoolExecutor(40) as pool:
            for _ in range(40):
                pool.submit(say, gateways.site, "gw1", b"GET / HTTP/1.0\r\n\r\n")
        probes += 1
        return say(gateways.site, "gw2", b"") == b""

    until(refused_by_the_other, "the other gateway refuses it")
    assert probes < 20  # by themselves they would cost too little to be refused


def say(site: RunningSite, host: str, text: bytes) -> bytes:
    """Say something to a gateway from the other party's own address; return its first bytes."""
    source = (own_address(1), 0)
    with socket.create_connection((HOSTS[host], site.port), 30, source) as connection:
        connection.sendall(text)
        with suppress(ConnectionResetError):
            return connection.recv(4)
    return b""


def suspended_at(site: RunningSite) -> datetime:
    """Return when the last suspension was recorded."""
    records = site.records(OPERATIONS)
    return max(r.time for r in records if r.event.event == "party suspend")


def by_lftp(site: RunningSite, to: Path) -> list[str]:
    ssh = shlex.join(["ssh", "-a", "-x", *site.ssh_options(PARTY)])
    script = (
        "set net:max-retries 20; set net:reconnect-interval-base 1; "
        f'set sftp:connect-program "{ssh}"; '
        f"open -u {PARTY}, sftp://{ADDRESS}:{site.port}; mirror -c --parallel=2 / {to}"
    )
    return ["lftp", "--norc", "-c", script]


def by_rclone(site: RunningSite, to: Path) -> list[str]:
    config = to.parent / "rclone.conf"
    config.write_text(
        f"[ysk]\ntype = sftp\nhost = {ADDRESS}\nport = {site.port}\nuser = {PARTY}\n"
        f"key_file = {site.key(PARTY)}\nknown_hosts_file = {site.known_hosts}\n"
    )
    words = ["copy", "--transfers", "2", "--checkers", "1", "--retries", "5", "ysk:/", str(to)]
    return ["rclone", "--config", str(config), *words]


def by_sftp(site: RunningSite, to: Path) -> list[str]:
    # sftp does not connect again by itself: a party runs it until it succeeds.
    sftp = shlex.join(["sftp", "-q", *site.ssh_options(PARTY), "-b", "-", f"{PARTY}@{ADDRESS}"])
    loop = f"until echo 'reget -r / {to}' | {sftp}; do sleep 0.5; done"
    return ["bash", "-c", loop]


def by_mirror(site: RunningSite, to: Path) -> list[str]:
    return [
        sys.executable, str(ROOT / "scripts/mirror"), "--host", ADDRESS, "--port", str(site.port),
        "--user", PARTY, "--key", str(site.key(PARTY)), "--known-hosts", str(site.known_hosts),
        "--signers", str(site.site / "clients" / PARTY / "allowed_signers"), "--to", str(to),
        "--max-age", "0",
    ]  # fmt: skip


@pytest.mark.hosts
@pytest.mark.parametrize("client", [by_lftp, by_rclone, by_sftp, by_mirror])
def test_a_client_whose_gateway_is_killed_ends_on_the_other_byte_for_byte(
    gateways: Gateways, tmp_path: Path, client: Callable[[RunningSite, Path], list[str]]
) -> None:
    to = tmp_path / "copy"
    to.mkdir()
    with (tmp_path / "client.log").open("wb") as log:
        process = subprocess.Popen(client(gateways.site, to), stdout=log, stderr=log)

    def serving() -> list[str]:
        return [
            session.host
            for session in live_sessions.read(gateways.site.site)
            if session.party == PARTY and session.open and session.files > 2
        ]

    try:
        until(lambda: bool(serving()), "files are being transferred")
        killed = serving()[0]
        gateways.kill(killed)
        assert process.wait(180) == 0, (tmp_path / "client.log").read_text()
    finally:
        process.kill()
        process.wait()
    gateways.start(killed)

    wanted = gateways.site.tree(PARTY)
    assert pages(to) == wanted
    if client is not by_mirror:  # it fetches what the feed lists
        original = gateways.site.site / "trees" / PARTY / BIG
        assert digests(to)[BIG] == digests(original.parent)[BIG]
    complete = {
        r.event.what.lstrip("/")
        for host in HOSTS
        for r in gateways.records(host, "close")
        if r.event.detail["complete"] or r.event.detail.get("reason") is None
    }
    assert complete >= set(wanted), "every page's transfer is on record"
    # The records of the sessions that died with their gateway were completed at its next start.
    lost = [r for r in gateways.records(killed, "session-end") if r.event.outcome.value == "failed"]
    assert lost


@pytest.mark.hosts
def test_a_drained_gateway_finishes_its_transfers_and_gets_no_new_session(
    gateways: Gateways, tmp_path: Path
) -> None:
    fetched = tmp_path / "fetched"
    command = ["sftp", "-q", *gateways.site.ssh_options(PARTY), f"{PARTY}@{ADDRESS}:/{BIG}"]
    with subprocess.Popen([*command, str(fetched)]) as process:
        until(lambda: any(s.open for s in live_sessions.read(gateways.site.site)), "it fetches")
        [busy] = [host for host, numbers in gateways.live().items() if numbers]
        os.kill(gateways.running[busy].pid, signal.SIGUSR1)
        until(lambda: '"draining"' in gateways.log(busy), "it drains")
        before = len(gateways.records(busy, "login"))
        for _ in range(4):
            with gateways.connect() as other:
                other.listdir("/")
        assert process.wait(60) == 0
    assert fetched.read_bytes() == (gateways.site.site / "trees" / PARTY / BIG).read_bytes()
    assert len(gateways.records(busy, "login")) == before


@pytest.mark.hosts
def test_a_gateway_that_hangs_gets_no_new_connection(gateways: Gateways) -> None:
    hanging = gateways.running["gw1"].pid
    os.killpg(hanging, signal.SIGSTOP)
    try:
        until(
            lambda: all(answers(gateways.site.port) for _ in range(4)), "the balancer has noticed"
        )
    finally:
        os.killpg(hanging, signal.SIGCONT)


@pytest.mark.hosts
def test_the_record_of_both_gateways_verifies(site: RunningSite) -> None:
    verified = site.ssps("audit", "verify", "--json")

    found = {Path(json.loads(line)["folder"]).name for line in verified.splitlines()}
    assert found >= {"transfer@gw1", "transfer@gw2", "operations", "filing"}
    for host in HOSTS:
        logins = site.ssps("audit", "query", "--event", "login", "--ledger", "transfer", "--csv")
        assert f"transfer@{host}" in logins
    report = site.ssps("audit", "report", PARTY, "--output", site.site.parent / "report.html")
    assert report is not None
