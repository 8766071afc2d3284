"""Installs, upgrades and removes the Debian package in a fresh Debian (`scripts/package --try`).

    python3 tests/soak/package_lifecycle.py FILE.deb [SUITE]

As root, with debootstrap. The new Debian has no systemd running, so where a maintainer script asks
systemd, a `systemctl` that this program writes answers. A line is printed for each step that held;
the first that does not ends the program with exit code 1. Takes some minutes, most of them for the
new Debian.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MIRROR = "http://deb.debian.org/debian"
_SITE = "srv/ssps"
_UNITS = Path("etc/systemd/system")
_RECORDS = ("ledgers/operations", "state")  # an upgrade is itself a change on record


class Debian:
    """A Debian in a folder, in which commands run by chroot."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, user: str = "root", ok: bool = True) -> str:
        """Run a command and return what it printed; fail if it fails, or with ok=False if not."""
        words = command if user == "root" else ("runuser", "-u", user, "--", *command)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            ["chroot", str(self.root), *words],
            env={**environment, "LC_ALL": "C.UTF-8"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if (done.returncode == 0) is not ok:
            sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-4000:]}")
        return done.stdout

    def install(self, package: Path, ok: bool = True) -> str:
        """Install or upgrade a package file with apt, which brings what it depends on."""
        shutil.copy(package, self.root / "root")
        return self.run(
            "apt-get", "install", "--yes", "-qq", "--no-install-recommends",
            f"/root/{package.name}", ok=ok,
        )  # fmt: skip


@contextmanager
def fresh_debian(suite: str) -> Iterator[Debian]:
    """Make a Debian without Python, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="ssps-debian-") as made:
        root = Path(made) / "root"
        include = "--include=ca-certificates,systemd-standalone-sysusers"
        command = ["debootstrap", "--variant=minbase", include, suite, str(root), _MIRROR]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        mounts = ("proc", "dev")
        for name in mounts:
            subprocess.run(["mount", "--rbind", f"/{name}", str(root / name)], check=True)
            subprocess.run(["mount", "--make-rslave", str(root / name)], check=True)
        for name in ("resolv.conf", "hosts"):
            shutil.copy(Path("/etc") / name, root / "etc")
        try:
            yield Debian(root)
        finally:
            for name in mounts:
                subprocess.run(["umount", "--recursive", "--lazy", str(root / name)], check=True)


def held(claim: str, true: bool) -> None:
    """Print what holds, or end with what does not."""
    if not true:
        sys.exit(f"NOT SO: {claim}")
    print(f"ok: {claim}", flush=True)


def next_version(package: Path, version: str, folder: Path) -> Path:
    """Return the package with another version and another unit for the server."""
    root = folder / version
    subprocess.run(["dpkg-deb", "--raw-extract", str(package), str(root)], check=True)
    control = root / "DEBIAN/control"
    lines = control.read_text().splitlines()
    kept = [f"Version: {version}" if line.startswith("Version: ") else line for line in lines]
    control.write_text("\n".join(kept) + "\n")
    (unit,) = root.glob("opt/ssps/lib/python3*/site-packages/scripts/units/ssps-serve.service")
    unit.write_text(unit.read_text() + f"# {version}\n")
    made = folder / f"ssps_{version}.deb"
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(root), str(made)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return made


def contents(site: Path) -> dict[str, str]:
    """Return the digest of every file of a site that only its daemons and operators change."""
    return {
        str(path.relative_to(site)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.rglob("*"))
        if path.is_file() and not str(path.relative_to(site)).startswith(_RECORDS)
    }


def try_install(debian: Debian, package: Path) -> None:
    """Install into a Debian without Python; create a site; file pages of a rehearsal."""
    root = debian.root
    debian.install(package)
    held("`ssps --version` answers", debian.run("ssps", "--version").startswith("ssps"))
    held("no file differs from the package's sums", debian.run("dpkg", "--verify", "ssps") == "")
    groups = debian.run("id", "-nG", "ssps").split()
    held("the user ssps exists, in the group ssps-scan", groups == ["ssps", "ssps-scan"])
    shared = ("man/man1/ssps.1.gz", "bash-completion/completions/ssps", "doc/ssps/sbom.cdx.json")
    there = all((root / "usr/share" / name).is_file() for name in shared)
    held("man page, completion and SBOM are there", there)
    parts = json.loads((root / "usr/share/doc/ssps/sbom.cdx.json").read_text())["components"]
    drivers = {part["name"] for part in parts} & {"psycopg", "psycopg-binary"}
    held("the SBOM has the driver of PostgreSQL", len(drivers) == 2)

    debian.run("ssps", "init", "--system", "--why", "package test", f"/{_SITE}")
    unit = (root / _UNITS / "ssps-serve.service").read_text()
    held("the units start the command of the package", "ExecStart=/usr/bin/ssps serve" in unit)
    held(
        "init left man page and completion to the package",
        not (root / "usr/local/share/man/man1").exists(),
    )
    debian.run("mkdir", "/srv/prova")
    debian.run("chown", "ssps:", "/srv/prova")
    rehearsal = ("ssps", "--site", "/srv/prova/r")
    debian.run(
        "ssps", "rehearse", "init", "/srv/prova/r", "--boxes", "4", "--parties", "2", user="ssps"
    )
    debian.run(*rehearsal, "rehearse", "scan", user="ssps")
    filed, publisher = 0, subprocess.Popen(
        ["chroot", str(root), "runuser", "-u", "ssps", "--", *rehearsal, "publish"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status = json.loads(debian.run(*rehearsal, "status", "--json", user="ssps"))
            filed, expected = status["filed"], status["expected"]
            if filed and status["missing"] == 0:
                break
            time.sleep(1)
    finally:
        publisher.terminate()  # chroot and runuser have become `ssps publish`
        publisher.wait(60)
    held(
        f"as the user ssps, {filed} of {expected} pages were read and filed",
        filed > 0 and filed >= expected,
    )
    own = ("ssps", "rehearse", "init", "/tmp/own", "--boxes", "1", "--parties", "1")
    debian.run(*own, user="nobody")
    held("any user can run it", (root / "tmp/own/site.toml").stat().st_uid == 65534)
    with (root / "srv/prova/r/site.toml").open("a") as file:
        file.write('[catalog]\nurl = "postgresql+psycopg://ssps@/ssps?host=/srv/no-server"\n')
    said = debian.run(*rehearsal, "catalog", "show", user="ssps", ok=False)
    held("the driver is used", said.startswith("site.toml: catalog.url: connection"))


def try_upgrade(debian: Debian, package: Path, folder: Path) -> None:
    """Upgrade: the site keeps its bytes, its units are renewed; refused while SSPS runs."""
    site = debian.root / _SITE
    before = contents(site)
    debian.install(next_version(package, "9001", folder))
    held("the upgrade kept every file of the site", contents(site) == before)
    unit = (debian.root / _UNITS / "ssps-serve.service").read_text()
    held("the upgrade wrote the units again", unit.endswith("# 9001\n"))
    told = debian.run("ssps", "--site", f"/{_SITE}", "audit", "query", "--ledger", "operations")
    held("the upgrade is on record", "ssps package 9001" in told)

    systemctl = debian.root / "usr/bin/systemctl"
    systemctl.write_text("#!/bin/sh\nexit 0\n")  # every unit is active
    systemctl.chmod(0o755)
    (debian.root / "run/systemd/system").mkdir(parents=True)
    said = debian.install(next_version(package, "9002", folder), ok=False)
    held("an upgrade is refused while SSPS runs", "systemctl stop ssps.target" in said)
    version = debian.run("dpkg-query", "-W", "-f", "${Version} ${Status}", "ssps")
    held("and the old version still works", version == "9001 install ok installed")
    debian.run("ssps", "--version")


def try_removal(debian: Debian) -> None:
    """Remove and purge: the site and its user stay."""
    root = debian.root
    before = contents(root / _SITE)
    debian.run("apt-get", "remove", "--yes", "-qq", "ssps")
    held("removal left nothing in /opt/ssps", not (root / "opt/ssps").exists())
    debian.run("apt-get", "purge", "--yes", "-qq", "ssps")
    held("purge removed the units", not list((root / _UNITS).glob("ssps*")))
    held("the site was kept", contents(root / _SITE) == before)
    held("the user was kept", "ssps" in debian.run("id", "-nG", "ssps").split())


def main(arguments: list[str]) -> None:
    """Try one package file."""
    package = Path(arguments[0]).resolve()
    suite = arguments[1] if arguments[1:] else "bookworm"
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        sys.exit("needs root and debootstrap: apt-get install debootstrap")
    with fresh_debian(suite) as debian, tempfile.TemporaryDirectory() as folder:
        try_install(debian, package)
        try_upgrade(debian, package, Path(folder))
        try_removal(debian)


if __name__ == "__main__":
    main(sys.argv[1:])
