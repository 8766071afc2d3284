"""Copies what the catalog says at one moment into a temporary database for a check.

A check can take an hour. With a copy it does not keep a read transaction open on the catalog, which
would stop the write-ahead log from being checkpointed while the publisher writes.

The tables that are copied: `original` (a digest and its filing time), `filing` (a path and its
digest), `record` (what the filing ledger must have), `held` (what must be in quarantine). The check
fills two more: `inode` (the inode of each original) and `shown` (a path and the inode that a tree
must show there, 0 if the store lacks the original).
"""

import sqlite3

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE original (sha256 TEXT PRIMARY KEY, filed_at INTEGER) WITHOUT ROWID;
CREATE TABLE filing (path TEXT PRIMARY KEY, sha256 TEXT, cevre TEXT, kurul TEXT) WITHOUT ROWID;
CREATE TABLE record (seq INTEGER PRIMARY KEY, event TEXT, page TEXT, what TEXT);
CREATE TABLE held (file TEXT PRIMARY KEY, sha256 TEXT, reason TEXT) WITHOUT ROWID;
CREATE TABLE inode (sha256 TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID;
CREATE TABLE shown (path TEXT PRIMARY KEY, cevre TEXT, kurul TEXT, inode INTEGER) WITHOUT ROWID;
"""
_COPIED = (
    (
        "original",
        "SELECT sha256, min(filed_at) FROM filing WHERE seq IS NOT NULL "
        "GROUP BY sha256 ORDER BY sha256",
    ),
    (
        "filing",
        "SELECT path, sha256, cevre, kurul FROM filing WHERE seq IS NOT NULL ORDER BY path",
    ),
    (
        "record",
        "SELECT seq, 'filed', arrival, path FROM filing WHERE typeof(seq) = 'integer' ORDER BY seq",
    ),
    (
        "record",
        "SELECT seq, outcome, id, what FROM arrival "
        "WHERE typeof(seq) = 'integer' AND outcome <> 'filed' ORDER BY seq",
    ),
    (
        "held",
        "SELECT what, sha256, reason FROM arrival "
        "WHERE seq IS NOT NULL AND outcome = 'quarantined'",
    ),
)


# Files of several pages that were split. Older catalogs do not have the table.
_SPLIT = (
    "SELECT e.original, min(e.kept_at) FROM extract e JOIN arrival a ON a.id = e.whole "
    "WHERE a.seq IS NOT NULL GROUP BY e.original"
)


def has_table(live: sqlite3.Connection, name: str) -> bool:
    """Return whether a catalog has a table, since older catalogs have fewer."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return live.execute(query, (name,)).fetchone() is not None


def take_snapshot(live: sqlite3.Connection, copy: sqlite3.Connection) -> tuple[int, dict[str, str]]:
    """Copy all recorded rows from `live` to `copy`.

    Returns the number of filings, and the scope for which each party's tree is complete.
    """
    copy.executescript(_TABLES)
    live.execute("BEGIN")  # all tables as of the same moment
    for table, query in _COPIED:
        rows = live.execute(query)
        marks = ", ".join("?" * len(rows.description))
        # A damaged catalog may have a row twice, without a key or with another type of it:
        # publisher/fsck/rows reports it.
        copy.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)
    if has_table(live, "extract"):
        copy.executemany("INSERT OR IGNORE INTO original VALUES (?, ?)", live.execute(_SPLIT))
    copy.commit()
    (filings,) = copy.execute("SELECT count(*) FROM filing").fetchone()
    complete = dict(live.execute("SELECT id, scope FROM party").fetchall())
    live.execute("COMMIT")
    return filings, complete
