import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from wire.served import OPENS, Serve, Served, lay_out, server_script

from keys.server_keys import host


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers; every one is stopped in the end and must have left nothing behind."""
    running: list[Served] = []

    def start(
        parties: dict[str, str] | None = None,
        *,
        now: datetime = OPENS + timedelta(hours=1),
        sessions: int = 64,
        per_party: int = 32,
        grace: float = 10.0,
        patch: str = "",
        before: Callable[[Path], object] = lambda site: None,
        again: bool = False,
        limited: bool = False,
        rates: str = "",
        drain: float | None = 0.3,
        name: str = "site",
    ) -> Served:
        """Start one; `before` changes the site first, `again` takes the one that is there."""
        site = tmp_path / name
        if not again:
            lay_out(site, parties or {"parti-a": "127.0.0.1"}, sessions, per_party)
        before(site)
        (site / "now").write_text(now.isoformat())
        log = site / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    server_script(patch, drain=drain, limited=limited, rates=rates),
                    str(site),
                    str(grace),
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        served = Served(site, 0, process, log)
        running.append(served)
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 20)
        port = process.stdout.readline() if ready else ""
        assert port, log.read_text()
        served.port = int(port)
        (site / "known_hosts").write_text(host.known_hosts(site, "127.0.0.1", served.port))
        return served

    try:
        yield start
    finally:
        for served in running:
            children = served.children() if served.process.poll() is None else []
            if served.process.poll() is None:
                served.process.send_signal(signal.SIGTERM)
            try:
                assert served.gone or served.process.wait(10) == 0, served.log.read_text()
            finally:
                served.process.kill()
                if served.process.stdout is not None:
                    served.process.stdout.close()
            for child in children:
                assert not Path(f"/proc/{child}").exists()
