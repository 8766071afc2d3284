import pytest

from keys.credentials.penalties import Cost
from sftpd.access.costs import cost_of_end


@pytest.mark.parametrize(
    ("reason", "probed", "cost"),
    [
        ("no login in time", False, Cost.GRACE),
        ("protocol error", False, Cost.PROTOCOL),
        ("server error", True, Cost.CRASH),
        ("killed", False, Cost.CRASH),
        ("closed", True, Cost.LOGIN),
        ("closed", False, None),
    ],
)
def test_the_end_of_a_connection_without_a_login_has_a_cost(
    reason: str, probed: bool, cost: Cost | None
) -> None:
    assert cost_of_end(reason, probed=probed) is cost
