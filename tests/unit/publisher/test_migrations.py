"""The tables in PostgreSQL are those of the code, and are made step by step."""

from typing import Any

import postgres
import pytest
import sqlalchemy as sa

from config.fault import Faults
from portal import shared_tables
from publisher import migrations
from publisher.catalog import tables as catalog_tables
from publisher.catalog.catalog import Catalog
from publisher.results import tables as results_tables

TABLES = {
    "catalog": catalog_tables.METADATA,
    "results": results_tables.METADATA,
    "portal": shared_tables.METADATA,
}
NOW = "2023-05-14T00:00:00+00:00"


def kind(column: Any) -> str:
    """Return what a column keeps, as far as both databases agree on it."""
    for each in (sa.Boolean, sa.Integer, sa.LargeBinary, sa.String):
        if isinstance(column, each):
            return each.__name__
    raise AssertionError(column)


def in_code(tables: sa.MetaData, table: str) -> dict[str, Any]:
    """Return columns, keys and indexes of a table of the code."""
    engine = sa.create_engine("sqlite://")
    tables.create_all(engine)
    found = described(sa.inspect(engine), table)
    engine.dispose()
    return found


def described(of: sa.Inspector, table: str) -> dict[str, Any]:
    """Return columns, keys and indexes of a table of a database."""
    indexes = {
        (index["name"], tuple(index["column_names"]), bool(index["unique"]))
        for index in of.get_indexes(table)
        if not index.get("duplicates_constraint")
    }
    return {
        "columns": {c["name"]: (kind(c["type"]), c["nullable"]) for c in of.get_columns(table)},
        "key": of.get_pk_constraint(table)["constrained_columns"],
        "unique": {tuple(u["column_names"]) for u in of.get_unique_constraints(table)},
        "foreign": {
            (tuple(f["constrained_columns"]), f["referred_table"])
            for f in of.get_foreign_keys(table)
        },
        "indexes": indexes,
    }


@pytest.mark.slow
@pytest.mark.parametrize("schema", TABLES)
def test_the_steps_make_the_tables_of_the_code(
    postgres_server: postgres.Server, schema: str
) -> None:
    engine = sa.create_engine(postgres.in_schema(postgres_server.new_database(), schema))
    made, tables = sa.inspect(engine), TABLES[schema]

    assert set(made.get_table_names()) == {*tables.tables, "schema_step"}
    for table in tables.tables:
        assert described(made, table) == in_code(tables, table)
    with engine.connect() as connection:
        collations = connection.execute(
            sa.text(
                "SELECT DISTINCT collation_name FROM information_schema.columns "
                "WHERE table_schema = current_schema() AND data_type = 'text' "
                "AND table_name <> 'schema_step'"
            )
        )
        assert collations.scalars().all() == ["C"]
    engine.dispose()


@pytest.mark.slow
def test_each_step_is_applied_once(postgres_server: postgres.Server) -> None:
    url = postgres.in_schema(postgres_server.new_database(empty=True), "catalog")
    with pytest.raises(Faults, match="run `ssps catalog migrate`"):
        Catalog(url)
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        first = migrations.migrate(connection, "catalog", NOW)
        again = migrations.migrate(connection, "catalog", NOW)

    assert [step.number for step in first] == [1]
    assert again == []
    Catalog(url).close()


@pytest.mark.slow
def test_tables_of_a_newer_version_are_not_touched(postgres_server: postgres.Server) -> None:
    url = postgres.in_schema(postgres_server.new_database(), "catalog")
    postgres.change(url, "INSERT INTO schema_step VALUES (9999, 'later', '')")

    with pytest.raises(Faults, match="newer version"):
        Catalog(url)
