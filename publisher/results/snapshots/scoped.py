"""The newest results in a party's scope, as the CSV files that an export hands over (md. 3/c).

The files are those of the latest snapshot with only the rows in scope; their columns are described
in publisher/results/snapshots/exports. An aggregate sheet is in scope if its place is.
"""

import io
from pathlib import Path

import duckdb

from config import layout
from config.ballot import Ballot
from config.scope import Scope
from config.sheet import Secim
from config.snapshot import AGGREGATES
from publisher.results.snapshots.exports import (
    option_titles,
    parquet_headings,
    write_csv,
)
from publisher.results.snapshots.folder import condition, latest_number, snapshot_folder
from publisher.results.snapshots.merge import QUIET
from publisher.results.snapshots.rows import read_parquet


def scoped_results(
    site: Path, election: str, scope: Scope, ballot: Ballot | None
) -> dict[str, bytes]:
    """Return the files by their path in a tree: `<election>/sonuclar/00000042/mv.csv`.

    There are none before the first snapshot.
    """
    number = latest_number(site)
    if number is None:
        return {}
    found: dict[str, bytes] = {}
    with duckdb.connect() as database:
        database.execute(QUIET)
        for parquet in sorted(snapshot_folder(site, number).glob("*.parquet")):
            name = parquet.name.removesuffix(".parquet")
            titles = option_titles(ballot, Secim(name.removesuffix(AGGREGATES)))
            text = io.StringIO(newline="")
            rows = read_parquet(database, parquet, condition(scope))
            write_csv(text, parquet_headings(database, parquet, titles), rows, number)
            path = f"{layout.results_folder(election, number)}/{name}.csv"
            found[path] = text.getvalue().encode()
    return found
