"""The banner for a client that logs in too early: it says when access opens."""

from collections.abc import Iterable
from datetime import datetime

from config import times
from config.election import Election, Rehearsal


def banner(
    election: Election, rehearsals: Iterable[Rehearsal] = (), now: datetime | None = None
) -> str:
    """Return the text, in the election's own time zone, in plain ASCII, with CRLF line ends.

    With `now`, it also names the next rehearsal.
    """
    opens = election.opens
    coming = [r for r in rehearsals if now is not None and now < r.opens < opens]
    text = ""
    if coming:
        first = min(coming, key=lambda r: r.opens)
        begins, ends = (times.format_time(t, opens.tzinfo) for t in (first.opens, first.closes))
        text = f"Prova {begins} - {ends}.\r\nRehearsal from {begins} to {ends}.\r\n"
    at = times.format_time(opens, opens.tzinfo)
    return text + f"Erisim {at} itibariyla acilacaktir.\r\nAccess opens at {at}.\r\n"
