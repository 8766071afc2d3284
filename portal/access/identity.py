"""Who sends a request: the result of the gate (portal/access/gate), and all that a route gets."""

from dataclasses import dataclass
from pathlib import Path

from config.party import Address
from config.scope import Scope
from keys.credentials.users import Role, Service, login_name


@dataclass(frozen=True, slots=True)
class Identity:
    """A user who is admitted now, from `address`.

    `site` is the folder with the data that the user may see: the election's, or that of the
    rehearsal with the id `rehearsal`. Every query must be limited to `scope`. `credential` is the
    fingerprint of the password, and `session` the number of the session, None for a call of the web
    service. Of an operator of the staff site, `party` is empty.
    """

    party: str
    user: str
    role: Role
    scope: Scope
    address: Address
    site: Path
    credential: str
    session: int | None = None
    rehearsal: str = ""

    @property
    def service(self) -> Service:
        """The service that the user may use."""
        return self.role.service

    @property
    def login(self) -> str:
        """The name with which the user logs in."""
        return login_name(self.party, self.user)
