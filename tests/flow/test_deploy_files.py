"""The files of docs/deploy/three-hosts agree with units and settings, and with each other."""

import re
import subprocess
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import office
import pytest
import yaml
from machines import HAPROXY_PROGRAM, needs_haproxy

from config import load
from config.settings import Settings
from config.site import is_host
from scripts.site import system

FOLDER = Path(__file__).resolve().parents[2] / "docs/deploy/three-hosts"
SITE = Path("/srv/ssps")
DAEMONS = ("publish", "serve", "portal", "staff")
CHAPTERS = FOLDER.parent
HAPROXY = "listen ssps-portal"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site with the documented settings."""
    stated = (FOLDER / "site.toml").read_text()
    (tmp_path / "catalog.pgpass").touch(mode=0o600)
    own = office.SITE_TOML.partition("[sftp]")[0]
    site = office.site(tmp_path, site_toml=own + stated)
    found, faults = load.read(site)
    # Only the certificates are not there.
    missing = {f"{part}.{key}" for part in ("portal", "staff") for key in ("certificate", "key")}
    assert {fault.key for fault in faults} <= missing
    without = re.sub(r"(?m)^(certificate|key) = .*\n", "", own + stated)
    (site / "site.toml").write_text(without.replace("0.0.0.0:8444", "127.0.0.1:8444"))
    return found or load.load(site)


@pytest.fixture
def units(settings: Settings) -> dict[str, str]:
    made = system.units(SITE, settings, Path("/usr/bin/ssps"))
    return {name: made[f"ssps-{name}.service"] for name in DAEMONS}


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def stated(unit: str, key: str) -> str:
    [value] = re.findall(rf"(?m)^{key}=(.*)$", unit)
    return str(value)


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_container_runs_what_the_unit_runs(
    units: dict[str, str], compose: dict[str, Any], daemon: str
) -> None:
    unit, service = units[daemon], compose["services"][daemon]

    assert stated(unit, "ExecStart") == " ".join(
        ["/usr/bin/ssps", *service["command"], "--site", service["environment"]["SSPS_SITE"]]
    )
    assert service["stop_grace_period"] == f"{stated(unit, 'TimeoutStopSec')}s"
    assert stated(unit, "Restart") == service["restart"]
    mounted = [Path(volume.split(":")[1]) for volume in service["volumes"]]
    for path in map(Path, stated(unit, "ReadWritePaths").split()):
        assert any(path.is_relative_to(each) for each in mounted), path


def test_units_and_containers_name_their_host_alike(compose: dict[str, Any]) -> None:
    text = (FOLDER / "host.conf").read_text()

    assert is_host(stated(text, "Environment").removeprefix("SSPS_HOST="))
    for daemon in DAEMONS:
        environment = compose["services"][daemon]["environment"]
        assert environment["SSPS_HOST"] == "${SSPS_HOST:-}"


def test_the_balancer_sends_what_the_settings_expect(compose: dict[str, Any]) -> None:
    text = (FOLDER / "haproxy.cfg").read_text()
    agreed = tomllib.loads((FOLDER / "site.toml").read_text())

    for part in ("sftp", "portal"):
        _, _, backend = text.partition(f"\nbackend {part}\n")
        backend = backend.partition("\nfrontend")[0]
        port = agreed[part]["listen"].rpartition(":")[2]
        assert re.findall(r"server \w+ [\d.]+:(\d+)", backend) == [port, port]
        assert "send-proxy-v2" in backend and "check-send-proxy" in backend
        assert agreed[part]["proxies"] == ["10.0.0.13"]
        assert f"bind :{port}" in text
    assert agreed["portal"]["proxy_protocol"]
    published = [compose["services"][name]["ports"][0] for name in ("serve", "portal")]
    assert [port.partition(":")[0] for port in published] == ["22", "443"]
    assert compose["services"]["haproxy"]["ports"] == ["22:22", "443:443"]


def balancers() -> dict[str, str]:
    """Return the configuration of HAProxy for three hosts, and the parts that chapters show."""
    found = {"three-hosts": (FOLDER / "haproxy.cfg").read_text()}
    for name in ("gateways", "portals"):
        lines = (CHAPTERS / f"{name}.md").read_text().splitlines()
        begin = next(i for i, line in enumerate(lines) if line.strip() in ("defaults", HAPROXY))
        indent = len(lines[begin]) - len(lines[begin].lstrip())
        part = []
        for line in lines[begin:]:
            if line.strip() in ("```", "") or len(line) - len(line.lstrip()) < indent:
                break
            part.append(line)
        found[name] = textwrap.dedent("\n".join(part)) + "\n"
    return found


@needs_haproxy
@pytest.mark.parametrize("name", ["three-hosts", "gateways", "portals"])
def test_haproxy_accepts_its_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / "haproxy.cfg").write_text(balancers()[name])
    command = [HAPROXY_PROGRAM, "-c", "-q", "-f", str(tmp_path / "haproxy.cfg")]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("name", ["three-hosts", "gateways"])
def test_a_gateway_must_answer_the_check_of_the_balancer(name: str) -> None:
    stated = balancers()[name]

    for line in ("option tcp-check", r"tcp-check expect rstring ^SSH-2\.0-", "timeout check 5s"):
        assert line in stated
