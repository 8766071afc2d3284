"""Run the daemons with a wall clock that the soak test can step.

    python -m soak.clock_skew run|publish|serve SITE CLOCK

CLOCK is a file that contains the error of the wall clock in seconds. Everything else is the same as
in `ssps run`, `publish` and `serve`, which have no setting for this.
"""

import sys
from datetime import datetime, timedelta
from pathlib import Path

from keys.ledger.writer import Clock, utc_now
from scripts.daemons.run import (
    RELOAD_SIGNALS,
    load_ready_settings,
    run_publisher,
    run_server,
)
from scripts.daemons.supervisor import Supervisor
from scripts.shared.json_log import configure_logging


def skewed_clock(file: Path) -> Clock:
    """Return a wall clock that is wrong by the number of seconds in `file`."""

    def now() -> datetime:
        return utc_now() + timedelta(seconds=float(file.read_text()))

    return now


def main() -> None:
    """Run one daemon, or the supervisor with both."""
    part, site, clock = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    configure_logging(part)
    settings = load_ready_settings(site)
    if part == "run":
        own = [sys.executable, "-m", "soak.clock_skew"]
        commands = {name: [*own, name, str(site), str(clock)] for name in RELOAD_SIGNALS}
        stop_timeout = settings.sftp.drain_seconds + 10
        sys.exit(Supervisor(commands, RELOAD_SIGNALS, stop_timeout=stop_timeout).run())
    {"serve": run_server, "publish": run_publisher}[part](settings, clock=skewed_clock(clock))


if __name__ == "__main__":
    main()
