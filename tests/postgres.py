"""Starts a PostgreSQL server for tests, with a new cluster and a socket in a temporary folder.

It listens on no network address. PostgreSQL refuses to run as root, so for root it runs as the user
`postgres`, which Debian's package creates.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import sqlalchemy as sa

USER = "tests"


def programs() -> Path | None:
    """Return the folder with the newest installed `initdb`, None if there is none."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda p: int(p.parts[-2]), default=None)


@dataclass(frozen=True)
class Server:
    """A running server; `folder` has its socket."""

    folder: Path
    _numbers: "count[int]" = field(default_factory=count)

    def url(self, database: str) -> sa.URL:
        """Return the URL of a database."""
        host = {"host": str(self.folder)}
        return sa.URL.create("postgresql+psycopg", USER, database=database, query=host)

    def new_database(self) -> sa.URL:
        """Create an empty database and return its URL."""
        name = f"test{next(self._numbers)}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self.url(name)


@contextmanager
def running(binaries: Path) -> Iterator[Server]:
    """Run a server until the end of the `with` block."""
    # The path of a socket may have 107 bytes at most, so not below pytest's long names.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    try:
        subprocess.run(
            [binaries / "initdb", "-D", folder / "data", "-U", USER, "-A", "trust", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off")
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [binaries / "postgres", "-D", folder / "data", *(f"--{o}" for o in options)],
                stdout=log, stderr=log, user=user, cwd=folder,
            )  # fmt: skip
        try:
            _wait_until_ready(binaries, folder, process)
            yield Server(folder)
        finally:
            process.send_signal(signal.SIGINT)  # a "fast" shutdown: open sessions are ended
            process.wait(timeout=30)
    finally:
        shutil.rmtree(folder)


def _wait_until_ready(binaries: Path, folder: Path, process: "subprocess.Popen[bytes]") -> None:
    ready: list[str | Path] = [binaries / "pg_isready", "-q", "-h", folder]
    deadline = time.monotonic() + 30
    while subprocess.run(ready, check=False).returncode != 0:
        log = (folder / "log").read_text()
        assert process.poll() is None, log
        assert time.monotonic() < deadline, log
        time.sleep(0.05)
