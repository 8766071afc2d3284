"""The pages that any publisher may read, as rows of a table in PostgreSQL (`publishers.reading`).

    leader    adds claimed pages: the file is in the spool, which all hosts have
    reader    claims some with FOR UPDATE SKIP LOCKED, so that no two readers wait for each other,
              and has them for a few seconds; it renews that while it reads
    reader    writes the answer, if the page is still its own
    leader    takes the answers, and removes the rows

A reader that died or was frozen does not renew its claims, so another one reads these pages; its
own late answer changes no row. A new leader removes all rows: its recovery looks into the spool.

What a reader made of a page has names of its own until the leader takes it over
(publisher/reading/claimed).

An answer is JSON: {"stamp": "77:4711:1684080000123456789", "sha256": "9f86…", "digests": ["sha1",
"md5"], "extracts": ["sha256 of each page"], "result": a ReadResult as publisher/reading/protocol
writes it}; or {} if a process still writes to the file.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from config import times
from keys.digest import Digests
from publisher.database import connect, open_engine
from publisher.election.leader import NOW
from publisher.page import Arrival, Page, Stamp
from publisher.reading.protocol import format_result, parse_result
from publisher.source import Source

CLAIM_SECONDS = 6.0
RENEWED_SECONDS = 2.0  # how often a reader renews its claims
SEEN_SECONDS = 2.0  # how often a reader says that it is there
GONE_SECONDS = 6.0  # a reader that has not said so for that long is gone
MAX_ATTEMPTS = 2  # of readers; then the leader reads the page itself
_CLAIM_MS, _GONE_MS = int(CLAIM_SECONDS * 1000), int(GONE_SECONDS * 1000)

_CLEAR = sa.text("DELETE FROM reading WHERE term < :term")
_ADD = sa.text("INSERT INTO reading VALUES (:arrival, :term, :page, 0, '', 0, NULL)")
# A claim that would last longer is from before the server's clock was set back.
_FREE = f"answer IS NULL AND claimed_until NOT BETWEEN {NOW} AND {NOW} + {_CLAIM_MS}"
_CLAIM = sa.text(
    f"UPDATE reading SET claim = :claim, claimed_until = {NOW} + :ms, attempts = attempts + 1 "
    "WHERE arrival = ANY(ARRAY(SELECT arrival FROM reading WHERE "
    "term = (SELECT term FROM leader WHERE task = 'filing') "
    f"AND attempts < :attempts AND {_FREE} "
    "ORDER BY arrival LIMIT :most FOR UPDATE SKIP LOCKED)) RETURNING page"
)
_TAKE_BACK = sa.text(
    "DELETE FROM reading WHERE arrival = ANY(ARRAY(SELECT arrival FROM reading "
    f"WHERE term = :term AND (attempts >= :attempts OR :all) AND {_FREE} "
    "ORDER BY arrival LIMIT :most FOR UPDATE SKIP LOCKED)) RETURNING page"
)
_RENEW = sa.text(
    f"UPDATE reading SET claimed_until = {NOW} + :ms WHERE claim = :claim AND answer IS NULL"
)
_GIVE_UP = sa.text(
    "UPDATE reading SET claim = '', claimed_until = 0 WHERE claim = :claim AND answer IS NULL"
)
_ANSWER = sa.text(
    "UPDATE reading SET answer = :answer "
    "WHERE arrival = :arrival AND claim = :claim AND answer IS NULL"
)
_ANSWERS = sa.text(
    "DELETE FROM reading WHERE arrival = ANY(ARRAY(SELECT arrival FROM reading "
    "WHERE term = :term AND answer IS NOT NULL ORDER BY arrival LIMIT :most)) "
    "RETURNING page, claim, answer"
)
_SEEN = sa.text(
    f"INSERT INTO reader VALUES (:host, :workers, :pages, {NOW}) ON CONFLICT (host) DO UPDATE "
    "SET workers = excluded.workers, pages = reader.pages + excluded.pages, "
    "seen_at = excluded.seen_at"
)
_LEFT = sa.text("UPDATE reader SET seen_at = 0 WHERE host = :host")
_OTHERS = sa.text(
    f"SELECT coalesce(sum(workers), 0) FROM reader WHERE host <> :host AND seen_at > {NOW} - :gone"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a reader made of a page; `page` is None if a process still writes to the file."""

    arrival: Arrival
    claim: str
    page: Page | None = None
    digests: Digests | None = None


class Tasks:
    """The table, over a connection of its own, for one thread. Raises Unreachable."""

    def __init__(self, url: sa.URL) -> None:
        # What a server that dies has lost of these rows is read again by the next leader.
        options = f"{url.query.get('options', '')} -csynchronous_commit=off"
        url = url.update_query_dict({"options": options})
        engine = open_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
        self.connection = self._connection = connect(engine)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._connection.engine.dispose()

    # The leader.

    def clear(self, term: int) -> None:
        """Remove the pages of former leaders."""
        self._connection.execute(_CLEAR, {"term": term})

    def add(self, arrivals: Sequence[Arrival], term: int) -> None:
        """Offer pages to all readers."""
        rows = [{"arrival": one.id, "term": term, "page": format_page(one)} for one in arrivals]
        if rows:
            self._connection.execute(_ADD, rows)

    def take_back(self, term: int, most: int, *, every: bool) -> list[Arrival]:
        """Remove pages that no reader is reading: those that failed, or `every` one."""
        values = {"term": term, "most": most, "attempts": MAX_ATTEMPTS, "all": every}
        return [parse_page(page) for page in self._connection.scalars(_TAKE_BACK, values)]

    def answers(self, term: int, most: int) -> list[Answer]:
        """Remove and return pages that were read."""
        rows = self._connection.execute(_ANSWERS, {"term": term, "most": most})
        return [parse_answer(parse_page(page), claim, text) for page, claim, text in rows]

    def other_workers(self, host: str) -> int:
        """Return how many worker processes the readers on other hosts have."""
        return int(self._connection.scalar(_OTHERS, {"host": host, "gone": _GONE_MS}) or 0)

    # A reader.

    def claim(self, claim: str, most: int) -> list[Arrival]:
        """Claim pages to read, the oldest first; no other reader has the same `claim`."""
        values = {"claim": claim, "ms": _CLAIM_MS, "most": most, "attempts": MAX_ATTEMPTS}
        return [parse_page(page) for page in self._connection.scalars(_CLAIM, values)]

    def renew(self, claim: str) -> None:
        """Keep the pages that were claimed and not answered yet."""
        self._connection.execute(_RENEW, {"claim": claim, "ms": _CLAIM_MS})

    def give_up(self, claim: str) -> None:
        """Let others read what was claimed and not answered."""
        self._connection.execute(_GIVE_UP, {"claim": claim})

    def answer(self, one: Answer) -> bool:
        """Write an answer; return False if the page is not this reader's any more."""
        values = {"arrival": one.arrival.id, "claim": one.claim, "answer": format_answer(one)}
        return self._connection.execute(_ANSWER, values).rowcount == 1

    def seen(self, host: str, workers: int, pages: int) -> None:
        """Say that a reader is there, and how many more pages it has read."""
        values = {"host": host, "workers": workers, "pages": pages}
        self._connection.execute(_SEEN, values)

    def left(self, host: str) -> None:
        """Say that a reader has ended."""
        self._connection.execute(_LEFT, {"host": host})


def format_page(arrival: Arrival) -> str:
    """Write an arrival as JSON; its source is bytes, which become Latin-1."""
    return json.dumps(
        [
            arrival.id,
            arrival.name,
            bytes(arrival.source).decode("latin-1"),
            str(arrival.stamp),
            times.format_stored(arrival.received_at),
        ]
    )


def parse_page(text: str) -> Arrival:
    """Read what `format_page` wrote."""
    identity, name, source, stamp, received_at = json.loads(text)
    return Arrival(
        identity,
        name,
        Source.parse(source.encode("latin-1")),
        Stamp.parse(stamp),
        datetime.fromisoformat(received_at),
    )


def format_answer(one: Answer) -> str:
    """Write an answer as JSON."""
    if one.page is None:
        return "{}"
    digests = list(one.digests[1:]) if one.digests else None
    return json.dumps(
        {
            "stamp": str(one.page.stamp),
            "sha256": one.page.sha256,
            "digests": digests,
            "extracts": one.page.extracts,
            "result": format_result(one.page.result).decode(),
        }
    )


def parse_answer(arrival: Arrival, claim: str, text: str) -> Answer:
    """Read what `format_answer` wrote."""
    found = json.loads(text)
    if not found:
        return Answer(arrival, claim)
    sha256, digests = found["sha256"], found["digests"]
    page = Page(
        arrival,
        Stamp.parse(found["stamp"]),
        sha256,
        parse_result(found["result"].encode()),
        tuple(found["extracts"]),
    )
    return Answer(arrival, claim, page, Digests(sha256, *digests) if digests else None)
