"""The penalty for a connection that ended without a login (keys/credentials/penalties)."""

from keys.credentials.penalties import Cost

_COST_OF_END = {
    "no login in time": Cost.GRACE,
    "protocol error": Cost.PROTOCOL,
    "server error": Cost.CRASH,
    "killed": Cost.CRASH,
}


def cost_of_end(reason: str, *, probed: bool) -> Cost | None:
    """Return the cost of a connection that ended for `reason` without a login.

    `probed` says that the client offered only keys that do not match, and never sent a signature.
    """
    return _COST_OF_END.get(reason, Cost.LOGIN if probed else None)
