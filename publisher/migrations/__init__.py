"""Makes and changes the tables in PostgreSQL: numbered files of SQL, each of which is applied once.

    catalog/0001-tables.sql     in the schema `catalog`
    results/0001-tables.sql     in the schema `results`
    portal/0001-tables.sql      in the schema `portal`
    publishers/0001-tables.sql  in the schema `publishers`, which SQLite does not need

The tables are those of publisher/catalog/tables, publisher/results/tables and portal/shared_tables,
and a test compares them. Texts are compared byte by byte (`COLLATE "C"`), as in SQLite, whatever
the server's language is. A file is never changed once a version with it was published: the next
change is the next number. The table `schema_step` of a schema has the numbers that were applied;
one file is one transaction. In SQLite the publisher makes what is missing when it opens the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa

from config.fault import Fault, Faults
from config.site import SITE_TOML

SCHEMAS = ("catalog", "results", "portal", "publishers")
_LOCK = 0x73737073  # an advisory lock: two commands never migrate at the same time
_STEPS = """
CREATE TABLE IF NOT EXISTS "{schema}".schema_step (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at text NOT NULL
)
"""
_FOLDER = Path(__file__).parent


class Step(NamedTuple):
    """One file of SQL."""

    number: int
    name: str
    sql: str


def steps(schema: str) -> list[Step]:
    """Return the steps of a schema, in order."""
    files = sorted((_FOLDER / schema).glob("[0-9]*.sql"))
    return [Step(int(file.name[:4]), file.stem, file.read_text("utf-8")) for file in files]


def applied(connection: sa.Connection, schema: str) -> int:
    """Return the number of the newest step that was applied, 0 if there is none."""
    there = sa.text("SELECT to_regclass(:name) IS NOT NULL")
    if not connection.scalar(there, {"name": f'"{schema}".schema_step'}):
        return 0
    return connection.scalar(sa.text(f'SELECT max(number) FROM "{schema}".schema_step')) or 0


def pending(connection: sa.Connection, schema: str) -> list[Step]:
    """Return the steps that were not applied yet; raise Faults if a newer version was here."""
    done, known = applied(connection, schema), steps(schema)
    if done > known[-1].number:
        wrong = f"{schema} was changed by a newer version (step {done}): install that version"
        raise Faults([Fault(SITE_TOML, "catalog.url", wrong)])
    return [step for step in known if step.number > done]


def check(connection: sa.Connection) -> None:
    """Raise Faults if a step is missing in the schema to which a connection is set."""
    schema = connection.scalar(sa.text("SHOW search_path"))
    if pending(connection, schema):
        wrong = f"the tables of {schema} are missing or of an earlier version: run "
        advice = "`ssps catalog migrate`"
        raise Faults([Fault(SITE_TOML, "catalog.url", wrong + advice)])


def migrate(connection: sa.Connection, schema: str, now: str) -> Sequence[Step]:
    """Apply the steps that a schema lacks, and return them; `now` is noted with each.

    Each step is committed by itself.
    """
    with connection.begin():
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        connection.execute(sa.text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
        connection.execute(sa.text(_STEPS.format(schema=schema)))
    done: list[Step] = []
    while True:
        with connection.begin():
            connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            missing = pending(connection, schema)
            if not missing:
                return done
            connection.execute(sa.text(f'SET LOCAL search_path = "{schema}"'))
            connection.exec_driver_sql(missing[0].sql.replace("%", "%%"), ())
            row = {"number": missing[0].number, "name": missing[0].name, "at": now}
            connection.execute(sa.text("INSERT INTO schema_step VALUES (:number, :name, :at)"), row)
        done.append(missing[0])
