"""The parties of a rehearsal: each mirrors its tree, again and again, with the client it prefers.

They take turns at OpenSSH's `sftp`, `lftp`, `rclone` and our own `scripts/mirror`. What counts in
the end is what lies on their disks: `agrees` holds it against the tree, byte by byte.
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
from config.site import CLIENTS, TREES
from keys.server_keys import sshsig
from scripts.rehearsal.rehearsal_site import ADDRESS

_MIRROR = Path(__file__).resolve().parents[1] / "mirror"
_FEED_SECONDS = 60.0  # seconds within which the feed has named what was filed
_ROUND_TIMEOUT = 7200.0  # seconds for one round


@dataclass
class MirrorClient:
    """One party's client, and how its rounds went."""

    site: Path
    port: int
    party: str
    client: str
    folder: Path
    rounds: int = 0
    failures: list[str] = field(default_factory=list)

    def mirror(self) -> bool:
        """Mirror once; say whether the client was content."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command, given = MIRROR_CLIENTS[self.client](self)
        self.rounds += 1
        try:
            done = subprocess.run(
                command, input=given, capture_output=True, text=True, timeout=_ROUND_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            self.failures.append(f"still running after {_ROUND_TIMEOUT:.0f} s")
            return False
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()
            self.failures.append(f"exit code {done.returncode}: {last[-1] if last else ''}")
        return done.returncode == 0

    def matches_tree(self) -> bool:
        """Say whether its disk has every page of its tree and no other, to the byte."""
        return _pages(self.folder) == _pages(self.site / TREES / self.party)

    @property
    def key(self) -> Path:
        """The party's own key."""
        return self.site / CLIENTS / self.party / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """What it was handed of the server's keys."""
        return self.site / CLIENTS / "known_hosts"

    @property
    def ssh_options(self) -> list[str]:
        """Options for OpenSSH's clients that leave nothing to the user's own files."""
        stated = {
            "IdentityFile": self.key,
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": self.known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "BatchMode": "yes",
            "Port": self.port,
        }
        return ["-F", "none", *(f"-o{key}={value}" for key, value in stated.items())]


def _sftp(v: MirrorClient) -> tuple[list[str], str]:
    command = ["sftp", "-q", *v.ssh_options, "-b", "-", f"{v.party}@{ADDRESS}"]
    return command, f"get -r / {v.folder}\n"


def _lftp(v: MirrorClient) -> tuple[list[str], str]:
    ssh = shlex.join(["ssh", "-a", "-x", *v.ssh_options])
    script = (
        f"set net:max-retries 3; set sftp:connect-program {shlex.quote(ssh)}; "
        f"open sftp://{v.party}:@{ADDRESS}:{v.port}; "
        f"mirror --parallel=4 / {shlex.quote(str(v.folder))}; quit"
    )
    return ["lftp", "--norc", "-c", script], ""


def _rclone(v: MirrorClient) -> tuple[list[str], str]:
    remote = f":sftp,host={ADDRESS},port={v.port},user={v.party},key_file={v.key}:/"
    hosts = ["--sftp-known-hosts-file", str(v.known_hosts)]
    return ["rclone", "--config", "/dev/null", "copy", *hosts, remote, str(v.folder)], ""


def _mirror(v: MirrorClient) -> tuple[list[str], str]:
    kit = [v.key, v.known_hosts, v.key.with_name(sshsig.ALLOWED_SIGNERS)]
    named = zip(("--key", "--known-hosts", "--signers"), map(str, kit), strict=True)
    command = [sys.executable, str(_MIRROR), "--host", ADDRESS, "--port", str(v.port)]
    command += ["--user", v.party, *chain.from_iterable(named), "--to", str(v.folder)]
    return command, ""


MIRROR_CLIENTS: dict[str, Callable[[MirrorClient], tuple[list[str], str]]] = {
    "sftp": _sftp,
    "lftp": _lftp,
    "rclone": _rclone,
    "mirror": _mirror,
}


def _pages(root: Path) -> dict[str, str]:
    """Return the digest of each page below `root`, by its path there."""
    return dict(_digests(root))


def _digests(root: Path) -> Iterator[tuple[str, str]]:
    for path in root.rglob("*"):
        inside = path.relative_to(root).as_posix()
        if path.is_file() and is_page(inside):
            with path.open("rb") as file:
                yield inside, hashlib.file_digest(file, "sha256").hexdigest()


def is_page(path: str) -> bool:
    """Say whether a path in a tree is a page's, and not a list or a note of the publisher's."""
    try:
        layout.parse(path)
    except ValueError:
        return False
    return True


class MirrorRunner:
    """All visitors, a thread each, who come again after a pause until told that the night is over.

    Each comes once more then, so that its mirror is complete.
    """

    def __init__(self, clients: list[MirrorClient], pause: float) -> None:
        self.clients = clients
        self._pause = pause
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run_rounds, args=(client, number), name=client.party)
            for number, client in enumerate(clients)
        ]

    def start(self) -> None:
        """Let them come, one after the other within the first pause."""
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let each come once more, and wait for that."""
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run_rounds(self, client: MirrorClient, number: int) -> None:
        wait = self._pause * (number + 1) / len(self._threads)
        while not self._over.wait(wait):
            began = time.monotonic()
            client.mirror()
            wait = max(0.0, self._pause - (time.monotonic() - began))
        client.mirror()
        until = time.monotonic() + _FEED_SECONDS
        while client.client == "mirror" and time.monotonic() < until and not client.matches_tree():
            time.sleep(3)
            client.mirror()
