"""The scripts that dpkg runs, with a `systemctl` that writes down how it is called."""

import os
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

SCRIPTS = files("scripts") / "packaging"


def run(name: str, action: str, root: Path, active: bool) -> subprocess.CompletedProcess[str]:
    """Run a maintainer script; its absolute paths are below `root`."""
    (root / "bin").mkdir(parents=True)
    for command, code in {"systemctl": 0 if active else 3, "systemd-sysusers": 0}.items():
        path = root / "bin" / command
        path.write_text(f'#!/bin/sh\necho {command} "$@" >> {root}/calls\nexit {code}\n')
        path.chmod(0o755)
    (root / "run/systemd/system").mkdir(parents=True)
    text = (SCRIPTS / name).read_text()
    text = text.replace("/run/systemd/system", f"{root}/run/systemd/system")
    text = text.replace("/etc/systemd/system", f"{root}/etc/systemd/system")
    script = root / name
    script.write_text(text)
    environment = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"}
    return subprocess.run(
        ["sh", str(script), action], env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize("name", ["preinst", "postinst", "prerm", "postrm"])
def test_each_script_is_valid_for_sh(name: str) -> None:
    checked = subprocess.run(["sh", "-n", str(SCRIPTS / name)], capture_output=True, text=True)

    assert (checked.stderr, checked.returncode) == ("", 0)


def test_an_upgrade_is_refused_while_the_daemons_run(tmp_path: Path) -> None:
    refused = run("preinst", "upgrade", tmp_path, active=True)

    assert refused.returncode == 1
    assert "systemctl stop ssps.target" in refused.stderr


@pytest.mark.parametrize(("action", "active"), [("upgrade", False), ("install", True)])
def test_an_upgrade_of_stopped_daemons_and_an_installation_go_on(
    action: str, active: bool, tmp_path: Path
) -> None:
    assert run("preinst", action, tmp_path, active).returncode == 0


def test_removal_stops_the_daemons_and_an_upgrade_does_not(tmp_path: Path) -> None:
    run("prerm", "upgrade", tmp_path / "upgrade", active=True)
    run("prerm", "remove", tmp_path / "remove", active=True)

    assert not (tmp_path / "upgrade/calls").exists()
    assert "systemctl disable --now ssps.target" in (tmp_path / "remove/calls").read_text()


def test_purge_removes_our_units_and_no_others(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    (units / "ssps-publish.service").write_text("ExecStart=/usr/bin/ssps publish --site /srv/s\n")
    (units / "ssps.target").touch()
    (units / "other.service").touch()

    purged = run("postrm", "purge", tmp_path, active=False)

    assert [path.name for path in units.iterdir()] == ["other.service"]
    assert "the site /srv/s, its keys and records, and the user ssps were kept" in purged.stdout


def test_purge_keeps_the_units_of_another_installation(tmp_path: Path) -> None:
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    other = "ExecStart=/opt/mine/bin/ssps publish --site /srv/s\n"
    (units / "ssps-publish.service").write_text(other)

    run("postrm", "purge", tmp_path, active=False)

    assert (units / "ssps-publish.service").read_text() == other
