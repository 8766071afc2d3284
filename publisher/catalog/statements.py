"""The SQL statements that the publisher executes for every page, built once at import.

Building a statement with SQLAlchemy costs several times as much as executing it. Building them for
each page took more than half of the time of filing it.
"""

import sqlalchemy as sa
from sqlalchemy import bindparam

from publisher.catalog import tables as t

SHEET_COLUMNS = ("cevre", "kurul", "sandik", "secim", "belge", "page")
TALLY_COLUMNS = ("cevre", "kurul", "secim", "belge")

_this = t.arrival.c.id == bindparam("arrival_id")
_unrecorded = _this & t.arrival.c.seq.is_(None)
_unrecorded_filing = (t.filing.c.arrival == bindparam("arrival_id")) & t.filing.c.seq.is_(None)

# Files that are about to be claimed, and those of them that are in the spool.
ADD_ARRIVAL = sa.insert(t.arrival)
SET_CLAIMED = (
    sa.update(t.arrival)
    .where(t.arrival.c.id.in_(bindparam("ids", expanding=True)), t.arrival.c.state == t.RECEIVED)
    .values(state=t.CLAIMED)
)
# Which of many digests are known.
FILED_DIGESTS = sa.select(t.filing.c.sha256).where(
    t.filing.c.sha256.in_(bindparam("digests", expanding=True))
)
KNOWN_PIXELS = sa.select(t.pixels.c.digest).where(
    t.pixels.c.digest.in_(bindparam("digests", expanding=True))
)
# What publisher/filing/decide asks: about a digest, about a digest and a reason, about a sheet.
PATH_OF_BYTES = (
    sa.select(t.filing.c.path)
    .where(t.filing.c.sha256 == bindparam("sha256"))
    .order_by(t.filing.c.frame)
    .limit(1)
)
PATH_OF_PIXELS = (
    sa.select(t.filing.c.path)
    .join(t.pixels, t.pixels.c.sha256 == t.filing.c.sha256)
    .where(t.pixels.c.digest == bindparam("digest"))
    .where(*[t.filing.c[name] == bindparam(name) for name in SHEET_COLUMNS])
    .order_by(t.filing.c.version)
    .limit(1)
)
QUARANTINED_FILE = (
    sa.select(t.arrival.c.what)
    .where(
        t.arrival.c.sha256 == bindparam("sha256"),
        t.arrival.c.outcome == bindparam("outcome"),
        t.arrival.c.reason == bindparam("reason"),
    )
    .limit(1)
)
LATEST_VERSION = sa.select(sa.func.max(t.filing.c.version)).where(
    *[t.filing.c[name] == bindparam(name) for name in SHEET_COLUMNS]
)
_box = sa.tuple_(t.absence.c.cevre, t.absence.c.kurul, t.absence.c.sandik)
ABSENCES_OF_BOXES = (
    sa.select(t.absence)
    .where(_box.in_(bindparam("boxes", expanding=True)), t.absence.c.withdrawn.is_(None))
    .order_by(t.absence.c.karekod, t.absence.c.seq)
)

ADD_FILING = sa.insert(t.filing)
ADD_PIXELS = sa.insert(t.pixels)
# Decisions that are stored, and those that have no ledger record yet.
SET_DECISION = (
    sa.update(t.arrival)
    .where(_this)
    .values(
        {
            name: bindparam(name)
            for name in (
                "sha256", "stamp", "decided_at", "evidence", "state", "outcome", "what", "reason",
            )
        }
    )
)  # fmt: skip
UNRECORDED_DECISIONS = (
    sa.select(
        t.arrival,
        t.filing.c.id.label("filing"),
        t.filing.c.sha256.label("original"),
        t.filing.c.path,
        t.filing.c.frame,
        t.filing.c.karekod,
        t.filing.c.version,
        t.filing.c.filed_at,
        t.extract.c.original.label("split_file"),
        t.extract.c.number.label("split_page"),
    )
    .outerjoin(t.extract, t.extract.c.arrival == t.arrival.c.id)
    .outerjoin(t.filing, (t.filing.c.arrival == t.arrival.c.id) & t.filing.c.seq.is_(None))
    .where(t.arrival.c.seq.is_(None), t.arrival.c.state.in_((t.STORED, t.READ)))
    .order_by(t.arrival.c.decided_at, t.arrival.c.id, t.filing.c.frame)
)

# The end of an arrival: its filings, its state and the totals.
OUTCOME_OF_ARRIVAL = sa.select(t.arrival.c.outcome).where(_unrecorded)
UNRECORDED_FILINGS = sa.select(t.filing).where(_unrecorded_filing)
SET_FILING_SEQ = (
    sa.update(t.filing)
    .where(_unrecorded_filing, t.filing.c.frame == bindparam("of_frame"))
    .values(seq=bindparam("number"))
)
SET_ARRIVAL_DONE = (
    sa.update(t.arrival)
    .where(_unrecorded)
    .values(state=bindparam("new_state"), seq=bindparam("number"))
)
ADD_TO_TOTAL = (
    sa.update(t.total)
    .where(t.total.c.name == bindparam("total_name"))
    .values(number=t.total.c.number + bindparam("more"))
)
# Both databases have this form of INSERT; SQLAlchemy has one for each.
ADD_TO_TALLY = sa.text(
    "INSERT INTO tally (cevre, kurul, secim, belge, number) "
    "VALUES (:cevre, :kurul, :secim, :belge, :number) "
    "ON CONFLICT (cevre, kurul, secim, belge) DO UPDATE SET number = tally.number + excluded.number"
)
