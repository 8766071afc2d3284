"""What a rehearsal's site has besides the files of a real site.

clients/known_hosts                 the server's host keys, as OpenSSH's clients read them
clients/<party>/id_ed25519          the private key with which a party logs in
clients/<party>/allowed_signers     the keys that sign the feed and the sums
clients/<party>/web.json            its users of the portal (scripts/rehearsal/web_clients)
clients/staff.json                  its accounts of the staff site (scripts/rehearsal/staff_clients)
clients/ca.pem                      the authority of the certificate of portal and staff site
scanned.csv                         name, SHA-256, karekod and kind of each scanned page

Each party has two registered addresses: ADDRESS, which is every party's, and a loopback address of
its own, so that what the server limits by address is tried as well.
"""

import csv
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from config import load
from config.site import CLIENTS, SCANNED_CSV

ADDRESS = "127.0.0.1"
_OWN_ADDRESSES = ip_address("127.1.0.1")  # that of the first party; the others follow
_COLUMNS = ("name", "sha256", "karekod", "kind")


def own_address(number: int) -> str:
    """Return the address that only party `number` has, from 0."""
    return str(_OWN_ADDRESSES + number)


def source_address(site: Path, party: str) -> str:
    """Return the address from which the client of `party` connects: its own if it has one."""
    found = load.load(site).party(party)
    own = [a for a in found.static_ips if str(a) != ADDRESS] if found else []
    return str(own[0]) if own and own[0].is_loopback else ADDRESS


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
        f"-o UserKnownHostsFile={known_hosts(site)} "
        f"-o BindAddress={source_address(site, party)} -P {port} {party}@{ADDRESS}"
    )


def scanned_pages(site: Path) -> Iterator[dict[str, str]]:
    """Yield each page scanned so far as a dict: name, sha256, karekod and kind."""
    if (site / SCANNED_CSV).exists():
        with (site / SCANNED_CSV).open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file, _COLUMNS)
