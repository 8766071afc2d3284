"""Checks that a site's ledgers still have the records that anchors name (keys/ledger/anchors).

The anchors are in the newest anchor or start record of each ledger, in state/signed (keys/ledger/
signed_copies), in the newest segment of the site's change feeds, and among the checkpoints that the
parties' witnesses have cosigned (keys/ledger/cosigned). A loss that `ssps recover` has accepted
does not count. If a whole site was restored from one backup, its anchors are as old as its ledgers.
Then a witness shows what is missing as soon as it connects again, and so does the `akis` folder of
any party's mirror, with `ssps audit verify --checkpoint AKIS`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config import layout
from config.site import (
    COSIGNED,
    FEED,
    LEDGERS,
    OPERATIONS,
    is_ledger,
    ledger_host,
    ledger_names,
)
from keys.feed_segment import parse_segment
from keys.ledger import anchors, cosigned, note, segments, signed_copies, unconfirmed
from keys.ledger.anchors import START, Anchor, Behind, LineRoots
from keys.ledger.record import parse_record
from keys.ledger.unconfirmed import UNCONFIRMED, Unconfirmed
from keys.operations import server_state, site_keys

_SEGMENT_DIGITS = 8
_SIGNED_WITHIN = 15.0  # seconds; a signer that gives no sign of life for that long is replaced
_DAEMONS = (server_state.RUN, server_state.SERVE, server_state.PUBLISH, server_state.PORTAL)
_UNCONFIRMED_MARK = f'"{UNCONFIRMED}":['.encode()


def ledgers_behind(site: Path, roots: LineRoots | None = None) -> list[Behind]:
    """Return the ledgers that do not have what an anchor names, except for accepted losses.

    `roots` reports, and keeps, what has to be hashed again because stored hashes are damaged.
    """
    ledgers = site / LEDGERS
    known: list[Anchor] = []
    for name in ledger_names(ledgers):
        if (ledgers / name).exists():
            known += anchors.last_in(ledgers / name)
    known += [*_signed_copies(site), *_in_feeds(site), *_cosigned(site)]
    return _behind(site, known, roots)


def dated_after(site: Path, lacks: Sequence[Behind], now: datetime) -> list[Anchor]:
    """Return all anchors among what these ledgers lack that are dated later than `now`.

    The clock was ahead before the loss. This reads all records of all ledgers.
    """
    if not lacks:
        return []
    ranges = anchors.lost_ranges(lacks)

    def matches(anchor: Anchor) -> bool:
        kept, lost = ranges.get(anchor.checkpoint.origin, (0, 0))
        dated = anchor.recorded or anchor.checkpoint.time
        return kept < anchor.checkpoint.size <= lost and dated is not None and dated > now

    known = [*_signed_copies(site), *_in_feeds(site, every=True), *_cosigned(site)]
    for name in ledger_names(site / LEDGERS):
        if (site / LEDGERS / name).exists():
            known += filter(matches, anchors.all_in(site / LEDGERS / name))
    return list(filter(matches, known))


def behind_kept_checkpoints(site: Path) -> list[Behind]:
    """Return the ledgers that do not have what is in state/signed or a witness has cosigned.

    This is quick, because it looks at nothing else. Accepted losses are left out.
    """
    return _behind(site, [*_signed_copies(site), *_cosigned(site)])


def _behind(site: Path, known: Iterable[Anchor], roots: LineRoots | None = None) -> list[Behind]:
    ledgers = site / LEDGERS
    accepted = anchors.accepted(ledgers / OPERATIONS)
    of_ledgers = [
        anchor
        for anchor in known
        if is_ledger(anchor.ledger)
        and not any(each.covers(anchor.checkpoint, anchor.recorded) for each in accepted)
    ]
    found = []
    for lack in anchors.all_behind(ledgers, of_ledgers, roots):
        same = (each for each in accepted if each.includes(lack.anchor.checkpoint))
        found.append(replace(lack, earlier=next(same, None)))
    return found


def _public_keys(site: Path) -> list[Ed25519PublicKey]:
    return site_keys.public_signing_keys(site)


def _signed_copies(site: Path) -> Iterator[Anchor]:
    return (anchor for _, _, anchor in signed_copies.read_all(site, _public_keys(site)))


def _cosigned(site: Path) -> Iterator[Anchor]:
    keys = _public_keys(site)
    return (kept.anchor for kept in cosigned.read_all(site / COSIGNED, keys))


def not_signed(site: Path, now: datetime) -> Iterator[tuple[str, float]]:
    """Yield each ledger whose oldest unsigned record is old, and its age in seconds.

    While a daemon of its host runs, a record is signed after a second. In the operations ledger it
    is signed after five, by a daemon of any host.
    """
    hosts = {host for _, host in server_state.running(site, *_DAEMONS)}
    for name in ledger_names(site / LEDGERS):
        folder = site / LEDGERS / name
        alive = ledger_host(name) in hosts or (name == OPERATIONS and hosts)
        if not alive or not folder.exists():
            continue
        with suppress(ValueError, OSError):  # `ssps audit verify` names damaged files
            message = segments.read_checkpoint(folder)
            signed = 0 if message is None else note.unverified_checkpoint(message).size
            oldest = next(segments.read_records(folder, signed), None)
            if oldest is not None and (age := (now - oldest.time).total_seconds()) > _SIGNED_WITHIN:
                yield name, age


def unconfirmed_since(site: Path, since: datetime) -> Iterator[Unconfirmed]:
    """Yield the unsigned records that the daemons found at their starts since that time."""
    folder = site / LEDGERS / OPERATIONS
    for _, _, line in segments.read_lines(folder) if folder.exists() else ():
        if _UNCONFIRMED_MARK not in line:
            continue
        with suppress(ValueError):  # `ssps audit verify` names a damaged line
            record = parse_record(line)
            stated = record.event.detail.get(UNCONFIRMED)
            if record.event.event == START and record.time >= since and isinstance(stated, list):
                yield from map(unconfirmed.parse_line, stated)


def _in_feeds(site: Path, *, every: bool = False) -> Iterator[Anchor]:
    """Yield the signed checkpoints in the newest segment of each of the site's feeds, or in all."""
    keys = _public_keys(site)
    for feed in sorted((site / FEED / Path(layout.NEWEST_SEGMENT).parent).glob("*")):
        numbered = sorted(p for p in feed.glob("*.csv") if len(p.stem) == _SEGMENT_DIGITS)
        for file in numbered if every else numbered[-1:]:
            try:
                checkpoints = parse_segment(file.read_bytes()).checkpoints
            except ValueError:
                continue  # `ssps verify` and `ssps audit gap --feed` name a damaged segment
            for _, message in checkpoints:
                try:
                    checkpoint = note.open_checkpoint(message, keys)
                except (ValueError, note.UnknownSigner, note.WrongSignature):
                    continue
                yield Anchor(f"segment {file.stem} of {feed.relative_to(site)}", checkpoint)
