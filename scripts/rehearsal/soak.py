"""`scripts/soak --minutes N`: everything at once, and everything going wrong meanwhile.

A rehearsal election is scanned, filed, served and mirrored while, one after the other and over
again, in an order that --seed decides: the supervisor, publisher, server, a reading worker and a
session are killed; the disk fills up; the wall clock steps; keys change; the settings are read
anew; clients storm in that know no key, or no SSH.

Then all grows calm, and it must come out that nothing was lost and nothing happened twice: every
page that left a scanner has its one record and its bytes, `ssps verify` and `ssps audit verify`
find nothing, each party's disk agrees with its tree to the byte, and no daemon met an error that
it did not expect. Exit code 1 if not. For the full disk the site stands on a small tmpfs of its
own, which only root can mount; elsewhere that fault is left out, and the report says so.
"""

import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from config import load
from config.registry import INDEX, Registry
from keys import host
from scripts.rehearsal import night, reckoning, scanner
from scripts.rehearsal.demo import free_port, ssps, wait_until_served
from scripts.rehearsal.kit import ADDRESS
from scripts.rehearsal.reckoning import Delivered
from scripts.rehearsal.visitors import CLIENTS, Crowd, Visitor

_STRANGER = "127.0.0.3"  # a second address of every party, where the storms come from
_CALM = 0.25  # of the time, at the end of it, in which nothing more goes wrong
_SOON = 5.0  # seconds to wait for something to kill
_MEGABYTES = 256  # of the site's disk, and as many more for each ten minutes


@dataclass
class World:
    """What runs, and what goes wrong with it."""

    folder: Path
    port: int
    rng: random.Random
    own_disk: bool
    seconds: float
    supervisor: subprocess.Popen[bytes] | None = None
    done: Counter[str] = field(default_factory=Counter)
    left_out: list[str] = field(default_factory=list)

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
        command = [sys.executable, "-m", "scripts.rehearsal.skewed", "run"]
        with self.log.open("ab") as out:
            self.supervisor = subprocess.Popen(
                [*command, str(self.site), str(self.clock)], stdout=out, stderr=out
            )

    def parts(self) -> dict[str, int]:
        """Return the process of each part that runs."""
        assert self.supervisor is not None  # noqa: S101 - it was started
        found = {"supervisor": self.supervisor.pid}
        for pid in _children(self.supervisor.pid):
            words = _command(pid)
            for name in ("publish", "serve"):
                if name in words:
                    found[name] = pid
        return found


# Each fault does something that no operator would, and says what.
Fault = Callable[[World], str]


def kill_publisher(world: World) -> str:
    """Kill the publisher; its supervisor starts it again."""
    return _kill(_part(world, "publish"), "publisher")


def kill_server(world: World) -> str:
    """Kill the server with all its sessions."""
    return _kill(_part(world, "serve"), "server")


def kill_reader(world: World) -> str:
    """Kill a reading worker under its page."""
    return _kill(_one(world, "publish"), "reader")


def kill_session(world: World) -> str:
    """Kill one connection's process."""
    return _kill(_one(world, "serve"), "session")


def kill_supervisor(world: World) -> str:
    """Kill the supervisor, and start another as systemd would."""
    assert world.supervisor is not None  # noqa: S101 - it was started
    world.supervisor.kill()
    world.supervisor.wait()
    world.start()
    return "supervisor killed and started"


def fill_disk(world: World) -> str:
    """Leave no byte of the site's disk free for some seconds."""
    if not world.own_disk:
        world.left_out.append("disk full: the site's disk is not its own (needs root)")
        return "disk full left out"
    filler = world.site.parent / "filler"
    with filler.open("wb") as file, suppress(OSError):
        while True:
            file.write(b"\0" * (1 << 20))
            file.flush()
    time.sleep(4)
    filler.unlink()
    return "disk full"


def step_clock(world: World) -> str:
    """Let the wall clock go ten minutes wrong, or right again."""
    wrong = 0 if float(world.clock.read_text()) else 600
    _replace(world.clock, str(wrong))
    return f"clock stepped to {wrong} s ahead"


def change_key(world: World) -> str:
    """Give a party another key, which its client uses from the next time on."""
    party = world.rng.choice([p.id for p in load.load(world.site).parties])
    fresh = world.folder / f"key-{world.done.total()}"
    host.make(fresh, party)
    ssps("key", "add", party, "--public-key", fresh.with_suffix(".pub"), "--why", "soak",
         "--site", world.site)  # fmt: skip
    kit = world.site / "clients" / party
    for name, made in (("id_ed25519.pub", fresh.with_suffix(".pub")), ("id_ed25519", fresh)):
        shutil.copy2(made, kit / ".fresh")  # it comes from another disk
        (kit / ".fresh").replace(kit / name)
    return "key added and used"


def reload(world: World) -> str:
    """Change the settings and have them read anew."""
    text = (world.site / "site.toml").read_text(encoding="utf-8")
    rate = world.rng.randint(2_000, 9_000)
    text = re.sub(r"(?m)^(# )?rate_mbit = \d+", f"rate_mbit = {rate}", text)
    _replace(world.site / "site.toml", text)
    assert world.supervisor is not None  # noqa: S101 - it was started
    world.supervisor.send_signal(signal.SIGHUP)
    return "settings read anew"


def storm(world: World) -> str:
    """Come with sixty connections at once that talk no SSH, hang, or are gone again."""
    open_: list[socket.socket] = []
    for number in range(60):
        with suppress(OSError):
            peer = socket.create_connection((ADDRESS, world.port), 2, (_STRANGER, 0))
            open_.append(peer)
            if number % 3:
                peer.sendall(
                    (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-x\r\n" + b"\xff" * 64)[number % 2]
                )
    time.sleep(1)
    for peer in open_:
        peer.close()
    return "storm of clients that talk no SSH"


def guess(world: World) -> str:
    """Log in twelve times at once with a key that nobody knows."""
    key = world.folder / "guess"
    if not key.exists():
        host.make(key, "guess")
    options = ["-F", "none", "-i", str(key), "-b", "-", "-o", "BatchMode=yes"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", f"BindAddress={_STRANGER}", "-o", "IdentitiesOnly=yes", "-P", str(world.port)]
    command = ["sftp", "-q", *options, f"parti-a@{ADDRESS}"]
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    guesses = [subprocess.Popen(command, **quiet) for _ in range(12)]  # type: ignore[call-overload]
    if any(process.wait(60) == 0 for process in guesses):
        raise AssertionError("somebody logged in with a key that nobody knows")
    return "storm of guesses"


FAULTS: tuple[Fault, ...] = (
    kill_publisher,
    kill_server,
    kill_reader,
    kill_session,
    kill_supervisor,
    fill_disk,
    step_clock,
    change_key,
    reload,
    storm,
    guess,
)


def _kill(pid: int | None, name: str) -> str:
    if pid is None:
        return f"no {name} to kill just then"
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return f"{name} killed"


def _part(world: World, name: str) -> int | None:
    """Return a part's process, waiting a little for one that is only being started."""
    return _soon(lambda: world.parts().get(name))


def _one(world: World, part: str) -> int | None:
    def child() -> int | None:
        pid = world.parts().get(part)
        children = _children(pid) if pid else []
        return world.rng.choice(children) if children else None

    return _soon(child)


def _soon(find: Callable[[], int | None]) -> int | None:
    until = time.monotonic() + _SOON
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


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.fresh")
    while True:  # the disk may be full just then
        try:
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)
            return
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            time.sleep(0.5)


@contextmanager
def _disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Make `folder`, on a small disk of its own if we may; say whether it is."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "ssps-soak", str(folder)]
    own = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield own
    finally:
        if own:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _lay_out(world: World, boxes: int, parties: int, seed: int) -> None:
    made = ["--boxes", boxes, "--parties", parties, "--seed", seed, "--port", world.port]
    ssps("rehearse", "init", world.site, *made)
    text = (world.site / "site.toml").read_text(encoding="utf-8")
    intake = world.folder / "intake"  # a scanner's disk is not the site's
    text = text.replace('folders = ["intake"]', f'folders = ["{intake}"]')
    text = text.replace("rescan_seconds = 30.0", "rescan_seconds = 5.0")
    text = text.replace("# drain_seconds = 30", "drain_seconds = 3")
    _replace(world.site / "site.toml", text)
    stated = (world.site / "parties.toml").read_text(encoding="utf-8")
    stated = stated.replace(f'"{ADDRESS}",', f'"{ADDRESS}", "{_STRANGER}",')
    _replace(world.site / "parties.toml", stated)
    world.clock.write_text("0")


def _scan(world: World, seed: int, over: threading.Event) -> list[Delivered]:
    """Draw and drop pages until it is over, some written slowly in place."""
    settings = load.load(world.site)
    index = Registry(world.site / INDEX)
    coming = night.plan(index.entries(), seed)
    index.close()
    pause = world.seconds * (1 - _CALM) / len(coming)
    began = time.monotonic()
    done: list[Delivered] = []
    for number, one in enumerate(coming):
        name, content = scanner.render(one.scan, settings.election, seed)
        if over.wait(max(0.0, began + number * pause - time.monotonic())):
            break
        if number % 10 == 9:
            scanner.drop_rudely(settings.intake.folders[0], name, content, lambda: time.sleep(0.02))
        else:
            scanner.drop(settings.intake.folders[0], name, content)
        at = datetime.now(UTC)
        done.append(Delivered(name, scanner.digest(content), one.scan.kind, at))
    return done


def soak(world: World, parties: int, seed: int) -> dict[str, object]:
    """Run it all, and return the report; `ok` is its verdict."""
    _lay_out(world, max(12, round(world.seconds / 10)), parties, seed)
    names, mirrors = list(CLIENTS), world.folder / "mirrors"
    visitors = [
        Visitor(world.site, world.port, party.id, names[n % len(names)], mirrors / party.id)
        for n, party in enumerate(load.load(world.site).parties)
    ]
    crowd = Crowd(visitors, pause=10)
    over = threading.Event()
    delivered: list[Delivered] = []
    scanning = threading.Thread(target=lambda: delivered.extend(_scan(world, seed, over)))
    world.start()
    began = time.monotonic()
    try:
        wait_until_served(world.port)
        scanning.start()
        crowd.start()
        _go_wrong(world, began + world.seconds * (1 - _CALM))
        over.set()
        scanning.join()
        _replace(world.clock, "0")
        wait_until_served(world.port)
        reckoning.wait_until_filed(world.site, len(delivered), patience=120)
        crowd.finish()
    finally:
        over.set()
        crowd.finish()
        stopped = _stop(world)
    return _report(world, delivered, visitors, stopped, time.monotonic() - began)


def _go_wrong(world: World, until: float) -> None:
    waiting: list[Fault] = []
    while time.monotonic() < until:
        if not waiting:
            waiting = world.rng.sample(FAULTS, len(FAULTS))
        did = waiting.pop()(world)
        world.done[did] += 1
        print(f"{time.monotonic() - until + world.seconds * (1 - _CALM):6.1f} s  {did}")
        time.sleep(min(world.rng.uniform(2, 8), max(0.0, until - time.monotonic())))


def _stop(world: World) -> int:
    assert world.supervisor is not None  # noqa: S101 - it was started
    world.supervisor.terminate()
    try:
        return world.supervisor.wait(60)
    except subprocess.TimeoutExpired:
        world.supervisor.kill()
        return world.supervisor.wait()


def _report(
    world: World, delivered: list[Delivered], visitors: list[Visitor], stopped: int, seconds: float
) -> dict[str, object]:
    _, unaccounted = reckoning.lags(world.site, delivered)
    differ = [f"{v.party} ({v.client})" for v in visitors if not v.agrees()]
    checks = reckoning.checks(world.site)
    said, tracebacks = _said(world.log)
    return {
        "seconds": round(seconds, 1),
        "faults": dict(world.done),
        "left_out": sorted(set(world.left_out)),
        "pages": len(delivered),
        "unaccounted": unaccounted,
        "rounds": sum(v.rounds for v in visitors),
        "rounds_cut_short": sum(len(v.failed) for v in visitors),
        "last_said": [f"{v.party} ({v.client}): {v.failed[-1]}" for v in visitors if v.failed],
        "mirrors_that_differ": differ,
        **reckoning.transfers(world.site),
        "ledgers": reckoning.ledgers(world.site),
        "checks": checks,
        "stopped_with": stopped,
        "errors_logged": said,
        "tracebacks": tracebacks,
        "ok": not (unaccounted or differ or stopped or tracebacks)
        and "failed" not in checks.values(),
    }


def _said(log: Path) -> tuple[dict[str, int], int]:
    """Count the errors in a log by what they say, and what is no line of ours."""
    said: Counter[str] = Counter()
    tracebacks = 0
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            tracebacks += line.startswith("Traceback")
            continue
        tracebacks += "Traceback" in entry.get("exception", "")
        if entry.get("level") in ("error", "critical"):
            said[str(entry.get("event"))] += 1
    return dict(said), tracebacks


@click.command()
@click.option("--minutes", type=click.FloatRange(0.5), default=2.0, show_default=True)
@click.option("--parties", type=click.IntRange(1, 40), default=6, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the report there.")
@click.option("--keep", is_flag=True, help="Leave log and mirrors where they are.")
def main(minutes: float, parties: int, seed: int, file: Path | None, keep: bool) -> None:
    """Run everything at once with faults, and hold what comes of it against what went in."""
    folder = Path(tempfile.mkdtemp(prefix="ssps-soak-"))
    try:
        with _disk(folder / "disk", _MEGABYTES + int(minutes * _MEGABYTES / 10)) as own:
            rng = random.Random(seed)  # noqa: S311 - the same faults every time
            world = World(folder, free_port(), rng, own, minutes * 60)
            report = soak(world, parties, seed)
    finally:
        if keep:
            print(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    click.echo(reckoning.show(report))
    if file:
        file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(int(not report["ok"]))


if __name__ == "__main__":
    main()
