import pytest

from keys.credentials.penalties import Cost
from sftpd.access.costs import cost_of_end


@pytest.mark.parametrize(
    ("reason", "probed", "attempts", "cost"),
    [
        ("no login in time", False, 0, Cost.GRACE),
        ("protocol error", False, 1, Cost.PROTOCOL),
        ("server error", True, 1, Cost.CRASH),
        ("killed", False, 0, Cost.CRASH),
        ("closed", True, 1, Cost.LOGIN),
        ("closed", False, 0, Cost.NO_ATTEMPT),
        ("closed", False, 1, None),  # it was charged when it was refused
    ],
)
def test_the_end_of_a_connection_without_a_login_has_a_cost(
    reason: str, probed: bool, attempts: int, cost: Cost | None
) -> None:
    assert cost_of_end(reason, probed=probed, attempts=attempts) is cost
