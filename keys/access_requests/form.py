"""Reads and writes the SSPS request form, a TOML file: which party asks for which services.

    id = "parti-a"                       # optional; default: made from the name
    party = "A Partisi"
    kind = "party"                       # party (default) | candidate | independent
    services = ["sftp", "web", "service"]    # the requested services (Genelge md. 3/d)
    static_ips = ["192.0.2.7"]           # one or two
    scope = "all"                        # the default, or a list of districts and boards
    approver = "Zeynep Onay"             # who signed the paper, and its date; optional
    date = 2023-05-02
    [contact]
    name = "Bilgi Islem"
    email = "bilgi@parti-a.example"
    phones = ["+90 312 000 00 00", "+90 532 000 00 00"]
    [[user]]                             # up to ten users of the web site, if it is requested
    name = "ayse"
    contact = true                       # one of them is representative and contact (md. 4/b-6),
    [[user]]                             # and gets the user of the web service, if it is requested
    name = "mehmet"
    person = "Mehmet Yılmaz"             # the name on the paper; optional
    [[key]]                              # up to ten public keys for SFTP, if it is requested
    label = "mirror-1"                   # optional
    public_key = "ssh-ed25519 AAAAC3…"

A national identity number (T.C. kimlik no) is refused in every field, because this system does not
need it. Its digits are never printed or recorded.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from ipaddress import ip_address
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeGuard

import tomli_w

from config.fault import Fault, Faults
from config.turkish import to_ascii
from keys.credentials.publickey import parse_public_key
from keys.credentials.users import MAX_WEB_USERS, Role, name_fault

_KEYS = {
    "id",
    "party",
    "kind",
    "services",
    "static_ips",
    "scope",
    "approver",
    "date",
    "contact",
    "user",
    "key",
}
SFTP, WEB, SERVICE = SERVICES = ("sftp", "web", "service")
_USER = {"name", "contact", "person"}
_KEY = {"label", "public_key"}
MAX_KEYS = 10
SERVICE_USER = "servis"
_CONTACT = {"name", "email", "phones"}
# Lists of text: an example of each.
_LISTS = {
    "services": '["sftp"]',
    "static_ips": '["192.0.2.7"]',
    "contact.phones": '["+90 312 000 00 00"]',
}
_REQUIRED = ("party", "services", "static_ips", "contact")
_KIMLIK = re.compile(r"kimlik|tckn|tc_?no|t\.?c\.?", re.IGNORECASE)
_MAX_CHARACTERS = 1 << 16  # characters
_DIGIT_GROUPS = re.compile(r"\d+(?:(?:[^\w,;]|_){1,3}\d+)*")  # 100 000 001 46, in whatever notation
_DIGITS = 11
NO_KIMLIK = "a T.C. kimlik no must not be here: remove it, this system does not need it"


@dataclass(frozen=True, slots=True)
class AskedKey:
    """A public key for SFTP: its label, which may be empty, and its line."""

    label: str
    line: str


@dataclass(frozen=True, slots=True)
class Form:
    """The party's entry for parties.toml, the services that it asks for, its users and its keys.

    `people` are the names of the users' persons, as far as they are stated.
    """

    party: Mapping[str, Any]
    services: tuple[str, ...]
    users: tuple[tuple[str, Role], ...] = ()
    keys: tuple[AskedKey, ...] = ()
    people: Mapping[str, str] = field(default_factory=dict)
    approver: str = ""
    signed_on: date | None = None

    @property
    def id(self) -> str:
        """The party's id."""
        return str(self.party["id"])


def read(file: Path) -> Form:
    """Read a form; raise Faults with everything that is wrong in it.

    The values, such as addresses and scope, are checked later by config/load.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise Faults([Fault(file.name, "", f"cannot be read as a form: {error}")]) from None
    return parse(content, file.name)


def parse(content: bytes, name: str) -> Form:
    """Return the form in the bytes of a file with that name; raise Faults as `read`."""
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
        if len(text) > _MAX_CHARACTERS:
            raise ValueError(f"{len(text)} characters, at most {_MAX_CHARACTERS} are allowed")
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise Faults([Fault(name, "", f"cannot be read as a form: {error}")]) from None
    found = list(_faults(name, data))
    if found:
        raise Faults(found)
    contact = data["contact"]
    party = {
        "id": data.get("id", id_from_name(data["party"])),
        "name": data["party"],
        "kind": data.get("kind", "party"),
        "scope": data.get("scope", "all"),
        "static_ips": data["static_ips"],
        "contact": {
            "name": contact["name"],
            "email": contact["email"],
            "phone": ", ".join(contact["phones"]),
        },
    }
    asked = data.get("user", [])
    return Form(
        party,
        tuple(data["services"]),
        tuple(_users(data)),
        tuple(_asked_key(key) for key in data.get("key", [])),
        {user["name"]: user["person"] for user in asked if user.get("person")},
        data.get("approver", ""),
        data.get("date"),
    )


def format_form(data: Mapping[str, Any]) -> bytes:
    """Write a form from its keys, as `tomllib` reads them; raise Faults if `parse` would refuse it.

    The same data makes the same bytes, so the SHA-256 on a printed form names the file.
    """
    content = tomli_w.dumps(data).encode()
    parse(content, "form")
    return content


def _asked_key(key: Mapping[str, str]) -> AskedKey:
    line, comment = parse_public_key(key["public_key"])
    return AskedKey(key.get("label", comment), line)


def _users(data: Mapping[str, Any]) -> Iterator[tuple[str, Role]]:
    for user in data.get("user", []) if WEB in data["services"] else []:
        yield user["name"], Role.REPRESENTATIVE if user.get("contact") else Role.WEB
    if SERVICE in data["services"]:
        yield SERVICE_USER, Role.SERVICE


def id_from_name(name: str) -> str:
    """Make an id from a party's name: `A Partisi` becomes `a-partisi`."""
    plain = to_ascii(name).lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _faults(file: str, data: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _kimlik_faults(file, "", data)
    yield from _unprintable_faults(file, "", data)
    known = ", ".join(sorted(_KEYS))
    advice = f"unknown key, remove it or use one of: {known}"
    yield from _unknown_keys(file, "", data, _KEYS, advice)
    for key in _REQUIRED:
        if key not in data:
            yield Fault(file, key, "is missing, add it")
    if not isinstance(data.get("party", "a"), str) or not id_from_name(str(data.get("party", "a"))):
        yield Fault(file, "party", "not a name, write the name of the party")
    for key in ("services", "static_ips"):
        if key in data:
            yield from _list_faults(file, key, data[key])
    if odd := sorted(s for s in set(_services(data)) - set(SERVICES) if s.isprintable()):
        known = ", ".join(SERVICES)
        yield Fault(
            file, "services", f"unknown: {', '.join(map(repr, odd))}; the services are {known}"
        )
    yield from _user_faults(file, data)
    yield from _key_faults(file, data)
    if not isinstance(data.get("approver", ""), str):
        yield Fault(file, "approver", "write it as text")
    stated = data.get("date", date.min)
    if not isinstance(stated, date) or isinstance(stated, datetime):
        yield Fault(file, "date", "not a day, write it without quotes, such as 2023-05-02")
    contact = data.get("contact", {})
    if not isinstance(contact, dict):
        yield Fault(file, "contact", "write it as a table, [contact]")
        return
    if "contact" in data:
        for key in sorted(_CONTACT - set(contact)):
            yield Fault(file, f"contact.{key}", "is missing, add it")
    yield from _unknown_keys(file, "contact.", contact, _CONTACT)
    for key in ("name", "email"):
        if not isinstance(contact.get(key, ""), str):
            yield Fault(file, f"contact.{key}", "write it as text")
    if "@" not in str(contact.get("email", "@")):
        yield Fault(file, "contact.email", "not an e-mail address, correct it")
    if "phones" in contact:
        yield from _list_faults(file, "contact.phones", contact["phones"])


def _user_faults(file: str, data: Mapping[str, Any]) -> Iterator[Fault]:
    listed = data.get("user", [])
    if not isinstance(listed, list) or not all(isinstance(user, dict) for user in listed):
        yield Fault(file, "user", "write each user as a table, [[user]]")
        return
    names = [user.get("name") for user in listed]
    for number, user in enumerate(listed, start=1):
        key = f"user[{number}]"
        yield from _unknown_keys(file, f"{key}.", user, _USER)
        name = user.get("name")
        wrong = name_fault(name) if isinstance(name, str) else "is missing, add it"
        if wrong:
            yield Fault(file, f"{key}.name", wrong)
        elif names.count(name) > 1 or name == SERVICE_USER:
            yield Fault(file, f"{key}.name", f"{name!r} is taken, choose another")
        if not isinstance(user.get("contact", False), bool):
            yield Fault(file, f"{key}.contact", "write true or leave it out")
        if not isinstance(user.get("person", ""), str):
            yield Fault(file, f"{key}.person", "write it as text")
    if len(listed) > MAX_WEB_USERS:
        wrong = f"{len(listed)} users, at most {MAX_WEB_USERS} are allowed (Genelge md. 5)"
        yield Fault(file, "user", wrong)
    if listed and WEB not in _services(data):
        yield Fault(file, "user", 'the web site is not requested: add "web" to services')
    if listed and sum(user.get("contact") is True for user in listed) != 1:
        yield Fault(file, "user", "mark one user with contact = true (Genelge md. 4/b-6)")


def _key_faults(file: str, data: Mapping[str, Any]) -> Iterator[Fault]:
    listed = data.get("key", [])
    if not isinstance(listed, list) or not all(isinstance(key, dict) for key in listed):
        yield Fault(file, "key", "write each public key as a table, [[key]]")
        return
    seen: set[str] = set()
    for number, key in enumerate(listed, start=1):
        path = f"key[{number}]"
        yield from _unknown_keys(file, f"{path}.", key, _KEY)
        if not isinstance(key.get("label", ""), str):
            yield Fault(file, f"{path}.label", "write it as text")
        text = key.get("public_key")
        try:
            if not isinstance(text, str):
                raise ValueError("is missing, add it")
            line, _ = parse_public_key(text)
        except ValueError as error:
            yield Fault(file, f"{path}.public_key", str(error))
            continue
        if line in seen:
            yield Fault(file, f"{path}.public_key", "is there twice, write it once")
        seen.add(line)
    if len(listed) > MAX_KEYS:
        yield Fault(file, "key", f"{len(listed)} keys, at most {MAX_KEYS} are allowed")
    if listed and SFTP not in _services(data):
        yield Fault(file, "key", 'SFTP is not requested: add "sftp" to services')


def _services(data: Mapping[str, Any]) -> list[str]:
    """Return the services that a form asks for; none if it does not have a list of text there."""
    stated = data.get("services")
    return stated if _is_text_list(stated) else []


def _list_faults(file: str, key: str, value: object) -> Iterator[Fault]:
    if not _is_text_list(value):
        yield Fault(file, key, f"write a list, such as {_LISTS[key]}")


def _is_text_list(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)


def _unknown_keys(
    file: str,
    prefix: str,
    table: Mapping[str, object],
    known: set[str],
    advice: str = "unknown key, remove it",
) -> Iterator[Fault]:
    """Yield a fault for each unknown key, except for those that `_kimlik_faults` names."""
    for key in sorted(set(table) - known):
        if not _means_kimlik(key):
            yield Fault(file, f"{prefix}{key}", advice)


def _means_kimlik(name: str) -> bool:
    """Say whether a key with that name is for an identity number."""
    return bool(_KIMLIK.fullmatch(name)) or "kimlik" in name.lower()


def _kimlik_faults(file: str, key: str, value: object) -> Iterator[Fault]:
    """Yield a fault for each identity number, found by a key's name or by its check digits."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            path = f"{key}.{name}".removeprefix(".")
            if _means_kimlik(name):
                yield Fault(file, path, NO_KIMLIK)
            else:
                yield from _kimlik_faults(file, path, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _kimlik_faults(file, key, inner)
    elif key == "key.public_key":  # of the key itself, digits in a row mean nothing
        with suppress(ValueError):
            if holds_kimlik(parse_public_key(str(value))[1]):
                yield Fault(file, key, NO_KIMLIK)
    elif not (key == "static_ips" and _is_address(value)) and holds_kimlik(str(value)):
        yield Fault(file, key, NO_KIMLIK)


def _unprintable_faults(file: str, key: str, value: object) -> Iterator[Fault]:
    """Yield a fault for each text with control characters, which could move the cursor."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _unprintable_faults(file, f"{key}.{name}".removeprefix("."), inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _unprintable_faults(file, key, inner)
    elif isinstance(value, str) and not value.isprintable():
        yield Fault(
            file, key, "contains control characters, write it again as plain text on one line"
        )


def _is_address(value: object) -> bool:
    with suppress(ValueError):
        ip_address(str(value))
        return True
    return False


def holds_kimlik(text: str) -> bool:
    """Say whether a text has a national identity number in it, in whatever notation."""
    plain = "".join(str(unicodedata.digit(c, c)) for c in text)  # digits of any script
    for run in _DIGIT_GROUPS.findall(plain):
        groups = re.findall(r"\d+", run)
        for start in range(len(groups)):
            for found in accumulate(groups[start : start + _DIGITS]):
                if len(found) == _DIGITS and _is_kimlik(found):
                    return True
    return False


def _is_kimlik(text: str) -> bool:
    if text.startswith("0"):
        return False
    digits = [int(d) for d in text]
    tenth = (7 * sum(digits[0:9:2]) - sum(digits[1:8:2])) % 10
    return digits[9] == tenth and digits[10] == sum(digits[:10]) % 10
