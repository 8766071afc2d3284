"""Builds the Debian package from an environment (`scripts/package`), reproducibly.

    python -m scripts.packaging.build ENVIRONMENT SBOM LICENSE VERSION FILE

ENVIRONMENT is a Python environment that has SSPS and its parts, at any path; the package has it as
/opt/ssps. It works only with the Python version that made it, which the package depends on. The
same environment and SOURCE_DATE_EPOCH give the same bytes.

    /opt/ssps/                                  the environment, compiled; without pip
    /usr/bin/ssps                               a link into it
    /usr/share/man, bash-completion, zsh, fish  from the help texts
    /usr/share/doc/ssps/                        copyright, changelog, sbom.cdx.json
    /usr/lib/sysusers.d/ssps.conf               the user ssps and the group ssps-scan
    /usr/share/lintian/overrides/ssps           what Debian's policy forbids and why it is so

The systemd units name the folders of a site, so `ssps init --system DIR` writes them; an upgrade
writes them again from its own templates.
"""

import compileall
import gzip
import hashlib
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from importlib.resources import files
from pathlib import Path

from scripts.packaging import parts
from scripts.site.system import shell_files

HOME = Path("/opt/ssps")
_DATA = files("scripts") / "packaging"
_MAINTAINER = "SSPS maintainers <maintainers@ssps.invalid>"
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm")
_LIBRARY = re.compile(r"\.so(?:\.|$)")
_GLIBC = re.compile(r"^Tag: .*manylinux_2_(\d+)_", re.MULTILINE)


def main(arguments: list[str]) -> None:
    """Build one package; exit with the reason if a part may not be in it."""
    environment, sbom, licence, version, output = arguments
    found = parts.parts(json.loads(Path(sbom).read_text(encoding="utf-8")))
    if wrong := parts.refused(found):
        sys.exit("\n".join(wrong))
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        _copy_environment(Path(environment), root)
        own = Path(licence).read_text(encoding="utf-8")
        _add_shared_files(root, Path(sbom), found, own, version)
        _add_control(root, version)
        _build(root, Path(output))


def _copy_environment(source: Path, root: Path) -> None:
    """Copy the environment to its place, and replace its old path in the files that name it."""
    home = root / HOME.relative_to("/")
    # RECORD lists what pip may remove, and pip does not keep this environment.
    ignored = shutil.ignore_patterns("__pycache__", "direct_url.json", "RECORD")
    shutil.copytree(source / "lib", home / "lib", symlinks=True, ignore=ignored)
    shutil.copy(source / "pyvenv.cfg", home)
    binaries = home / "bin"
    binaries.mkdir()
    for path in (source / "bin").iterdir():
        if path.is_symlink():  # python3 and its other names
            (binaries / path.name).symlink_to(path.readlink())
    command = (source / "bin/ssps").read_text(encoding="utf-8")
    _write(binaries / "ssps", command.replace(str(source), str(HOME)), 0o755)
    config = home / "pyvenv.cfg"
    kept = [line for line in config.read_text().splitlines() if not line.startswith("command")]
    config.write_text("\n".join(kept) + "\n", encoding="utf-8")
    # Not by time: dpkg may set other times, and nobody may write here to compile again.
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    shown = str(HOME / "lib")
    if not compileall.compile_dir(home / "lib", ddir=shown, quiet=1, invalidation_mode=mode):
        sys.exit("a file does not compile, see above")


def _add_shared_files(
    root: Path, sbom: Path, found: list[parts.Part], licence: str, version: str
) -> None:
    binary = root / "usr/bin/ssps"
    binary.parent.mkdir(parents=True)
    binary.symlink_to(HOME / "bin/ssps")
    for path, text in shell_files(root / "usr/share").items():
        if path.parent.name == "site-functions":
            path = root / "usr/share/zsh/vendor-completions" / path.name
        _write(path, text)
    page = root / "usr/share/man/man1/ssps.1"
    page.with_name("ssps.1.gz").write_bytes(gzip.compress(page.read_bytes(), mtime=0))
    page.unlink()
    documents = root / "usr/share/doc/ssps"
    _write(documents / "copyright", parts.copyright_file(found, licence))
    (documents / "changelog.gz").write_bytes(gzip.compress(_changelog(version).encode(), mtime=0))
    shutil.copy(sbom, documents / "sbom.cdx.json")
    _write(root / "usr/lib/sysusers.d/ssps.conf", (_DATA / "sysusers.conf").read_text())
    _write(root / "usr/share/lintian/overrides/ssps", (_DATA / "lintian-overrides").read_text())


def _changelog(version: str) -> str:
    """Return Debian's changelog with its one entry (deb-changelog(5))."""
    when = formatdate(float(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    return (
        f"ssps ({version}) unstable; urgency=medium\n\n"
        "  * See CHANGELOG.md in the source for what has changed.\n\n"
        f" -- {_MAINTAINER}  {when}\n"
    )


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def _add_control(root: Path, version: str) -> None:
    control = root / "DEBIAN"
    control.mkdir()
    for name in _SCRIPTS:
        _write(control / name, (_DATA / name).read_text(), 0o755)
    stands_for = {
        "@VERSION@": version,
        "@MAINTAINER@": _MAINTAINER,
        "@ARCHITECTURE@": _printed("dpkg", "--print-architecture"),
        "@SIZE@": str(sum(path.lstat().st_size for path in root.rglob("*")) // 1024),
        "@PYTHON@": f"3.{sys.version_info.minor}",
        "@NEXT_PYTHON@": f"3.{sys.version_info.minor + 1}",
        "@LIBC@": f"2.{max(_glibc_versions(root))}",
        "@ZBAR@": "libzbar0t64 | libzbar0",
    }
    text = (_DATA / "control.in").read_text()
    for mark, value in stands_for.items():
        text = text.replace(mark, value)
    _write(control / "control", text)
    _write(control / "md5sums", "".join(_md5sums(root)))


def _md5sums(root: Path) -> Iterator[str]:
    """Yield the lines by which `dpkg --verify ssps` finds changed files."""
    for path in sorted(root.rglob("*")):
        shown = path.relative_to(root)
        if path.is_file() and not path.is_symlink() and shown.parts[0] != "DEBIAN":
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            yield f"{digest}  {shown}\n"


def _glibc_versions(root: Path) -> Iterator[int]:
    """Yield the minor version of the C library that each compiled part needs (PEP 600)."""
    yield 17
    for wheel in root.rglob("*.dist-info/WHEEL"):
        text = wheel.read_text(encoding="utf-8")
        # A wheel may have several tags: it runs where any of them is met.
        if versions := [int(minor) for minor in _GLIBC.findall(text)]:
            yield min(versions)


def _printed(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _build(root: Path, output: Path) -> None:
    for path in root.rglob("*"):
        if not path.is_symlink():
            is_program = path.stat().st_mode & 0o100 and not _LIBRARY.search(path.name)
            executable = path.is_dir() or is_program
            path.chmod(0o755 if executable else 0o644)
    command = ["dpkg-deb", "--root-owner-group", "-Zxz", "-z3", "--build", str(root), str(output)]
    subprocess.run(command, check=True, env={**os.environ, "LC_ALL": "C"})


if __name__ == "__main__":
    main(sys.argv[1:])
