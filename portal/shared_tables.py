"""The tables of the schema `portal` in PostgreSQL: what several portals of a site agree on.

publisher/migrations/portal makes them. There is no SQLite file with them: a site without
PostgreSQL has one portal and one staff site.
"""

import sqlalchemy as sa

METADATA = sa.MetaData()

# The number of the newest change. A change of sessions or limits takes the next one and keeps
# the row locked until its commit, so a number is never seen before a smaller one.
change_number = sa.Table(
    "change_number", METADATA, sa.Column("last", sa.BigInteger, primary_key=True)
)
# The sessions of an entrance: portal, requests or staff (portal/access/sessions has the fields).
session = sa.Table(
    "session",
    METADATA,
    sa.Column("entrance", sa.String(16), primary_key=True),
    sa.Column("token_sha256", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("party", sa.String(64), nullable=False),
    sa.Column("user_name", sa.String(64), nullable=False),
    sa.Column("credential", sa.String(64), nullable=False),
    sa.Column("rehearsal", sa.String(64), nullable=False),
    sa.Column("stage", sa.String(16), nullable=False),
    sa.Column("began", sa.String(32), nullable=False),
    sa.Column("used", sa.String(32), nullable=False),
    sa.Column("origin", sa.String(64), nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("instance", sa.String(32), nullable=False),  # the process that changed it last
    sa.Column("ended_at", sa.BigInteger),  # seconds; an ended one is kept for a while
    sa.Column("change", sa.BigInteger, nullable=False),
)
sa.Index("session_change", session.c.change)
# The newest code of the second factor that each user has used.
used_code = sa.Table(
    "used_code",
    METADATA,
    sa.Column("login", sa.String(128), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
)
# What one process has taken of the limits and added to the penalties, as JSON.
spent = sa.Table(
    "spent",
    METADATA,
    sa.Column("change", sa.BigInteger, primary_key=True),
    sa.Column("instance", sa.String(32), nullable=False),
    sa.Column("spent", sa.Text, nullable=False),
    sa.Column("spent_at", sa.BigInteger, nullable=False),
)
# The processes that run, each with its connections by address, as JSON.
instance = sa.Table(
    "instance",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("host", sa.String(16), nullable=False),
    sa.Column("part", sa.String(16), nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    sa.Column("connections", sa.Text, nullable=False),
)
