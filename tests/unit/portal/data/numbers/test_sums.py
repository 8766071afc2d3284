"""Sums of many boxes are right and take little memory."""

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from portal.data.numbers.sums import by_board

ROWS, COLUMNS, A_BOARD = 50_000, 40, 100


@pytest.mark.parametrize("step", [1, 2], ids=["a range of rows", "every second row"])
@pytest.mark.parametrize("rows", [ROWS, 300])
def test_sums_by_board_are_those_of_numpy_without_a_copy_of_the_columns(
    step: int, rows: int
) -> None:
    random = np.random.default_rng(1)
    columns: Any = SimpleNamespace(
        numbers=random.integers(0, 60_000, (COLUMNS, ROWS), dtype=np.uint16),
        version=np.ones(ROWS, dtype=np.int32),
    )
    boards = tuple(("34-istanbul-1", f"kurul-{n}") for n in range(ROWS // A_BOARD))
    of_row = np.repeat(np.arange(len(boards), dtype=np.int32), A_BOARD)
    boxes: Any = SimpleNamespace(board=of_row, boards=boards)
    chosen = np.arange(0, rows, step)

    tracemalloc.start()
    found = by_board(columns, boxes, chosen)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    wide = columns.numbers[:, chosen].astype(np.int64)
    expected = wide.reshape(COLUMNS, -1, A_BOARD // step).sum(axis=2).T.tolist()
    assert [list(group.values) for group in found] == expected
    assert [(g.cevre, g.kurul) for g in found] == list(boards[: rows // A_BOARD])
    assert {group.boxes for group in found} == {A_BOARD // step}
    assert most < 4 << 20  # a copy as int64 has 16 MB
