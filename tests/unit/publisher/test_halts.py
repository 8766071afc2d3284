"""A process waits longer each time for a disk, but never long for a database."""

from publisher.database import Unreachable
from publisher.election.lease import Deposed
from publisher.halts import Halts


def test_the_pause_after_an_error_of_the_disk_grows() -> None:
    now = 0.0
    halts = Halts(lambda: now)
    full = OSError("No space left on device")

    halts.begin()
    found = [halts.after(full) for _ in range(7)]
    halts.begin()
    now = 31.0
    found.append(halts.after(full))

    assert [halt.pause for halt in found] == [1, 2, 4, 8, 16, 30, 30, 1]
    assert all(halt.is_news for halt in found)


def test_a_database_is_asked_again_after_a_second_and_its_silence_is_news_twice_a_minute() -> None:
    now = 0.0
    halts = Halts(lambda: now)

    found = []
    for second in range(60):
        now = float(second)
        halts.begin()
        found.append(halts.after(Unreachable("connection refused")))
    found.append(halts.after(Deposed("the lease ran out")))

    assert {halt.pause for halt in found} == {1}
    assert [number for number, halt in enumerate(found) if halt.is_news] == [0, 30, 60]
    assert found[60].cause == "the lease ran out"
