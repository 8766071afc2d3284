"""Answers what a confined web daemon asks its broker (portal/broker), each question after a check.

    settings           the settings and the certificate, read again and recorded
    users, in_force    the users of a party, and the draft of a form that asks for what is in force
    set_password, accept_terms, set_totp      a user changes its own account
    submit, save_draft, withdraw              a representative's request form
    ballot, receipt, host_keys                what the web site shows of files that it cannot read
    anchor, publish, publish_sessions         what goes into the ledger, and into files in state/
    database, keep_open                       where a database is, and one made after the start
    exchange, shared_session, use_code        what several portals agree on, in PostgreSQL
    submit_errand, finish_errand, compare     only of the staff site: requests of the desk to the
                                              publisher, and a request form beside what is in force

A daemon that was taken over can ask all this too. So parties, sites and files are checked here, and
the time is the broker's. Several questions may be answered at the same time, each in a thread.

While a process has a database open, SQLite keeps two files beside it, and removes them when the
last one closes it. The daemon may not make files there, so the broker keeps the databases open.
"""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from config import load
from config.ballot import Ballot
from config.event import Event, Value
from config.fault import Fault, Faults
from config.settings import Settings, WebSettings
from config.site import (
    CATALOG,
    FILING,
    LEDGERS,
    RESULTS_DATABASE,
    RESULTS_LEDGER,
    SITE_TOML,
    SNAPSHOTS,
    TLS,
    WEB_SESSIONS,
)
from keys.access_requests import store
from keys.access_requests.comparison import Comparison
from keys.access_requests.store import AccessRequest, Draft
from keys.credentials.users import OPERATORS, Users, login_name
from keys.kernel.connections import Target
from keys.ledger import writer
from keys.ledger.anchors import AnchorWriter
from keys.ledger.receipt import Receipt, make_receipt
from keys.operations import live_sessions, server_state, site_keys, user_files
from keys.operations.change_record import account
from keys.operations.key_files import KeyFilesOnRecord
from keys.operations.live_sessions import LiveSession, SessionsFile
from keys.operations.server_state import ServerState
from portal import tls
from portal.access import own_account
from portal.access.sessions import MAX_SESSIONS
from portal.data.queries import databases
from portal.party.sipport import saving
from portal.party.sipport.fields import Fields
from portal.shared_state import News, SharedState, Stored
from portal.staff import compared
from portal.staff.desk import requests as desk_requests
from portal.web import entry
from publisher import database
from publisher.election import terms
from publisher.requests import queue
from publisher.requests.queue import Request
from publisher.results.ballot_file import load_ballot

_ENTRANCES = {server_state.PORTAL: ("portal", "requests"), server_state.STAFF: ("staff",)}
_SHARED_ROWS = 2 * MAX_SESSIONS
_ADDRESS_SECONDS = 10.0
_ERRAND = re.compile(r"[0-9]{8}T[0-9]{12}-[0-9a-f]{8}")


class Answers:
    """The answers to one daemon; `part` is its name, of its table in site.toml and of its lock."""

    def __init__(
        self,
        settings: Settings,
        part: str,
        ledger: str,
        record_new_settings: Callable[[Settings], object],
    ) -> None:
        self._settings, self._part = settings, part
        self._record_new_settings = record_new_settings
        self._anchors = AnchorWriter(settings.site / LEDGERS, ledger)
        self._on_record = KeyFilesOnRecord(settings.site)
        self._lock = threading.Lock()  # of what several questions read or change
        self._sessions_file = SessionsFile(settings.site, WEB_SESSIONS, settings.host)
        self._databases: dict[Path, tuple[int, sqlite3.Connection]] = {}
        self._servers: tuple[frozenset[Target], float] = frozenset(), 0.0
        self._shared: SharedState | None = None
        if settings.catalog.url:
            self._shared = SharedState(settings.catalog, part, settings.host, _ENTRANCES[part])

    def by_question(self) -> dict[str, Callable[..., object]]:
        """Return the function that answers each question."""
        answers: list[Callable[..., object]] = [
            self.settings,
            self.users,
            self.in_force,
            self.set_password,
            self.accept_terms,
            self.set_totp,
            self.submit,
            self.save_draft,
            self.withdraw,
            self.ballot,
            self.receipt,
            self.host_keys,
            self.anchor,
            self.publish,
            self.keep_open,
            self.publish_sessions,
            self.database,
            self.exchange,
            self.shared_session,
            self.use_code,
        ]
        if self._part == server_state.STAFF:
            answers += [self.submit_errand, self.finish_errand, self.compare]
        return {each.__name__: each for each in answers}

    def close(self) -> None:
        """Close the databases that are kept open."""
        with self._lock:
            for _, opened in self._databases.values():
                opened.close()
            self._databases.clear()

    # What the broker itself needs.

    def keep_databases_open(self) -> None:
        """Open the databases of all sites that are not open yet, or that were replaced."""
        for file in self._database_files():
            self._keep_open(file)

    def database_servers(self) -> frozenset[Target]:
        """Return the addresses of the databases of all sites, looked up every few seconds."""
        found, until = self._servers
        if time.monotonic() >= until:
            stated = [load.catalog(site).for_reading.url for site in self._sites()]
            urls = [sa.make_url(each) for each in stated if each]
            servers = [each for url in urls for each in database.servers(url)]
            found = frozenset(address for each in servers for address in database.addresses(each))
            self._servers = found, time.monotonic() + _ADDRESS_SECONDS
        return found

    def check_snapshot_file(self, file: Path) -> None:
        """Raise ValueError if a file is not in a snapshot of one of the sites."""
        folders = {(site / SNAPSHOTS).resolve() for site in self._sites()}
        if file.resolve().parent.parent not in folders:
            raise ValueError(f"{file} is not in a snapshot")

    # What both daemons ask.

    def settings(self, with_certificate: bool) -> tuple[Settings, tls.Pair | None]:
        """Read the settings and the certificate again; raise Faults, and record what is new."""
        with self._lock:
            new, faults = load.read(self._settings.site)
            if new is None:
                raise Faults(faults)
            if (web := self._web_of(new)) is None:
                removed = f"was removed: put it back, or stop `ssps {self._part}`"
                raise Faults([Fault(SITE_TOML, self._part, removed)])
            pair = tls.read_pair(web) if with_certificate else None
            self._record_new_settings(new)
            if pair is not None:
                site_keys.require(new.site, TLS)
            self._settings = new
            return new, pair

    def users(self, party: str) -> Users:
        """Return the users of a party; raise Faults if they are refused."""
        self._check_holder(party)
        with self._lock:
            return user_files.load(self._settings.site, party, self._on_record)

    def in_force(self, party: str) -> Fields:
        """Return the draft of a form that asks for what is in force."""
        found = self._settings.party(party)
        if found is None:
            raise ValueError(f"{party!r} is no party")
        return saving.in_force(self._settings.site, found)

    def set_password(self, party: str, name: str, credential: str, password: str) -> str:
        """Replace the password of a user."""
        self._check_holder(party)
        site = self._settings.site
        return own_account.set_password(site, party, name, credential, password, writer.utc_now)

    def accept_terms(self, party: str, name: str, edition: str) -> None:
        """Note that a user accepted the terms."""
        self._check_holder(party)
        own_account.accept_terms(self._settings.site, party, name, edition, writer.utc_now)

    def set_totp(self, party: str, name: str, secret: str) -> None:
        """Set or remove the second factor of a user."""
        self._check_holder(party)
        own_account.set_totp(self._settings.site, party, name, secret, writer.utc_now)

    def save_draft(self, party: str, version: int, fields: Mapping[str, Any]) -> Draft:
        """Replace the draft of a request form."""
        self._check_holder(party)
        site = self._settings.site
        return saving.save_draft(site, party, version, fields, writer.utc_now())

    def submit(
        self, party: str, form: bytes, version: int, fields: Mapping[str, Any], by: str
    ) -> AccessRequest:
        """Keep a request form that is sent."""
        self._check_user(party, by)
        now = writer.utc_now()
        return saving.submit(self._settings.site, party, form, version, fields, by, now)

    def withdraw(self, party: str, number: int, form: bytes, by: str) -> None:
        """Withdraw a request form."""
        self._check_user(party, by)
        site, now = self._settings.site, writer.utc_now()
        found = store.request(site, party, int(number))
        if found is None or found.form != form:
            raise store.Conflict(f"request {number} of {party} is not what it was")
        saving.withdraw(site, found, by, now)

    def ballot(self, site: str) -> Ballot | None:
        """Return the ballot of a site."""
        return load_ballot(self._site(site))

    def receipt(self, site: str, ledger: str, seq: int) -> Receipt:
        """Return the receipt of a record of the filing or of the results."""
        if ledger not in (FILING, RESULTS_LEDGER):
            raise ValueError(f"{ledger!r} is no ledger of the web site")
        name, number = terms.find(self._site(site), ledger, seq)
        return make_receipt(self._site(site) / LEDGERS / name, number)

    def host_keys(self) -> tuple[tuple[str, str], ...]:
        """Return type and fingerprint of each host key of the SFTP server."""
        return entry.host_keys(self._settings.site)

    def anchor(self) -> Event | None:
        """Return the anchor to record now, None if none is due."""
        with self._lock:
            return self._anchors.next_event()

    def publish(self, state: Mapping[str, Any]) -> None:
        """Write the daemon's state file."""
        lists = {key: tuple(state[key]) for key in ("damaged", "faults")}
        found = ServerState(os.getpid(), state["rings"], parties=state["parties"], **lists)
        server_state.write(self._settings.site, found, self._part, self._settings.host)

    def publish_sessions(self, sessions: Sequence[Mapping[str, Any]]) -> None:
        """Write the portal's sessions for the staff site and the commands.

        That of a party that was removed is left out.
        """
        found = [LiveSession(**each) for each in sessions]
        held = [each for each in found if self._has_users(each.party)]
        for each in held:
            if each.origin:  # that of a session of an earlier version is empty
                ip_address(each.origin)
        # None of them is a session of SFTP, which has files.
        host = self._settings.host
        web = [
            replace(s, service=live_sessions.WEB, files=0, bytes=0, open=0, host=host) for s in held
        ]
        with self._lock:
            self._sessions_file.update(web)

    def database(self, site: str, schema: str) -> sa.URL:
        """Return where the catalog or the results of a site are."""
        stated = load.catalog(self._site(site))
        if stated.url and self._part == server_state.PORTAL:
            return database.for_reading(stated, schema)
        return databases.url_of(self._site(site), schema)

    def exchange(
        self,
        instance: str,
        since: int,
        sessions: Sequence[Sequence[Any]],
        spent: Sequence[Any],
        connections: Any,
    ) -> News:
        """Store what has changed here, and return what has changed at the other portals."""
        if max(len(sessions), len(spent)) > _SHARED_ROWS:
            raise ValueError(f"{len(sessions)} changes of sessions and {len(spent)} of limits")
        held = [each for each in sessions if each[0] == "end" or self._has_users(each[4])]
        return self._agreed().exchange(instance, int(since), held, spent, connections)

    def shared_session(self, entrance: str, name: str) -> Stored | None:
        """Return a session that may have begun at another portal a moment ago."""
        return self._agreed().session(entrance, name)

    def use_code(self, login: str, step: int) -> bool:
        """Note that a user has used a code of the second factor; False if it was used before."""
        return self._agreed().use_code(login, int(step))

    def keep_open(self, file: str) -> None:
        """Keep a database open that was made after the last look."""
        if Path(file) in self._database_files():
            self._keep_open(Path(file))

    # What the staff site asks.

    def submit_errand(
        self,
        identity: str,
        kind: str,
        who: str,
        origin: str,
        why: str,
        detail: Mapping[str, Value],
        before: Value,
    ) -> None:
        """Record a request of the desk to the publisher, and write it."""
        asked = self._errand(identity, kind, who, origin, why, detail)
        desk_requests.record_and_submit(self._settings.site, writer.utc_now, asked, before)

    def finish_errand(self, *words: Any) -> None:
        """Record the publisher's answer to such a request, and remove it."""
        asked, site = self._errand(*words), self._settings.site
        if (answer := queue.read_answer(site, asked.id)) is None:
            raise ValueError(f"{asked.id} has no answer")
        desk_requests.record_answer(site, writer.utc_now, asked, answer)

    def compare(self, party: str, number: int) -> Comparison:
        """Return a party's request form beside what is in force."""
        site = self._settings.site
        if self._settings.party(party) is None:
            raise ValueError(f"{party!r} is no party")
        if (found := store.request(site, party, int(number))) is None:
            raise ValueError(f"{party} has no request {number}")
        return compared.compare(site, found, writer.utc_now())

    def _errand(
        self,
        identity: str,
        kind: str,
        who: str,
        origin: str,
        why: str,
        detail: Mapping[str, Value],
    ) -> Request:
        if not _ERRAND.fullmatch(identity) or kind not in desk_requests.COMMANDS:
            raise ValueError(f"{identity!r}, {kind!r} is no request of the desk")
        if who not in [account(user.name) for user in self.users(OPERATORS).users]:
            raise ValueError(f"{who!r} is no operator")
        return Request(identity, kind, (who,), str(ip_address(origin)), why, detail)

    # What it may ask about.

    def _agreed(self) -> SharedState:
        if self._shared is None:
            raise ValueError("a site without PostgreSQL has one portal")
        return self._shared

    def _web_of(self, settings: Settings) -> WebSettings | None:
        return settings.staff if self._part == server_state.STAFF else settings.portal

    def _has_users(self, party: str) -> bool:
        if self._part == server_state.STAFF:
            return party == OPERATORS
        return party != OPERATORS and self._settings.party(party) is not None

    def _check_holder(self, party: str) -> None:
        if not self._has_users(party):
            raise ValueError(f"{party!r} has no users here")

    def _check_user(self, party: str, login: str) -> None:
        if login not in [login_name(party, user.name) for user in self.users(party).users]:
            raise ValueError(f"{login!r} is no user of {party}")

    def _sites(self) -> list[Path]:
        return [self._settings.site, *(each.folder for each in self._settings.rehearsals)]

    def _site(self, stated: str) -> Path:
        if Path(stated) not in self._sites():
            raise ValueError(f"{stated!r} is not a site of the portal")
        return Path(stated)

    def _database_files(self) -> list[Path]:
        return [site / name for site in self._sites() for name in (CATALOG, RESULTS_DATABASE)]

    def _keep_open(self, file: Path) -> None:
        """Open a database, or open it again if it was replaced."""
        with self._lock:
            try:
                found = file.stat().st_ino
            except FileNotFoundError:
                return
            inode, before = self._databases.get(file, (None, None))
            if found == inode:
                return
            if before is not None:
                before.close()
            # Not read-only: the process that closes it last moves the log into the database.
            name = f"{file.absolute().as_uri()}?mode=rw"
            opened = sqlite3.connect(name, uri=True, check_same_thread=False)
            try:
                opened.execute("SELECT name FROM sqlite_master").fetchall()
            except sqlite3.Error:
                opened.close()
                raise
            self._databases[file] = found, opened
