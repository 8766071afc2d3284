"""The penalty for a connection that ended without a login (keys/credentials/penalties)."""

from keys.credentials.penalties import Cost

_COST_OF_END = {
    "no login in time": Cost.GRACE,
    "protocol error": Cost.PROTOCOL,
    "server error": Cost.CRASH,
    "killed": Cost.CRASH,
}


def cost_of_end(reason: str, *, probed: bool, attempts: int = 0) -> Cost | None:
    """Return the cost of a connection that ended for `reason` without a login.

    `probed` says that the client offered only keys that do not match, and never sent a signature;
    `attempts` counts what it offered. A refused attempt was charged when it was refused.
    """
    if reason in _COST_OF_END:
        return _COST_OF_END[reason]
    if probed:
        return Cost.LOGIN
    return None if attempts else Cost.NO_ATTEMPT
