"""A process hangs if it owes an answer and gives none, and not if it or the server is slow."""

from sftpd.processes.restarts import Progress


def looks(progress: Progress, *moments: float, waiting: bool = True) -> bool:
    """Look at those moments; return whether it hung at any of them."""
    found = [progress.look(now, waiting=waiting) for now in moments]
    return any(found)


def test_a_process_that_answers_nothing_for_twenty_seconds_hangs() -> None:
    progress = Progress()

    assert not looks(progress, *range(100, 119))
    assert looks(progress, *range(119, 124))


def test_a_process_that_answers_now_and_then_or_has_nothing_to_do_does_not_hang() -> None:
    progress = Progress()
    for second in range(100, 200):
        if second % 15 == 0:
            progress.note()
        assert not looks(progress, second)

    assert not looks(progress, *range(200, 300), waiting=False)


def test_time_in_which_the_server_itself_was_stopped_does_not_count() -> None:
    progress = Progress()

    assert not looks(progress, 100, 101, 500, 501, 900)
