"""Builds the container image from a package, and runs it (`scripts/package --try-image`).

    python3 tests/soak/package_image.py FILE.deb

As root, with debootstrap and buildah. The base image is not fetched from a registry: it is a new
Debian by debootstrap, under the name that docs/deploy/Containerfile states. Images are kept in a
folder that is removed. A line is printed for each step that held; the first that does not ends the
program with exit code 1.
"""

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

_CONTAINERFILE = Path(__file__).parents[2] / "docs/deploy/Containerfile"
_MIRROR = "http://deb.debian.org/debian"
_IMAGE = "ssps"
_RUN = ("run", "--isolation", "chroot")


class Images:
    """The images in one folder."""

    def __init__(self, folder: Path) -> None:
        state = ["--root", str(folder / "images"), "--runroot", str(folder / "run")]
        self._command = ["buildah", *state, "--storage-driver", "vfs"]
        self._environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "LC_ALL": "C.UTF-8"}

    def __call__(self, *words: str) -> str:
        """Run buildah and return what it printed; fail if it fails."""
        command = [*self._command, *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"buildah {' '.join(words)}: exit {done.returncode}\n{done.stderr[-4000:]}")
        return done.stdout.strip()

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        """Start buildah, and leave it running."""
        return subprocess.Popen([*self._command, *words], env=self._environment)

    @contextmanager
    def container(self, image: str) -> Iterator[str]:
        """Make a container of an image, which is removed at the end."""
        name = self("from", "--pull-never", image)
        try:
            yield name
        finally:
            self("rm", name)


def held(claim: str, true: bool) -> None:
    """Print what holds, or end with what does not."""
    if not true:
        sys.exit(f"NOT SO: {claim}")
    print(f"ok: {claim}", flush=True)


def make_base(images: Images, folder: Path, name: str) -> None:
    """Make the base image by debootstrap."""
    root = folder / "debian"
    command = ["debootstrap", "--variant=minbase", "bookworm", str(root), _MIRROR]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    made = images("from", "scratch")
    images("add", "--quiet", made, str(root), "/")
    images("commit", "--quiet", made, name)
    images("rm", made)
    shutil.rmtree(root)


def try_configuration(images: Images) -> None:
    """Compare the image's configuration with the Containerfile."""
    stated = json.loads(images("inspect", "--type", "image", _IMAGE))["OCIv1"]["config"]
    held("it runs `/usr/bin/ssps run` as the user ssps", stated["User"] == "ssps")
    held("of the site in /srv/ssps", "SSPS_SITE=/srv/ssps" in stated["Env"])
    held("which is a volume", list(stated["Volumes"]) == ["/srv/ssps"])
    started = [*stated["Entrypoint"], *stated["Cmd"]]
    held("by its entry point and command", started == ["/usr/bin/ssps", "run"])
    held("and is stopped by SIGTERM", stated["StopSignal"] == "SIGTERM")


def try_night(images: Images, folder: Path) -> None:
    """Run the image with a rehearsal as its volume, until every page is filed."""
    site = folder / "site"
    site.mkdir(mode=0o777)
    site.chmod(0o777)  # until the user of the image owns it
    with images.container(_IMAGE) as box:
        volume = ("--volume", f"{site}:/srv/ssps")
        owner = images(*_RUN, box, "--", "id", "-u", "ssps")
        os.chown(site, int(owner), -1)
        ssps = (*_RUN, *volume, box, "--", "/usr/bin/ssps")
        images(*ssps, "rehearse", "init", "/srv/ssps", "--boxes", "2", "--parties", "2")
        held("the site belongs to the user", (site / "site.toml").stat().st_uid == int(owner))
        images(*ssps, "rehearse", "scan", "--site", "/srv/ssps")
        running = images.start(*ssps, "run", "--site", "/srv/ssps")
        try:
            deadline, status = time.monotonic() + 180, {"filed": 0, "missing": 1}
            while time.monotonic() < deadline and status["missing"]:
                time.sleep(2)
                status = json.loads(images(*ssps, "status", "--json", "--site", "/srv/ssps"))
        finally:
            running.terminate()
            running.wait(90)
        held(f"{status['filed']} pages were read and filed", status["missing"] == 0)
        images(*ssps, "verify", "--site", "/srv/ssps")
        held("`ssps verify` finds nothing", True)


def main(arguments: list[str]) -> None:
    """Build and try the image of one package file."""
    package = Path(arguments[0]).resolve()
    if os.geteuid() != 0 or not (shutil.which("debootstrap") and shutil.which("buildah")):
        sys.exit("needs root, debootstrap and buildah: apt-get install debootstrap buildah")
    base = _CONTAINERFILE.read_text().partition("FROM ")[2].splitlines()[0]
    with tempfile.TemporaryDirectory(prefix="ssps-image-") as made:
        folder = Path(made)
        images = Images(folder)
        make_base(images, folder, base)
        context = folder / "dist"
        context.mkdir()
        shutil.copy(package, context)
        words = ("--pull-never", "--file", str(_CONTAINERFILE), "--tag", _IMAGE, str(context))
        images("build", "--quiet", *words)
        held("the Containerfile builds an image from the package", True)
        try_configuration(images)
        try_night(images, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
