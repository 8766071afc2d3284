"""A truth value for each column and each row; the values of eight columns share a byte.

NumPy takes a byte for each: 10 MB for the columns of 201,000 boxes and two contests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BitColumns:
    """The values, False at first. Bit n % 8 of byte n // 8 is column n; `packed` is [byte, row]."""

    packed: npt.NDArray[np.uint8]

    @classmethod
    def empty(cls, columns: int, rows: int) -> "BitColumns":
        """Make so many columns and rows."""
        return cls(np.zeros((-(-columns // 8), rows), dtype=np.uint8))

    def copy(self, columns: int) -> "BitColumns":
        """Return a copy with so many columns, at least those of today."""
        made = BitColumns.empty(columns, self.packed.shape[1])
        made.packed[: len(self.packed)] = self.packed
        return made

    def column(self, column: int, rows: Any) -> Bools:
        """Return the values of one column in some rows (anything that indexes an array)."""
        found: Bools = (self.packed[column // 8][rows] >> column % 8 & 1).astype(np.bool_)
        return found

    def of_rows(self, rows: list[int]) -> list[list[int]]:
        """Return a list for each row: 0 or 1 for each column, and for those that fill a byte."""
        found: list[list[int]] = np.unpackbits(
            self.packed[:, rows], axis=0, bitorder="little"
        ).T.tolist()
        return found

    def set_column(self, column: int, rows: Any, values: Bools | bool) -> None:
        """Set one column in some rows."""
        of_column, bit = self.packed[column // 8], np.uint8(1 << column % 8)
        of_column[rows] = np.where(values, of_column[rows] | bit, of_column[rows] & ~bit)

    def set_row(self, row: int, values: Sequence[bool]) -> None:
        """Set the columns of one row, from the first on; those that `values` lacks become False."""
        packed = np.packbits(np.array(values, dtype=np.bool_), bitorder="little")
        self.packed[:, row] = 0
        self.packed[: len(packed), row] = packed
