"""The staff site of a rehearsal: its listener, and accounts for those who try it.

`clients/staff.json` has

    {"site": "https://127.0.0.1:8444", "ca": "/…/clients/ca.pem",
     "operators": [{"name": "operator-1", "password": "…", "totp": "JBSWY3DP…"},
                   {"name": "operator-2", …}],
     "supervisor": {"name": "amir", …}, "auditor": {"name": "denetci", …}}

Their passwords are changed already, and their second factors are set up. `totp` is the secret in
base32 (RFC 6238, SHA-1, six digits, 30 seconds).
"""

import json
from pathlib import Path

import pyotp

from config.site import STAFF_CLIENTS
from keys import files
from keys.credentials import ring, user_changes
from keys.credentials.users import OPERATORS, Role, Users
from scripts.access.credentials import new_password
from scripts.access.user.user_change import Edit, UserChange
from scripts.rehearsal.rehearsal_site import ADDRESS
from scripts.rehearsal.web_clients import AUTHORITY, CERTIFICATE, PRIVATE_KEY
from scripts.shared import change, console

_WHY = "rehearsal"
_ACCOUNTS = {
    "operator-1": Role.OPERATOR,
    "operator-2": Role.OPERATOR,
    "amir": Role.SUPERVISOR,
    "denetci": Role.AUDITOR,
}


def kit_file(site: Path) -> Path:
    """Return the file with the accounts and their passwords."""
    return site / STAFF_CLIENTS


def staff_toml(port: int) -> str:
    """Return the table of site.toml for a staff site at that port."""
    return (
        f'\n[staff]\nlisten = "{ADDRESS}:{port}"\ncertificate = "{CERTIFICATE}"\n'
        f'key = "{PRIVATE_KEY}"\naddress = "https://{ADDRESS}:{port}"\n'
    )


def write_staff_clients(site: Path, port: int) -> None:
    """Make the accounts, and write `clients/staff.json`."""
    known = {
        name: {"name": name, "password": new_password(), "totp": pyotp.random_base32()}
        for name in _ACCOUNTS
    }
    _add_accounts(site, known)
    content = {
        "site": f"https://{ADDRESS}:{port}",
        "ca": str((site / AUTHORITY).absolute()),
        "operators": [known[n] for n, role in _ACCOUNTS.items() if role is Role.OPERATOR],
        "supervisor": known["amir"],
        "auditor": known["denetci"],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    kit_file(site).parent.mkdir(exist_ok=True)
    files.replace(kit_file(site), text.encode())


def _add_accounts(site: Path, known: dict[str, dict[str, str]]) -> None:
    now = console.utc_now()

    def edit(old: Users) -> Edit:
        new = old
        for name, account in known.items():
            chosen = ring.chosen_password_credential(
                ring.hash_password(account["password"]), label="", not_before=now, added_by=name
            )
            new = user_changes.add(new, name, _ACCOUNTS[name], chosen)
            new = user_changes.set_totp(new, name, account["totp"])
        return Edit(new)

    change.apply(site, UserChange(site, "operator add", OPERATORS, _WHY, edit), quiet=True)
