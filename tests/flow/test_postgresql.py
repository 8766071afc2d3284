"""A site whose catalog is in PostgreSQL, which is killed and stopped while the site works."""

import json
import re
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import postgres
import pytest
from running_site import SSPS, RunningSite, free_port, running, until
from web_browser import kit

from config.site import CATALOG, FILING, RESULTS_DATABASE, RESULTS_LEDGER, SITE_TOML

pytestmark = pytest.mark.skipif(postgres.EVERYTHING, reason="has a database of its own")


@pytest.fixture
def stopped(tmp_path: Path, postgres_server: postgres.Server) -> RunningSite:
    """A site with a portal that does not run; the catalog is in an empty database of its own."""
    site, port = tmp_path / "site", free_port()
    words = ["--boxes", "4", "--parties", "2", "--port", str(port)]
    words += ["--web-port", str(free_port())]
    subprocess.run([*SSPS, "rehearse", "init", str(site), *words], check=True, capture_output=True)
    url = postgres_server.new_database(empty=True).render_as_string()
    with (site / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url}"\n')
    found = RunningSite(site, port, tmp_path / "log.jsonl")
    found.ssps("catalog", "migrate", "--why", "a new site")
    return found


@pytest.fixture
def night(stopped: RunningSite) -> Iterator[RunningSite]:
    with running(stopped.site, stopped.port, stopped.log) as found:
        yield found


def scanned(night: RunningSite) -> int:
    """Return how many pages were scanned."""
    return len((night.site / "scanned.csv").read_text().splitlines())


@contextmanager
def scanning(night: RunningSite) -> Iterator[subprocess.Popen[bytes]]:
    """Scan all pages in a process of its own."""
    command = [*SSPS, "rehearse", "scan", "--site", str(night.site)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        yield process


def check_that_every_page_is_there_once(night: RunningSite) -> int:
    """Wait until all scanned pages are filed, check the ledger, return how many pages there are."""
    number = scanned(night)
    until(lambda: night.done() >= number, f"{number} pages filed, {night.status()}")
    events = [record.event for record in night.records(FILING)]
    delivered = [e.origin for e in events if e.event in ("filed", "duplicate", "quarantined")]
    assert len(delivered) == len(set(delivered)) == number
    assert night.ssps("verify") == ""  # it prints findings only
    return number


def logged(night: RunningSite, event: str) -> bool:
    return f'"event": "{event}"' in night.log.read_text()


@contextmanager
def logged_in(night: RunningSite) -> Iterator[httpx.Client]:
    """Log in to the web site as a user of a party."""
    stated = kit(night)
    user, trusted = stated["users"][0], ssl.create_default_context(cafile=stated["ca"])
    with httpx.Client(base_url=stated["site"], verify=trusted, timeout=60) as client:

        def admitted() -> bool:
            try:
                form = re.search(r'name="form" value="([^"]*)"', client.get("/giris").text)
            except httpx.TransportError:
                return False  # the portal is starting
            if form is None:
                return False
            fields = {"kullanici": user["name"], "parola": user["password"], "form": form[1]}
            return client.post("/giris", data=fields).status_code == 303

        until(admitted, "the login")
        yield client


def searched(client: httpx.Client) -> httpx.Response:
    """Ask for a page that needs the catalog."""
    return client.get("/arama", follow_redirects=True)


def is_refused(client: httpx.Client, answers: list[httpx.Response]) -> bool:
    """Say whether the web site refuses now; what it has counted already it shows a while longer."""
    answers.append(searched(client))
    return answers[-1].status_code == 503


def test_nothing_is_lost_or_filed_twice_when_postgresql_is_killed(
    night: RunningSite, postgres_server: postgres.Server
) -> None:
    with scanning(night) as scanner:
        until(lambda: len(night.records(FILING)) >= 5, "pages are filed")
        postgres_server.stop(signal.SIGKILL)
        until(lambda: logged(night, "publisher-halted"), "the publisher waits")
        postgres_server.start()
        filed = len(night.records(FILING))
        until(lambda: len(night.records(FILING)) > filed, "the publisher goes on")
        assert scanner.wait(300) == 0
    pages = check_that_every_page_is_there_once(night)
    until(lambda: any((night.site / "snapshots").glob("0*")), "a snapshot is closed")

    results = [e.what for e in (r.event for r in night.records(RESULTS_LEDGER))]
    assert results
    assert not (night.site / CATALOG).exists() and not (night.site / RESULTS_DATABASE).exists()
    shown = json.loads(night.ssps("catalog", "show", "--json"))["rows"]
    assert shown["catalog.arrival"] == pages and shown["results.result"] > 0
    with logged_in(night) as client:
        assert "Sandık" in searched(client).text


@pytest.mark.hosts
def test_a_database_that_is_frozen_is_given_up_and_used_again_when_it_goes_on(
    night: RunningSite, postgres_server: postgres.Server
) -> None:
    answers: list[httpx.Response] = []
    with logged_in(night) as client, scanning(night) as scanner:
        until(lambda: len(night.records(FILING)) >= 5, "pages are filed")
        with postgres_server.paused():
            until(lambda: is_refused(client, answers), "the web site says so")
            until(lambda: logged(night, "publisher-halted"), "the publisher says so")
            until(lambda: logged(night, "results-halted"), "the results process says so")
            filed = len(night.records(FILING))
        since = time.monotonic()
        until(lambda: len(night.records(FILING)) > filed, "the publisher goes on")
        print(f"\nPostgreSQL was frozen: {time.monotonic() - since:.1f} s until the next page")
        until(lambda: searched(client).status_code == 200, "the web site answers")
        print(f"{time.monotonic() - since:.1f} s until the web site answers")
        assert scanner.wait(300) == 0

    check_that_every_page_is_there_once(night)
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert "Biraz sonra yeniden deneyin" in answers[-1].text
    assert "the server has not answered for" in night.log.read_text()
    assert "Traceback" not in night.log.read_text()


def test_a_site_that_is_started_before_its_database_works_when_the_database_does(
    stopped: RunningSite, postgres_server: postgres.Server
) -> None:
    postgres_server.stop()
    try:
        with running(stopped.site, stopped.port, stopped.log) as night:
            until(lambda: logged(night, "publisher-halted"), "the publisher waits")
            until(lambda: logged(night, "results-halted"), "the results process waits")
            for words in ("status", "verify", "catalog show", "desk list"):
                said = night.ssps(*words.split(), code=1).strip()  # a bar may leave a line
                assert said.startswith("site.toml: catalog.url: connection"), said
                assert "\n" not in said, said

            postgres_server.start()
            night.scan("--count", "20")
            with logged_in(night) as client:
                until(lambda: searched(client).status_code == 200, "the web site answers")
                postgres_server.stop()
                answers: list[httpx.Response] = []
                until(lambda: is_refused(client, answers), "the web site says so")
                postgres_server.start()
                until(lambda: searched(client).status_code == 200, "the web site answers again")
            night.scan()
            check_that_every_page_is_there_once(night)
    finally:
        postgres_server.start()

    assert {answer.status_code for answer in answers} <= {200, 503}
    assert int(answers[-1].headers["retry-after"]) <= 10
    assert "Traceback" not in night.log.read_text()
