"""Keeps the request forms that representatives send, and what became of each.

`state/requests/<party>/` has

    draft.json     what the representative has typed and not sent; `version` grows with each save
    1.toml         the first form that was sent (keys/access_requests/form); its bytes never change
    1.json         its state:

    {"by": "parti-a.temsilci", "decided": "2023-05-03T09:12:00+00:00", "decided_by": "ayse",
     "reason": "no stamp on the paper", "sent": "2023-05-02T11:00:00+00:00",
     "sha256": "9f64…", "state": "returned"}

A request is `submitted` until it is `accepted` or `returned` by an operator, or `withdrawn` by the
representative. There is one submitted request of a party at a time. Every change is made under a
lock (flock(2)) on the party's folder. These files are no evidence: each step is on record in
`ledgers/access` and `ledgers/operations`, with the SHA-256 of the form.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from config import times
from config.fault import Fault, Faults
from config.site import ACCESS_REQUESTS, access_requests_folder
from keys import files
from keys.folder_lock import FolderLock

MAX_REQUESTS = 200  # of one party
_DRAFT = "draft.json"
_LOCK_SECONDS, _LOCK_POLL = 10.0, 0.05


class State(StrEnum):
    """What became of a request."""

    SUBMITTED = "submitted"
    RETURNED = "returned"
    ACCEPTED = "accepted"
    WITHDRAWN = "withdrawn"


class Conflict(Exception):
    """Somebody else has changed the draft or the request in the meantime."""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """A form that was sent. `number` counts the party's forms from 1; `by` is who sent it."""

    party: str
    number: int
    form: bytes
    by: str
    sent: datetime
    state: State = State.SUBMITTED
    decided: datetime | None = None
    decided_by: str = ""
    reason: str = ""

    @property
    def sha256(self) -> str:
        """The digest of the form's bytes, which is printed on the paper too."""
        return digest(self.form)

    @property
    def file(self) -> Path:
        """The form's file, relative to the site."""
        return access_requests_folder(self.party) / f"{self.number}.toml"


@dataclass(frozen=True, slots=True)
class Draft:
    """What the representative has typed. `version` is 0 before the first save."""

    version: int
    fields: Mapping[str, Any]
    saved: datetime | None = None


def digest(form: bytes) -> str:
    """Return the SHA-256 that names the bytes of a form."""
    return hashlib.sha256(form).hexdigest()


def requests_of(site: Path, party: str) -> tuple[AccessRequest, ...]:
    """Return the party's requests, oldest first; raise Faults if a file is damaged."""
    found, faults = readable(site, party)
    if faults:
        raise Faults(faults)
    return found


def readable(site: Path, party: str) -> tuple[tuple[AccessRequest, ...], tuple[Fault, ...]]:
    """Return the party's requests that can be read, oldest first, and what is damaged."""
    folder = site / access_requests_folder(party)
    found: list[AccessRequest] = []
    faults: list[Fault] = []
    for number in sorted(int(p.stem) for p in folder.glob("[0-9]*.json") if p.stem.isdecimal()):
        try:
            found.append(_read(site, party, number))
        except Faults as damage:
            faults += damage.faults
    return tuple(found), tuple(faults)


def all_requests(site: Path) -> tuple[tuple[AccessRequest, ...], tuple[Fault, ...]]:
    """Return the requests of all parties, the newest first, and what is damaged."""
    folders = sorted(path for path in (site / ACCESS_REQUESTS).glob("[!.]*") if path.is_dir())
    each = [readable(site, path.name) for path in folders]
    found = [request for requests, _ in each for request in requests]
    found.sort(key=lambda request: request.sent, reverse=True)
    return tuple(found), tuple(fault for _, faults in each for fault in faults)


def request(site: Path, party: str, number: int) -> AccessRequest | None:
    """Return one request, None if there is none; raise Faults if a file is damaged."""
    if not (site / access_requests_folder(party) / f"{number}.json").is_file():
        return None
    return _read(site, party, number)


@contextmanager
def locked(site: Path, party: str, sleep: Callable[[float], object] = time.sleep) -> Iterator[None]:
    """Hold the lock of a party's folder; raise Conflict if somebody else holds it for long."""
    folder = site / access_requests_folder(party)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.geteuid() == 0:
        owner = (site / ACCESS_REQUESTS).parent.stat()
        for each in (folder.parent, folder):
            os.chown(each, owner.st_uid, owner.st_gid)
    end = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            lock = FolderLock(folder)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise Conflict(f"another operator works on the request of {party}") from None
            sleep(_LOCK_POLL)
    try:
        yield
    finally:
        lock.close()


def draft(site: Path, party: str) -> Draft | None:
    """Return the party's draft, None if there is none; raise Faults if the file is damaged."""
    path = access_requests_folder(party) / _DRAFT
    try:
        data = json.loads((site / path).read_bytes())
        found = Draft(data["version"], data["fields"], datetime.fromisoformat(data["saved"]))
        if type(found.version) is not int or not isinstance(found.fields, dict):
            raise ValueError("it has another form")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, error) from None
    return found


def save_draft(
    site: Path, party: str, version: int, fields: Mapping[str, Any], now: datetime
) -> Draft:
    """Replace the draft; raise Conflict if it is not the draft of that version any more."""
    with locked(site, party):
        return _write_draft(site, party, version, fields, now)


def submit(
    site: Path,
    party: str,
    form: bytes,
    version: int,
    fields: Mapping[str, Any],
    by: str,
    now: datetime,
) -> AccessRequest:
    """Keep a form that is sent, and the draft that it was made of; raise Conflict as `save_draft`.

    Raises Conflict also if a request is submitted already, and ValueError if there are too many.
    """
    with locked(site, party):
        made = requests_of(site, party)
        if any(each.state is State.SUBMITTED for each in made):
            raise Conflict("a request is submitted already")
        if len(made) >= MAX_REQUESTS:
            raise ValueError(f"{len(made)} requests were sent, at most {MAX_REQUESTS} are kept")
        _write_draft(site, party, version, fields, now)
        number = max((each.number for each in made), default=0) + 1
        sent = AccessRequest(party, number, form, by, now)
        files.replace(site / sent.file, form)
        _write_state(site, sent)
    return sent


def decide(
    site: Path, old: AccessRequest, state: State, by: str, now: datetime, reason: str = ""
) -> AccessRequest:
    """Move a submitted request to its last state; the caller holds the lock.

    Raises Conflict if it is not submitted any more, or if its form is another one.
    """
    current = request(site, old.party, old.number)
    if current is None or current.state is not State.SUBMITTED or current.form != old.form:
        raise Conflict(f"request {old.number} of {old.party} is not what it was")
    new = replace(current, state=state, decided=now, decided_by=by, reason=reason)
    _write_state(site, new)
    if state is State.ACCEPTED:
        # The next draft begins with what is in force then.
        (site / access_requests_folder(old.party) / _DRAFT).unlink(missing_ok=True)
    return new


def _write_draft(
    site: Path, party: str, version: int, fields: Mapping[str, Any], now: datetime
) -> Draft:
    current = draft(site, party)
    if (current.version if current else 0) != version:
        raise Conflict("the draft was saved in another window")
    new = Draft(version + 1, fields, now)
    content = {"version": new.version, "saved": times.format_stored(now), "fields": fields}
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    files.replace(site / access_requests_folder(party) / _DRAFT, text.encode())
    return new


def _write_state(site: Path, new: AccessRequest) -> None:
    content = {
        "by": new.by,
        "decided": times.format_stored(new.decided) if new.decided else None,
        "decided_by": new.decided_by,
        "reason": new.reason,
        "sent": times.format_stored(new.sent),
        "sha256": new.sha256,
        "state": str(new.state),
    }
    text = json.dumps(content, ensure_ascii=False, sort_keys=True) + "\n"
    path = site / access_requests_folder(new.party) / f"{new.number}.json"
    files.replace(path, text.encode())


def _read(site: Path, party: str, number: int) -> AccessRequest:
    path = access_requests_folder(party) / f"{number}.json"
    try:
        form = (site / path).with_suffix(".toml").read_bytes()
        data = json.loads((site / path).read_bytes())
        if data["sha256"] != digest(form):
            raise ValueError("its form is not the one that was sent")
        return AccessRequest(
            party,
            number,
            form,
            str(data["by"]),
            datetime.fromisoformat(data["sent"]),
            State(data["state"]),
            datetime.fromisoformat(data["decided"]) if data["decided"] else None,
            str(data["decided_by"]),
            str(data["reason"]),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> Faults:
    wrong = f"is damaged ({error}): restore it from a copy, or remove it and ask for the form again"
    return Faults([Fault(str(path), "", wrong)])
