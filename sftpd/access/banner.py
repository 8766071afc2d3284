"""The banner for a client that logs in too early: it says when access opens."""

from collections.abc import Iterable
from datetime import datetime

from config.election import Election, Rehearsal


def banner(
    election: Election, rehearsals: Iterable[Rehearsal] = (), now: datetime | None = None
) -> str:
    """Return the text, in the election's own time zone, in plain ASCII, with CRLF line ends.

    With `now`, it also names the next rehearsal.
    """
    opens = election.opens
    zone = opens.strftime("%z")
    zone = f"UTC{zone[:3]}:{zone[3:5]}"
    coming = [r for r in rehearsals if now is not None and now < r.opens < opens]
    text = ""
    if coming:
        first = min(coming, key=lambda r: r.opens)
        begins, ends = (t.astimezone(opens.tzinfo) for t in (first.opens, first.closes))
        text = (
            f"Prova {begins:%d.%m.%Y %H.%M} - {ends:%d.%m.%Y %H.%M} ({zone}).\r\n"
            f"Rehearsal from {begins:%Y-%m-%d %H:%M} to {ends:%Y-%m-%d %H:%M} ({zone}).\r\n"
        )
    return text + (
        f"Erisim {opens:%d.%m.%Y} saat {opens:%H.%M.%S} ({zone}) itibariyla acilacaktir.\r\n"
        f"Access opens on {opens:%Y-%m-%d} at {opens:%H:%M:%S} ({zone}).\r\n"
    )
