"""Writes `state/serving.json`: the settings and keys that the server uses now.

Written again only where something has changed: a ring that was read anew, settings that were put
in force or turned down. If the disk will not have it, the server goes on, and says so.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog
from paramiko.pkey import PKey

from config.settings import Settings
from keys.credentials import ring
from keys.credentials.ring import fingerprint
from keys.operations import server_state
from keys.operations.server_state import ServerState
from sftpd.access.revalidate import Rings

_log = structlog.get_logger()


class StatusFile:
    """The word of one server."""

    def __init__(self, site: Path, rings: Rings) -> None:
        self._site = site
        self._rings = rings
        self._written: ServerState | None = None

    def update(
        self,
        settings: Settings,
        host_keys: Iterable[PKey],
        announced: Iterable[PKey],
        faults: Sequence[str],
    ) -> None:
        """Look at the rings, and write down what has changed since the last time."""
        rings = {p.id: self._rings.of(p.id) for p in settings.parties if p.mirrors}
        serving = ServerState(
            os.getpid(),
            {party: ring.ring_digest(found) for party, (found, _) in rings.items() if found},
            tuple(party for party, (_, damaged) in rings.items() if damaged),
            {party.id: server_state.party_digest(party) for party in settings.parties},
            tuple(fingerprint(key.asbytes()) for key in host_keys),
            tuple(fingerprint(key.asbytes()) for key in announced),
            tuple(faults),
        )
        if serving == self._written:
            return
        try:
            server_state.write(self._site, serving)
        except OSError as error:
            _log.error("cannot tell what is in force", cause=str(error))
        else:
            self._written = serving
