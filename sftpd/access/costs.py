"""What a connection that ended without a login costs its address (keys/credentials/penalties)."""

from keys.credentials.penalties import Cost

_COST_OF_END = {
    "no login in time": Cost.GRACE,
    "protocol error": Cost.PROTOCOL,
    "server error": Cost.CRASH,
    "killed": Cost.CRASH,
}


def cost_of_end(reason: str, *, probed: bool) -> Cost | None:
    """Return the cost of a connection that ended for `reason` without a login.

    `probed` says that it only offered keys that do not match, and signed with none.
    """
    return _COST_OF_END.get(reason, Cost.LOGIN if probed else None)
