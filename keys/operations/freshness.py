"""Checks that a site's ledgers still have the records that anchors name (keys/ledger/anchors).

The anchors are in the newest anchor or start record of each ledger and in the newest segment of
the site's change feeds. A loss that `ssps recover` has accepted does not count. If a whole site was
restored from one backup, its anchors are as old as its ledgers. Then only the `akis` folder of a
party's mirror shows what is missing, with `ssps audit verify --checkpoint AKIS`.
"""

from collections.abc import Iterator
from pathlib import Path

from config import layout
from config.site import FEED, LEDGER_NAMES, LEDGERS, OPERATIONS
from keys.feed_segment import parse_segment
from keys.ledger import anchors, note
from keys.ledger.anchors import Anchor, Behind
from keys.server_keys import signed_ring

_SEGMENT_DIGITS = 8


def ledgers_behind(site: Path) -> list[Behind]:
    """Return the ledgers that do not have what an anchor names, except for accepted losses."""
    ledgers = site / LEDGERS
    accepted = anchors.accepted(ledgers / OPERATIONS)
    known: list[Anchor] = []
    for name in LEDGER_NAMES:
        if (ledgers / name).exists():
            known += anchors.last_in(ledgers / name)
    known += _in_feeds(site)
    found = []
    for anchor in known:
        if any(each.covers(anchor.checkpoint) for each in accepted):
            continue
        if anchor.ledger in LEDGER_NAMES and (lack := anchors.behind(ledgers, anchor)):
            found.append(lack)
    return found


def _in_feeds(site: Path) -> Iterator[Anchor]:
    """Yield the signed checkpoints in the newest segment of each of the site's feeds."""
    keys = signed_ring.site_public_keys(site)
    for feed in sorted((site / FEED / Path(layout.NEWEST_SEGMENT).parent).glob("*")):
        numbered = [p for p in feed.glob("*.csv") if len(p.stem) == _SEGMENT_DIGITS]
        if not numbered:
            continue
        newest = max(numbered, key=lambda path: path.stem)
        try:
            checkpoints = parse_segment(newest.read_bytes()).checkpoints
        except ValueError:
            continue  # `ssps verify` and `ssps audit gap --feed` name a damaged segment
        for _, message in checkpoints:
            try:
                checkpoint = note.open_checkpoint(message, keys)
            except (ValueError, note.UnknownSigner, note.WrongSignature):
                continue
            yield Anchor(f"segment {newest.stem} of {feed.relative_to(site)}", checkpoint)
