"""What a reader makes of a page while others may read the same one: under names of its own.

On a site with several publishers two processes may read one page: a claim has expired, or a former
leader wakes up that was frozen. So each of them, the leader too, writes the bytes that it stages
and the pages that it copies out of a file under names that end with its own claim. The leader gives
them the names that filing expects (`adopt`) just before it files the page. A rename puts a complete
file there, even if another process is still writing its own.
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path

from keys.digest import Digests
from publisher.page import EXTRACT, ID_LENGTH, Page, extract_file
from publisher.reading.pool import Pool
from publisher.reading.worker_client import WorkerClient
from publisher.store.store import Store

# `.staged-<arrival>.<claim>` in the store, `.extract-<arrival>-<page>.<claim>` in the spool.
_OF_CLAIM = re.compile(rf"^\.[a-z]+-(?P<arrival>.{{{ID_LENGTH}}})(-[0-9]+)?\.[0-9a-f]+$")


def new_pool(
    claim: str,
    workers: int,
    spool: Path,
    store: Store,
    wake: threading.Event,
    new_client: Callable[[], WorkerClient],
) -> Pool:
    """Return a pool that writes under the names of a claim."""
    return Pool(
        workers,
        spool,
        lambda identity, content: store.stage(_name(identity, claim), content),
        wake,
        new_client,
        lambda identity, number: _name(extract_file(identity, number), claim),
    )


def adopt(
    page: Page, claim: str, spool: Path, store: Store, digests: Digests | None = None
) -> None:
    """Give what was made of a page its names for filing; `digests` are those of another process.

    Raises FileNotFoundError if it is not there.
    """
    if page.sha256 is None:
        return
    identity = page.arrival.id
    store.adopt(_name(identity, claim), identity, digests)
    for name in _extracts(page):
        (spool / _name(name, claim)).rename(spool / name)


def discard(page: Page, claim: str, spool: Path, store: Store) -> None:
    """Remove what was made of a page that another process has read in the meantime."""
    store.discard(_name(page.arrival.id, claim))
    for name in _extracts(page):
        (spool / _name(name, claim)).unlink(missing_ok=True)


def sweep(claim: str, spool: Path, store: Store) -> None:
    """Remove everything that has the names of a claim, once its pool is closed."""
    store.sweep(_name("*", claim))
    for path in spool.glob(_name("*", claim)):
        path.unlink(missing_ok=True)


def remove_left_behind(
    claim: str, spool: Path, store: Store, is_done: Callable[[str], bool]
) -> None:
    """Remove what processes with other claims have made of pages that are done.

    Such a process died, or was so slow that another one read the page. If it still works, it finds
    that its answer is late and looks for these files only to remove them.
    """
    own = f".{claim}"
    for path in (*store.staged_files(), *spool.glob(f"{EXTRACT}*")):
        found = _OF_CLAIM.search(path.name)
        if found and not path.name.endswith(own) and is_done(found["arrival"]):
            path.unlink(missing_ok=True)


def _extracts(page: Page) -> list[str]:
    return [extract_file(page.arrival.id, n) for n in range(1, len(page.extracts) + 1)]


def _name(name: str, claim: str) -> str:
    return f"{name}.{claim}"
