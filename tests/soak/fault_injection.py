"""What goes wrong in a soak (tests/soak/soak), a function each, and the world it befalls.

The supervisor, publisher, server, a reading worker and a session are killed; the disk fills up; the
wall clock steps; keys change; the settings are read anew; clients storm in that know no key, or no
SSH.
"""

import errno
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from config import load
from keys.server_keys import host
from scripts.rehearsal.demo import ssps
from scripts.rehearsal.rehearsal_site import ADDRESS

ATTACK_ADDRESS = "127.0.0.3"  # a second address of every party, where the storms come from
_WAIT_SECONDS = 5.0  # seconds to wait for something to kill


@dataclass
class SoakRun:
    """What runs, and what goes wrong with it."""

    folder: Path
    port: int
    rng: random.Random
    own_disk: bool
    seconds: float
    supervisor: subprocess.Popen[bytes] | None = None
    done: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)

    @property
    def site(self) -> Path:
        """The site's folder."""
        return self.folder / "disk" / "site"

    @property
    def clock(self) -> Path:
        """The file that says by how much the wall clock is wrong."""
        return self.folder / "clock"

    @property
    def log(self) -> Path:
        """Where the daemons' log goes."""
        return self.folder / "log.jsonl"

    def start(self) -> None:
        """Start the supervisor, again if need be."""
        command = [sys.executable, "-m", "soak.clock_skew", "run"]
        with self.log.open("ab") as out:
            self.supervisor = subprocess.Popen(
                [*command, str(self.site), str(self.clock)], stdout=out, stderr=out
            )

    def parts(self) -> dict[str, int]:
        """Return the process of each part that runs."""
        assert self.supervisor is not None
        found = {"supervisor": self.supervisor.pid}
        for pid in _children(self.supervisor.pid):
            words = _command(pid)
            for name in ("publish", "serve"):
                if name in words:
                    found[name] = pid
        return found


# Each does something that no operator would, and says what.
InjectedFault = Callable[[SoakRun], str]


def kill_publisher(soak_run: SoakRun) -> str:
    """Kill the publisher; its supervisor starts it again."""
    return _kill(_part(soak_run, "publish"), "publisher")


def kill_server(soak_run: SoakRun) -> str:
    """Kill the server with all its sessions."""
    return _kill(_part(soak_run, "serve"), "server")


def kill_reader(soak_run: SoakRun) -> str:
    """Kill a reading worker under its page."""
    return _kill(_random_child(soak_run, "publish"), "reader")


def kill_session(soak_run: SoakRun) -> str:
    """Kill one connection's process."""
    return _kill(_random_child(soak_run, "serve"), "session")


def kill_supervisor(soak_run: SoakRun) -> str:
    """Kill the supervisor, and start another as systemd would."""
    assert soak_run.supervisor is not None
    soak_run.supervisor.kill()
    soak_run.supervisor.wait()
    soak_run.start()
    return "supervisor killed and started"


def fill_disk(soak_run: SoakRun) -> str:
    """Leave no byte of the site's disk free for some seconds."""
    if not soak_run.own_disk:
        soak_run.skipped.append("disk full: the site's disk is not its own (needs root)")
        return "disk full left out"
    filler = soak_run.site.parent / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"\0" * (1 << 20))
            file.flush()
    time.sleep(4)
    filler.unlink()
    return "disk full"


def step_clock(soak_run: SoakRun) -> str:
    """Let the wall clock go ten minutes wrong, or right again."""
    wrong = 0 if float(soak_run.clock.read_text()) else 600
    replace_file(soak_run.clock, str(wrong))
    return f"clock stepped to {wrong} s ahead"


def change_key(soak_run: SoakRun) -> str:
    """Give a party another key, which its client uses from the next time on."""
    party = soak_run.rng.choice([p.id for p in load.load(soak_run.site).parties])
    fresh = soak_run.folder / f"key-{soak_run.done.total()}"
    host.create_key(fresh, party)
    ssps("key", "add", party, "--public-key", fresh.with_suffix(".pub"), "--why", "soak",
         "--site", soak_run.site)  # fmt: skip
    kit = soak_run.site / "clients" / party
    for name, made in (("id_ed25519.pub", fresh.with_suffix(".pub")), ("id_ed25519", fresh)):
        shutil.copy2(made, kit / ".fresh")  # it comes from another disk
        (kit / ".fresh").replace(kit / name)
    return "key added and used"


def reload_settings(soak_run: SoakRun) -> str:
    """Change the settings and have them read anew."""
    text = (soak_run.site / "site.toml").read_text(encoding="utf-8")
    rate = soak_run.rng.randint(2_000, 9_000)
    text = re.sub(r"(?m)^(# )?rate_mbit = \d+", f"rate_mbit = {rate}", text)
    replace_file(soak_run.site / "site.toml", text)
    assert soak_run.supervisor is not None
    soak_run.supervisor.send_signal(signal.SIGHUP)
    return "settings read anew"


def flood_with_connections(soak_run: SoakRun) -> str:
    """Come with sixty connections at once that talk no SSH, hang, or are gone again."""
    open_: list[socket.socket] = []
    for number in range(60):
        with suppress(OSError):
            peer = socket.create_connection((ADDRESS, soak_run.port), 2, (ATTACK_ADDRESS, 0))
            open_.append(peer)
            if number % 3:
                peer.sendall(
                    (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 64)[number % 2]
                )
    time.sleep(1)
    for peer in open_:
        peer.close()
    return "storm of clients that talk no SSH"


def flood_with_logins(soak_run: SoakRun) -> str:
    """Log in twelve times at once with a key that nobody knows."""
    key = soak_run.folder / "guess"
    if not key.exists():
        host.create_key(key, "guess")
    options = ["-F", "none", "-i", str(key), "-b", "-", "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += [
        "-o",
        f"BindAddress={ATTACK_ADDRESS}",
        "-o",
        "IdentitiesOnly=yes",
        "-P",
        str(soak_run.port),
    ]
    command = ["sftp", "-q", *options, f"parti-a@{ADDRESS}"]
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    guesses = [subprocess.Popen(command, **quiet) for _ in range(12)]  # type: ignore[call-overload]
    if any(process.wait(60) == 0 for process in guesses):
        raise AssertionError("somebody logged in with a key that nobody knows")
    return "storm of guesses"


ALL_FAULTS: tuple[InjectedFault, ...] = (
    kill_publisher,
    kill_server,
    kill_reader,
    kill_session,
    kill_supervisor,
    fill_disk,
    step_clock,
    change_key,
    reload_settings,
    flood_with_connections,
    flood_with_logins,
)


def replace_file(path: Path, text: str) -> None:
    """Replace a file as soon as the disk, which may be full just then, has room for it."""
    fresh = path.with_name(f".{path.name}.fresh")
    while True:
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
            return
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            time.sleep(0.5)


def _kill(pid: int | None, name: str) -> str:
    if pid is None:
        return f"no {name} to kill just then"
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"{name} killed"


def _part(soak_run: SoakRun, name: str) -> int | None:
    """Return a part's process, waiting a little for one that is only being started."""
    return _wait_for(lambda: soak_run.parts().get(name))


def _random_child(soak_run: SoakRun, part: str) -> int | None:
    def child() -> int | None:
        pid = soak_run.parts().get(part)
        children = _children(pid) if pid else []
        return soak_run.rng.choice(children) if children else None

    return _wait_for(child)


def _wait_for(find: Callable[[], int | None]) -> int | None:
    until = time.monotonic() + _WAIT_SECONDS
    while (found := find()) is None and time.monotonic() < until:
        time.sleep(0.1)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += map(int, listed.read_text().split())
    return found


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return []
