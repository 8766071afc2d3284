import os
import re
import subprocess
from pathlib import Path

import office
import pytest

from config import load
from config.fault import Faults
from scripts.site import system

EXPOSURE = 2.0  # of ten, as systemd computes it: 2.0 is "OK", 9.6 is "UNSAFE"
# The capability with which the server gives its sessions an empty root directory counts 0.1. The
# control groups in which it limits the memory of each party count 0.2.
EXPOSURE_OF = {"ssps-serve.service": 2.3}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    toml = office.SITE_TOML + '[portal]\nlisten = "127.0.0.1:443"\n[staff]\n'
    site = office.site(tmp_path / "srv", toml)
    folder = tmp_path / "units"
    folder.mkdir()
    for name, text in system.units(site, load.load(site), Path("/bin/true")).items():
        (folder / name).write_text(text)
    return folder


def test_systemd_analyze_accepts_the_units(written: Path) -> None:
    names = [str(written / name) for name in system.UNITS]

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", *names],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (verified.stdout + verified.stderr, verified.returncode) == ("", 0)


@pytest.mark.parametrize(
    "unit",
    ["ssps-publish.service", "ssps-serve.service", "ssps-portal.service", "ssps-staff.service"],
)
def test_systemd_analyze_rates_the_sandbox_as_tight(written: Path, unit: str) -> None:
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(written / unit)],
        capture_output=True,
        text=True,
        check=False,
    )

    (score,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", scored.stdout)
    print(f"{unit}: exposure {score}")
    assert float(score) <= EXPOSURE_OF.get(unit, EXPOSURE)


def test_every_placeholder_of_the_templates_is_replaced(written: Path) -> None:
    assert [
        name for name in system.UNITS if re.search("@[A-Z]+@", (written / name).read_text())
    ] == []


def test_the_publisher_has_no_network_and_the_server_cannot_write_trees_or_store(
    written: Path, tmp_path: Path
) -> None:
    publish = (written / "ssps-publish.service").read_text()
    serve = (written / "ssps-serve.service").read_text()

    assert "\nPrivateNetwork=yes\n" in publish
    site = tmp_path / "srv"
    assert f"\nReadWritePaths={site}/ledgers {site}/state {site}/keys\n" in serve


def test_the_kernel_ends_a_session_and_not_the_server_when_memory_runs_out(written: Path) -> None:
    lines = (written / "ssps-serve.service").read_text().splitlines()

    assert {"OOMPolicy=continue", "MemoryMax=80%", "OOMScoreAdjust=-500"} <= set(lines)


def test_the_server_may_limit_the_memory_of_each_party_by_cgroups(written: Path) -> None:
    lines = (written / "ssps-serve.service").read_text().splitlines()

    assert {"Delegate=memory", "Environment=SSPS_CGROUP=delegated"} <= set(lines)
    assert [line for line in lines if line.startswith("ProtectControlGroups=")][-1].endswith("=no")


def test_a_site_without_portal_and_staff_site_has_no_units_for_them(
    written: Path, tmp_path: Path
) -> None:
    site = office.site(tmp_path / "other")

    made = system.units(site, load.load(site), Path("/bin/true"))

    assert "ssps-portal.service" not in made
    assert "ssps-staff.service" not in made
    assert "portal" not in made["ssps.target"] and "staff" not in made["ssps.target"]
    assert "ssps-portal.service ssps-staff.service" in (written / "ssps.target").read_text()


def test_the_publisher_may_write_an_intake_outside_the_site(tmp_path: Path) -> None:
    text = office.SITE_TOML + '[intake]\nfolders = ["intake", "/mnt/tarayici"]\n'
    site = office.site(tmp_path / "srv", site_toml=text)

    made = system.units(site, load.load(site), Path("/bin/true"))

    assert f"\nReadWritePaths={site} /mnt/tarayici\n" in made["ssps-publish.service"]


def test_the_publisher_may_connect_only_if_the_catalog_is_in_postgresql(tmp_path: Path) -> None:
    text = office.SITE_TOML + '[catalog]\nurl = "postgresql+psycopg://ssps@db.example/ssps"\n'
    site = office.site(tmp_path / "srv", site_toml=text)

    made = system.units(site, load.load(site), Path("/bin/true"))["ssps-publish.service"]

    assert "\nRestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX\n" in made
    assert "PrivateNetwork" not in made and "IPAddressDeny" not in made


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets up a machine")
def test_an_ssps_that_the_user_cannot_reach_is_a_fault(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    executable = hidden / "ssps"
    executable.touch(mode=0o755)

    with pytest.raises(Faults, match="cannot reach it: install ssps where all may read"):
        system.check_machine(tmp_path / "srv", executable)
