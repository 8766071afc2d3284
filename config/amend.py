"""Changes of parties.toml that leave alone all that is not changed: comments, order, white space.

The operator's editor and `ssps party` write the same file. Everything here is text in, text out;
what comes out has still to be read by config/load before it replaces anything. ValueError says
why a change cannot be made.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit
from tomlkit.items import AoT, Table

_HEADER = re.compile(r"\s*\[(?!\s*party\s*\.)")  # not [party.contact], a part of the one above
_PARTY = re.compile(r"\s*\[\[\s*party\s*\]\]\s*(#.*)?", re.ASCII)


def add_party(text: str, party: Mapping[str, Any]) -> str:
    """Return the file with one party more, at its end."""
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
    """Return the file with one party's `key` set, or taken away if the value is None."""
    document = tomlkit.parse(text)
    table = _party_table(document, party_id)
    if value is None:
        table.pop(key, None)
    elif key in table:
        table[key] = value
    else:
        # Before what follows the table's last key: that is about the next one.
        _insert_key(table, key, value)
    return tomlkit.dumps(document)


def _insert_key(table: Table, key: str, value: bool | Sequence[str] | str) -> None:
    # What comes after [party.contact] would be the contact's.
    last = [k for k, item in table.items() if k != key and not isinstance(item, Table)][-1]
    body = table.value
    body._insert_after(last, key, tomlkit.item(value))


def remove_party(text: str, party_id: str) -> str:
    """Return the file without that party; comments just above the next one stay."""
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
        raise ValueError(f"{party_id} cannot be told apart in this file, take it out by hand")
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
        raise ValueError("the parties do not stand each under [[party]], change it by hand")
    return listed[number]


def _party_number(data: Mapping[str, Any], party_id: str) -> int:
    listed = data.get("party", [])
    found = [n for n, party in enumerate(listed) if party.get("id") == party_id]
    if len(found) != 1:
        raise ValueError(f"there is no one party {party_id!r} in it")
    return found[0]
