"""Writes `state/serving.json`: which settings and keys the server uses now.

The format is in keys/operations/server_state. A command reads the file to see whether the server
uses a change. It is written again only if its content has changed, for example after a ring was
reloaded or settings were applied or rejected. If it cannot be written, the server logs an error and
goes on.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import structlog

from config.party import Party
from config.settings import Settings
from keys.credentials import ring
from keys.credentials.ring import Ring, fingerprint
from keys.operations import server_state
from keys.operations.server_state import ServerState
from sftpd.access.revalidate import Rings

_log = structlog.get_logger()


class StatusFile:
    """The status file of one server."""

    def __init__(self, site: Path, rings: Rings, host: str = "") -> None:
        self._site, self._host = site, host
        self._rings = rings
        self._written: ServerState | None = None
        # By party, with what the digest is of: both only change as a whole.
        self._ring_digests: dict[str, tuple[Ring, str]] = {}
        self._party_digests: dict[str, tuple[Party, str]] = {}

    def update(
        self,
        settings: Settings,
        host_keys: Iterable[bytes],
        announced: Iterable[bytes],
        faults: Sequence[str],
    ) -> None:
        """Reload the rings that have changed, and write the file if anything in it has changed."""
        rings = {p.id: self._rings.look_up(p.id) for p in settings.parties if p.mirrors}
        serving = ServerState(
            os.getpid(),
            {party: self._ring_digest(found) for party, (found, _) in rings.items() if found},
            tuple(party for party, (_, damaged) in rings.items() if damaged),
            {party.id: self._party_digest(party) for party in settings.parties},
            tuple(map(fingerprint, host_keys)),
            tuple(map(fingerprint, announced)),
            tuple(faults),
        )
        if serving == self._written:
            return
        try:
            server_state.write(self._site, serving, host=self._host)
        except OSError as error:
            _log.error("status-file-not-written", cause=str(error))
        else:
            self._written = serving

    def _ring_digest(self, held: Ring) -> str:
        found = self._ring_digests.get(held.party)
        if found is None or found[0] is not held:
            found = self._ring_digests[held.party] = held, ring.ring_digest(held)
        return found[1]

    def _party_digest(self, party: Party) -> str:
        found = self._party_digests.get(party.id)
        if found is None or found[0] is not party:
            found = self._party_digests[party.id] = party, server_state.party_digest(party)
        return found[1]
