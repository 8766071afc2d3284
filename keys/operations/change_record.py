"""Records a change of the site in the operations ledger: who, why, before, after, outcome.

Every change goes through here: those of an operator's command (scripts/shared/console) and of a
party's own password (sftpd/monitor/answers/password_change). The event is named after the command,
and its `outcome` is ok (done), refused or failed. Its `detail` has, besides what the command adds,

    why       the reason that the operator gave
    before    the state before the change, in words; null where there was nothing
    after     the state after the change; null where it is gone, or nothing has changed
    reason    why the change was refused or failed
    of        the number of the earlier record that this one completes

1. The record is written just before the change takes effect: a change that cannot be recorded does
   not happen.
2. If the change then fails, a second record says so, and `of` refers to the first.
3. What an operator requests from the publisher is recorded as `asked` first, and under the
   command's name when the publisher has answered.
4. If a crash comes between a record and its change, the next record shows it: its `before` is read
   from what is actually in effect.

`who` is a login of a machine, `ayse`, or an account of the staff site, `staff:ayse`. Both may
belong to the same person, so at the desk they never complete each other
(publisher/catalog/decisions/review).

Keys and passwords appear as fingerprints. This module never gets a secret.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from config.event import Event, Outcome, Value
from config.fault import Faults
from config.settings import Settings
from keys.ledger.writer import Ledger, Unwritable
from keys.operations import settings_record

ASKED = "asked"
ACCOUNT = "staff:"  # before the name of an account of the staff site; no login name has a colon


def account(name: str) -> str:
    """Return the name of an account of the staff site as records have it."""
    return f"{ACCOUNT}{name}"


class ChangeRecord:
    """The record of one change in progress; the caller sets `before`, and `follows` if needed."""

    def __init__(
        self, operations: Ledger, command: str, who: str, origin: str, what: str, why: str
    ) -> None:
        self.before: Value = None
        self.follows: int | None = None  # `of` in the record
        self.finished = False
        self._operations = operations
        self._command, self._who, self._origin = command, who, origin
        self._what, self._why = what, why

    def done(self, after: Value, detail: Mapping[str, Value] | None = None) -> int:
        """Record the change as done, just before making it; return the record's number."""
        return self._write(self._command, Outcome.OK, {**(detail or {}), "after": after})

    def manual_edits(self, settings: Settings) -> None:
        """Record what was edited by hand before, so that it does not look like this change."""
        why = f"found by {self._command}"
        settings_record.record_if_changed(self._operations, settings, self._who, self._origin, why)

    def requested(self, detail: Mapping[str, Value]) -> int:
        """Record that another process is requested to make the change."""
        return self._write(ASKED, Outcome.OK, {**detail, "command": self._command})

    def refused(self, cause: str, detail: Mapping[str, Value] | None = None) -> int:
        """Record that the change was not made because it is not allowed or not possible."""
        return self._finish(Outcome.REFUSED, cause, detail)

    def failed(self, cause: str, detail: Mapping[str, Value] | None = None) -> int:
        """Record that the change was not made, or only in part, because something failed."""
        return self._finish(Outcome.FAILED, cause, detail)

    def _finish(self, outcome: Outcome, cause: str, detail: Mapping[str, Value] | None) -> int:
        whole: dict[str, Value] = {"after": None, **(detail or {}), "reason": cause}
        return self._write(self._command, outcome, whole)

    def _write(self, name: str, outcome: Outcome, detail: Mapping[str, Value]) -> int:
        whole: dict[str, Value] = {**detail, "why": self._why, "before": self.before}
        if self.follows is not None:
            whole["of"] = self.follows
        event = Event(name, self._who, self._origin, self._what, outcome, whole)
        self.follows = self._operations.append(event)
        self._operations.sync()
        self.finished = name != ASKED
        return self.follows


@contextmanager
def record_change(
    operations: Ledger, command: str, who: str, origin: str, what: str, why: str
) -> Iterator[ChangeRecord]:
    """Make one change in the body; an exception from it is recorded and raised again.

    A body that calls nothing on the record has changed nothing, and leaves no record.
    """
    record = ChangeRecord(operations, command, who, origin, what, why)
    try:
        yield record
    except (Faults, ValueError) as error:
        # Before `done` it is a refusal; after it the change has failed.
        write = record.failed if record.finished else record.refused
        with suppress(Unwritable):
            write(str(error))
        raise
    except BaseException as error:
        with suppress(Unwritable):
            record.failed(str(error) or type(error).__name__)
        raise
