"""Says what the parties' trees lack of a snapshot, and how to start the process that prepares it.

It is apart from publisher/results/snapshots/preparing, so that the results process does not load
what only the other one needs, such as DuckDB.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from config.scope import Scope
from config.settings import Settings
from config.site import result_view

PREPARE_COMMAND = (sys.executable, "-P", "-m", "publisher.results.snapshots.preparing")
TREES = "--trees"


def scopes_of_trees(settings: Settings) -> list[Scope]:
    """Return the scopes of the parties that have a tree, each once."""
    return list(dict.fromkeys(party.scope for party in settings.parties if party.mirrors))


def missing_views(site: Path, number: int, scopes: Iterable[Scope]) -> list[Scope]:
    """Return the scopes for which a snapshot was not prepared yet."""
    return [scope for scope in scopes if not (site / result_view(number, scope)).is_dir()]
