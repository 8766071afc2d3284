"""The staff site as a process: started by `ssps run`, on record, revoked while it runs."""

import json
import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pyotp
import pytest
from running_site import RunningSite, free_port, running_rehearsal, until

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


def send(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    token = re.search(r'name="form" value="([0-9a-f]+)"', client.get(path).text)
    assert token is not None
    return client.post(path, data={"form": token[1], **fields})


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


def test_an_operator_who_is_suspended_is_out_while_the_site_runs(night: RunningSite) -> None:
    account = kit(night)["operators"][1]
    with browser(night) as client:
        log_in(client, account, ahead=30)  # a code is accepted once
        assert client.get("/").status_code == 200
        night.ssps("operator", "suspend", account["name"], "--why", "left the shift")
        assert client.get("/").headers["location"] == "/giris"
    night.ssps("operator", "resume", account["name"], "--why", "is back")
