"""The Containerfile is read as an engine reads it; building needs an engine and a network."""

from fnmatch import fnmatch
from pathlib import Path

FILE = Path(__file__).parents[4] / "docs/deploy/Containerfile"
PACKAGE = "ssps_0.1.0+git20261130.0805.ad6a3eb~deb12_amd64.deb"  # as scripts/package names it
_KNOWN = {"FROM", "COPY", "RUN", "USER", "ENV", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"}


def instructions() -> list[tuple[str, str]]:
    """Return each instruction with its arguments; a line ends with a backslash if it goes on."""
    lines = [line for line in FILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    found = (line.partition(" ") for line in joined.splitlines() if line)
    return [(name, arguments.strip()) for name, _, arguments in found]


def test_each_instruction_is_one_of_the_format() -> None:
    found = instructions()

    assert found[0][0] == "FROM"
    assert {name for name, _ in found} == _KNOWN


def test_the_package_of_the_folder_is_installed_and_run_by_its_user() -> None:
    stated = dict(instructions())

    copied, folder = stated["COPY"].split()
    assert fnmatch(PACKAGE, copied)
    assert f"{folder}{copied}" in stated["RUN"]
    assert stated["FROM"].startswith("docker.io/library/debian:12")
    assert stated["USER"] == "ssps"
    assert stated["ENTRYPOINT"] == '["/usr/bin/ssps"]'
    assert stated["ENV"] == f"SSPS_SITE={stated['VOLUME']}"
