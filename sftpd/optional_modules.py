"""Keeps modules that no session uses out of the forker (sftpd/sessions).

Each session has a copy of the forker's page tables, so what the forker has loaded costs time at the
start and at the end of each. It imports this module before all others of ours and of libraries.
"""

import sys
from types import ModuleType


def leave_out() -> None:
    """Let the import of these modules fail, or give an empty module."""
    # paramiko and structlog go on without these.
    sys.modules |= dict.fromkeys(("greenlet", "invoke", "rich"))  # type: ignore[arg-type]
    # structlog uses asyncio only in coroutines, of which there are none here.
    sys.modules.setdefault("asyncio", ModuleType("asyncio"))
