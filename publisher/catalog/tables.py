"""The tables of the catalog, for SQLite and PostgreSQL.

publisher/catalog/catalog describes the states of an arrival. Some tables keep their old names on
disk, so that older sites open: `naming` holds identifications and `ruling` holds reviews.
"""

import sqlalchemy as sa

RECEIVED, CLAIMED, STORED, READ = "received", "claimed", "stored", "read"  # states before the end
METADATA = sa.MetaData()

# One version of one page of a sheet, at its path in the trees.
filing = sa.Table(
    "filing",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("arrival", sa.ForeignKey("arrival.id"), nullable=False),
    sa.Column("frame", sa.Integer, nullable=False),  # the page of the original, counted from 1
    sa.Column("secim", sa.String(8), nullable=False),
    sa.Column("belge", sa.String(64), nullable=False),
    sa.Column("cevre", sa.String(64), nullable=False),  # empty if the sheet's level has none
    sa.Column("kurul", sa.String(64), nullable=False),
    sa.Column("sandik", sa.String(64), nullable=False),
    sa.Column("page", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("karekod", sa.String(10), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.String(400), nullable=False, unique=True),
    sa.Column("filed_at", sa.BigInteger, nullable=False),  # the mtime that clients see
    sa.Column("seq", sa.BigInteger, unique=True),  # number of its ledger record; null before that
    sa.UniqueConstraint("sha256", "frame", name="one_copy"),
    sa.UniqueConstraint("arrival", "frame", name="one_page"),
    sa.UniqueConstraint(
        "cevre", "kurul", "sandik", "secim", "belge", "page", "version", name="one_version"
    ),
)
# One file that arrived: where it came from and what became of it.
arrival = sa.Table(
    "arrival",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("source", sa.LargeBinary, nullable=False),
    sa.Column("source_stamp", sa.String(80), nullable=False),
    sa.Column("received_at", sa.String(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("outcome", sa.String(16)),
    sa.Column("stamp", sa.String(80)),  # the spool file's stamp before it was read
    sa.Column("sha256", sa.String(64), index=True),
    sa.Column("reason", sa.String(32)),
    sa.Column("what", sa.Text),
    sa.Column("evidence", sa.Text),
    sa.Column("decided_at", sa.String(32)),
    sa.Column("seq", sa.BigInteger, unique=True),  # number of its last ledger record
)
sa.Index(
    "open_arrival",
    arrival.c.id,
    sqlite_where=arrival.c.seq.is_(None),
    postgresql_where=arrival.c.seq.is_(None),
)
# Blank backs are counted; a catalog of an earlier version lacks this index.
blank_back = sa.Index(
    "blank_back",
    arrival.c.id,
    sqlite_where=arrival.c.reason == "blank-back",
    postgresql_where=arrival.c.reason == "blank-back",
)
# One page that was copied out of a file of several pages: an arrival of its own.
extract = sa.Table(
    "extract",
    METADATA,
    sa.Column("arrival", sa.String(64), primary_key=True),
    sa.Column("whole", sa.ForeignKey("arrival.id"), nullable=False),  # the arrival of the file
    sa.Column("number", sa.Integer, nullable=False),  # of the page in the file, from 1
    sa.Column("original", sa.String(64), nullable=False),  # digest of the file
    sa.Column("kept_at", sa.BigInteger, nullable=False),  # mtime of the file in the store
)
# The digest of the decoded pixels of an original (publisher/reading/formats/pixels).
pixels = sa.Table(
    "pixels",
    METADATA,
    sa.Column("sha256", sa.String(64), primary_key=True),  # of the original
    sa.Column("digest", sa.String(64), nullable=False, index=True),
)
# How far print reaches from a copy of the karekod on the pages of a sheet type; the sums of four
# sides and of their squares, as JSON (publisher/catalog/forms).
form = sa.Table(
    "form",
    METADATA,
    sa.Column("belge", sa.String(64), primary_key=True),
    sa.Column("copy", sa.String(8), primary_key=True),  # upper or lower
    sa.Column("pages", sa.BigInteger, nullable=False),
    sa.Column("sums", sa.Text, nullable=False),
)
# Where print usually is on the pages of a contest and sheet type: for each cell, the sum of its
# levels on so many pages (publisher/catalog/print_maps). A catalog of an earlier version lacks it.
print_map = sa.Table(
    "print_map",
    METADATA,
    sa.Column("election", sa.String(64), primary_key=True),
    sa.Column("secim", sa.String(8), primary_key=True),
    sa.Column("belge", sa.String(64), primary_key=True),
    sa.Column("pages", sa.BigInteger, nullable=False),
    sa.Column("sums", sa.LargeBinary, nullable=False),
)
# The parties whose trees are complete, and the scope for which they are.
party = sa.Table(
    "party",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("scope", sa.Text, nullable=False),
)
# Filings that a party's tree must show but could not take yet.
gap = sa.Table(
    "gap",
    METADATA,
    sa.Column("party", sa.String(64), primary_key=True),
    sa.Column("filing", sa.ForeignKey("filing.id"), primary_key=True),
)
# Sources that were copied but could not be removed, with their stamps at that time.
left_behind = sa.Table(
    "left_behind",
    METADATA,
    sa.Column("source", sa.LargeBinary, primary_key=True),
    sa.Column("stamp", sa.String(80), nullable=False),
)
# How many arrivals had each outcome, and how many filings are later versions.
total = sa.Table(
    "total",
    METADATA,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
# Sheets that will never arrive. The parts of the place may be empty, as in `filing`.
absence = sa.Table(
    "absence",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),  # id of the request
    sa.Column("cevre", sa.String(64), nullable=False),
    sa.Column("kurul", sa.String(64), nullable=False),
    sa.Column("sandik", sa.String(64), nullable=False),
    sa.Column("karekod", sa.String(10), nullable=False),  # empty: every sheet of the box
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.String(32), nullable=False),
    sa.Column("seq", sa.BigInteger, unique=True, nullable=False),
    sa.Column("withdrawn", sa.String(64)),  # id of the request that withdrew it
    sa.Index("absent_box", "cevre", "kurul", "sandik"),
)
# How many sheets of each kind were filed at least once.
tally = sa.Table(
    "tally",
    METADATA,
    sa.Column("cevre", sa.String(64), primary_key=True),
    sa.Column("kurul", sa.String(64), primary_key=True),
    sa.Column("secim", sa.String(8), primary_key=True),
    sa.Column("belge", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
# Which sheets a file in quarantine shows, according to one operator.
identification = sa.Table(
    "naming",
    METADATA,
    sa.Column("file", sa.String(160), primary_key=True),
    sa.Column("who", sa.String(160), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),  # id of the request
    sa.Column("sheets", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("named_at", sa.String(32), nullable=False),
)
# The decision of operators about a file in quarantine.
review = sa.Table(
    "ruling",
    METADATA,
    sa.Column("file", sa.String(160), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),  # id of the request
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("filed", sa.ForeignKey("arrival.id")),  # the arrival that filed it; null if rejected
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("ruled_at", sa.String(32), nullable=False),
)
# Files in quarantine of which a board is asked for a new scan. A catalog of an earlier version
# lacks this table.
rescan = sa.Table(
    "rescan",
    METADATA,
    sa.Column("file", sa.String(160), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),  # id of the request
    sa.Column("who", sa.String(160), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("cevre", sa.String(64), nullable=False),
    sa.Column("kurul", sa.String(64), nullable=False),
    sa.Column("karekod", sa.String(10), nullable=False),  # empty: the sheet is not known
    sa.Column("asked_at", sa.String(32), nullable=False),
)
