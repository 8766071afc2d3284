"""Publishes what keeps the running publisher from filing, so that `ssps status` can show it.

The publisher replaces `state/publishing.json` whenever anything in it changes:

    {"by_rescan_only": [["/srv/tarama", "it is a share: …"]], "halted": null, "held": 3,
     "no_leases": [["/srv/tarama", "it is a share, …"]], "pid": 4711, "trouble_count": 1,
     "troubles": [["/srv/tarama/gun-1", "Permission denied", "let the publisher …", "2023-05-…"]]}

    halted           why nothing is filed now, and since when; null while pages are filed
    troubles         files and folders of the intake that cannot be read: path, cause, advice,
                     since; at most 100 of `trouble_count`
    by_rescan_only   intake folders in which new files are found only by the scan, with the cause
    no_leases        intake folders in which it is not known if a file is still being written
    held             files that were claimed and stay in the intake until they are quiet
    pid              the publisher's process

The file can be left over from a publisher that has ended; `read` compares `pid` with the process
that holds the publisher's lock (keys/operations/server_state). A named host (config/site) has a
file of its own.
"""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from config.site import PUBLISHER_STATE, host_state, named_hosts
from keys import files
from keys.operations import server_state

MAX_TROUBLES = 100


@dataclass(frozen=True, slots=True)
class PublisherState:
    """The content of `state/publishing.json`; see above."""

    pid: int
    halted: tuple[str, str] | None = None
    troubles: tuple[tuple[str, str, str, str], ...] = ()
    trouble_count: int = 0
    by_rescan_only: tuple[tuple[str, str], ...] = ()
    no_leases: tuple[tuple[str, str], ...] = ()
    held: int = 0


class StateFile:
    """Writes `state/publishing.json` when it changes."""

    def __init__(self, site: Path, host: str = "") -> None:
        self._path = site / host_state(PUBLISHER_STATE, host)
        self._written: PublisherState | None = None

    def update(self, state: PublisherState) -> None:
        """Write a state unless it is the one in the file. A full disk is not an error."""
        if state == self._written:
            return
        content = json.dumps(asdict(state), sort_keys=True).encode() + b"\n"
        with suppress(OSError):
            files.replace_unsynced(self._path, content, 0o600)
            self._written = state


def read_all(site: Path) -> dict[str, PublisherState]:
    """Return the state of each running publisher by its host, "" for that of a site with one."""
    found = {host: read(site, host) for host in ("", *named_hosts(site))}
    return {host: state for host, state in found.items() if state is not None}


def read(site: Path, host: str = "") -> PublisherState | None:
    """Return the state of a running publisher, or None if none runs or it has not written yet."""
    try:
        pid = server_state.holder(site, server_state.PUBLISH, host)
        data = json.loads((site / host_state(PUBLISHER_STATE, host)).read_bytes())
        lists = ("troubles", "by_rescan_only", "no_leases")
        data |= {key: tuple(map(tuple, data[key])) for key in lists}
        halted = data["halted"] and tuple(data["halted"])
        found = PublisherState(**{**data, "halted": halted})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if host:
        return found if server_state.is_alive(site, server_state.PUBLISH, host) else None
    return found if found.pid == pid else None
