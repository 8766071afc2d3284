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


class Deed:
    """One change under way, of an open ledger; `before` and `of` are set by whoever knows them."""

    def __init__(
        self, operations: Ledger, command: str, who: str, origin: str, what: str, why: str
    ) -> None:
        self.before: Value = None
        self.of: int | None = None
        self.ended = False
        self._operations = operations
        self._command, self._who, self._origin = command, who, origin
        self._what, self._why = what, why

    def done(self, after: Value, detail: Mapping[str, Value] | None = None) -> int:
        """Record the change as made, just before it is, and return the record's number."""
        return self._write(self._command, Outcome.OK, {**(detail or {}), "after": after})

    def found(self, settings: Settings) -> None:
        """Record what was edited by hand before, so that it is not taken for this change."""
        why = f"found by {self._command}"
        settings_record.settle(self._operations, settings, self._who, self._origin, why)

    def asked(self, detail: Mapping[str, Value]) -> int:
        """Record that another process is asked for the change."""
        told = {**detail, "command": self._command}
        return self._write(ASKED, Outcome.OK, told)

    def refused(self, reason: str, detail: Mapping[str, Value] | None = None) -> int:
        """Record that the change was not made, since it may not or cannot be."""
        return self._ended(Outcome.REFUSED, reason, detail)

    def failed(self, reason: str, detail: Mapping[str, Value] | None = None) -> int:
        """Record that the change was not made, or not wholly, since something broke."""
        return self._ended(Outcome.FAILED, reason, detail)

    def _ended(self, outcome: Outcome, reason: str, detail: Mapping[str, Value] | None) -> int:
        told: dict[str, Value] = {"after": None, **(detail or {}), "reason": reason}
        return self._write(self._command, outcome, told)

    def _write(self, name: str, outcome: Outcome, detail: Mapping[str, Value]) -> int:
        told: dict[str, Value] = {**detail, "why": self._why, "before": self.before}
        if self.of is not None:
            told["of"] = self.of
        event = Event(name, self._who, self._origin, self._what, outcome, told)
        self.of = self._operations.append(event)
        self._operations.sync()
        self.ended = name != ASKED
        return self.of


@contextmanager
def on_record(
    operations: Ledger, command: str, who: str, origin: str, what: str, why: str
) -> Iterator[Deed]:
    """Make one change within; what it raises is recorded, and raised again.

    A body that ends without a word has changed nothing, and leaves no record.
    """
    deed = Deed(operations, command, who, origin, what, why)
    try:
        yield deed
    except (Faults, ValueError) as error:
        # Refused, if nothing was put on record as done yet.
        say = deed.failed if deed.ended else deed.refused
        with suppress(Unwritable):
            say(str(error))
        raise
    except BaseException as error:
        with suppress(Unwritable):
            deed.failed(str(error) or type(error).__name__)
        raise
