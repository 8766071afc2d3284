"""A site with web users, and browsers and programs that talk to its portal in this process.

The users, each with the role of its name: parti-a.ayse (web), parti-a.temsilci, parti-a.servis, and
parti-b.banu (web, initial password). Those of parti-a have accepted the terms.
"""

import asyncio
import gc
import re
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import httpx
import office
import pytest
from argon2 import PasswordHasher
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config import load
from config.site import ACCESS, LEDGERS, SIGNING_KEYS
from keys.credentials import ring
from keys.credentials.penalties import Penalties
from keys.credentials.ring import Credential
from keys.credentials.users import Role, User, Users
from keys.ledger import segments
from keys.ledger.writer import Ledger
from keys.operations import user_files
from keys.server_keys import host
from portal.access.entrance import Entrance
from portal.access.front import Front
from portal.access.limits import Limits
from portal.access.recorder import Recorder
from portal.party.sipport.entrance import RequestsEntrance
from portal.server import create_app, put_beside

T = TypeVar("T")
PASSWORD = "Yedi-Kule-Kapisi-17"
HOME, AWAY = "127.0.0.1", "192.0.2.77"
OPEN = office.OPENS + timedelta(hours=2)
SITE_TOML = f'{office.SITE_TOML}[portal]\nlisten = "127.0.0.1:0"\n'


@cache
def password(chosen: bool = True) -> Credential:
    """A credential with PASSWORD, which is hashed once for all tests."""
    made = ring.chosen_password_credential(
        PasswordHasher().hash(PASSWORD),  # at the real cost, for portals that are real processes
        label="",
        not_before=office.OPENS - timedelta(days=1),
        added_by="test",
    )
    return replace(made, chosen=chosen)


def users() -> tuple[Users, ...]:
    accepted = office.OPENS - timedelta(hours=1)
    return (
        Users(
            "parti-a",
            (
                User("ayse", Role.WEB, (password(),), terms=accepted),
                User("temsilci", Role.REPRESENTATIVE, (password(),), terms=accepted),
                User("servis", Role.SERVICE, (password(),), terms=accepted),
            ),
        ),
        Users("parti-b", (User("banu", Role.WEB, (password(False),)),)),
    )


def write_users(site: Path, *held: Users) -> None:
    """Put users in force, on record."""
    from keys.operations.change_record import record_change

    with Ledger(site / LEDGERS / "operations") as operations:
        for each in held:
            with record_change(operations, "user add", "op", "here", each.party, "x") as record:
                record.done(None, {"key_files": [user_files.line(site, each)]})
                user_files.apply(site, each)


def make(folder: Path, site_toml: str = SITE_TOML, parties_toml: str = office.PARTIES_TOML) -> Path:
    """Make the site."""
    site = office.site(folder, site_toml, parties_toml)
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    (site / "state").mkdir(mode=0o700, exist_ok=True)
    write_users(site, *users())
    return site


@dataclass
class Portal:
    """A portal in this process."""

    site: Path
    entrance: Any  # an Entrance, or a StaffEntrance
    app: ASGIApp
    runner: asyncio.Runner
    now: datetime = OPEN
    clients: list[httpx.AsyncClient] = field(default_factory=list)
    requests: Any = None  # the entrance of the representatives' pages
    sites: Any = None  # the data that the portal serves

    def client(self, address: str = HOME, **options: Any) -> "Client":
        """Return a new browser or program at that address."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 1))
        made = httpx.AsyncClient(transport=transport, base_url="https://ssps.test", **options)
        self.clients.append(made)
        return Client(self, made)

    def signed_in(self, login: str = "parti-a.ayse", address: str = HOME) -> "Client":
        """Return a browser in which a user is logged in."""
        browser = self.client(address)
        answer = browser.log_in(login)
        assert answer.status_code == 303, answer.text
        return browser

    def records(self) -> list[tuple[str, str, str, str, Mapping[str, Any]]]:
        """Return event, who, what, outcome and detail of each record of the access ledger."""
        found = segments.read_records(self.site / LEDGERS / ACCESS)
        return [
            (r.event.event, r.event.who, r.event.what, str(r.event.outcome), r.event.detail)
            for r in found
        ]

    def events(self) -> list[str]:
        return [event for event, *_ in self.records()]

    def noted_cuts(self, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
        """Return a list that gets an entry for each answer that is cut off."""
        served, cut = self.app, list[bool]()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            state = {"abort": lambda: cut.append(True)}  # as portal/http_protocol sets it
            await served({**scope, "state": state}, receive, send)

        monkeypatch.setattr(self, "app", app)
        return cut

    def while_read(
        self,
        path: str,
        headers: Mapping[str, str],
        see: Callable[[], Awaitable[T]],
        *,
        begins: bool = True,
    ) -> T:
        """Return what `see` sees while a client takes no more of an answer; then it is gone.

        If the answer `begins`, the client has got a part of it.
        """
        asked, _, query = path.partition("?")
        stated = [(name.encode(), text.encode()) for name, text in headers.items()]
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": asked,
            "raw_path": asked.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", b"ssps.test"), *stated],
            "scheme": "https",
            "client": (HOME, 1),
        }

        async def run() -> T:
            gone, began = asyncio.Event(), asyncio.Event()
            received = iter([{"type": "http.request", "body": b""}])

            async def receive() -> Message:
                if (first := next(received, None)) is not None:
                    return first
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                if len(message.get("body", b"")) > 20:  # not only the head of a gzip file
                    began.set()
                    await gone.wait()

            answer = asyncio.ensure_future(self.app(scope, receive, send))
            if begins:
                await asyncio.wait_for(began.wait(), 30)
            found = await see()
            gone.set()
            await asyncio.wait_for(answer, 30)
            return found

        return self.runner.run(run())

    async def forgets_a_view(self) -> bool:
        """Say whether the view that is shown goes out of memory when another one is shown."""
        live = await self.sites.live(self.site)
        view = weakref.ref(live._view)
        live._view = replace(live._view)
        gc.collect()
        return view() is None


class Browser:
    """A browser or program, which keeps cookies and follows no redirect by itself."""

    def __init__(self, request: Callable[..., httpx.Response]) -> None:
        self._request = request

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._request(method, path, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.send("GET", path, **options)

    def post(self, path: str, page: str = "", **fields: str) -> httpx.Response:
        """Send a form from the page at `page`, which is the same address by default."""
        shown = self.get(page or path)
        token = re.search(r'name="form" value="([0-9a-f]+)"', shown.text)
        assert token is not None, shown.text
        return self.send("POST", path, data={"form": token[1], **fields})

    def log_in(self, login: str = "parti-a.ayse", secret: str = PASSWORD) -> httpx.Response:
        return self.post("/giris", kullanici=login, parola=secret)

    def cookies(self) -> httpx.Cookies:
        client: httpx.Client = self._request.__self__  # type: ignore[attr-defined]
        return client.cookies


class Client(Browser):
    """A browser or program that talks to a portal in this process."""

    def __init__(self, portal: "Portal", http: httpx.AsyncClient) -> None:
        self.portal, self.http = portal, http
        super().__init__(lambda *a, **k: portal.runner.run(http.request(*a, **k)))


# The same password and hash are compared again and again; argon2id would take most of the time.
_matches = cache(ring._matches)


@contextmanager
def running(site: Path, *, limited: bool = False, own_limits: bool = False) -> Iterator[Portal]:
    """Run a portal in this process; most tests fail logins on purpose, so limits are off."""
    settings = load.load(site)
    with (
        Ledger(site / LEDGERS / ACCESS) as ledger,
        asyncio.Runner() as runner,
        pytest.MonkeyPatch.context() as patch,
    ):
        limits = (
            Limits(lambda: 0.0)
            if limited
            else Limits(penalties=Penalties(tolerated=inf), attempts=inf)
        )
        entrance = Entrance(settings, Recorder(ledger), lambda: found.now, limits=limits)
        patch.setattr(ring, "_matches", _matches)
        own = Limits(lambda: 0.0) if own_limits else limits
        requests = RequestsEntrance(entrance, lambda: 0.0, own)
        made = create_app(entrance)
        front = put_beside(Front(made, entrance), entrance, requests)
        found = Portal(site, entrance, front, runner, requests=requests, sites=made.state.sites)
        try:
            yield found
        finally:
            for each in found.clients:
                runner.run(each.aclose())
            entrance.sessions.close()
            requests.sessions.close()
