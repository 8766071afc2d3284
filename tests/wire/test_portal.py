"""The portal as a daemon: TLS, its limits before a request is whole, commands, and kill -9."""

import json
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from machines import HAPROXY_PROGRAM
from running_site import SSPS, free_port, until
from web_site import Browser

from config.site import ACCESS, LEDGERS, TLS
from keys.ledger import segments
from keys.operations import server_state
from scripts.rehearsal import web_clients


@dataclass
class Daemon:
    """A portal that runs alone on a rehearsal's site."""

    site: Path
    port: int
    log: Path
    process: subprocess.Popen[bytes] | None = None
    clients: list[httpx.Client] = field(default_factory=list)

    def start(self, preexec: Callable[[], object] | None = None) -> None:
        command = [*SSPS, "portal", "--site", str(self.site)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=preexec)
        until(lambda: self._answers(), "the portal answers")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        return server_state.read(self.site, server_state.PORTAL) is not None

    def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(40)

    def kit(self, party: str = "parti-a") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.site / "clients" / party / "web.json").read_text())
        return found

    def http(self) -> httpx.Client:
        trusted = ssl.create_default_context(cafile=self.kit()["ca"])
        made = httpx.Client(base_url=self.kit()["site"], verify=trusted, timeout=60)
        self.clients.append(made)
        return made

    def signed_in(self, number: int = 0) -> Browser:
        browser = Browser(self.http().request)
        user = self.kit()["users"][number]
        answer = browser.log_in(user["name"], user["password"])
        assert answer.headers["location"] == "/", answer.text
        return browser

    def ssps(self, *words: str) -> str:
        command = [*SSPS, *words, "--site", str(self.site)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stderr

    def events(self) -> list[str]:
        return [r.event.event for r in segments.read_records(self.site / LEDGERS / ACCESS)]


@contextmanager
def running(site: Path, port: int, log: Path) -> Iterator[Daemon]:
    found = Daemon(site, port, log)
    try:
        found.start()
        yield found
    finally:
        if found.process is not None:
            found.process.kill()
            found.process.wait()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("portal")
    site, port = folder / "site", free_port()
    words = ["--boxes", "2", "--parties", "2", "--web-port", str(port)]
    subprocess.run([*SSPS, "rehearse", "init", str(site), *words], check=True, capture_output=True)
    with running(site, port, folder / "log") as found:
        yield found


@pytest.fixture(autouse=True)
def closed(daemon: Daemon) -> Iterator[None]:
    """Close the clients of a test at its end."""
    yield
    for client in daemon.clients:
        client.close()
    daemon.clients.clear()


def test_a_user_of_the_kit_logs_in_over_tls(daemon: Daemon) -> None:
    browser = daemon.signed_in()

    assert "Genel durum" in browser.get("/").text
    assert daemon.events()[-2:] == ["login", "page"]
    new = daemon.kit()["new_user"]
    first = Browser(daemon.http().request).log_in(new["name"], new["password"])
    assert first.headers["location"] == "/parola"


def test_the_kit_has_what_checks_outside_the_repository_use(daemon: Daemon) -> None:
    kit, http = daemon.kit(), daemon.http()
    service = (kit["service"]["name"], kit["service"]["password"])

    def ask(call: str, **query: object) -> Any:
        answer = http.get(f"/api/ssps/{call}", params=query, auth=service)  # type: ignore[arg-type]
        assert answer.status_code == 200
        return answer.json()

    (election,) = http.get("/v1/elections", auth=service).json()["elections"]
    assert election["secim_id"] == kit["secim_id"]
    details = ask("getSecimDetayList")
    assert {row["secim_ID"] for row in details} == {kit["secim_id"]}
    kinds = {row["secim_TURU"] for row in details}
    assert len(kinds) == len(election["secimler"])
    for kind in kinds:
        every = ask("getIlList", secimId=kit["secim_id"], secimTuru=kind)
        assert every
        for any_ in (0, -1, ""):
            query = {"secimId": kit["secim_id"], "secimTuru": kind, "ilId": any_}
            assert ask("getIlList", **query) == every
        assert ask("getIlList", secimId=kit["secim_id"] + 1, secimTuru=kind) == []
    assert Path(kit["ca"]).is_absolute()
    for account in (*kit["users"], kit["service"], kit["new_user"]):
        for text in account.values():
            assert quote(text, safe="") == text


def test_the_process_that_serves_is_confined_and_has_no_key_of_the_site(daemon: Daemon) -> None:
    daemon.signed_in()
    assert daemon.process is not None
    broker = daemon.process.pid
    (serving,) = (
        int(pid)
        for pid in Path(f"/proc/{broker}/task/{broker}/children").read_text().split()
        if b"signer_process" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    status = Path(f"/proc/{serving}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    assert int(status.partition("CapEff:")[2].split()[0], 16) & ~0b10 == 0  # root reads the site

    if os.geteuid() == 0:
        held = memory(serving)
        keys = [*(daemon.site / "keys/signing").glob("*_key"), *_host_keys(daemon.site)]
        assert len(keys) > 1
        for key in keys:
            line = key.read_bytes().splitlines()[2]
            assert line not in held, key.name


def _host_keys(site: Path) -> list[Path]:
    return [each for each in (site / "keys/host").iterdir() if each.name.endswith("_key")]


def memory(pid: int) -> bytes:
    """Return all memory of a process that can be read."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            begin, end = (int(each, 16) for each in line.split()[0].split("-"))
            if line.split()[1].startswith("rw"):
                with suppress(OSError):
                    file.seek(begin)
                    parts.append(file.read(end - begin))
    return b"".join(parts)


def test_only_tls_1_2_and_1_3_with_forward_secrecy(daemon: Daemon) -> None:
    def connect(version: ssl.TLSVersion, ciphers: str = "") -> str | None:
        context = ssl.create_default_context(cafile=daemon.kit()["ca"])
        context.minimum_version = context.maximum_version = version
        if ciphers:
            context.set_ciphers(ciphers)
        with (
            socket.create_connection(("127.0.0.1", daemon.port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
        ):
            return wrapped.version()

    assert connect(ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert connect(ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256:AES256-SHA")
    with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, ConnectionError, OSError)):
        connect(ssl.TLSVersion.TLSv1_1)


def raw(daemon: Daemon) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=daemon.kit()["ca"])
    plain = socket.create_connection(("127.0.0.1", daemon.port), 60)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_a_head_of_many_megabytes_is_not_collected(daemon: Daemon) -> None:
    with raw(daemon) as connection:
        connection.sendall(b"GET /giris HTTP/1.1\r\nHost: x\r\nX-Long: ")
        with pytest.raises(OSError):  # it is closed long before
            for _ in range(640):
                connection.sendall(b"a" * 16384)
                time.sleep(0.001)


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected(daemon: Daemon) -> None:
    with raw(daemon) as connection:
        connection.settimeout(90)
        connection.sendall(b"GET /giris HTTP/1.1\r\nHost: x\r\n")
        begun = time.monotonic()
        with suppress(OSError):
            assert connection.recv(1) == b""
        assert time.monotonic() - begun > 5


def test_a_suspended_user_is_out_when_the_command_has_ended(daemon: Daemon) -> None:
    browser = daemon.signed_in(1)
    name = daemon.kit()["users"][1]["name"]

    said = daemon.ssps("user", "suspend", name, "--why", "lost")

    assert "in force: the portal" in said
    assert browser.get("/").headers["location"] == "/giris"
    daemon.ssps("user", "resume", name, "--why", "found")
    assert browser.log_in(name, daemon.kit()["users"][1]["password"]).status_code == 303


def test_a_party_is_suspended_for_the_portal_too(daemon: Daemon) -> None:
    browser = daemon.signed_in()
    daemon.ssps("party", "suspend", "parti-a", "--why", "x")
    until(lambda: browser.get("/").status_code != 200, "the party is out", 30)
    daemon.ssps("party", "resume", "parti-a", "--why", "x")
    until(lambda: browser.log_in(*login(daemon)).status_code == 303, "it is back", 30)


def login(daemon: Daemon) -> tuple[str, str]:
    user = daemon.kit()["users"][0]
    return user["name"], user["password"]


def test_a_session_outlives_kill_9_and_the_ledger_verifies(daemon: Daemon) -> None:
    browser = daemon.signed_in()
    assert browser.get("/").status_code == 200

    daemon.kill()
    daemon.start()

    fresh = Browser(lambda method, path, **options: again(daemon, browser, method, path, options))
    assert fresh.get("/").status_code == 200
    verified = daemon.ssps("audit", "verify", str(daemon.site / LEDGERS / ACCESS))
    assert "FAILED" not in verified


def again(
    daemon: Daemon, browser: Browser, method: str, path: str, options: dict[str, Any]
) -> httpx.Response:
    client = daemon.http()
    client.cookies.update(browser.cookies())
    return client.request(method, path, **options)


def test_a_new_certificate_is_used_without_dropping_a_connection(daemon: Daemon) -> None:
    def certificate() -> bytes:
        return seen(daemon)

    before = certificate()
    open_before = daemon.http()
    assert open_before.get("/giris").status_code == 200
    web_clients.make_certificate(daemon.site)
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGHUP)

    until(lambda: certificate() != before, "the new certificate is used", 30)
    assert open_before.get("/giris").status_code == 200
    (daemon.site / TLS / "portal.crt").write_text("not a certificate")
    os.kill(daemon.process.pid, signal.SIGHUP)
    until(lambda: "settings-rejected" in daemon.log.read_text(), "the bad one is rejected", 30)
    assert daemon.http().get("/giris").status_code == 200
    rejected = certificate()
    web_clients.make_certificate(daemon.site)
    os.kill(daemon.process.pid, signal.SIGHUP)
    until(lambda: certificate() != rejected, "the third certificate is used", 30)


def test_a_reload_that_is_asked_for_during_the_start_follows_it(daemon: Daemon) -> None:
    def hold_a_reload() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        os.kill(os.getpid(), signal.SIGHUP)

    def reloads() -> int:
        return daemon.log.read_text().count("settings-reloaded")

    assert daemon.kill(signal.SIGTERM) == 0
    before = reloads()
    daemon.start(hold_a_reload)

    until(lambda: reloads() == before + 1, "it has read the settings again", 30)


def test_an_open_stream_does_not_notice_a_new_certificate(daemon: Daemon) -> None:
    browser = daemon.signed_in()
    client = daemon.http()
    client.cookies.update(browser.cookies())
    with client.stream("GET", "/canli") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 3000"
        before = seen(daemon)
        web_clients.make_certificate(daemon.site)
        assert daemon.process is not None
        os.kill(daemon.process.pid, signal.SIGHUP)
        until(lambda: seen(daemon) != before, "the new certificate is used", 30)

        assert ":" in next(line for line in lines if line)  # a comment, some seconds later


def test_tls_and_headers_are_as_a_scanner_wants_them(daemon: Daemon) -> None:
    with raw(daemon) as connection:
        assert connection.compression() is None
        cipher, version, bits = connection.cipher() or ("", "", 0)
        assert (version, bits >= 128) == ("TLSv1.3", True), cipher
        assert connection.selected_alpn_protocol() is None
    answer = daemon.http().get("/giris")

    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert "server" not in answer.headers
    for cookie in answer.headers.get_list("set-cookie"):
        assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in cookie.split(";")}


@pytest.mark.parametrize(
    "request_text",
    [
        "POST /giris HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /giris HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        "POST /giris HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "GET /giris HTTP/1.1\r\nHost: x\r\n X-Folded: y\r\nContent-Length : 3\r\n\r\nabc",
    ],
)
def test_a_request_with_two_lengths_leaves_no_second_request(
    daemon: Daemon, request_text: str
) -> None:
    """A balancer and the portal must not see different ends of a request (request smuggling)."""
    with raw(daemon) as connection:
        connection.settimeout(60)
        connection.sendall(request_text.encode() + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        with suppress(OSError):
            while part := connection.recv(65536):
                received += part

    assert received.count(b"HTTP/1.1 ") <= 1
    assert received.split(b" ")[1:2] in ([b"400"], [b"403"], [b"413"], [])


def seen(daemon: Daemon) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", daemon.port), 10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


HAPROXY = """\
global
    maxconn 200
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen ssps
    bind 127.0.0.1:{port}
    bind 127.0.0.3:{port}
    source 127.0.0.9
    server one 127.0.0.1:{one} check inter 100ms send-proxy-v2 check-send-proxy
    server two 127.0.0.1:{one} check inter 100ms send-proxy check-send-proxy
"""


def test_behind_haproxy_that_passes_tls_through_clients_keep_their_addresses(
    daemon: Daemon, tmp_path: Path
) -> None:
    balanced = 'proxies = ["127.0.0.9"]\nproxy_protocol = true\n'
    toml, before = daemon.site / "site.toml", (daemon.site / "site.toml").read_text()
    assert daemon.process is not None
    port, file = free_port(), tmp_path / "haproxy.cfg"
    file.write_text(HAPROXY.format(port=port, one=daemon.port))

    def answer(source: str) -> int:
        transport = httpx.HTTPTransport(
            verify=ssl.create_default_context(cafile=daemon.kit()["ca"]), local_address=source
        )
        with httpx.Client(transport=transport, timeout=60) as client:
            return client.get(f"https://127.0.0.1:{port}/giris").status_code

    def refused() -> list[tuple[str, object]]:
        records = segments.read_records(daemon.site / LEDGERS / ACCESS)
        events = (r.event for r in records if r.event.event == "connection-refused")
        return [(event.origin, event.detail.get("via")) for event in events]

    toml.write_text(before.replace("[portal]\n", f"[portal]\n{balanced}"))
    loaded = daemon.log.read_text().count("settings-reloaded")
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.log.read_text().count("settings-reloaded") > loaded, "the reload")
    with subprocess.Popen([HAPROXY_PROGRAM, "-q", "-db", "-f", str(file)]) as haproxy:
        try:
            until(lambda: suppressed(lambda: answer("127.0.0.1")) == 200, "HAProxy passes it on")
            registered = [answer("127.0.0.1") for _ in range(4)]
            strange = [answer("127.0.0.7") for _ in range(2)]
        finally:
            haproxy.terminate()
            toml.write_text(before)
            daemon.process.send_signal(signal.SIGHUP)
            until(lambda: daemon.log.read_text().count("settings-reloaded") > loaded + 1, "back")

    assert (registered, strange) == ([200] * 4, [403] * 2)
    assert ("127.0.0.7", "127.0.0.9") in refused()


def suppressed(ask: Callable[[], int]) -> int:
    """Return an answer, 0 if there is none yet."""
    with suppress(httpx.TransportError):
        return ask()
    return 0


def test_it_stops_cleanly_with_an_open_stream(daemon: Daemon) -> None:
    browser = daemon.signed_in()
    client = daemon.http()
    client.cookies.update(browser.cookies())
    with client.stream("GET", "/canli") as stream:
        assert next(stream.iter_lines()) == "retry: 3000"
        assert daemon.kill(signal.SIGTERM) in (0, -signal.SIGTERM)
    daemon.start()
