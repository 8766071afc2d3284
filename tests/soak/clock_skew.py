"""The two daemons under their supervisor, by a clock that somebody may step: for the soak alone.

    python -m soak.clock_skew run|publish|serve SITE CLOCK

CLOCK is a file with the seconds by which the wall clock is wrong. All else is what `ssps run`,
`publish` and `serve` do; no setting of those leads here.
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
    """Return a wall clock that is wrong by what `file` says whenever it is asked."""

    def now() -> datetime:
        return utc_now() + timedelta(seconds=float(file.read_text()))

    return now


def main() -> None:
    """Run one part, or the supervisor with both."""
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
