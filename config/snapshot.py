"""A snapshot of the results: the names of its files, and how a row of it becomes a result again.

publisher/results/snapshots/snapshot specifies the folder and its manifest. A row of a Parquet file
has the columns of a batch (config/result_batch) in the order of COLUMNS, then `oylar.<option>` for
each option; what does not apply is null or empty. From such a row the same digest can be computed
as from the row of the batch that it came from.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from config import result_batch
from config.result import Result

MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
EXPORTS, EXPORTS_SIGNATURE = "exports.json", "exports.json.sig"
FORMAT = "ssps-snapshot-v1"
PARQUET = ".parquet"
AGGREGATES = "-birlestirme"  # after the contest in the name of the file of its aggregate sheets
VOTES = "oylar."


def result_of(secim: str, columns: Mapping[str, Any], election: str) -> Result:
    """Return the result that a row of a Parquet file states; ValueError if it is not a result."""
    row: dict[str, Any] = {"secim": secim}
    votes = {}
    for name, value in columns.items():
        if value is None or value == "":
            continue
        if name.startswith(VOTES):
            votes[name.removeprefix(VOTES)] = value
        else:
            row[name] = value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
    return result_batch.parse_row(row | {"oylar": votes}, election)
