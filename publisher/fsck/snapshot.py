"""Copies what the catalog says at one moment into a temporary database for a check.

A check can take an hour. With a copy it does not keep a read transaction open on the catalog, which
would stop the write-ahead log from being checkpointed while the publisher writes.

The tables that are copied: `original` (a digest and its filing time), `filing` (a path and its
digest), `record` (what the filing ledger must have), `held` (what must be in quarantine). The check
fills two more: `inode` (the inode of each original) and `shown` (a path and the inode that a tree
must show there, 0 if the store lacks the original).
"""

import sqlite3

from publisher.database import Reader

_RECORDED = "seq = CAST(seq AS BIGINT)"  # neither empty nor, in a damaged catalog, a text
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
        f"SELECT seq, 'filed', arrival, path FROM filing WHERE {_RECORDED} ORDER BY seq",
    ),
    (
        "record",
        "SELECT seq, outcome, id, what FROM arrival "
        f"WHERE {_RECORDED} AND outcome <> 'filed' ORDER BY seq",
    ),
    (
        "held",
        "SELECT what, sha256, reason FROM arrival "
        "WHERE seq IS NOT NULL AND outcome = 'quarantined'",
    ),
)
_COLUMNS = {"original": 2, "filing": 4, "record": 4, "held": 3}


# Files of several pages that were split. Older catalogs do not have the table.
_SPLIT = (
    "SELECT e.original, min(e.kept_at) FROM extract e JOIN arrival a ON a.id = e.whole "
    "WHERE a.seq IS NOT NULL GROUP BY e.original"
)


def inode_number(inode: int) -> int:
    """Return an inode as a number that SQLite can keep: on GlusterFS one may have 64 bits."""
    return inode - (1 << 64) if inode >= 1 << 63 else inode


def take_snapshot(live: Reader, copy: sqlite3.Connection) -> tuple[int, dict[str, str]]:
    """Copy all recorded rows from `live` to `copy`.

    Returns the number of filings, and the scope for which each party's tree is complete.
    """
    copy.executescript(_TABLES)
    with live.one_moment():
        for table, query in _COPIED:
            # A damaged catalog may have a row twice, without a key or with another type of it:
            # publisher/fsck/rows reports it.
            marks = ", ".join("?" * _COLUMNS[table])
            copy.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", live.stream(query))
        if "extract" in live.tables():
            copy.executemany("INSERT OR IGNORE INTO original VALUES (?, ?)", live.stream(_SPLIT))
        complete = dict(live.execute("SELECT id, scope FROM party"))
    copy.commit()
    (filings,) = copy.execute("SELECT count(*) FROM filing").fetchone()
    return filings, complete
