"""The staff site as a process: started by `ssps run`, on record, revoked while it runs."""

import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from running_site import RunningSite, free_port, running, running_rehearsal, until

from config.site import STAFF
from keys.operations import server_state


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("staff")
    with running_rehearsal(folder, boxes=2, parties=2, staff_port=free_port()) as found:
        until(
            lambda: server_state.read(found.site, server_state.STAFF) is not None,
            "the staff site listens",
        )
        yield found


def kit(night: RunningSite) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((night.site / "clients" / "staff.json").read_text())
    return found


def browser(night: RunningSite) -> httpx.Client:
    trusted = ssl.create_default_context(cafile=kit(night)["ca"])
    return httpx.Client(base_url=kit(night)["site"], verify=trusted, timeout=60)


def send(client: httpx.Client, path: str, to: str = "", **fields: str) -> httpx.Response:
    """Send the form of a page, to its own address or to another one."""
    token = re.search(r'name="form" value="([0-9a-f]+)"', client.get(path).text)
    assert token is not None
    return client.post(to or path, data={"form": token[1], **fields})


def log_in(client: httpx.Client, account: dict[str, str], ahead: int = 0) -> None:
    answer = send(client, "/giris", kullanici=account["name"], parola=account["password"])
    assert answer.headers["location"] == "/dogrulama"
    answer = send(
        client, "/dogrulama", kod=pyotp.TOTP(account["totp"]).at(int(time.time()) + ahead)
    )
    assert answer.headers["location"] == "/"


def test_the_accounts_of_a_rehearsal_log_in_and_every_view_is_on_record(
    night: RunningSite,
) -> None:
    accounts = [*kit(night)["operators"], kit(night)["supervisor"], kit(night)["auditor"]]
    assert len(accounts) == 4
    for account in accounts:
        with browser(night) as client:
            log_in(client, account)
            assert client.get("/").status_code == 200

    seen = [(r.event.event, r.event.who, r.event.origin) for r in night.records(STAFF)]
    for account in accounts:
        assert ("login", account["name"], "127.0.0.1") in seen
        assert ("page", account["name"], "127.0.0.1") in seen
    until(lambda: (night.site / "ledgers/staff/checkpoint").exists(), "the ledger is signed")
    night.ssps("audit", "verify", str(night.site / "ledgers/staff"))
    found = night.ssps("audit", "query", "--ledger", "staff", "--event", "login", "--json")
    assert len(found.splitlines()) == 4


def test_the_process_that_serves_is_confined(night: RunningSite) -> None:
    broker = server_state.holder(night.site, server_state.STAFF)
    children = Path(f"/proc/{broker}/task/{broker}/children").read_text().split()
    (serving,) = (
        pid
        for pid in children
        if b"signer_process" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    )
    status = Path(f"/proc/{serving}/status").read_text()
    assert "NoNewPrivs:\t1\n" in status
    assert "Seccomp:\t2\n" in status
    assert int(status.partition("CapEff:")[2].split()[0], 16) & ~0b10 == 0  # root reads the site


def test_an_operator_who_is_suspended_is_out_while_the_site_runs(night: RunningSite) -> None:
    account = kit(night)["operators"][1]
    with browser(night) as client:
        log_in(client, account, ahead=30)  # a code is accepted once
        assert client.get("/").status_code == 200
        night.ssps("operator", "suspend", account["name"], "--why", "left the shift")
        assert client.get("/").headers["location"] == "/giris"
    night.ssps("operator", "resume", account["name"], "--why", "is back")


def test_a_supervisor_sees_a_live_session_and_ends_it_within_seconds(night: RunningSite) -> None:
    command = ["sftp", *night.ssh_options("parti-a"), "parti-a@127.0.0.1"]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as client,
        browser(night) as page,
    ):
        log_in(page, kit(night)["supervisor"], ahead=30)
        until(lambda: "OpenSSH" in page.get("/partiler/parti-a").text, "the session is shown")
        number = re.search(r'name="oturum" value="(\d+)"', page.get("/partiler/parti-a").text)
        assert number is not None

        fields = {"oturum": number[1], "neden": "denemedir"}
        answer = send(page, "/partiler/parti-a", to="/partiler/parti-a/oturum", **fields)

        assert "Oturum sonlandırıldı." in answer.text, answer.text
        client.communicate(timeout=60)  # it notices only when it reads its input
    ended = [r.event for r in night.records() if r.event.event == "session-end"]
    assert [e.detail["reason"] for e in ended if e.detail["session"] == int(number[1])] == [
        "ended by operator"
    ]
    change = next(r for r in night.records("operations") if r.event.event == "party end-session")
    assert (change.event.who, change.event.origin) == ("staff:amir", "127.0.0.1")
    assert change.event.detail["why"] == "denemedir"


def test_prometheus_reads_the_figures_of_the_site(tmp_path: Path) -> None:
    port = free_port()
    with running_rehearsal(tmp_path, boxes=2, parties=1, staff_port=free_port()) as made:
        pass
    settings = made.site / "site.toml"
    settings.write_text(
        settings.read_text().replace("[staff]\n", f'[staff]\nmetrics = "127.0.0.1:{port}"\n')
    )
    with running(made.site, made.port, made.log):
        until(lambda: "ssps_daemon_up" in scrape(port), "the metrics are served")
        until(lambda: 'ssps_daemon_up{daemon="staff"} 1.0' in scrape(port), "the daemons are up")


def scrape(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    except httpx.TransportError:
        return ""


def test_clients_that_never_end_their_requests_hold_up_nobody(night: RunningSite) -> None:
    host, port = kit(night)["site"].removeprefix("https://").split(":")
    trusted = ssl.create_default_context(cafile=kit(night)["ca"])
    slow = []
    for _ in range(20):
        sock = socket.create_connection((host, int(port)))
        wrapped = trusted.wrap_socket(sock, server_hostname=host)
        wrapped.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        slow.append(wrapped)
    try:
        with browser(night) as client:
            assert client.get("/giris").status_code == 200
    finally:
        for each in slow:
            each.close()
