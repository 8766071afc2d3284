"""Reads results beside a running publisher: for commands, the web site and auditors."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from config.registry import Registry
from config.result import BOX_SHEET
from config.site import REGISTRY_INDEX
from publisher.catalog import tables as catalog
from publisher.catalog.queries.counts import open_read_only as open_catalog
from publisher.results import tables as t
from publisher.results.checks.finding import Finding
from publisher.results.store import (
    ResultStore,
    SetAsideRow,
    StoredResult,
    as_stored,
    is_complete,
    url,
)


@dataclass(frozen=True, slots=True)
class ResultCounts:
    """Boxes and contests whose result is expected, and is here; rejected rows; errors found."""

    expected: int
    here: int
    rejected: int
    findings: int


class ResultReader:
    """An open database of results, read only, for one thread."""

    def __init__(self, store: ResultStore | None) -> None:
        self._store = store

    @property
    def store(self) -> ResultStore | None:
        """The database, None for a site without results."""
        return self._store

    def findings(self) -> Iterator[Finding]:
        """Yield every finding, by check and place."""
        if self._store is not None:
            yield from self._store.findings()

    def history(self, cevre: str, kurul: str, sandik: str) -> list[StoredResult]:
        """Return every version of a box, by contest."""
        c = t.result.c
        query = (
            sa.select(t.result)
            .where(c.cevre == cevre, c.kurul == kurul, c.sandik == sandik, c.seq.is_not(None))
            .order_by(c.secim, c.belge, c.version)
        )
        return self._all(query)

    def corrections(self) -> list[tuple[StoredResult | None, StoredResult]]:
        """Return every later version after the one before it, in the order of acceptance.

        The one before is None if it has not arrived.
        """
        c = t.result.c
        place = [c[name] for name in t.KEY_COLUMNS]
        places = sa.select(*place).where(c.version > 1, c.seq.is_not(None))
        query = sa.select(t.result).where(sa.tuple_(*place).in_(places), c.seq.is_not(None))
        found: list[tuple[StoredResult | None, StoredResult]] = []
        before: StoredResult | None = None
        for stored in self._all(query.order_by(*place, c.version)):
            if stored.result.version > 1:
                same = before is not None and before.result.key == stored.result.key
                found.append((before if same else None, stored))
            before = stored
        return sorted(found, key=lambda pair: pair[1].id)

    def quarantined(self) -> list[SetAsideRow]:
        """Return the rows of the results quarantine, oldest first."""
        return [] if self._store is None else self._store.quarantined()

    def batch_names(self) -> dict[str, str]:
        """Return the name of each batch's file, by the batch's id."""
        if self._store is None:
            return {}
        return {batch.id: batch.name for batch in self._store.batches()}

    def batch_digests(self) -> set[str]:
        """Return the digests of all batches, whose bytes are in the store."""
        if self._store is None:
            return set()
        return {batch.sha256 for batch in self._store.batches() if batch.sha256 is not None}

    def boxes(self) -> set[tuple[str, str, str, str]]:
        """Return contest, district, board and box of every box that has a result."""
        if self._store is None:
            return set()
        c = t.result.c
        query = sa.select(c.secim, c.cevre, c.kurul, c.sandik).where(
            c.newest, c.seq.is_not(None), c.belge == BOX_SHEET.value
        )
        rows = self._store.connection.execute(query)
        return {(row.secim, row.cevre, row.kurul, row.sandik) for row in rows}

    def number_of_boxes(self) -> int:
        """Return how many boxes have a result, once for each contest."""
        if self._store is None:
            return 0
        c = t.result.c
        query = sa.select(sa.func.count()).where(
            c.newest, c.seq.is_not(None), c.belge == BOX_SHEET.value
        )
        return self._store.connection.scalar(query) or 0

    def number_of_results(self) -> int:
        """Return how many places have a result, aggregates included, once for each contest."""
        if self._store is None:
            return 0
        c = t.result.c
        query = sa.select(sa.func.count()).where(c.newest, c.seq.is_not(None))
        return self._store.connection.scalar(query) or 0

    def is_published(self) -> bool:
        """Return True if the latest snapshot holds every result."""
        if self._store is None:
            return False
        query = sa.select(sa.func.max(t.snapshot.c.last_result))
        held = self._store.connection.scalar(query)
        return held is not None and held == self._store.last_recorded()

    def number_of_errors(self) -> int:
        """Return how many findings are errors."""
        if self._store is None:
            return 0
        query = sa.select(sa.func.count()).select_from(t.finding).where(t.finding.c.kind == "error")
        return self._store.connection.scalar(query) or 0

    def number_rejected(self) -> int:
        """Return how many rows are in the results quarantine."""
        if self._store is None:
            return 0
        query = sa.select(sa.func.sum(t.batch.c.rejected))
        return int(self._store.connection.scalar(query) or 0)

    def _all(self, query: sa.Select[tuple[object, ...]]) -> list[StoredResult]:
        if self._store is None:
            return []
        return [as_stored(row) for row in self._store.connection.execute(query)]


@contextmanager
def open_results(site: Path) -> Iterator[ResultReader]:
    """Open a site's results to read them; a site without any has an empty reader."""
    if not is_complete(url(site)):
        yield ResultReader(None)
        return
    with ResultStore(url(site), read_only=True) as store:
        yield ResultReader(store)


def is_batch(site: Path, sha256: str) -> bool:
    """Return True if a batch with that digest was taken in."""
    with open_results(site) as reader:
        if reader.store is None:
            return False
        query = sa.select(t.batch.c.id).where(t.batch.c.sha256 == sha256).limit(1)
        return reader.store.connection.scalar(query) is not None


def count_results(site: Path) -> ResultCounts:
    """Count a site's results; fast enough to be called every second."""
    registry = Registry(site / REGISTRY_INDEX)
    try:
        expected = registry.expected_sheets(BOX_SHEET)
    finally:
        registry.close()
    with open_results(site) as reader:
        return ResultCounts(
            expected, reader.number_of_boxes(), reader.number_rejected(), reader.number_of_errors()
        )


def compare_with_sheets(site: Path, by: str = "cevre") -> dict[str, dict[str, int]]:
    """Return, by place, how many boxes have result and sheet, one of them, or neither.

    `by` is `cevre`, or `kurul` for `<cevre>/<kurul>`. The keys are `both`, `result_only`,
    `sheet_only` and `neither`; a box counts once for each contest.
    """
    with open_results(site) as reader:
        results = reader.boxes()
    c = catalog.filing.c
    query = sa.select(c.secim, c.cevre, c.kurul, c.sandik).where(
        c.belge == BOX_SHEET.value, c.page == 1, c.version == 1, c.seq.is_not(None)
    )
    with open_catalog(site) as connection:
        rows: Iterable[Any] = () if connection is None else connection.execute(query)
        sheets = {(row.secim, row.cevre, row.kurul, row.sandik) for row in rows}
    registry = Registry(site / REGISTRY_INDEX)
    try:
        expected = registry.expected_boxes(BOX_SHEET)
    finally:
        registry.close()

    def line_of(district: str, board: str) -> dict[str, int]:
        key = district if by == "cevre" else f"{district}/{board}"
        nothing = {"both": 0, "result_only": 0, "sheet_only": 0, "neither": 0}
        return found.setdefault(key, nothing)

    found: dict[str, dict[str, int]] = {}
    for (_, district, board), boxes in expected.items():
        line_of(district, board)["neither"] += boxes
    for box in results | sheets:
        line = line_of(box[1], box[2])
        kind = "both" if box in results and box in sheets else None
        line[kind or ("result_only" if box in results else "sheet_only")] += 1
        # A box that the registry does not have any more was never counted as lacking both.
        line["neither"] = max(0, line["neither"] - 1)
    return found
