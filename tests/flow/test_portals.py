"""Two portals of one site behind HAProxy, with PostgreSQL: one goes on where the other ended."""

import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import postgres
import pyotp
import pytest
import sqlalchemy as sa
from machines import HAPROXY_PROGRAM, needs_haproxy
from running_site import ADDRESS, SSPS, free_port, until
from web_site import Browser

from config.registry import Registry
from config.site import ACCESS, LEDGERS, REGISTRY_INDEX, SITE_TOML, SNAPSHOTS
from keys.ledger import segments
from keys.ledger.record import Record
from scripts.rehearsal.rehearsal_site import own_address
from scripts.rehearsal.synthetic import scanner
from scripts.rehearsal.synthetic.result_batches import RehearsalResults, deliver_batch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.EVERYTHING, reason="has a database of its own"),
    needs_haproxy,
]

BALANCER = "127.0.0.9"
BOXES = 1200  # so that a file of a snapshot is larger than what the kernel keeps of a connection
HAPROXY = f"""\
global
    maxconn 200
    tune.bufsize 16384
    tune.rcvbuf.server 16384
    tune.sndbuf.client 16384
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout check 10s
    option httpchk GET /health
    http-check disable-on-404
listen ssps
    bind {ADDRESS}:{{port}}
    source {BALANCER}
    balance first
    option redispatch
    default-server check inter 200ms fall 2 rise 2 check-ssl verify none check-send-proxy
    default-server send-proxy-v2 on-marked-down shutdown-sessions
    server web1 {ADDRESS}:{{web1}}
    server web2 {ADDRESS}:{{web2}}
"""
# Kills the process PID at the n-th call of a function of the client, which runs on in this process.
KILLS = """
import os, runpy, signal, sys
pid, name, left, script = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
sys.argv[:] = sys.argv[4:]

def watch(frame, event, argument):
    global left
    if event == "call" and (frame.f_code.co_filename, frame.f_code.co_name) == (script, name):
        left -= 1
        if left == 0:
            os.kill(pid, signal.SIGKILL)

sys.setprofile(watch)
runpy.run_path(script, run_name="__main__")
"""
FILES = "/v1/snapshots"
CLIENT = Path(__file__).parents[2] / "scripts" / "results-client"


@dataclass
class PortalOfHost:
    """A portal that runs as on a host of its own."""

    site: Path
    host: str
    port: int
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        command = [*SSPS, "portal", "--site", str(self.site)]
        environment = {**os.environ, "SSPS_HOST": self.host}
        environment["TMPDIR"] = str(self.log.parent)  # a killed portal leaves a folder there
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        until(self._answers, f"the portal on {self.host} answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with suppress(httpx.TransportError), httpx.Client(verify=False) as client:  # noqa: S501
            return client.get(f"https://{ADDRESS}:{self.port}/giris").status_code == 200
        return False

    def stop(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(40)

    def serving(self) -> int:
        """Return the process that serves, a child of the broker."""
        assert self.process is not None
        broker = self.process.pid
        children = Path(f"/proc/{broker}/task/{broker}/children").read_text().split()
        (found,) = (
            int(pid)
            for pid in children
            if b"signer_process" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
        return found


@dataclass
class Night:
    """A site with two portals behind HAProxy, which prefers the first one."""

    site: Path
    web1: PortalOfHost
    web2: PortalOfHost
    port: int
    database: sa.URL
    clients: list[httpx.Client] = field(default_factory=list)

    def ssps(self, *words: str) -> str:
        command = [*SSPS, *words, "--site", str(self.site)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr + done.stdout

    def kit(self, party: str = "parti-a") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.site / "clients" / party / "web.json").read_text())
        return found

    def http(self, port: int, source: str | None = None) -> httpx.Client:
        trusted = ssl.create_default_context(cafile=self.kit()["ca"])
        transport = httpx.HTTPTransport(verify=trusted, local_address=source)
        url = f"https://{ADDRESS}:{port}"
        made = httpx.Client(base_url=url, transport=transport, timeout=120)
        self.clients.append(made)
        return made

    def signed_in(self, portal: PortalOfHost, number: int = 0) -> Browser:
        browser = Browser(self.http(portal.port).request)
        user = self.kit()["users"][number]
        answer = browser.log_in(user["name"], user["password"])
        assert answer.headers.get("location") == "/", answer.text
        return browser

    def same(self, browser: Browser, portal: PortalOfHost) -> Browser:
        """Return the same browser, with a connection to that portal."""
        client = self.http(portal.port)
        client.cookies.update(browser.cookies())
        return Browser(client.request)

    def records(self, host: str) -> list[Record]:
        return list(segments.read_records(self.site / LEDGERS / f"{ACCESS}@{host}"))

    def events(self, host: str) -> list[str]:
        return [str(record.event.event) for record in self.records(host)]


@pytest.fixture(scope="module")
def night(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: postgres.Server
) -> Iterator[Night]:
    folder = tmp_path_factory.mktemp("portals")
    site, ports = folder / "site", [free_port() for _ in range(3)]
    words = ["--boxes", str(BOXES), "--parties", "2", "--web-port", str(ports[1])]
    subprocess.run([*SSPS, "rehearse", "init", str(site), *words], check=True, capture_output=True)
    url = postgres_server.new_database(empty=True).render_as_string()
    toml = (site / SITE_TOML).read_text()
    balanced = f'[portal]\nproxies = ["{BALANCER}"]\nproxy_protocol = true\n'
    toml = toml.replace("[portal]\n", balanced)
    reader = "reader_of_portals"
    reader_url = sa.make_url(url).set(username=reader).render_as_string()
    catalog = f'[catalog]\nurl = "{url}"\nreader_url = "{reader_url}"\n'
    hosts = f'[hosts.web2]\nportal_listen = "{ADDRESS}:{ports[2]}"\n'
    (site / SITE_TOML).write_text(f"{toml}\n{catalog}\n{hosts}")
    found = Night(
        site,
        PortalOfHost(site, "web1", ports[1], folder / "web1.log"),
        PortalOfHost(site, "web2", ports[2], folder / "web2.log"),
        ports[0],
        sa.make_url(url),
    )
    found.ssps("catalog", "migrate", "--why", "a new site")
    postgres.create_reader(sa.make_url(url), reader)
    with ExitStack() as opened:
        opened.enter_context(publishing(found))
        for portal in (found.web1, found.web2):
            opened.callback(portal.stop)
            portal.start()
        opened.enter_context(haproxy(found, folder))
        yield found


@contextmanager
def publishing(night: Night) -> Iterator[None]:
    """Run the publisher, and wait until all results are in a snapshot."""
    index = Registry(night.site / REGISTRY_INDEX)
    results = RehearsalResults(index.entries(), 1)
    planned = list(scanner.plan(index.entries(), 1, None))
    index.close()
    rows = [row for page in planned if (row := results.row(page, datetime.now(UTC))) is not None]
    deliver_batch(night.site, "sonuc-1.ndjson", rows)
    command = [*SSPS, "publish", "--site", str(night.site)]
    with (night.site.parent / "publish.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: bool(large_file(night.site)), "the results are in a snapshot", 300)
        yield
    finally:
        process.terminate()
        process.wait(40)


def large_file(site: Path) -> Path | None:
    """Return the largest file of a closed snapshot, if it has more than a megabyte."""
    latest = site / SNAPSHOTS / "latest"
    if not latest.exists():
        return None
    newest = int(latest.read_text())
    files = [
        file
        for folder in (site / SNAPSHOTS).glob("0*")
        if int(folder.name) <= newest
        for file in folder.glob("*.changes.ndjson")
    ]
    largest = max(files, key=lambda file: file.stat().st_size, default=None)
    return largest if largest is not None and largest.stat().st_size > 1_000_000 else None


@contextmanager
def haproxy(night: Night, folder: Path) -> Iterator[None]:
    file = folder / "haproxy.cfg"
    ports = {"port": night.port, "web1": night.web1.port, "web2": night.web2.port}
    file.write_text(HAPROXY.format(**ports))
    with subprocess.Popen([HAPROXY_PROGRAM, "-q", "-db", "-f", str(file)]) as balancer:
        try:
            until(lambda: answer(night) == 200, "HAProxy passes on")
            yield
        finally:
            balancer.terminate()


def answer(night: Night) -> int:
    with suppress(httpx.TransportError), night.http(night.port) as client:
        return client.get("/giris").status_code
    return 0


@pytest.fixture(autouse=True)
def closed(night: Night) -> Iterator[None]:
    """Start a portal again that a test has stopped, and close the clients."""
    yield
    for client in night.clients:
        client.close()
    night.clients.clear()
    for portal in (night.web1, night.web2):
        if portal.process is not None and portal.process.poll() is not None:
            portal.start()


def test_a_login_goes_on_at_the_other_portal_and_a_logout_ends_it_at_both(night: Night) -> None:
    one = night.signed_in(night.web1)
    two = night.same(one, night.web2)

    assert one.get("/").status_code == 200 and two.get("/").status_code == 200
    assert two.post("/cikis", page="/hesap").status_code == 303
    until(lambda: one.get("/").status_code == 303, "the session ended at the first one too", 5)
    for host, event in (("web1", "login"), ("web1", "page"), ("web2", "session-end")):
        assert event in night.events(host)


def test_the_processes_that_serve_are_confined_and_connect_to_the_database_only(
    night: Night,
) -> None:
    night.signed_in(night.web1)
    for portal in (night.web1, night.web2):
        status = Path(f"/proc/{portal.serving()}/status").read_text()
        assert "Seccomp:\t2\n" in status and "NoNewPrivs:\t1\n" in status
        assert "portal-not-confined" not in portal.log.read_text()


def test_a_code_of_the_second_factor_is_used_once_at_both(night: Night) -> None:
    browser = night.signed_in(night.web1, 1)
    name, password = (night.kit()["users"][1][key] for key in ("name", "password"))
    shown = browser.get("/hesap/ikinci-adim").text
    (secret,) = re.findall(r'name="gizli" value="([A-Z2-7]{32})"', shown)
    totp, at = pyotp.TOTP(secret), datetime.now(UTC)
    enrolled = browser.post(
        "/hesap/ikinci-adim", gizli=secret, kod=totp.at(at - timedelta(seconds=30))
    )
    assert enrolled.status_code == 303, enrolled.text
    waiting = []
    for portal in (night.web1, night.web2):
        one = Browser(night.http(portal.port).request)
        assert one.log_in(name, password).headers["location"].startswith("/dogrulama")
        waiting.append(one)

    code = totp.at(datetime.now(UTC))
    answers = [one.post("/dogrulama", kod=code).status_code for one in waiting]

    assert answers == [303, 403]
    night.ssps("user", "reset", name, "--totp", "--why", "the test is over")


@pytest.mark.hosts
def test_attempts_to_log_in_count_at_both(night: Night) -> None:
    def browsers(portal: PortalOfHost, number: int) -> list[tuple[httpx.Client, str]]:
        made = [night.http(portal.port, own_address(1)) for _ in range(number)]
        pattern = r'name="form" value="([0-9a-f]+)"'
        return [(each, re.findall(pattern, each.get("/giris").text)[0]) for each in made]

    def attempt(browser: tuple[httpx.Client, str]) -> int:
        user = night.kit("parti-b")["users"][0]["name"]
        fields = {"kullanici": user, "parola": "wrong-password", "form": browser[1]}
        return browser[0].post("/giris", data=fields).status_code

    tried = 0

    def refused_by_the_other() -> bool:
        nonlocal tried
        at_one, at_two = browsers(night.web1, 12), browsers(night.web2, 4)
        with ThreadPoolExecutor(12) as pool:  # at once: an attempt is given back in six seconds
            answers = [pool.submit(attempt, each) for each in at_one]
            until(lambda: any(each.done() and each.result() == 429 for each in answers), "refused")
            for each in at_two:  # the first one may come before the portals have told each other
                tried += 1
                if attempt(each) == 429:
                    return True
        return False

    until(refused_by_the_other, "the other portal refuses one too", 180)
    assert tried < 10  # by itself it would take ten


def test_a_suspended_user_and_party_are_out_at_both(night: Night) -> None:
    one = night.signed_in(night.web1)
    two, name = night.same(one, night.web2), night.kit()["users"][0]["name"]
    assert two.get("/").status_code == 200

    night.ssps("user", "suspend", name, "--why", "lost")
    assert [each.get("/").status_code for each in (one, two)] == [303, 303]
    night.ssps("user", "resume", name, "--why", "found")

    one = night.signed_in(night.web2)
    two = night.same(one, night.web1)
    night.ssps("party", "suspend", "parti-a", "--why", "x")
    for each in (one, two):
        until(lambda each=each: each.get("/").status_code == 303, "the party is out", 5)  # type: ignore[misc]
    night.ssps("party", "resume", "parti-a", "--why", "x")
    until(lambda: night.http(night.web1.port).get("/giris").status_code == 200, "it is back", 5)


def test_an_operator_ends_a_session_at_both_with_one_record(night: Night) -> None:
    one = night.signed_in(night.web1)
    two = night.same(one, night.web2)
    assert two.get("/").status_code == 200
    login = [r for r in night.records("web1") if r.event.event == "login"][-1]
    number = login.event.detail["session"]
    until(lambda: str(number) in night.ssps("party", "sessions"), "it is published", 20)
    shown = night.ssps("party", "sessions")
    (stated,) = re.findall(rf"{number}(?:@web[12])?", shown)

    night.ssps("party", "end-session", "parti-a", stated, "--why", "x")

    for each in (one, two):
        until(lambda each=each: each.get("/").status_code == 303, "the session ended", 5)  # type: ignore[misc]

    def ends() -> int:
        return sum(
            record.event.event == "session-end" and record.event.detail.get("session") == number
            for host in ("web1", "web2")
            for record in night.records(host)
        )

    until(lambda: ends() == 1, "the end is recorded")


@pytest.mark.hosts
def test_an_announcement_is_shown_by_both(night: Night) -> None:
    night.ssps("portal", "announce", "add", "Prova 21.00'de biter.", "--why", "x")
    for portal in (night.web1, night.web2):
        assert "Prova 21.00" in night.http(portal.port).get("/giris").text


@pytest.mark.hosts
def test_a_bulk_download_that_a_killed_portal_cut_off_goes_on_at_the_other(night: Night) -> None:
    largest = large_file(night.site)
    assert largest is not None
    wanted = [largest, *sorted(largest.parent.glob("*.sums.ndjson"))]
    killed, before = False, len(night.records("web2"))

    def kill(received: int) -> None:
        nonlocal killed
        if not killed and received > largest.stat().st_size // 4:
            night.web1.stop()
            killed = True

    found = [download(night, f"{FILES}/{int(f.parent.name)}/files/{f.name}", kill) for f in wanted]

    assert killed
    assert found == [file.read_bytes() for file in wanted]
    calls = [record.event.event for record in night.records("web2")[before:]]
    assert calls.count("call") >= len(wanted) - 1


@pytest.mark.hosts
def test_a_part_of_a_file_from_each_portal_is_the_whole(night: Night) -> None:
    file = large_file(night.site)
    assert file is not None
    path, half = f"{FILES}/{int(file.parent.name)}/files/{file.name}", file.stat().st_size // 2
    first = night.http(night.web1.port).get(
        path, auth=service(night), headers={"range": f"bytes=0-{half - 1}"}
    )
    headers = {"range": f"bytes={half}-", "if-range": first.headers["etag"]}
    second = night.http(night.web2.port).get(path, auth=service(night), headers=headers)

    assert (first.status_code, second.status_code) == (206, 206)
    assert first.content + second.content == file.read_bytes()


def service(night: Night) -> tuple[str, str]:
    stated = night.kit()["service"]
    return stated["name"], stated["password"]


def download(night: Night, path: str, received: Callable[[int], None]) -> bytes:
    """Fetch a file through HAProxy, and go on where it was cut off until it is whole."""
    whole, headers = b"", dict[str, str]()
    size: int | None = None
    while size is None or len(whole) < size:
        with (
            suppress(httpx.TransportError),
            night.http(night.port) as client,
            client.stream("GET", path, auth=service(night), headers=headers) as response,
        ):
            assert response.status_code == (206 if whole else 200)
            if size is None:
                size = int(response.headers["content-length"])
            for chunk in response.iter_raw(4096):
                whole += chunk
                received(len(whole))
        if whole:
            headers = {"range": f"bytes={len(whole)}-", "if-range": response.headers["etag"]}
    return whole


@pytest.mark.hosts
def test_the_events_of_an_open_page_go_on_at_the_other(night: Night) -> None:
    browser = night.signed_in(night.web1)
    client = night.http(night.port)
    client.cookies.update(browser.cookies())
    with client.stream("GET", "/canli", headers={"last-event-id": "0"}) as stream:
        lines = stream.iter_lines()
        assert "event: snapshot" in lines
        night.web1.stop()
        with suppress(httpx.TransportError):
            assert list(lines) is not None  # it ends
    until(lambda: answer(night) == 200, "HAProxy has noticed")

    with client.stream("GET", "/canli", headers={"last-event-id": "0"}) as stream:
        assert stream.status_code == 200
        assert "event: snapshot" in stream.iter_lines()
    assert "stream" in night.events("web2")


@pytest.mark.hosts
def test_the_reference_client_ends_with_a_whole_copy(night: Night, tmp_path: Path) -> None:
    service, portal = night.kit()["service"], night.web1
    (tmp_path / "password").write_text(service["password"] + "\n")
    options = ["--url", f"https://{ADDRESS}:{night.port}", "--user", service["name"]]
    options += ["--password-file", str(tmp_path / "password"), "--ca", night.kit()["ca"]]
    options += ["--signers", str(night.site / "clients/parti-a/allowed_signers")]
    copy = tmp_path / "copy.sqlite"
    client = [str(CLIENT), *options, "--to", str(copy)]
    killing = [sys.executable, "-I", "-c", KILLS, str(portal.serving()), "_append", "2", *client]

    codes = [subprocess.run(killing, timeout=120, capture_output=True).returncode]
    while codes[-1] == 3 and len(codes) < 10:  # it could not be reached: run it again
        codes.append(subprocess.run([sys.executable, *client], timeout=120).returncode)

    assert codes[-1] == 0
    assert portal.process is not None and portal.process.wait(40) != 0
    database = sqlite3.connect(copy)
    (rows,) = database.execute("SELECT count(*) FROM result").fetchone()
    database.close()
    assert rows >= BOXES


@pytest.mark.hosts
def test_a_portal_that_drains_gets_no_more_clients_and_finishes_its_downloads(
    night: Night,
) -> None:
    browser, file = night.signed_in(night.web1), large_file(night.site)
    client = night.http(night.port)
    client.cookies.update(browser.cookies())
    assert file is not None
    path = f"{FILES}/{int(file.parent.name)}/files/{file.name}"
    with night.http(night.port).stream("GET", path, auth=service(night)) as download:
        chunks = download.iter_raw(4096)
        begun = next(chunks)
        drain_and_wait(night, browser, client)
        assert begun + b"".join(chunks) == file.read_bytes()
    assert night.web1.stop(signal.SIGTERM) == 0


def drain_and_wait(night: Night, browser: Browser, client: httpx.Client) -> None:
    """Drain the first portal and wait until HAProxy sends its clients to the other one."""
    assert night.web1.process is not None
    with client.stream("GET", "/canli") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 3000"
        night.web1.process.send_signal(signal.SIGUSR1)
        with suppress(httpx.TransportError):
            assert list(lines) is not None  # it ends
    closing = night.same(browser, night.web1).get("/hesap")
    assert (closing.status_code, closing.headers["connection"]) == (200, "close")

    def asks_the_other() -> bool:
        before = len(night.records("web2"))
        with suppress(httpx.TransportError), night.http(night.port) as other:
            other.cookies.update(browser.cookies())
            assert other.get("/hesap").status_code == 200
        return len(night.records("web2")) > before

    until(asks_the_other, "HAProxy sends its clients to the other portal", 20)


def test_both_ledgers_verify_and_a_receipt_is_found_in_either(night: Night) -> None:
    verified = night.ssps("audit", "verify")
    assert "access@web1" in verified and "access@web2" in verified and "FAILED" not in verified
    asked = night.ssps("audit", "query", "--ledger", "access", "--party", "parti-a", "--json")
    sessions = {line for line in asked.splitlines() if '"login"' in line}
    assert len(sessions) >= 4
