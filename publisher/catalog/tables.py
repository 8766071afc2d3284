"""The catalog's tables, for SQLite and PostgreSQL alike; catalog.py says what they mean."""

import sqlalchemy as sa

RECEIVED, CLAIMED, STORED, READ = "received", "claimed", "stored", "read"  # not done yet
METADATA = sa.MetaData()
filing = sa.Table(
    "filing",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("arrival", sa.ForeignKey("arrival.id"), nullable=False),
    sa.Column("frame", sa.Integer, nullable=False),  # the page of the original that shows it
    sa.Column("secim", sa.String(8), nullable=False),
    sa.Column("belge", sa.String(64), nullable=False),
    sa.Column("cevre", sa.String(64), nullable=False),  # empty above the sheet's level
    sa.Column("kurul", sa.String(64), nullable=False),
    sa.Column("sandik", sa.String(64), nullable=False),
    sa.Column("page", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("karekod", sa.String(10), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("path", sa.String(400), nullable=False, unique=True),
    sa.Column("filed_at", sa.BigInteger, nullable=False),  # the mtime that clients see
    sa.Column("seq", sa.BigInteger, unique=True),  # its record's, once all is done
    sa.UniqueConstraint("sha256", "frame", name="one_copy"),
    sa.UniqueConstraint("arrival", "frame", name="one_page"),
    sa.UniqueConstraint(
        "cevre", "kurul", "sandik", "secim", "belge", "page", "version", name="one_version"
    ),
)
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
    sa.Column("stamp", sa.String(80)),  # of the spool file before it was read
    sa.Column("sha256", sa.String(64), index=True),
    sa.Column("reason", sa.String(32)),
    sa.Column("what", sa.Text),
    sa.Column("evidence", sa.Text),
    sa.Column("decided_at", sa.String(32)),
    sa.Column("seq", sa.BigInteger, unique=True),  # of its last record
)
sa.Index(
    "open_arrival",
    arrival.c.id,
    sqlite_where=arrival.c.seq.is_(None),
    postgresql_where=arrival.c.seq.is_(None),
)
party = sa.Table(
    "party",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("scope", sa.Text, nullable=False),
)
gap = sa.Table(
    "gap",
    METADATA,
    sa.Column("party", sa.String(64), primary_key=True),
    sa.Column("filing", sa.ForeignKey("filing.id"), primary_key=True),
)
left_behind = (
    sa.Table(  # sources that were copied and could not be removed, and how they looked then
        "left_behind",
        METADATA,
        sa.Column("source", sa.LargeBinary, primary_key=True),
        sa.Column("stamp", sa.String(80), nullable=False),
    )
)
total = sa.Table(
    "total",
    METADATA,
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
absence = sa.Table(  # sheets that will not come; empty parts as in `filing`, or any below
    "absence",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),  # the errand's
    sa.Column("cevre", sa.String(64), nullable=False),
    sa.Column("kurul", sa.String(64), nullable=False),
    sa.Column("sandik", sa.String(64), nullable=False),
    sa.Column("karekod", sa.String(10), nullable=False),  # empty for every sheet of the box
    sa.Column("reason", sa.String(32), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("recorded_at", sa.String(32), nullable=False),
    sa.Column("seq", sa.BigInteger, unique=True, nullable=False),
    sa.Column("withdrawn", sa.String(64)),  # the errand's that took it back
    sa.Index("absent_box", "cevre", "kurul", "sandik"),
)
tally = sa.Table(  # sheets filed at least once, as `filing` has them
    "tally",
    METADATA,
    sa.Column("cevre", sa.String(64), primary_key=True),
    sa.Column("kurul", sa.String(64), primary_key=True),
    sa.Column("secim", sa.String(8), primary_key=True),
    sa.Column("belge", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
)
identification = sa.Table(  # what sheets an operator says that a file in quarantine shows
    "naming",
    METADATA,
    sa.Column("file", sa.String(160), primary_key=True),
    sa.Column("who", sa.String(160), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),  # the errand's
    sa.Column("sheets", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("named_at", sa.String(32), nullable=False),
)
review = sa.Table(  # what became of a file in quarantine by the word of persons
    "ruling",
    METADATA,
    sa.Column("file", sa.String(160), primary_key=True),
    sa.Column("id", sa.String(64), nullable=False, unique=True),  # the errand's
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("filed", sa.ForeignKey("arrival.id")),  # the arrival as which it is filed
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("ruled_at", sa.String(32), nullable=False),
)
