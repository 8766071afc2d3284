from pathlib import Path

import pytest

from publisher.results.snapshots import pace

GB = 10**9


@pytest.mark.parametrize(
    ("took", "size", "free", "seconds"),
    [
        (0.5, 20_000, 100 * GB, 10.0),  # the setting
        (4.0, 20_000, 100 * GB, 20.0),  # a fifth of the time
        (0.5, 5_000_000, 200 * GB, 21.6),  # 21.6 GB a day
        (0.5, 5_000_000, 0, 60.0),  # but one a minute in any case
        (20.0, 5_000_000, 0, 60.0),  # also on a busy machine
        (45.0, 5_000_000, 0, 90.0),  # of which half is left for other work
    ],
)
def test_the_pace_of_snapshots_follows_the_setting_the_load_and_the_disk(
    took: float, size: int, free: int, seconds: float
) -> None:
    assert pace.snapshots(10.0).seconds(took, size, free) == pytest.approx(seconds)


def test_trees_get_at_most_a_tenth_of_the_free_disk_in_a_day() -> None:
    assert pace.trees(10.0).seconds(0, 100_000_000, 500 * GB) == pytest.approx(172.8)
    assert pace.trees(10.0).seconds(0, 100_000_000, GB) == pytest.approx(600)


def test_exports_rest_as_long_as_they_take() -> None:
    assert pace.EXPORTS.seconds(30.0, 0, 0) == pytest.approx(60)


def test_a_file_that_another_snapshot_has_too_takes_no_room(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "1/cb.parquet").write_bytes(b"x" * 100)
    (tmp_path / "2/cb.parquet").hardlink_to(tmp_path / "1/cb.parquet")
    (tmp_path / "2/mv.parquet").write_bytes(b"x" * 30)

    assert pace.size_on_disk(tmp_path / "2") == 30
    assert pace.size_of_files(tmp_path / "2") == 130
