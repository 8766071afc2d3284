"""A change of users: what the commands of `ssps user` and `ssps operator` have in common."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from config.event import Value
from config.fault import Faults
from config.site import users_file
from keys.credentials import users
from keys.credentials.users import User, Users
from keys.operations import key_files, user_files
from scripts.shared import console, server_reload
from scripts.shared.change import Change, Plan


@dataclass(frozen=True)
class Edit:
    """A party's new users, and what the record says of the change besides."""

    new: Users
    detail: Mapping[str, Value] = field(default_factory=dict)


class UserChange(Change[Users]):
    """One command on the users of one party, or on the operators.

    `edit` raises ValueError if the change is not possible.

    With `start_again` a file that is refused, because no command has written it, counts as empty.
    """

    def __init__(
        self,
        site: Path,
        command: str,
        party: str,
        why: str,
        edit: Callable[[Users], Edit],
        *,
        start_again: bool = False,
    ) -> None:
        super().__init__(command, party or "operators", why)
        self._site, self._party = site, party
        self._edit, self._start_again = edit, start_again

    def read(self) -> Users:
        """Return the users."""
        try:
            return user_files.load(self._site, self._party)
        except Faults:
            if self._start_again:
                return Users(self._party)
            raise

    def describe(self, old: Users) -> Value:
        """Return a line for each user."""
        return list(users.describe(old))

    def plan(self, old: Users) -> Plan[Users] | None:
        """Edit the users; raise Faults if that is not possible, None if nothing changes."""
        try:
            edit = self._edit(old)
        except ValueError as error:
            raise console.fault(str(users_file(self._party)), "", str(error)) from None
        if edit.new == old and not self._start_again:
            return None

        def describe() -> Value:
            user_files.stage(self._site, edit.new)
            return list(users.describe(edit.new))

        key_file: Value = [user_files.line(self._site, edit.new)]
        detail = {**edit.detail, key_files.KEY_FILES: key_file}
        return Plan(
            edit.new,
            list(_preview(old, edit.new)),
            describe,
            lambda: user_files.apply(self._site, edit.new),
            detail,
        )

    def wait(self, new: Users) -> bool:
        """Wait until the portal, or the staff site, uses the new users."""
        return server_reload.wait_for_users(self._site, new)


def _preview(old: Users, new: Users) -> Iterator[str]:
    """Yield a line for each user: + is added, ~ is changed, - is removed."""
    yield f"{new.party or 'operators'}:"
    before, after = {u.name: u for u in old.users}, {u.name: u for u in new.users}
    for name, user in before.items():
        if name not in after:
            yield _line("-", user)
        else:
            yield _line(" " if after[name] == user else "~", after[name])
    for name, user in after.items():
        if name not in before:
            yield _line("+", user)


def _line(mark: str, user: User) -> str:
    # No fingerprint: a preview that is confirmed is made twice, each time with another salt.
    return f"  {mark} {user.name:16}  {user.role:14}  {user.state:9}"
