"""The tables of results: in `state/results.sqlite`, or in a schema of their own in PostgreSQL.

They are not in the catalog, so that a large batch never makes the filing of sheets wait for the
database. The statements keep to what SQLite and PostgreSQL share. An empty place part means that
it does not apply, as in the catalog.
"""

import sqlalchemy as sa

from config.result import NUMBER_COLUMNS

METADATA = sa.MetaData()
ADDED_LATER = frozenset({"left_behind"})  # a site of an earlier version has them after its start
KEY_COLUMNS = ("secim", "belge", "cevre", "kurul", "sandik")
# PostgreSQL compares only texts of one collation (publisher/migrations).
_KEY = sa.String(64).with_variant(sa.Text(collation="C"), "postgresql")

batch = sa.Table(  # one file from results/
    "batch",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("received_at", sa.String(32), nullable=False),
    sa.Column("sha256", sa.String(64)),
    sa.Column("done_lines", sa.BigInteger, nullable=False),  # lines that are decided and recorded
    sa.Column("accepted", sa.BigInteger, nullable=False),
    sa.Column("duplicates", sa.BigInteger, nullable=False),
    sa.Column("rejected", sa.BigInteger, nullable=False),
    sa.Column("finished_at", sa.String(32)),
)
left_behind = sa.Table(  # files that were claimed and are still in results/
    "left_behind",
    METADATA,
    sa.Column("source", sa.LargeBinary, primary_key=True),
    sa.Column("stamp", sa.String(80), nullable=False),
    sa.Column("batch", sa.String(200), nullable=False),
)
result = sa.Table(  # every accepted version; none is ever deleted
    "result",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("secim", sa.String(8), nullable=False),
    sa.Column("belge", sa.String(64), nullable=False),
    sa.Column("cevre", sa.String(64), nullable=False),
    sa.Column("kurul", sa.String(64), nullable=False),
    sa.Column("sandik", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("sandik_turu", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("time", sa.String(32), nullable=False),
    *(sa.Column(name, sa.BigInteger) for name in NUMBER_COLUMNS),
    sa.Column("votes", sa.Text, nullable=False),  # JSON, option -> number
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("batch", sa.ForeignKey("batch.id"), nullable=False),
    sa.Column("line", sa.BigInteger, nullable=False),
    sa.Column("accepted_at", sa.String(32), nullable=False),
    sa.Column("sheet", sa.Text, nullable=False),  # path of the sheet at that time, empty for none
    sa.Column("sheet_sha256", sa.String(64), nullable=False),
    sa.Column("newest", sa.Boolean, nullable=False),
    sa.Column("seq", sa.BigInteger),  # its record's, once it is recorded
    sa.UniqueConstraint("cevre", "kurul", "sandik", "secim", "belge", "version", name="one_result"),
)
sa.Index(
    "newest_result",
    result.c.secim,
    result.c.cevre,
    result.c.kurul,
    result.c.sandik,
    sqlite_where=result.c.newest,
    postgresql_where=result.c.newest,
)
sa.Index(
    "unrecorded_result",
    result.c.id,
    sqlite_where=result.c.seq.is_(None),
    postgresql_where=result.c.seq.is_(None),
)
wanted = sa.Table(  # the keys of one look-up
    "wanted",
    sa.MetaData(),
    *(sa.Column(name, _KEY, nullable=False) for name in KEY_COLUMNS),
    prefixes=["TEMPORARY"],
)
set_aside = sa.Table(  # rows that were not accepted: duplicates, and the results quarantine
    "set_aside",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("batch", sa.ForeignKey("batch.id"), nullable=False),
    sa.Column("line", sa.BigInteger, nullable=False),
    sa.Column("fault", sa.String(32), nullable=False),  # `duplicate`, or a RowFault
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),  # empty where the row names none
    sa.Column("text", sa.Text, nullable=False),  # the row as delivered; empty for a duplicate
    sa.Column("set_aside_at", sa.String(32), nullable=False),
    sa.Column("seq", sa.BigInteger),
)
sa.Index(
    "unrecorded_row",
    set_aside.c.id,
    sqlite_where=set_aside.c.seq.is_(None),
    postgresql_where=set_aside.c.seq.is_(None),
)
finding = sa.Table(  # current findings; those of one subject are replaced as a whole
    "finding",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("subject", sa.String(300), nullable=False, index=True),  # whose findings are replaced
    sa.Column("check_name", sa.String(32), nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),
    sa.Column("secim", sa.String(8), nullable=False),
    sa.Column("places", sa.Text, nullable=False),  # JSON
    sa.Column("numbers", sa.Text, nullable=False),  # JSON
    sa.Column("sheets", sa.Text, nullable=False),  # JSON
    # It was found in results up to this id: the portal does not show it before a snapshot has them.
    sa.Column("last_result", sa.BigInteger, nullable=False, server_default="0"),
)
sa.Index(
    "finding_place",
    finding.c.check_name,
    finding.c.places,
    finding.c.secim,
    finding.c.last_result,
)
snapshot = sa.Table(  # every closed snapshot
    "snapshot",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("closed_at", sa.String(32), nullable=False),
    sa.Column("last_result", sa.BigInteger, nullable=False),  # it holds results up to this id
    sa.Column("sha256", sa.String(64), nullable=False),  # of its manifest
    sa.Column("seq", sa.BigInteger),
)
