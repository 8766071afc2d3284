"""A site with operators, and browsers that talk to its staff site in this process.

The accounts: ayse and mehmet (operator), amir (supervisor), denetci (auditor), each with PASSWORD
and SECRET; yeni (operator) with an initial password.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import office
import pyotp
import pytest
import web_site
from web_site import HOME, Client, Portal, password

from config import load
from config.site import LEDGERS, SIGNING_KEYS, STAFF
from keys.credentials import ring
from keys.credentials.penalties import Penalties
from keys.credentials.users import OPERATORS, Role, User, Users, format_users, parse_users
from keys.ledger import segments
from keys.ledger.writer import Ledger
from keys.server_keys import host
from portal.access.front import Front
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.staff.entrance import StaffEntrance
from portal.staff.site import create_app
from scripts.daemons.staff import COMMAND_LINE

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
SITE_TOML = f'{office.SITE_TOML}[staff]\nlisten = "127.0.0.1:0"\n'
PARTIES_TOML = office.PARTIES_TOML.replace('["127.0.0.1"]', '["127.0.0.1", "192.0.2.7"]', 1)
ROLES = {
    "ayse": Role.OPERATOR,
    "mehmet": Role.OPERATOR,
    "amir": Role.SUPERVISOR,
    "denetci": Role.AUDITOR,
}


def operators() -> Users:
    made = [User(name, role, (password(),), totp=SECRET) for name, role in ROLES.items()]
    return Users(OPERATORS, (*made, User("yeni", Role.OPERATOR, (password(False),))))


def make(folder: Path, site_toml: str = SITE_TOML, parties_toml: str = PARTIES_TOML) -> Path:
    """Make the site."""
    site = office.site(folder, site_toml, parties_toml)
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    (site / "state").mkdir(mode=0o700, exist_ok=True)
    web_site.write_users(site, operators())
    return site


class Staff(Portal):
    """A staff site in this process."""

    def signed_in(self, login: str = "ayse", address: str = HOME) -> Client:
        """Return a browser in which an operator is logged in, second factor included."""
        browser = self.client(address)
        answer = browser.log_in(login)
        assert answer.headers["location"] == "/dogrulama", answer.text
        self.now += timedelta(seconds=90)  # a code is accepted once
        code = pyotp.TOTP(SECRET).at(self.now)
        answer = browser.post("/dogrulama", kod=code)
        assert answer.headers["location"] == "/", answer.text
        return browser

    def records(self) -> list[tuple[str, str, str, str, Mapping[str, Any]]]:
        """Return event, who, what, outcome and detail of each record of the staff ledger."""
        found = segments.read_records(self.site / LEDGERS / STAFF)
        return [
            (r.event.event, r.event.who, r.event.what, str(r.event.outcome), r.event.detail)
            for r in found
        ]


@contextmanager
def running(site: Path, *, limited: bool = False) -> Iterator[Staff]:
    """Run a staff site in this process; most tests fail logins on purpose, so limits are off."""
    settings = load.load(site)
    with (
        Ledger(site / LEDGERS / STAFF) as ledger,
        asyncio.Runner() as runner,
        pytest.MonkeyPatch.context() as patch,
    ):
        limits = (
            Limits(lambda: 0.0)
            if limited
            else Limits(penalties=Penalties(tolerated=inf), attempts=inf)
        )
        entrance = StaffEntrance(settings, Recorder(ledger), lambda: found.now, limits=limits)
        patch.setattr(ring, "_matches", web_site._matches)
        app = Front(create_app(entrance, COMMAND_LINE), entrance)
        found = Staff(site, entrance, app, runner)
        try:
            yield found
        finally:
            for each in found.clients:
                runner.run(each.aclose())
            entrance.sessions.close()


def parse(user: User) -> Users:
    """Write a file of operators with one user, and read it back."""
    return parse_users(format_users(Users(OPERATORS, (user,))).decode())
