"""Several machines in one: each has processes with its mark, and PostgreSQL has a replica."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import postgres
import pytest

ROOT = Path(__file__).resolve().parents[1]
MARK = "SSPS_TEST_MACHINE"  # in the environment of every process of a machine
HAPROXY_PROGRAM = "/usr/sbin/haproxy"  # the PATH of an ordinary user has no /usr/sbin
needs_haproxy = pytest.mark.skipif(
    not Path(HAPROXY_PROGRAM).exists(), reason="haproxy is not installed"
)


def documented(chapter: str, heading: str) -> list[str]:
    """Return the commands below a heading of a chapter of docs/deploy."""
    text = (ROOT / "docs/deploy" / chapter).read_text(encoding="utf-8")
    _, found, section = text.partition(f"\n## {heading}\n")
    assert found, f"{chapter} has no {heading}"
    blocks = re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def processes(mark: str) -> list[int]:
    """Return the processes with a mark, whoever their parents are."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended
            if f"{MARK}={mark}".encode() in environment:
                found.append(int(entry.name))
    return found


def signal_all(mark: str, number: signal.Signals) -> None:
    """Send a signal to every process with a mark."""
    for process in processes(mark):
        try:
            os.kill(process, number)
        except ProcessLookupError:
            continue


@dataclass
class Marked:
    """A process and what it starts, which can be killed together."""

    mark: str
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, mark: str, command: list[str], log: Path, **environment: str) -> "Marked":
        """Start a command with a mark; its temporary files are beside its log."""
        with log.open("ab") as file:
            stated = {**os.environ, "TMPDIR": str(log.parent), **environment, MARK: mark}
            return cls(mark, subprocess.Popen(command, stdout=file, stderr=file, env=stated))

    def kill(self) -> None:
        """End all of it at once, as a loss of power does."""
        while processes(self.mark):
            signal_all(self.mark, signal.SIGKILL)
            self.process.poll()
        self.process.wait()

    def stop(self, log: Path) -> None:
        """Ask it to stop; it must end without an error."""
        if self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=60) == 0, log.read_text()


def psql(server: postgres.Server, statement: str) -> str:
    """Run one statement as the superuser, with `psql`, and return the values that it prints."""
    command: list[str | Path] = [server._binaries / "psql", "-h", server.folder]
    command += ["-U", postgres.USER, "-qtAc", statement, "postgres"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def promote(server: postgres.Server) -> None:
    """Make a replica the server that takes changes, as `pg_ctlcluster promote` does."""
    subprocess.run(
        [server._binaries / "pg_ctl", "-D", server.folder / "data", "-w", "promote"],
        check=True, capture_output=True, user=server._user, cwd=server.folder,
    )  # fmt: skip


def _follower(primary: postgres.Server, folder: Path, basebackup: list[str]) -> postgres.Server:
    """Make a replica in a new folder with the documented pg_basebackup, and start it."""
    if primary._user:
        shutil.chown(folder, primary._user)
    here = {
        "/var/lib/postgresql/15/main": str(folder / "data"),
        "host=primary user=replica": f"host={primary.folder} user={postgres.USER}",
    }
    for documented_place, place in here.items():
        basebackup = [each.replace(documented_place, place) for each in basebackup]
    subprocess.run(
        [primary._binaries / basebackup[0], *basebackup[1:]],
        check=True, capture_output=True, user=primary._user, cwd=folder,
    )  # fmt: skip
    server = postgres.Server(folder, primary._binaries, primary._user)
    server.start()
    return server


@contextmanager
def replicated_postgresql() -> Iterator[tuple[postgres.Server, postgres.Server]]:
    """Run a server and its synchronous replica, made by the commands of the chapter on standbys."""
    binaries = postgres.programs()
    assert binaries is not None
    elsewhere = Path(tempfile.mkdtemp(prefix="pg-"))
    replica = None
    try:
        with postgres.running(binaries) as primary:
            for line in documented("standby.md", "PostgreSQL"):
                words = shlex.split(line)
                assert words[:3] == ["sudo", "-u", "postgres"], line
                if words[3] == "psql":
                    psql(primary, words[-1])
                else:
                    replica = _follower(primary, elsewhere, words[3:])
            assert replica is not None
            yield primary, replica
    finally:
        if replica is not None:
            replica.stop(signal.SIGQUIT)
        shutil.rmtree(elsewhere, ignore_errors=True)


def database_of_both(primary: postgres.Server, replica: postgres.Server) -> str:
    """Return the URL of a new database, which finds the server that takes changes."""
    url = primary.new_database(empty=True)
    hosts = f"host={primary.folder},{replica.folder}"
    where = f"postgresql+psycopg://{postgres.USER}@/{url.database}"
    return f"{where}?{hosts}&target_session_attrs=primary"
