"""Follows a site: the newest view, renewed as snapshots close, sheets are filed or files change.

`refresh` is called every second or so, from one thread; everything else may be called from any.
"""

from collections.abc import Mapping
from pathlib import Path

import structlog

from config.ballot import Ballot
from config.fault import Faults
from config.registry import Registry
from config.scope import Scope
from config.settings import ShareLevel
from config.sheet import Belge, Secim
from config.site import REGISTRY_INDEX
from portal import broker_client
from portal.data import view as views
from portal.data.numbers import boxes as box_columns
from portal.data.queries import sheets as sheet_queries
from portal.data.queries.databases import open_catalog
from portal.data.queries.findings import FindingQueries
from portal.data.queries.sheets import SheetCounts
from portal.data.scoped import ScopedData
from portal.data.view import AggregateKey, View
from publisher.results.ballot_file import BallotFile, load_ballot
from publisher.results.snapshots.folder import latest_number

log = structlog.get_logger()
_Stamp = tuple[int, int, int]


class LiveData:
    """The data of one site; `refresh` brings it up to date."""

    def __init__(self, site: Path, share_level: ShareLevel) -> None:
        """Read the newest state; raises Faults if registry or ballot are damaged."""
        self._site = site
        self._share_level = share_level
        self._ballot = BallotFile(site, _read_ballot)
        self._registry_stamp: _Stamp | None = None
        self._boxes = box_columns.build(())
        self._findings = FindingQueries(site)
        self._expected: Mapping[Secim, tuple[AggregateKey, ...]] = {}
        self._read_registry()
        self._view = self._made(latest_number(site) or 0, SheetCounts({}))

    @property
    def number(self) -> int:
        """The number of the snapshot that is shown, 0 before the first one."""
        return self._view.snapshot.number

    def scoped(self, scope: Scope) -> ScopedData:
        """Return the data within a scope; it stays as it is now."""
        return ScopedData(self._view, scope)

    def refresh(self) -> bool:
        """Bring the view up to date; return whether there is anything new."""
        before = self._view
        try:
            read = self._read_registry()
            ballot = self._ballot()
        except Faults as faults:
            # An import replaces its file in one step, so this is damage: go on with what is known.
            log.error("portal-data-stale", cause=str(faults))
            return False
        number = latest_number(self._site) or 0
        if read:
            self._view = self._made(number, SheetCounts({}))
        elif ballot is not before.ballot:
            self._view = self._made(number, self._sheets(before.sheets))
        else:
            sheets = self._sheets(before.sheets)
            if number == before.snapshot.number and sheets is before.sheets:
                return False
            renewed = views.renewed(before, number, sheets)
            self._view = renewed if renewed is not None else self._made(number, sheets)
        return True

    def _made(self, number: int, sheets: SheetCounts) -> View:
        return views.make(
            self._site,
            number,
            self._boxes,
            self._ballot(),
            self._share_level,
            self._expected,
            sheets if sheets.seq >= 0 else self._sheets(sheets),
            self._findings,
        )

    def _sheets(self, before: SheetCounts) -> SheetCounts:
        with open_catalog(self._site) as catalog:
            if catalog is None:
                return before
            return sheet_queries.update(before, catalog, self._boxes)

    def _read_registry(self) -> bool:
        """Read the registry if it was imported since; return whether it was."""
        try:
            found = (self._site / REGISTRY_INDEX).stat()
        except FileNotFoundError:
            return False
        stamp = found.st_dev, found.st_ino, found.st_mtime_ns
        if stamp == self._registry_stamp:
            return False
        registry = Registry(self._site / REGISTRY_INDEX)
        try:
            self._boxes = box_columns.build(registry.ballot_boxes())
            self._expected = _aggregates(registry)
        finally:
            registry.close()
        self._registry_stamp = stamp
        return True


def _read_ballot(site: Path) -> Ballot | None:
    if broker_client.in_use():
        found: Ballot | None = broker_client.ask("ballot", str(site))
        return found
    return load_ballot(site)


def _aggregates(registry: Registry) -> Mapping[Secim, tuple[AggregateKey, ...]]:
    """Return the aggregate sheets that are expected: of the election, districts, then boards."""
    found: dict[Secim, list[AggregateKey]] = {}
    for secim, belge, cevre, kurul in registry.aggregates():
        found.setdefault(Secim(secim), []).append(AggregateKey(Belge(belge), cevre, kurul))
    return {
        secim: tuple(sorted(keys, key=lambda key: (key.cevre, key.kurul, key.belge)))
        for secim, keys in found.items()
    }
