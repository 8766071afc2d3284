"""Changes parties.toml without touching the rest of it: comments, order and white space stay.

Operators edit this file by hand, and `ssps party` changes it too. Every function takes the text of
the file and returns the new text. The caller must check the new text with config/load before it
replaces the file. ValueError says why a change is not possible.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.items import AoT, InlineTable, Table

_HEADER = re.compile(r"\s*\[(?!\s*party\s*\.)")  # not [party.contact], which is part of a party
_PARTY = re.compile(r"\s*\[\[\s*party\s*\]\]\s*(#.*)?", re.ASCII)


def add_party(text: str, party: Mapping[str, Any]) -> str:
    """Return the file with another party at its end."""
    table = tomlkit.table()
    for key, value in party.items():
        if isinstance(value, Mapping):
            inline = tomlkit.inline_table()
            inline.update(value)
            table.add(key, inline)
        else:
            table.add(key, value)
    listed = tomlkit.aot()
    listed.append(table)
    document = tomlkit.document()
    document.add("party", listed)
    return f"{text.rstrip()}\n\n{tomlkit.dumps(document)}".lstrip()


def set_party_key(
    text: str, party_id: str, key: str, value: bool | Sequence[str] | str | None
) -> str:
    """Return the file with one party's `key` set, or removed if the value is None."""
    document = tomlkit.parse(text)
    table = _party_table(document, party_id)
    if value is None:
        table.pop(key, None)
    elif key in table:
        table[key] = value
    else:
        # Insert it before a comment that follows the last key: that is about the next party.
        _insert_key(table, key, value)
    return tomlkit.dumps(document)


def set_party_contact(text: str, party_id: str, contact: Mapping[str, str]) -> str:
    """Return the file with another contact of one party."""
    document = tomlkit.parse(text)
    table = _party_table(document, party_id)
    if isinstance(held := table.get("contact"), Table):  # [party.contact]
        for key, value in contact.items():
            held[key] = value
        return tomlkit.dumps(document)
    inline = tomlkit.inline_table()
    inline.update(contact)
    if "contact" in table:
        table["contact"] = inline
    else:
        _insert_key(table, "contact", inline)
    return tomlkit.dumps(document)


def _insert_key(table: Table, key: str, value: bool | Sequence[str] | str | InlineTable) -> None:
    # A key after [party.contact] would belong to the contact.
    last = [k for k, item in table.items() if k != key and not isinstance(item, Table)][-1]
    body = table.value
    body._insert_after(last, key, tomlkit.item(value))


def remove_party(text: str, party_id: str) -> str:
    """Return the file without that party; comments just above the next party stay."""
    number = _party_number(tomllib.loads(text), party_id)
    lines = text.splitlines(keepends=True)
    starts = [n for n, line in enumerate(lines) if _PARTY.fullmatch(line.rstrip("\r\n"))]
    start = starts[number]
    end = next((n for n in range(start + 1, len(lines)) if _HEADER.match(lines[n])), len(lines))
    if end < len(lines):
        while lines[end - 1].strip() == "" or lines[end - 1].lstrip().startswith("#"):
            end -= 1
    left = "".join([*lines[:start], *lines[end:]])
    wanted = tomllib.loads(text)
    del wanted["party"][number]
    if _parties(left) != wanted["party"]:
        raise ValueError(
            f"{party_id} cannot be removed from this file automatically, remove it by hand"
        )
    return left


def _parties(text: str) -> Any:
    try:
        return tomllib.loads(text).get("party", [])
    except tomllib.TOMLDecodeError:
        return None


def _party_table(document: tomlkit.TOMLDocument, party_id: str) -> Table:
    number = _party_number(document.unwrap(), party_id)
    listed = document["party"]
    if not isinstance(listed, AoT):
        raise ValueError("not every party has its own [[party]] table, change it by hand")
    return listed[number]


def _party_number(data: Mapping[str, Any], party_id: str) -> int:
    listed = data.get("party", [])
    found = [n for n, party in enumerate(listed) if party.get("id") == party_id]
    if len(found) != 1:
        raise ValueError(f"the file does not have exactly one party {party_id!r}")
    return found[0]
