import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from published import published_files
from wire.server import OPENS, RunningServer, StartServer, make_site, server_script

from keys.server_keys import host

__all__ = ["published_files"]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[StartServer]:
    """Start servers. At the end each must stop with exit code 0 and leave no child behind."""
    running: list[RunningServer] = []

    def start(
        parties: dict[str, str] | None = None,
        *,
        now: datetime = OPENS + timedelta(hours=1),
        sessions: int = 64,
        per_party: int = 32,
        grace: float | None = 10.0,
        patch: str = "",
        before: Callable[[Path], object] = lambda site: None,
        again: bool = False,
        limited: bool = False,
        rates: str = "",
        login_cpu: str = "",
        drain: float | None = 0.3,
        name: str = "site",
    ) -> RunningServer:
        """Start a server and wait until it listens.

        `parties` are ids and registered addresses. `before` changes the site before the start;
        `again` starts on the site that is there. Without a `grace` the site's setting is in force.
        For the others see `server_script`.
        """
        site = tmp_path / name
        if not again:
            make_site(site, parties or {"parti-a": "127.0.0.1"}, sessions, per_party)
        before(site)
        (site / "now").write_text(now.isoformat())
        log = site / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    server_script(
                        patch, drain=drain, limited=limited, rates=rates, login_cpu=login_cpu
                    ),
                    str(site),
                    "" if grace is None else str(grace),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        server = RunningServer(site, 0, process, log)
        running.append(server)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 60)
        port = process.stdout.readline() if ready else ""
        assert port, log.read_text()
        server.port = int(port)
        (site / "known_hosts").write_text(host.known_hosts(site, "127.0.0.1", server.port))
        return server

    try:
        yield start
    finally:
        for server in running:
            children = server.children() if server.process.poll() is None else []
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
            try:
                assert server.ended or server.process.wait(10) == 0, server.log.read_text()
            finally:
                server.process.kill()
                if server.process.stdout is not None:
                    server.process.stdout.close()
            for child in children:
                assert not Path(f"/proc/{child}").exists()
