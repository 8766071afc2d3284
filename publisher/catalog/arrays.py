"""The statements for many rows in PostgreSQL: each is one message, with an array for each column.

    UPDATE arrival SET state = v.new_state, seq = v.number
    FROM unnest(CAST(:arrival_id AS text[]), CAST(:number AS bigint[]), …)
         WITH ORDINALITY AS v(arrival_id, number, …, n)
    WHERE arrival.id = v.arrival_id AND arrival.seq IS NULL

Their text is the same for any number of rows, so the server plans them once. With a statement for
each row, or with `IN` and its list, the server alone used half as much processor as the filing
itself (`scripts/bench publishers`). SQLite has no process to send messages to; it gets the
statements of publisher/catalog/statements.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from publisher.catalog import statements
from publisher.catalog.statements import SHEET_COLUMNS
from publisher.catalog.tables import CLAIMED, RECEIVED

_TYPES = {"page": "int", "frame": "int", "version": "int", "of_frame": "int"}
_TYPES |= {"filed_at": "bigint", "number": "bigint", "source": "bytea"}  # all others are text


def _values(*columns: str) -> str:
    """Return the table `v` with the values of these columns, in order of `n`."""
    arrays = (f"CAST(:{name} AS {_TYPES.get(name, 'text')}[])" for name in columns)
    return f"unnest({', '.join(arrays)}) WITH ORDINALITY AS v({', '.join(columns)}, n)"


def _insert(table: str, *columns: str) -> sa.TextClause:
    names = ", ".join(columns)
    return sa.text(
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {_values(*columns)} ORDER BY n"
    )


_DECIDED = ("sha256", "stamp", "decided_at", "evidence", "state", "outcome", "what", "reason")
_FOR_MANY: Mapping[sa.Executable, sa.TextClause] = {
    statements.ADD_ARRIVAL: _insert(
        "arrival", "id", "name", "source", "source_stamp", "received_at", "state"
    ),
    statements.ADD_FILING: _insert(
        "filing",
        *SHEET_COLUMNS,
        "arrival",
        "frame",
        "version",
        "karekod",
        "sha256",
        "path",
        "filed_at",
    ),
    statements.ADD_PIXELS: _insert("pixels", "sha256", "digest"),
    statements.SET_DECISION: sa.text(
        f"UPDATE arrival SET {', '.join(f'{name} = v.{name}' for name in _DECIDED)} "
        f"FROM {_values('arrival_id', *_DECIDED)} WHERE arrival.id = v.arrival_id"
    ),
    statements.SET_FILING_SEQ: sa.text(
        f"UPDATE filing SET seq = v.number FROM {_values('arrival_id', 'number', 'of_frame')} "
        "WHERE filing.arrival = v.arrival_id AND filing.frame = v.of_frame AND filing.seq IS NULL"
    ),
    statements.SET_ARRIVAL_DONE: sa.text(
        "UPDATE arrival SET state = v.new_state, seq = v.number "
        f"FROM {_values('arrival_id', 'number', 'new_state')} "
        "WHERE arrival.id = v.arrival_id AND arrival.seq IS NULL"
    ),
}
# With other names for their lists than `IN` has, and the same columns as there.
_FOR_LISTS: Mapping[sa.Executable, sa.TextClause] = {
    statements.SET_CLAIMED: sa.text(
        f"UPDATE arrival SET state = '{CLAIMED}' WHERE id = ANY(:ids) AND state = '{RECEIVED}'"
    ),
    statements.FILED_DIGESTS: sa.text("SELECT sha256 FROM filing WHERE sha256 = ANY(:digests)"),
    statements.KNOWN_PIXELS: sa.text("SELECT digest FROM pixels WHERE digest = ANY(:digests)"),
}
_ABSENCES = sa.text(
    f"SELECT absence.* FROM absence JOIN {_values('cevre', 'kurul', 'sandik')} "
    "USING (cevre, kurul, sandik) WHERE withdrawn IS NULL ORDER BY karekod, seq"
)
_VERSIONS = sa.text(
    "SELECT (SELECT coalesce(max(version), 0) FROM filing WHERE "
    + " AND ".join(f"filing.{name} = v.{name}" for name in SHEET_COLUMNS)
    + f") FROM {_values(*SHEET_COLUMNS)} ORDER BY n"
)


def has_arrays(connection: sa.Connection) -> bool:
    """Say whether a database has these statements."""
    return connection.dialect.name == "postgresql"


def write_rows(
    connection: sa.Connection, statement: sa.Executable, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Execute a statement of publisher/catalog/statements once for each row, in their order."""
    with_arrays = _FOR_MANY.get(statement) if has_arrays(connection) else None
    if with_arrays is None:
        connection.execute(statement, rows)
    else:
        connection.execute(with_arrays, {name: [row[name] for row in rows] for name in rows[0]})


def set_claimed(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Execute SET_CLAIMED for arrivals with these ids."""
    statement = statements.SET_CLAIMED
    with_array = _FOR_LISTS[statement] if has_arrays(connection) else statement
    connection.execute(with_array, {"ids": list(ids)})


def known(connection: sa.Connection, statement: sa.Executable, digests: set[str]) -> set[str]:
    """Return which of the digests FILED_DIGESTS or KNOWN_PIXELS finds."""
    if not digests:
        return set()
    asked = _FOR_LISTS[statement] if has_arrays(connection) else statement
    return set(connection.scalars(asked, {"digests": sorted(digests)}))


def versions(connection: sa.Connection, sheets: Sequence[Mapping[str, str | int]]) -> Sequence[int]:
    """Return the number of the latest version of each sheet, 0 if none is filed."""
    if not sheets:
        return ()
    values = {name: [sheet[name] for sheet in sheets] for name in SHEET_COLUMNS}
    return connection.scalars(_VERSIONS, values).all()


def absences(connection: sa.Connection, boxes: Sequence[tuple[str, str, str]]) -> Sequence[Any]:
    """Return the rows that ABSENCES_OF_BOXES finds."""
    if not has_arrays(connection):
        return connection.execute(statements.ABSENCES_OF_BOXES, {"boxes": boxes}).all()
    columns = zip(*boxes, strict=True)
    values = dict(zip(("cevre", "kurul", "sandik"), map(list, columns), strict=True))
    return connection.execute(_ABSENCES, values).all()
