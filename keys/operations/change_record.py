"""A change on the record: who made it, why, from what to what, and how it ended.

Every change of a site goes through here: an operator's command (scripts/shared/console) and a
party's own
password (sftpd/monitor/password_change). Its record in the operations ledger is named for the
command, its
`outcome` is ok (done), refused or failed, and in its `detail` stand, beside what else it says,

    why       what the operator gave as the reason
    before    how that which it changes stood, in words; null where there was nothing
    after     how it stands from then on; null where it is gone, or nothing has changed
    reason    why it was refused or failed
    of        the number of the record that this one ends

A change is on record just before it is put in force: what cannot be recorded does not happen. If it
then fails, a second record says so, and names the first. What the publisher is asked to do is
recorded as `asked`, and again under the command's name once it has answered. A crash between a
record and its change shows in the next one's `before`, which is read from what is in force.

Keys and passwords are named by fingerprints; no secret is handed to this module.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from config.event import Event, Outcome, Value
from config.fault import Faults
from config.settings import Settings
from keys.ledger.writer import Ledger, Unwritable
from keys.operations import settings_record

ASKED = "asked"


class ChangeRecord:
    """One change under way, of an open ledger; `before` and `of` are set by whoever knows them."""

    def __init__(
        self, operations: Ledger, command: str, who: str, origin: str, what: str, why: str
    ) -> None:
        self.before: Value = None
        self.follows: int | None = None
        self.finished = False
        self._operations = operations
        self._command, self._who, self._origin = command, who, origin
        self._what, self._why = what, why

    def done(self, after: Value, detail: Mapping[str, Value] | None = None) -> int:
        """Record the change as made, just before it is, and return the record's number."""
        return self._write(self._command, Outcome.OK, {**(detail or {}), "after": after})

    def manual_edits(self, settings: Settings) -> None:
        """Record what was edited by hand before, so that it is not taken for this change."""
        why = f"found by {self._command}"
        settings_record.record_if_changed(self._operations, settings, self._who, self._origin, why)

    def requested(self, detail: Mapping[str, Value]) -> int:
        """Record that another process is asked for the change."""
        detail_ = {**detail, "command": self._command}
        return self._write(ASKED, Outcome.OK, detail_)

    def refused(self, reason: str, detail: Mapping[str, Value] | None = None) -> int:
        """Record that the change was not made, since it may not or cannot be."""
        return self._finish(Outcome.REFUSED, reason, detail)

    def failed(self, reason: str, detail: Mapping[str, Value] | None = None) -> int:
        """Record that the change was not made, or not wholly, since something broke."""
        return self._finish(Outcome.FAILED, reason, detail)

    def _finish(self, outcome: Outcome, reason: str, detail: Mapping[str, Value] | None) -> int:
        detail_: dict[str, Value] = {"after": None, **(detail or {}), "reason": reason}
        return self._write(self._command, outcome, detail_)

    def _write(self, name: str, outcome: Outcome, detail: Mapping[str, Value]) -> int:
        detail_: dict[str, Value] = {**detail, "why": self._why, "before": self.before}
        if self.follows is not None:
            detail_["of"] = self.follows
        event = Event(name, self._who, self._origin, self._what, outcome, detail_)
        self.follows = self._operations.append(event)
        self._operations.sync()
        self.finished = name != ASKED
        return self.follows


@contextmanager
def record_change(
    operations: Ledger, command: str, who: str, origin: str, what: str, why: str
) -> Iterator[ChangeRecord]:
    """Make one change within; what it raises is recorded, and raised again.

    A body that ends without a word has changed nothing, and leaves no record.
    """
    record = ChangeRecord(operations, command, who, origin, what, why)
    try:
        yield record
    except (Faults, ValueError) as error:
        # Refused, if nothing was put on record as done yet.
        say = record.failed if record.finished else record.refused
        with suppress(Unwritable):
            say(str(error))
        raise
    except BaseException as error:
        with suppress(Unwritable):
            record.failed(str(error) or type(error).__name__)
        raise
