"""The events that the ledgers record, and the fields of each.

Every record answers five questions: what happened (`event`), who did it (`who`), from where
(`from`), to what (`what`), and how it ended (`outcome`). Everything else is in `detail`, with the
names in the right column.

transfer ledger: `who` is the party, or the user name that a client gave; `from` is its address
    connection-refused   what: -       reason, count, via
    login                what: -       session, method, credential, client, cipher, kex, via,
                                      rehearsal
    login-refused        what: -       session, method, credential, client, cipher, kex, reason, via
    open, list           what: path    session, handle, size, reason
    close                what: path    session, handle, bytes, complete, ranges, sha256, stamp, ms,
                                      reason
    hash                 what: path    session, algorithm, stamp, reason
    denied               what: path    session, verb, count
    witness              what: ledger  session, key, checkpoint, registered, reason
    session-end          what: -       session, files, bytes, ms, reason, via, credential,
                                      client, missing
filing ledger: `who` is the publisher; `from` is the file's name in the intake
    filed                what: path    page, frame, frames, sha256, karekod, version, filed_at,
                                       parties, copies, pixels, witnesses, witnesses_asked, engine,
                                       evidence, ms, identified_by, identifies, confirmations,
                                       errand, why, ruled_at, absent
    duplicate            what: path    page, sha256, karekod, pixels
    quarantined          what: folder  page, sha256, reason
    split                what: store   page, sha256, extracts, filed_at
    rejected             what: folder  errand, reason; `who` is the operator, `from` the host
    absent, expected     what: place   errand, karekod, reason, why; `who`, `from` as in rejected
operations ledger: `who` is the operator; `from` is the host
    the command's name   what: object  why, before, after, reason, of, and the command's own fields
    asked                what: object  command, errand, why, before, and the fields of the request
    password change      what: party   the same, credential, replaces; `who` is the party itself
    settings             what: files   why, before, after: changes that no command made
    keys                 what: keys    why, before, after: the same, of host and signing keys
    start                what: daemon  checkpoints, unconfirmed
    recover              what: ledgers why, before, after, accepted, checkpoints
results ledger: `who` is the publisher; `from` is the batch's name
    result               what: place   secim, belge, version, digest, batch, line, reason, sheet,
                                       sheet_sha256
    result-duplicate     what: place   batch, line, message
    result-rejected      what: place   batch, line, reason, message
    snapshot             what: number  sha256, results, previous
access ledger: `who` is the party, or the user name that a client gave; `from` is its address
    connection-refused   what: -       reason, count, via
    login                what: -       user, session, credential, service, via, rehearsal
    login-refused        what: -       user, credential, service, reason, via
    session-end          what: -       user, session, reason
    password             what: user    user, session: the user set a password of its own
    terms                what: terms   user, session: the user accepted the terms of that edition
    totp                 what: user    user, session, state: the second factor was set or removed
    request              what: form    user, session, state, sha256: the representative saved the
                                       draft, or sent or withdrew a request form
    page                 what: target  user, session, and what the page names itself
    query                what: target  the same, rows, snapshot
    sheet                what: path    the same, sha256, form: the original, or a picture of it
    download             what: target  the same, rows, bytes, sha256, snapshot
    call                 what: target  the same; a call of the web service
    stream               what: target  the same; what follows on it is not recorded again
    denied               what: target  user, session, status, reason, count
staff ledger: `who` is the operator, or the name that was given; `from` is the address
    connection-refused, login, login-refused, session-end, password, totp, page, query, download,
    stream, denied:                   as in the access ledger; of a page that runs a command also
                                      command, why, ok
    sheet                what: path    user, session, sha256, form; of a page in quarantine
    identify             what: folder  user, session, errand, sheets, why
    reject, rescan       what: folder  the same without sheets; rescan has board and karekod
    rule                 what: folder  as identify: a supervisor decides; no sheets reject the page
    reread               what: folder  user, session, errand, settings
    request              what: form    user, session, state, sha256, why: a request form is decided
filing and results ledger of a site with several publishers
    elected              what: term    position, previous, until
any ledger
    anchor               what: anchor  checkpoints: the newest of the other ledgers, once a minute
    recovered            what: segment bytes
    unconfirmed          what: mark    first, records: found unsigned by the next writer
    removed              what: segment first, records, bytes, reason; only of earlier versions

Transfer ledger. A `session` number is unique in the ledger, a `handle` is unique in its session. A
credential is named by its fingerprint, never by its secret. `via` is the load balancer that passed
the connection on, if any; `from` is then the address that the balancer stated.

The reason of connection-refused is `address` (not registered), `rate`, `penalty`, `cpu` (what the
logins of the address cost), `sessions` (the limit for all sessions), `unfinished` (the address has
its share of unfinished logins), `resources` (of this machine) or `proxy header` (a balancer sent
none, or a malformed one). If there are more addresses than the server tracks, `from` is `many`.

The reason of session-end, if the server ended the session, is `party suspended`, `party removed`,
`address withdrawn`, `key revoked`, `key expired`, `password must be changed`, `scope changed`,
`not yet open`, `access closed`, `rehearsal over`, `too much memory`, `too many sessions`,
`ended by operator` or `server stopped`; otherwise `closed`, `no login in time`, `client stalled`,
`idle`, `protocol error`, `server error` or `killed`. If the server ended a session after its login,
the record names the credential again. Of a session without a login, it names the client's version.
If client and server share no algorithm, `missing` has what the client offers instead, such as
`key exchange: diffie-hellman-group1-sha1; MAC: hmac-md5`.

close has the SHA-256 of the file that was served: it was proven by the file's seal, or computed.
`stamp` says if something was wrong with that (sftpd/monitor/records/stamps): `unstamped`,
`stamp-wrong` or `changed`. The SHA-256 is null if nothing was sent of a file whose seal proves
nothing, if the file changed while it was sent, and if the session was killed before it had computed
the digest. If the file was not sent completely, `ranges` has the first and last byte of each range
that was, such as `0-32767,65536-99999`. If the session was killed, it is not known what was sent of
an open file, and `bytes` is null.

A witness record is about a checkpoint that the party's witness has cosigned, and that is kept
(sftpd/monitor/answers/witnesses). `key` is the witness's public key, `registered` is true in the
first record with it. The outcome is failed if the ledger does not extend that checkpoint.

If the server itself was killed, the next one writes the missing closes and session ends, with
`server was killed`; their counts are null. Under `sync = "always"`, a close with
`record not synced` cancels an open whose record the disk did not confirm: the client did not get
that file. If the disk has no room for a close or a session end, the record is written when there is
room, and has the time of that moment.

Access ledger. `what` is the path and the query that the client asked for. `user` is the name with
which someone logs in, such as `parti-a.ayse`; `session` is a number on the web site, and null for
the web service. A record is in the ledger before the first byte of its answer is sent.

Filing ledger. A `page` is one file from the intake, by its number. If the file has several sheets
there is one filed record for each, `frame` of `frames` of the same original. `evidence` lists which
engine read which printed copy, at what scale or through which filter. `witnesses` counts the
readings that are independent; `witnesses_asked` is how many the site required at that time: the
rule is 2, and a site can lower it to 1. `identified_by` names the operators who read a page that no
machine could read, `identifies` is the file in quarantine, and `errand` their request. `absent` in
a filed record is the reason that was given when the sheet was recorded as absent. An `expected`
record cancels an absent record.

The records of a page also have `decided_at`, and `source_stamp` and `stamp`, the inode, size and
mtime of the file in the intake and in the spool: from them the catalog can be rebuilt
(publisher/fsck/rebuild_catalog). `filed_at` is the mtime that clients see, in seconds since 1970. A
page that operators identified has their `why`, and `ruled_at`.

Several publishers. The one that is elected to file has a ledger of its own, such as `filing@pub1`.
Its first record is `elected`: it has the `position` in the order of all records, and follows those
of the ledger `previous` with numbers below `until` (publisher/election/terms).

A file of several pages is split, and `what` is the file itself, which stays in the store. Each page
becomes a file and gets a record of its own: filed, duplicate or quarantined, with `original`, the
digest of the file that was split, and `original_page`, counted from 1; its `sha256` is that of the
copied page. `extracts` lists the digests of all pages, in order. `python -m
publisher.reading.extract` copies a page out of a file again, to the same bytes.

Operations ledger. A change is recorded as ok just before it takes effect. `before` and `after`
describe the state of what it changes, in words, or null if there is none. `reason` says why it was
refused or why it failed, and `of` is the number of the earlier record that this one completes
(keys/operations/change_record). What an operator requests from the publisher is recorded as `asked`
first, and under the command's name when the publisher has answered. A change of `site.toml` or
`parties.toml` has the files' new digests in `settings` (keys/operations/settings_record), and a
change of credentials has the digest of their file in `key_files` (keys/operations/key_files).
keys/ledger/anchors explains `checkpoints` and `accepted`, keys/ledger/unconfirmed `unconfirmed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = str | int | bool | None | list[str]


class Outcome(StrEnum):
    """How an action ended."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"


class TransferEvent(StrEnum):
    """Events of the transfer ledger, written by sftpd."""

    CONNECTION_REFUSED = "connection-refused"
    LOGIN = "login"
    LOGIN_REFUSED = "login-refused"
    OPEN = "open"
    CLOSE = "close"
    LIST = "list"
    HASH = "hash"
    DENIED = "denied"
    WITNESS = "witness"
    SESSION_END = "session-end"


class AccessEvent(StrEnum):
    """Events of the access ledger, written by the portal."""

    CONNECTION_REFUSED = "connection-refused"
    LOGIN = "login"
    LOGIN_REFUSED = "login-refused"
    SESSION_END = "session-end"
    PASSWORD = "password"  # noqa: S105 - the name of the event, not a secret
    TERMS = "terms"
    TOTP = "totp"
    REQUEST = "request"
    PAGE = "page"
    QUERY = "query"
    SHEET = "sheet"
    DOWNLOAD = "download"
    CALL = "call"
    STREAM = "stream"
    DENIED = "denied"


class StaffEvent(StrEnum):
    """What accounts of the staff site do about pages in quarantine; the others are AccessEvents."""

    IDENTIFY = "identify"
    REJECT = "reject"
    RULE = "rule"
    RESCAN = "rescan"
    REREAD = "reread"


class FilingEvent(StrEnum):
    """Events of the filing ledger, written by the publisher: what happened to a page."""

    FILED = "filed"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    SPLIT = "split"
    REJECTED = "rejected"
    ABSENT = "absent"
    EXPECTED = "expected"


class ResultsEvent(StrEnum):
    """Events of the results ledger: what happened to a row, and each snapshot."""

    ACCEPTED = "result"
    DUPLICATE = "result-duplicate"
    REJECTED = "result-rejected"
    SNAPSHOT = "snapshot"


ELECTED = "elected"


@dataclass(frozen=True, slots=True)
class Event:
    """An event, before a ledger gives it a number and a time."""

    event: str
    who: str
    origin: str  # "from" in the record
    what: str
    outcome: Outcome = Outcome.OK
    detail: Mapping[str, Value] = field(default_factory=dict)
