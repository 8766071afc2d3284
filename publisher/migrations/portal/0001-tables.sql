-- What the portals and staff sites of several hosts agree on (portal/shared_tables).

CREATE TABLE change_number (
    last bigint NOT NULL,
    PRIMARY KEY (last)
);
INSERT INTO change_number VALUES (0);

CREATE TABLE session (
    entrance text COLLATE "C" NOT NULL,
    token_sha256 text COLLATE "C" NOT NULL,
    number bigint NOT NULL,
    party text COLLATE "C" NOT NULL,
    user_name text COLLATE "C" NOT NULL,
    credential text COLLATE "C" NOT NULL,
    rehearsal text COLLATE "C" NOT NULL,
    stage text COLLATE "C" NOT NULL,
    began text COLLATE "C" NOT NULL,
    used text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    instance text COLLATE "C" NOT NULL,
    ended_at bigint,
    change bigint NOT NULL,
    PRIMARY KEY (entrance, token_sha256)
);
CREATE INDEX session_change ON session (change);

CREATE TABLE used_code (
    login text COLLATE "C" NOT NULL,
    step bigint NOT NULL,
    PRIMARY KEY (login)
);

CREATE TABLE spent (
    change bigint NOT NULL,
    instance text COLLATE "C" NOT NULL,
    spent text COLLATE "C" NOT NULL,
    spent_at bigint NOT NULL,
    PRIMARY KEY (change)
);

CREATE TABLE instance (
    id text COLLATE "C" NOT NULL,
    host text COLLATE "C" NOT NULL,
    part text COLLATE "C" NOT NULL,
    seen_at bigint NOT NULL,
    connections text COLLATE "C" NOT NULL,
    PRIMARY KEY (id)
);
