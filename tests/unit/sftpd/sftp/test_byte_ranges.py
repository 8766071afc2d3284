from sftpd.sftp.byte_ranges import ByteRanges


def test_a_file_read_in_order_is_complete() -> None:
    progress = ByteRanges()
    progress.add(0, 10)
    assert not progress.complete(20)
    progress.add(10, 20)
    assert progress.complete(20)
    assert progress.sent == 20


def test_a_file_read_in_any_order_is_complete() -> None:
    progress = ByteRanges()
    for start in (20, 0, 30, 10):
        progress.add(start, start + 10)
    assert progress.complete(40)


def test_a_hole_makes_a_file_incomplete_even_if_the_byte_count_fits() -> None:
    progress = ByteRanges()
    progress.add(0, 10)
    progress.add(0, 10)
    progress.add(20, 30)
    assert progress.sent == 30
    assert not progress.complete(30)


def test_overlapping_ranges_are_merged() -> None:
    progress = ByteRanges()
    progress.add(0, 10)
    progress.add(20, 30)
    progress.add(40, 50)
    progress.add(5, 45)
    assert progress.complete(50)
    assert progress.sent == 70


def test_an_empty_file_is_complete_without_a_read() -> None:
    assert ByteRanges().complete(0)


def test_too_many_scattered_ranges_count_as_incomplete() -> None:
    progress = ByteRanges()
    for start in range(0, 10_000, 2):
        progress.add(start, start + 1)
    for start in range(1, 10_000, 2):
        progress.add(start, start + 1)
    assert not progress.complete(10_000)
