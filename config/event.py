"""What the three ledgers record: the names of events, and the questions each answers.

Every record answers the same five: what happened (`event`), who did it (`who`), from where
(`from`), to what (`what`), and how it ended (`outcome`). What else there is to say stands in
`detail`, by the names listed below.

transfer ledger: `who` is the party, or the user name as it was offered; `from` the address
    connection-refused   what: -       reason, count, via
    login                what: -       session, method, credential, client, cipher, kex, via,
                                      rehearsal
    login-refused        what: -       session, method, credential, client, cipher, kex, reason, via
    open, list           what: path    session, handle, size, reason
    close                what: path    session, handle, bytes, complete, ranges, sha256, ms
    hash                 what: path    session, algorithm, reason
    denied               what: path    session, verb, count
    session-end          what: -       session, files, bytes, ms, reason, via, credential
filing ledger: `who` is the publisher; `from` the file's name in the intake
    filed                what: path    page, frame, frames, sha256, karekod, version, parties,
                                       copies, witnesses, witnesses_asked, engine, evidence, ms,
                                       identified_by, identifies, confirmations, errand, absent
    duplicate            what: path    page, sha256, karekod
    quarantined          what: folder  page, sha256, reason
    rejected             what: folder  errand, reason; `who` is the operator, `from` the host
    absent, expected     what: place   errand, karekod, reason, why; `who` and `from` likewise
operations ledger: `who` is the operator; `from` the host
    the command's name   what: object  why, before, after, reason, of, and what else it says
    asked                what: object  command, errand, why, before, and what else was asked
    password change      what: party   the same, credential, replaces; `who` is the party itself
    settings             what: files   why, before, after: what a daemon found that no command made
results ledger: `who` is the publisher; `from` the batch's name
    result               what: place   secim, belge, version, digest, batch, line, reason, sheet,
                                       sheet_sha256
    result-duplicate     what: place   batch, line, message
    result-rejected      what: place   batch, line, reason, message
    snapshot             what: number  sha256, results, previous
any ledger
    recovered            what: segment bytes
    removed              what: segment first, records, bytes, reason

`via` is the balancer that passed a connection on, if one did; `from` is then the address that it
stated. connection-refused has as its reason `address` (nobody registered it), `rate`, `penalty`,
`sessions` (the cap on all), `resources` (of this machine) or `proxy header` (a balancer that did
not send a good one); where more addresses knock than can be told apart, `from` is `many`.

session-end has as its reason, where the server ended it: `party suspended`, `party removed`,
`address withdrawn`, `key revoked`, `key expired`, `scope changed`, `not yet open`, `access closed`,
`rehearsal over`, `server stopped`; otherwise `closed`, `no login in time`, `protocol error`,
`server error` or `killed`.
After a server that was itself killed, the next one writes the closes and session ends that are
lacking, with `server was killed`; counts are then null. A close with `record not synced` takes back
an open whose record the disk did not confirm, under `sync = "always"`: it was not granted.
A close or a session-end that a full disk had no room for is written once there is room, and bears
the time of that.

A `page` is one file that was taken in, by its number. Where it holds several sheets there is one
filed record for each, `frame` of `frames` of the same original. `evidence` lists which printed
copy was read by which engine at what scale or through which filter; `witnesses` counts those that
are independent, and `witnesses_asked` is what the site asked for then: 1 is a loosened rule.
`identified_by` names the operators who read the page where no machine could, `identifies` the file
in quarantine, and `errand` their order. `absent` is the reason for which the sheet was believed
never to come; expected takes such a record back.

An operation is on record just before it is put in force, as ok; `before` and `after` are how that
which it changes stood and stands, in words, null where there is nothing; `reason` is why it was
refused or failed, and `of` the record that this one ends (keys/operations/change_record). What an
operator asks of the
publisher is `asked` first; under the command's name stands what became of it. `settings` in the
detail of what changed `site.toml` or `parties.toml` are their hashes from then on
(keys/operations/settings_record).

close says of a file that was not sent whole which ranges were (first and last byte of each, such
as `0-32767,65536-99999`), and gives the SHA-256 of the file that was served; null where it bears
no digest. Where a session was killed, what it had sent of an open file is not known: `bytes` is
null then.

A session that the server ended for its party, credential or address names the credential again.

`session` and `handle` number things within one run of the server; a credential is named by
its fingerprint, never by its secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = str | int | bool | None | list[str]


class Outcome(StrEnum):
    """How it ended."""

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
    SESSION_END = "session-end"


class FilingEvent(StrEnum):
    """Events of the filing ledger, written by the publisher: what became of a page."""

    FILED = "filed"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"
    ABSENT = "absent"
    EXPECTED = "expected"


class Results(StrEnum):
    """Events of the results ledger: what became of a row, and each snapshot."""

    ACCEPTED = "result"
    DUPLICATE = "result-duplicate"
    REJECTED = "result-rejected"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened, before a ledger gives it a number and a time."""

    event: str
    who: str
    origin: str  # "from" in the record
    what: str
    outcome: Outcome = Outcome.OK
    detail: Mapping[str, Value] = field(default_factory=dict)
