"""The lftp and rclone commands that we print have one set of numbers."""

import pytest

from config import parallel
from config.parallel import Parallel


@pytest.mark.parametrize(
    ("sessions", "found"),
    [
        (32, Parallel(24, 16, 8)),
        (64, Parallel(24, 16, 8)),
        (24, Parallel(18, 12, 6)),
        (12, Parallel(9, 6, 3)),
        (4, Parallel(3, 2, 1)),
        (2, Parallel(1, 1, 1)),
    ],
)
def test_the_commands_stay_within_the_sessions_of_a_party(sessions: int, found: Parallel) -> None:
    at_once = parallel.within(sessions)

    assert at_once == found
    assert max(at_once.lftp, at_once.transfers + at_once.checkers) <= sessions
