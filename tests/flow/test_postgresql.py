"""A site whose catalog is in PostgreSQL, which is killed and stopped while the site works."""

import json
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import postgres
import pytest
from running_site import SSPS, RunningSite, free_port, running, until
from web_browser import kit

from config.site import CATALOG, FILING, RESULTS_DATABASE, RESULTS_LEDGER, SITE_TOML

pytestmark = pytest.mark.skipif(postgres.EVERYTHING, reason="has a database of its own")


@pytest.fixture
def night(tmp_path: Path, postgres_server: postgres.Server) -> Iterator[RunningSite]:
    """A running site with a portal; the catalog is in an empty database of its own."""
    site, port = tmp_path / "site", free_port()
    words = ["--boxes", "4", "--parties", "2", "--port", str(port)]
    words += ["--web-port", str(free_port())]
    subprocess.run([*SSPS, "rehearse", "init", str(site), *words], check=True, capture_output=True)
    url = postgres_server.new_database(empty=True).render_as_string()
    with (site / SITE_TOML).open("a") as file:
        file.write(f'\n[catalog]\nurl = "{url}"\n')
    RunningSite(site, port, tmp_path).ssps("catalog", "migrate", "--why", "a new site")
    with running(site, port, tmp_path / "log.jsonl") as found:
        yield found


def logged(night: RunningSite, event: str) -> bool:
    return f'"event": "{event}"' in night.log.read_text()


def logged_in(night: RunningSite, path: str) -> str:
    """Return a page of the web site, as a user of a party sees it."""
    stated = kit(night)
    user, trusted = stated["users"][0], ssl.create_default_context(cafile=stated["ca"])
    with httpx.Client(base_url=stated["site"], verify=trusted, timeout=60) as client:
        form = re.search(r'name="form" value="([^"]*)"', client.get("/giris").text)
        assert form is not None
        fields = {"kullanici": user["name"], "parola": user["password"], "form": form[1]}
        assert client.post("/giris", data=fields).status_code == 303
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code == 200
        return answer.text


def test_nothing_is_lost_or_filed_twice_when_postgresql_is_killed(
    night: RunningSite, postgres_server: postgres.Server
) -> None:
    command = [*SSPS, "rehearse", "scan", "--site", str(night.site)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as scanning:
        until(lambda: len(night.records(FILING)) >= 5, "pages are filed")
        postgres_server.stop(signal.SIGKILL)
        until(lambda: logged(night, "publisher-halted"), "the publisher waits")
        postgres_server.start()
        filed = len(night.records(FILING))
        until(lambda: len(night.records(FILING)) > filed, "the publisher goes on")
        assert scanning.wait(300) == 0
    pages = len((night.site / "scanned.csv").read_text().splitlines())
    until(lambda: night.done() >= pages, f"{pages} pages filed, {night.status()}")
    until(lambda: any((night.site / "snapshots").glob("0*")), "a snapshot is closed")

    events = [record.event for record in night.records(FILING)]
    delivered = [e.origin for e in events if e.event in ("filed", "duplicate", "quarantined")]
    assert len(delivered) == len(set(delivered)) == pages
    results = [e.what for e in (r.event for r in night.records(RESULTS_LEDGER))]
    assert results
    assert not (night.site / CATALOG).exists() and not (night.site / RESULTS_DATABASE).exists()
    assert night.ssps("verify") == ""  # it prints findings only
    shown = json.loads(night.ssps("catalog", "show", "--json"))["rows"]
    assert shown["catalog.arrival"] == pages and shown["results.result"] > 0
    page = logged_in(night, "/arama")
    assert "Sandık" in page
