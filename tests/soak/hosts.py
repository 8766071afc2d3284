"""`scripts/soak hosts`: play a part of the national night on three hosts; each role dies once.

It is `ssps rehearse national`, but two publishers, two SFTP gateways and two portals are behind
HAProxy, with PostgreSQL and its synchronous replica, as docs/deploy/three-hosts.md has them
(tests/three_hosts). While the night lasts, each of these processes is killed once with SIGKILL. In
the end each page has exactly one record, each party's disk has the same bytes as its tree, and the
checks of the site pass; otherwise the exit code is 1. A client's round that a death cuts off is
reported and no error, since clients connect again. If the night is over before all have died, the
exit code is 1 too: give it more --minutes.

The database does not sync to the disk, because the machine itself is never without power here.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click
from machines import replicated_postgresql
from running_site import until
from soak.soak import logged_errors
from three_hosts import HOSTS, ROLES, Ports, ThreeHosts

from config.site import INTAKE, SPOOL
from scripts.rehearsal import options
from scripts.rehearsal.mirror_clients import MIRROR_CLIENTS
from scripts.rehearsal.national import REAL, SHARED, NationalRehearsal, run_rehearsal

_DEATHS = len(HOSTS) * len(ROLES) + 3  # HAProxy, PostgreSQL and its replica
_PATIENCE = 60.0  # seconds for which a web user tries again


@contextmanager
def _deaths(hosts: ThreeHosts, seconds: float, site: Path) -> Iterator[None]:
    """Run the hosts for a night of so many seconds, and kill each once when pages are filed."""
    failed: list[BaseException] = []
    pause = seconds / (4 * _DEATHS)

    def kill() -> None:
        try:
            until(lambda: hosts.delivered() >= 10, "pages are filed", 300)
            over = time.monotonic() + seconds
            hosts.each_dies_once(pause, lambda: time.monotonic() < over or _pages_wait(site))
        except BaseException as error:
            failed.append(error)

    assert site == hosts.site
    with hosts.run():
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        yield
        thread.join()
    if failed:
        raise failed[0]


def _pages_wait(site: Path) -> bool:
    return any(any((site / folder).iterdir()) for folder in (INTAKE, SPOOL))


@click.command()
@click.option(
    "--factor",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    help="Divide the 201,000 ballot boxes by this.",
)
@click.option(
    "--pages",
    type=click.Choice((REAL, SHARED)),
    default=SHARED,
    show_default=True,
    help="Draw and read every page, or share one small scan for each sheet type.",
)
@options.count_option("--parties", 40, 8, "Number of parties.")
@options.count_option("--mirrors", 40, 4, "Parties that mirror, with all clients in turn.")
@options.web_parties_option(2)
@options.minutes_option(0.5, 8.0, "the night")
@options.seed_option()
@options.report_option
def main(
    factor: int,
    pages: str,
    parties: int,
    mirrors: int,
    web_parties: int,
    minutes: float,
    seed: int,
    file: Path | None,
) -> None:
    """Play a polling night on three hosts, and kill each process once."""
    clients = tuple(MIRROR_CLIENTS)
    rehearsal = NationalRehearsal(
        factor, pages, parties, min(mirrors, parties), clients, minutes, seed,
        min(web_parties, parties), _PATIENCE,
    )  # fmt: skip
    folder, ports = Path(tempfile.mkdtemp(prefix="ssps-hosts-")), Ports()
    try:
        with replicated_postgresql() as (primary, replica):
            hosts = ThreeHosts(folder, ports, primary, replica, pages)
            daemons = partial(_deaths, hosts, minutes * 60)
            report = run_rehearsal(rehearsal, folder, (ports.sftp, ports.web), daemons)
        errors, tracebacks = logged_errors(hosts.log)
        too_late = [what for what, took in hosts.noticed.items() if took["filing"] is None]
        report |= {
            "killed": hosts.noticed,
            "killed_when_all_was_filed": too_late,
            "errors_logged": errors,
            "tracebacks": tracebacks,
            "ok": bool(report["ok"])
            and len(hosts.noticed) == _DEATHS
            and not (too_late or tracebacks),
        }
    finally:
        with suppress(OSError):  # the report matters more
            shutil.rmtree(folder)
    options.finish(report, file)


if __name__ == "__main__":
    main()
