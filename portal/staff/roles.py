"""Who may see which page of the staff site: each page depends on one of these.

    Anyone       operator, supervisor, auditor
    Desk         operator, supervisor: those who decide on quarantined pages
    Supervisor   supervisor
    Auditor      auditor: the pages of the record

The gate (portal/access/gate) enforces it; for the other roles the page does not exist.
`check_roles` refuses to start if a page depends on none of them.
"""

from typing import Annotated

from fastapi import Depends, FastAPI

from keys.credentials.users import STAFF_ROLES, Role, Service
from portal.access.gate import GatedRoute, signed_in
from portal.access.identity import Identity

ANYONE = frozenset(STAFF_ROLES)
DESK = frozenset({Role.OPERATOR, Role.SUPERVISOR})
SUPERVISOR = frozenset({Role.SUPERVISOR})
AUDIT = frozenset({Role.AUDITOR})

Anyone = Annotated[Identity, Depends(signed_in(Service.STAFF, roles=ANYONE))]
Desk = Annotated[Identity, Depends(signed_in(Service.STAFF, roles=DESK))]
Supervisor = Annotated[Identity, Depends(signed_in(Service.STAFF, roles=SUPERVISOR))]
Auditor = Annotated[Identity, Depends(signed_in(Service.STAFF, roles=AUDIT))]


def check_roles(app: FastAPI, own_account: frozenset[str]) -> None:
    """Raise AssertionError if a page names no roles; `own_account` are those of one's account."""
    for route in app.routes:
        stated = isinstance(route, GatedRoute) and (route.is_public or route.roles is not None)
        if not stated and getattr(route, "path", None) not in own_account:
            raise AssertionError(f"{getattr(route, 'path', route)} does not name its roles")
