import numpy as np
import pytest

from portal.data.numbers.bits import BitColumns

ROWS = 5


@pytest.mark.parametrize("width", [1, 7, 8, 9, 26])
def test_bits_hold_what_an_array_of_truth_values_would(width: int) -> None:
    rng = np.random.default_rng(width)
    plain = np.zeros((width, ROWS), dtype=np.bool_)
    bits = BitColumns.empty(width, ROWS)
    for _ in range(60):
        column, rows = int(rng.integers(width)), rng.permutation(ROWS)[: rng.integers(ROWS + 1)]
        values = rng.random(len(rows)) < 0.5
        plain[column, rows] = values
        bits.set_column(column, rows, values)
        row, known = int(rng.integers(ROWS)), rng.random(rng.integers(width + 1)) < 0.5
        plain[:, row] = False
        plain[: len(known), row] = known
        bits.set_row(row, known.tolist())

        everything = slice(None)
        columns = [bits.column(each, everything).tolist() for each in range(width)]
        assert columns == plain.tolist()
        of_rows = bits.of_rows([3, 0, 3])
        assert [each[:width] for each in of_rows] == plain.T[[3, 0, 3]].astype(int).tolist()


def test_a_wider_copy_keeps_the_values_and_does_not_change_the_first() -> None:
    bits = BitColumns.empty(8, ROWS)
    bits.set_column(7, np.array([1, 2]), True)

    wider = bits.copy(9)
    wider.set_column(8, np.array([0]), True)
    wider.set_row(1, [])

    assert bits.column(7, slice(None)).tolist() == [False, True, True, False, False]
    assert wider.column(7, slice(None)).tolist() == [False, False, True, False, False]
    assert wider.column(8, slice(None)).tolist() == [True, False, False, False, False]
