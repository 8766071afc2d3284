"""Uses the web site and the web service of a rehearsal, as parties do while others mirror.

Each of these parties has a user of the web site, who logs in, keeps one page open, which is told of
every snapshot, and opens another page every few seconds; and scripts/results-client, which follows
the results in a verified copy. What counts: no page failed, the open page was told of each snapshot
soon, and the copy is at the newest snapshot in the end. A lag begins when the manifest of the
snapshot was written.

A user with patience connects again, with the same cookie, if a portal breaks off or answers with
503, as one does when portals are several. Only after that many seconds it is an error.
"""

import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from http.cookies import SimpleCookie
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from config.site import CLIENTS, SNAPSHOTS
from config.snapshot import MANIFEST
from keys.server_keys import sshsig
from publisher.results.snapshots.folder import latest_number
from scripts.rehearsal import web_clients
from scripts.rehearsal.reconcile import percentile

_T = TypeVar("_T")
_CLIENT = Path(__file__).resolve().parents[1] / "results-client"
_PAGES = ("/", "/arama", "/degisiklikler", "/eksikler", "/uyarilar", "/birlestirme")
_THINK = 2.0  # seconds between two pages of a user
_TIMEOUT = 60.0
_RETRY = 0.5  # seconds until a user with patience tries again
_FORM = re.compile(r'name="form" value="([0-9a-f]+)"')
_NONE: Mapping[str, str] = {}
_CUT_OFF = (OSError, http.client.HTTPException)
_TAKEN = re.compile(r"snapshot (\d+): ")  # what results-client says of a snapshot that it has


class NotReady(ConnectionError):
    """The portal can answer nothing now (503)."""


@dataclass
class WebParty:
    """One party's user and program, and what they met."""

    site: Path
    party: str
    folder: Path
    patience: float = 0.0  # seconds
    tried_again: int = 0
    page_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    told: dict[int, float] = field(default_factory=dict)  # when the open page was told, by snapshot
    verified: dict[int, float] = field(default_factory=dict)  # when the program had it
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _users: "list[_User]" = field(default_factory=list)
    _program: "subprocess.Popen[str] | None" = None

    def start(self) -> None:
        """Let user and program begin."""
        self.folder.mkdir(parents=True)
        kit: dict[str, Any] = json.loads(web_clients.kit_file(self.site, self.party).read_text())
        for work in (self._browse, self._follow, self._run_program):
            thread = threading.Thread(target=self._noted, args=(work, kit), daemon=True)
            thread.start()
            self._threads.append(thread)

    def finish(self) -> None:
        """Wait until both have the newest snapshot, then let them end."""
        newest = latest_number(self.site) or 0
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline and not self.errors:
            if newest in self.told and newest in self.verified:
                break
            time.sleep(0.1)
        self._stop.set()
        if self._program is not None:
            self._program.terminate()
        for user in self._users:
            user.hang_up()
        for thread in self._threads:
            thread.join(_TIMEOUT)
        for user in self._users:
            user.close()
        for what, found in (("page", self.told), ("results-client", self.verified)):
            if newest and newest not in found:
                self.errors.append(f"{self.party}: {what} never got snapshot {newest}")

    def lags(self, found: dict[int, float]) -> Iterator[float]:
        """Yield the seconds from each snapshot until it was there."""
        for number, at in found.items():
            manifest = self.site / SNAPSHOTS / f"{number:08}" / MANIFEST
            yield max(0.0, at - manifest.stat().st_mtime)

    def _noted(self, work: Callable[[dict[str, Any]], None], kit: dict[str, Any]) -> None:
        try:
            work(kit)
        except Exception as error:
            if not self._stop.is_set():
                self.errors.append(f"{self.party}: {type(error).__name__} {error}")

    def _user(self, kit: dict[str, Any]) -> "_User":
        user = _User(kit)
        self._users.append(user)
        self._ask(user, user.log_in)
        return user

    def _ask(self, user: "_User", question: Callable[[], _T]) -> _T:
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return question()
            except _CUT_OFF:
                if time.monotonic() >= deadline or self._stop.wait(_RETRY):
                    raise
                self.tried_again += 1
                user.close()

    def _browse(self, kit: dict[str, Any]) -> None:
        user = self._user(kit)
        for path in cycle(_PAGES):
            if self._stop.wait(_THINK):
                return
            began = time.monotonic()
            self._ask(user, partial(user.get, path))
            self.page_ms.append(1000 * (time.monotonic() - began))

    def _follow(self, kit: dict[str, Any]) -> None:
        user = self._user(kit)
        headers: dict[str, str] = {}
        while True:
            with closing(self._ask(user, partial(user.open, "/canli", headers))) as stream:
                self._note_snapshots(stream)
            if not self.patience or self._stop.wait(_RETRY):
                return
            self.tried_again += 1
            user.close()
            headers = {"Last-Event-ID": str(max(self.told, default=0))}

    def _note_snapshots(self, stream: http.client.HTTPResponse) -> None:
        try:
            while line := stream.readline():
                if line.startswith(b"id: "):
                    self.told[int(line[4:])] = time.time()
        except _CUT_OFF:
            if not self.patience:
                raise

    def _run_program(self, kit: dict[str, Any]) -> None:
        password = self.folder / "password"
        password.write_text(kit["service"]["password"], encoding="utf-8")
        signers = self.site / CLIENTS / self.party / sshsig.ALLOWED_SIGNERS
        command = [sys.executable, "-I", str(_CLIENT), "--url", kit["site"], "--ca", kit["ca"]]
        command += ["--user", kit["service"]["name"], "--password-file", str(password)]
        command += ["--signers", str(signers), "--to", str(self.folder / "copy.sqlite")]
        with subprocess.Popen([*command, "--follow"], stderr=subprocess.PIPE, text=True) as program:
            self._program = program
            for line in program.stderr or ():
                if found := _TAKEN.match(line):
                    self.verified[int(found[1])] = time.time()
                elif not line.startswith("no answer"):
                    raise RuntimeError(line.strip())


class _User:
    """A browser with one connection and its cookies."""

    def __init__(self, kit: dict[str, Any]) -> None:
        parts = urlsplit(kit["site"])
        context = ssl.create_default_context(cafile=kit["ca"])
        self._login: dict[str, str] = kit["users"][0]
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=_TIMEOUT, context=context
        )
        self._cookies: dict[str, str] = {}

    def log_in(self) -> None:
        token = _FORM.search(self.get("/giris"))
        fields = {"kullanici": self._login["name"], "parola": self._login["password"]}
        body = urlencode({**fields, "form": token[1] if token else ""})
        answer = self._send("POST", "/giris", body)
        answer.read()
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise NotReady(f"the login was answered with {answer.status}")
        if answer.status != 303 or answer.headers["location"] != "/":
            raise RuntimeError(f"the login was answered with {answer.status}")

    def hang_up(self) -> None:
        """End what another thread is waiting for."""
        if self._connection.sock is not None:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._connection.close()

    def get(self, path: str) -> str:
        answer = self.open(path)
        return answer.read().decode()

    def open(self, path: str, headers: Mapping[str, str] = _NONE) -> http.client.HTTPResponse:
        answer = self._send("GET", path, headers=headers)
        if answer.status == http.client.SERVICE_UNAVAILABLE:
            raise NotReady(f"{path} was answered with {answer.status}")
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered with {answer.status}")
        return answer

    def _send(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] = _NONE
    ) -> http.client.HTTPResponse:
        cookies = "; ".join(f"{k}={v}" for k, v in self._cookies.items())
        headers = {**headers, "Cookie": cookies}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        for text in answer.headers.get_all("set-cookie", []):
            for name, morsel in SimpleCookie(text).items():
                self._cookies[name] = morsel.value
        return answer


def report(parties: list[WebParty]) -> dict[str, object]:
    """Return what the parties met: milliseconds of pages, seconds of lags, errors."""
    pages = sorted(each for party in parties for each in party.page_ms)
    told = sorted(lag for party in parties for lag in party.lags(party.told))
    verified = sorted(lag for party in parties for lag in party.lags(party.verified))
    return {
        "web_parties": len(parties),
        "web_pages": len(pages),
        "web_tried_again": sum(party.tried_again for party in parties),
        "web_page_ms_p50": percentile(pages, 50),
        "web_page_ms_p99": percentile(pages, 99),
        "web_told_p50": percentile(told, 50),
        "web_told_p99": percentile(told, 99),
        "service_verified_p50": percentile(verified, 50),
        "service_verified_p99": percentile(verified, 99),
        "web_errors": [error for party in parties for error in party.errors],
    }
