"""A process waits longer each time for a disk, but never long for a database."""

from structlog.testing import capture_logs

from publisher.database import Unreachable
from publisher.election.lease import Deposed
from publisher.halts import Halts


def test_the_pause_after_an_error_of_the_disk_grows() -> None:
    now = 0.0
    halts = Halts("publisher-halted", lambda: now)
    full = OSError("No space left on device")

    with capture_logs() as logs:
        halts.begin()
        pauses = [halts.pause_after(full) for _ in range(7)]
        halts.begin()
        now = 31.0
        pauses.append(halts.pause_after(full))

    assert pauses == [1, 2, 4, 8, 16, 30, 30, 1]
    assert [entry["retry_seconds"] for entry in logs] == pauses
    assert {entry["event"] for entry in logs} == {"publisher-halted"}


def test_a_database_is_asked_again_after_a_second_and_its_silence_is_logged_twice_a_minute() -> (
    None
):
    now = 0.0
    halts = Halts("results-halted", lambda: now)

    with capture_logs() as logs:
        for second in range(60):
            now = float(second)
            halts.begin()
            assert halts.pause_after(Unreachable("connection refused")) == 1
        assert halts.pause_after(Deposed("the lease ran out")) == 1

    causes = [entry["cause"].rpartition(": ")[2] for entry in logs]
    assert causes == ["connection refused", "connection refused", "the lease ran out"]
