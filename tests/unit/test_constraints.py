"""Set-up installs exact versions: .ci/constraints.txt names every package of setup.cfg."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def package(requirement: str) -> str:
    """Return the name that a requirement begins with, spelled as package indexes compare it."""
    return re.split(r"[^\w.-]", requirement)[0].replace("_", "-").lower()


def test_every_package_that_setup_cfg_asks_for_has_an_exact_version() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    asked = {package(line) for each in lists for line in each.split("\n") if line}
    lines = (ROOT / ".ci" / "constraints.txt").read_text().splitlines()
    exact = {package(line) for line in lines if "==" in line}

    assert asked - exact == set(), "run scripts/refresh-constraints"
