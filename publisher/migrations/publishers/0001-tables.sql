-- What several publishers of one site agree on (publisher/election, publisher/reading/tasks).
-- Times are milliseconds since 1970 by the clock of this server.

-- Which process files pages, and which takes in results. A term counts the leaders.
CREATE TABLE leader (
    task text COLLATE "C" NOT NULL,
    host text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    term bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (task)
);
INSERT INTO leader VALUES ('filing', '', '', 0, 0), ('results', '', '', 0, 0);

-- Where the records of a leader begin, in its ledger and among those of all (publisher/election/terms).
CREATE TABLE term (
    kind text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    ledger text COLLATE "C" NOT NULL,
    first bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (kind, number)
);

-- The publishers that read pages, how many worker processes each has, and how many pages it read.
CREATE TABLE reader (
    host text COLLATE "C" NOT NULL,
    workers integer NOT NULL,
    pages bigint NOT NULL,
    seen_at bigint NOT NULL,
    PRIMARY KEY (host)
);

-- Claimed pages that any publisher may read, and what it read.
CREATE TABLE reading (
    arrival text COLLATE "C" NOT NULL,
    term bigint NOT NULL,
    page text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    claim text COLLATE "C" NOT NULL,
    claimed_until bigint NOT NULL,
    answer text COLLATE "C",
    PRIMARY KEY (arrival)
);
CREATE INDEX answered_reading ON reading (arrival) WHERE answer IS NOT NULL;
