"""What a rehearsal's site has beside a real one's: kits for clients, the list of the scanners.

`clients/known_hosts` and `clients/<party>/id_ed25519` let a party in; `scanned.csv` names each page
that was dropped into the intake.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from config.site import CLIENTS, SCANNED_CSV

ADDRESS = "127.0.0.1"
_COLUMNS = ("name", "sha256", "karekod", "kind")


def client_command(site: Path, party: str, port: int) -> str:
    """Return the OpenSSH command that opens the tree of `party`."""
    clients = site / CLIENTS
    return (
        f"sftp -i {clients / party / 'id_ed25519'} "
        f"-o UserKnownHostsFile={clients / 'known_hosts'} -P {port} {party}@{ADDRESS}"
    )


def scanned_pages(site: Path) -> Iterator[dict[str, str]]:
    """Yield what was scanned so far: name, sha256, karekod and kind of each page."""
    if (site / SCANNED_CSV).exists():
        with (site / SCANNED_CSV).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, _COLUMNS)
