"""What a rehearsal's site has besides the files of a real site.

clients/known_hosts                 the server's host keys, as OpenSSH's clients read them
clients/<party>/id_ed25519          the private key with which a party logs in
clients/<party>/allowed_signers     the keys that sign the feed and the sums
scanned.csv                         name, SHA-256, karekod and kind of each scanned page
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from config.site import CLIENTS, SCANNED_CSV

ADDRESS = "127.0.0.1"
_COLUMNS = ("name", "sha256", "karekod", "kind")


def client_key(site: Path, party: str) -> Path:
    """Return the file with the private key of a party."""
    return site / CLIENTS / party / "id_ed25519"


def known_hosts(site: Path) -> Path:
    """Return the file with the server's host keys."""
    return site / CLIENTS / "known_hosts"


def client_command(site: Path, party: str, port: int) -> str:
    """Return the OpenSSH command that opens the tree of `party`."""
    return (
        f"sftp -i {client_key(site, party)} "
        f"-o UserKnownHostsFile={known_hosts(site)} -P {port} {party}@{ADDRESS}"
    )


def scanned_pages(site: Path) -> Iterator[dict[str, str]]:
    """Yield each page scanned so far as a dict: name, sha256, karekod and kind."""
    if (site / SCANNED_CSV).exists():
        with (site / SCANNED_CSV).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, _COLUMNS)
