"""The faults that the soak test (tests/soak/soak) injects, one function each.

They kill the supervisor, the publisher, the server, a reading worker or a session, fill the disk,
step the wall clock, change keys, reload the settings, and flood the server with connections that
do not speak SSH and with logins with an unknown key.
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
from scripts.rehearsal.rehearsal_site import ADDRESS, client_key

_WAIT_SECONDS = 5.0  # to wait for a process to kill


@dataclass
class SoakRun:
    """The processes and files of a soak test, and the faults injected so far.

    `own_disk` says whether the site is on a small disk of its own. `done` counts the faults by
    their description. The floods come from the address of `attacker`, a party without a client.
    """

    folder: Path
    port: int
    rng: random.Random
    own_disk: bool
    seconds: float
    attacker: str = ""
    supervisor: subprocess.Popen[bytes] | None = None
    done: Counter[str] = field(default_factory=Counter)
    skipped: list[str] = field(default_factory=list)

    @property
    def site(self) -> Path:
        """The site's folder."""
        return self.folder / "disk" / "site"

    @property
    def clock(self) -> Path:
        """The file with the error of the wall clock in seconds."""
        return self.folder / "clock"

    @property
    def log(self) -> Path:
        """The log of the daemons."""
        return self.folder / "log.jsonl"

    def start(self) -> None:
        """Start the supervisor, or start it again."""
        command = [sys.executable, "-m", "soak.clock_skew", "run"]
        with self.log.open("ab") as out:
            self.supervisor = subprocess.Popen(
                [*command, str(self.site), str(self.clock)], stdout=out, stderr=out
            )

    def parts(self) -> dict[str, int]:
        """Return the process ids of the supervisor and of the running daemons."""
        assert self.supervisor is not None
        found = {"supervisor": self.supervisor.pid}
        for pid in _children(self.supervisor.pid):
            words = _command(pid)
            for name in ("publish", "serve"):
                if name in words:
                    found[name] = pid
        return found


# Injects a fault and returns its description.
InjectedFault = Callable[[SoakRun], str]


def kill_publisher(soak_run: SoakRun) -> str:
    """Kill the publisher; its supervisor starts it again."""
    return _kill(_part(soak_run, "publish"), "publisher")


def kill_server(soak_run: SoakRun) -> str:
    """Kill the server with all its sessions."""
    return _kill(_part(soak_run, "serve"), "server")


def kill_reader(soak_run: SoakRun) -> str:
    """Kill a reading worker while it reads a page."""
    return _kill(_random_child(soak_run, "publish"), "reader")


def kill_session(soak_run: SoakRun) -> str:
    """Kill the child of one connection."""
    return _kill(_random_child(soak_run, "serve"), "session")


def kill_supervisor(soak_run: SoakRun) -> str:
    """Kill the supervisor, and start it again as systemd would."""
    assert soak_run.supervisor is not None
    soak_run.supervisor.kill()
    soak_run.supervisor.wait()
    soak_run.start()
    return "supervisor killed and restarted"


def fill_disk(soak_run: SoakRun) -> str:
    """Fill the site's disk completely for four seconds."""
    if not soak_run.own_disk:
        soak_run.skipped.append("disk full: the site has no disk of its own (needs root)")
        return "disk full skipped"
    filler = soak_run.site.parent / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"\0" * (1 << 20))
            file.flush()
    time.sleep(4)
    filler.unlink()
    return "disk full"


def step_clock(soak_run: SoakRun) -> str:
    """Step the wall clock ten minutes ahead, or back to the right time."""
    seconds = 0 if float(soak_run.clock.read_text()) else 600
    replace_file(soak_run.clock, str(seconds))
    return f"clock stepped to {seconds} s ahead"


def change_key(soak_run: SoakRun) -> str:
    """Add a key to a party; its client uses it from the next round on."""
    party = soak_run.rng.choice([p.id for p in load.load(soak_run.site).parties])
    new_key = soak_run.folder / f"key-{soak_run.done.total()}"
    host.create_key(new_key, party)
    public_key = new_key.with_suffix(".pub")
    ssps("key", "add", party, "--public-key", public_key, "--why", "soak", "--site", soak_run.site)
    key = client_key(soak_run.site, party)
    for source, target in ((public_key, key.with_suffix(".pub")), (new_key, key)):
        copy = target.with_name(".new")  # copied first, because `source` is on another disk
        shutil.copy2(source, copy)
        copy.replace(target)
    return "key added and used"


def reload_settings(soak_run: SoakRun) -> str:
    """Change a setting, and let the daemons reload the settings."""
    text = (soak_run.site / "site.toml").read_text(encoding="utf-8")
    rate = soak_run.rng.randint(2_000, 9_000)
    text = re.sub(r"(?m)^(# )?rate_mbit = \d+", f"rate_mbit = {rate}", text)
    replace_file(soak_run.site / "site.toml", text)
    assert soak_run.supervisor is not None
    soak_run.supervisor.send_signal(signal.SIGHUP)
    return "settings reloaded"


def flood_with_connections(soak_run: SoakRun) -> str:
    """Open sixty connections at once that do not speak SSH, or send nothing."""
    connections: list[socket.socket] = []
    for number in range(60):
        with suppress(OSError):
            peer = socket.create_connection((ADDRESS, soak_run.port), 2, (soak_run.attacker, 0))
            connections.append(peer)
            if number % 3:
                peer.sendall(
                    (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 64)[number % 2]
                )
    time.sleep(1)
    for peer in connections:
        peer.close()
    return "flood of connections that do not speak SSH"


def flood_with_logins(soak_run: SoakRun) -> str:
    """Try to log in twelve times at once with an unknown key."""
    key = soak_run.folder / "unknown-key"
    if not key.exists():
        host.create_key(key, "unknown")
    options = ["-F", "none", "-i", str(key), "-b", "-", "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += [
        "-o",
        f"BindAddress={soak_run.attacker}",
        "-o",
        "IdentitiesOnly=yes",
        "-P",
        str(soak_run.port),
    ]
    command = ["sftp", "-q", *options, f"parti-a@{ADDRESS}"]
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    logins = [subprocess.Popen(command, **quiet) for _ in range(12)]  # type: ignore[call-overload]
    if any(process.wait(60) == 0 for process in logins):
        raise AssertionError("a login with an unknown key succeeded")
    return "flood of logins with an unknown key"


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
    """Replace a file; if the disk is full, wait until there is room."""
    new = path.with_name(f".{path.name}.new")
    while True:
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(path)
            return
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            time.sleep(0.5)


def _kill(pid: int | None, name: str) -> str:
    if pid is None:
        return f"no {name} to kill"
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"{name} killed"


def _part(soak_run: SoakRun, name: str) -> int | None:
    """Return the process id of a daemon, waiting for it if it is just being started."""
    return _wait_for(lambda: soak_run.parts().get(name))


def _random_child(soak_run: SoakRun, part: str) -> int | None:
    """Return the process id of a random child of a daemon, waiting until it has one."""

    def child() -> int | None:
        pid = soak_run.parts().get(part)
        children = _children(pid) if pid else []
        return soak_run.rng.choice(children) if children else None

    return _wait_for(child)


def _wait_for(find: Callable[[], int | None]) -> int | None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while (found := find()) is None and time.monotonic() < deadline:
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
