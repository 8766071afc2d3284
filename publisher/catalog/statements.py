"""The statements on the catalog that every page asks for, put together once.

To put a statement together anew costs several times what it does: it was more than half of the
time that the publisher took to file a page. What stands here is executed with its parameters.
"""

import sqlalchemy as sa
from sqlalchemy import bindparam as given

from publisher.catalog import tables as t

SHEET_COLUMNS = ("cevre", "kurul", "sandik", "secim", "belge", "page")
TALLY_COLUMNS = ("cevre", "kurul", "secim", "belge")

_this = t.arrival.c.id == given("this")
_unrecorded = _this & t.arrival.c.seq.is_(None)
_unrecorded_filing = (t.filing.c.arrival == given("this")) & t.filing.c.seq.is_(None)

# Facts for the desk: of a digest, of a digest and a reason, of a sheet.
PATH_OF_BYTES = (
    sa.select(t.filing.c.path)
    .where(t.filing.c.sha256 == given("sha256"))
    .order_by(t.filing.c.frame)
    .limit(1)
)
QUARANTINED_FILE = (
    sa.select(t.arrival.c.what)
    .where(
        t.arrival.c.sha256 == given("sha256"),
        t.arrival.c.outcome == given("outcome"),
        t.arrival.c.reason == given("reason"),
    )
    .limit(1)
)
LATEST_VERSION = sa.select(sa.func.max(t.filing.c.version)).where(
    *[t.filing.c[name] == given(name) for name in SHEET_COLUMNS]
)
ABSENCE_OF_SHEET = (
    sa.select(t.absence)
    .where(
        *[t.absence.c[name] == given(name) for name in ("cevre", "kurul", "sandik")],
        (t.absence.c.karekod == "") | (t.absence.c.karekod == given("karekod")),
        t.absence.c.withdrawn.is_(None),
    )
    .order_by(t.absence.c.karekod, t.absence.c.seq)
    .limit(1)
)

# Decisions.
SET_DECISION = (
    sa.update(t.arrival)
    .where(_this)
    .values(
        {
            name: given(name)
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
    )
    .outerjoin(t.filing, (t.filing.c.arrival == t.arrival.c.id) & t.filing.c.seq.is_(None))
    .where(t.arrival.c.seq.is_(None), t.arrival.c.state.in_((t.STORED, t.READ)))
    .order_by(t.arrival.c.decided_at, t.arrival.c.id, t.filing.c.frame)
)

# The end of an arrival.
OUTCOME_OF_ARRIVAL = sa.select(t.arrival.c.outcome).where(_unrecorded)
UNRECORDED_FILINGS = sa.select(t.filing).where(_unrecorded_filing)
SET_FILING_SEQ = (
    sa.update(t.filing)
    .where(_unrecorded_filing, t.filing.c.frame == given("of"))
    .values(seq=given("number"))
)
SET_ARRIVAL_DONE = (
    sa.update(t.arrival).where(_unrecorded).values(state=given("became"), seq=given("number"))
)
INCREMENT_TOTAL = (
    sa.update(t.total).where(t.total.c.name == given("counted")).values(number=t.total.c.number + 1)
)
INCREMENT_TALLY = (
    sa.update(t.tally)
    .where(*[t.tally.c[name] == given(f"of_{name}") for name in TALLY_COLUMNS])
    .values(number=t.tally.c.number + 1)
)
