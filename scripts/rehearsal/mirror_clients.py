"""Mirrors the trees of a rehearsal's parties, again and again, with the clients that parties use.

The parties use OpenSSH's `sftp`, `lftp`, `rclone` and our own `scripts/mirror` in turn. What counts
is the files that end up on their disks: `matches_tree` compares them with the party's tree.
"""

import hashlib
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from config import layout
from config.site import TREES
from keys.server_keys import sshsig
from scripts.rehearsal import rehearsal_site
from scripts.rehearsal.rehearsal_site import ADDRESS

_MIRROR = Path(__file__).resolve().parents[1] / "mirror"
_FEED_TIMEOUT = 60.0  # seconds until the feed lists the last filed pages
_NO_FEED_YET = "the server has no feed yet"  # scripts/mirror exits with 3 then
_ROUND_TIMEOUT = 7200.0  # seconds for one round


@dataclass
class MirrorClient:
    """One party's client, its folder, and the results of its rounds."""

    site: Path
    port: int
    party: str
    client: str
    folder: Path
    rounds: int = 0
    failures: list[str] = field(default_factory=list)

    def mirror(self) -> bool:
        """Run one round; return whether the client exited with 0."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command, stdin = MIRROR_CLIENTS[self.client](self)
        self.rounds += 1
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, timeout=_ROUND_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            self.failures.append(f"still running after {_ROUND_TIMEOUT:.0f} s")
            return False
        # A round that comes before the first minute of the feed is run again, as its message says.
        if done.returncode and _NO_FEED_YET not in done.stdout + done.stderr:
            lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
            self.failures.append(f"exit code {done.returncode}: {lines[-1] if lines else ''}")
        return done.returncode == 0

    def matches_tree(self) -> bool:
        """Return whether its folder has exactly the pages of the party's tree, byte by byte."""
        return _page_digests(self.folder) == _page_digests(self.site / TREES / self.party)

    @property
    def key(self) -> Path:
        """The party's private key."""
        return rehearsal_site.client_key(self.site, self.party)

    @property
    def source(self) -> str:
        """The address from which it connects."""
        return rehearsal_site.source_address(self.site, self.party)

    @property
    def known_hosts(self) -> Path:
        """The server's host keys."""
        return rehearsal_site.known_hosts(self.site)

    @property
    def ssh_options(self) -> list[str]:
        """Options that make OpenSSH's clients ignore the user's own settings and keys."""
        options = {
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "BindAddress": self.source,
            "BatchMode": "yes",
            "Port": self.port,
        }
        return ["-F", "none", *(f"-o{key}={value}" for key, value in options.items())]


def _sftp(c: MirrorClient) -> tuple[list[str], str]:
    command = ["sftp", "-q", *c.ssh_options, "-b", "-", f"{c.party}@{ADDRESS}"]
    return command, f"get -r / {c.folder}\n"


def _lftp(c: MirrorClient) -> tuple[list[str], str]:
    ssh = shlex.join(["ssh", "-a", "-x", *c.ssh_options])
    script = (
        f"set net:max-retries 3; set sftp:connect-program {shlex.quote(ssh)}; "
        f"open sftp://{c.party}:@{ADDRESS}:{c.port}; "
        f"mirror --parallel=4 / {shlex.quote(str(c.folder))}; quit"
    )
    return ["lftp", "--norc", "-c", script], ""


def _rclone(c: MirrorClient) -> tuple[list[str], str]:
    remote = f":sftp,host={ADDRESS},port={c.port},user={c.party},key_file={c.key}:/"
    hosts = ["--sftp-known-hosts-file", str(c.known_hosts)]
    command = ["rclone", "--config", "/dev/null", "--bind", c.source, "copy", *hosts]
    return [*command, remote, str(c.folder)], ""


def _mirror(c: MirrorClient) -> tuple[list[str], str]:
    files = [c.key, c.known_hosts, c.key.with_name(sshsig.ALLOWED_SIGNERS)]
    options = zip(("--key", "--known-hosts", "--signers"), map(str, files), strict=True)
    command = [sys.executable, str(_MIRROR), "--host", ADDRESS, "--port", str(c.port)]
    command += ["--bind", c.source]
    command += ["--user", c.party, *chain.from_iterable(options), "--to", str(c.folder)]
    return command, ""


# For each client, the command of one round and its stdin.
MIRROR_CLIENTS: dict[str, Callable[[MirrorClient], tuple[list[str], str]]] = {
    "sftp": _sftp,
    "lftp": _lftp,
    "rclone": _rclone,
    "mirror": _mirror,
}


def _page_digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each page below `root`, by its path."""
    return dict(_iter_digests(root))


def _iter_digests(root: Path) -> Iterator[tuple[str, str]]:
    for path in root.rglob("*"):
        relative = path.relative_to(root).as_posix()
        if path.is_file() and is_page(relative):
            with path.open("rb") as file:
                yield relative, hashlib.file_digest(file, "sha256").hexdigest()


def is_page(path: str) -> bool:
    """Return whether a path in a tree is a page, and not one of the publisher's own files."""
    try:
        layout.parse(path)
    except ValueError:
        return False
    return True


class MirrorRunner:
    """Runs each client in a thread of its own, with a pause between its rounds.

    After `finish` each client runs once more, so that its mirror is complete.
    """

    def __init__(self, clients: list[MirrorClient], pause: float) -> None:
        self.clients = clients
        self._pause = pause
        self._finished = threading.Event()
        self._threads = [
            threading.Thread(target=self._run_rounds, args=(client, number), name=client.party)
            for number, client in enumerate(clients)
        ]

    def start(self) -> None:
        """Start the clients; their first rounds are spread over the first pause."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let each client run its last round, and wait for it."""
        self._finished.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run_rounds(self, client: MirrorClient, number: int) -> None:
        wait = self._pause * (number + 1) / len(self._threads)
        while not self._finished.wait(wait):
            began = time.monotonic()
            client.mirror()
            wait = max(0.0, self._pause - (time.monotonic() - began))
        client.mirror()
        # scripts/mirror fetches only what the feed lists, and a segment closes once a minute.
        deadline = time.monotonic() + _FEED_TIMEOUT
        while client.client == "mirror" and time.monotonic() < deadline:
            if client.matches_tree():
                return
            time.sleep(3)
            client.mirror()
