"""A map of the 81 provinces as equal tiles, roughly where they are: `PLACES` has column and row.

A tile map shows every province at the same size, also the small ones with many voters.
"""

from config import cevre

_MAP = """
.. 39 .. .. .. .. 67 74 37 57 55 52 28 61 53 08 ..
22 59 34 41 54 81 14 78 18 19 05 60 29 69 25 75 ..
17 .. 77 16 11 26 06 71 66 .. .. 58 24 62 12 36 ..
.. 10 .. .. 43 03 .. 40 50 38 .. 44 23 49 04 76 ..
35 45 64 .. .. 32 42 68 51 .. 46 02 21 72 13 65 ..
09 .. 20 .. 15 .. .. 70 33 01 80 27 63 47 56 73 30
.. 48 .. .. 07 .. .. .. .. .. 31 79 .. .. .. .. ..
"""
PLACES = {
    plate: (column, row)
    for row, line in enumerate(_MAP.split("\n")[1:-1])
    for column, plate in enumerate(line.split())
    if plate != ".."
}
COLUMNS = max(column for column, _ in PLACES.values()) + 1
ROWS = max(row for _, row in PLACES.values()) + 1


def name(plate: str) -> str:
    """Return the name of a province, `İstanbul` for 34."""
    for district, title in cevre.titles().items():
        if district.partition("-")[0] == plate:
            return title.rstrip("0123456789 ")
    return plate
