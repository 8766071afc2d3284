"""Reads a snapshot's Parquet file in a process of its own, which has DuckDB.

DuckDB would keep tens of megabytes in the portal's process, and turning its rows into text would
hold up every other request. So the portal starts

    python -m portal.data.numbers.parquet columns FILE OPTION... the OPTIONs that each district has
    python -m portal.data.numbers.parquet lines FILE CONDITION   rows that satisfy an SQL condition

and reads its standard output. `columns` writes one JSON line for each column, followed by its
values (8 bytes each, -1 where nothing is stated), in this order: the places of the rows, the votes
of options that only some districts have, and everything else:

    {"places": [["34-istanbul-1", "kadikoy-2", ["1001", "1002"]]]}
    {"column": "oylar.bagimsiz-1", "rows": 2}           16 bytes
    {"column": "secmen", "rows": 2}                     16 bytes
    {"reasons": [["34-istanbul-1", "kadikoy-2", "1001", "itiraz kabul"]]}

`lines` writes each row as a line of a batch, after its district and board:

    34-istanbul-1 TAB kadikoy-2 TAB {"secim":"mv",...}

A process that writes nothing for a minute, or does not end after its last line, is killed, and the
file counts as one that cannot be read.
"""

import io
import json
import os
import select
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from config.result import NUMBER_COLUMNS
from config.snapshot import PARQUET, VOTES
from keys.kernel.process import end_with_parent
from portal import programs, sandbox

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

VERSION, TIME = "surum", "zaman"
# DuckDB looks there how much memory it may use.
_OF_DUCKDB = (Path("/proc/self"), Path("/sys/fs/cgroup"))
_STORED = np.dtype("<i8")
_SILENT_SECONDS = 60.0  # which a process may need until it writes something more, or ends


@dataclass(frozen=True)
class Column:
    """The numbers of one column: 0 where nothing is stated."""

    name: str
    values: npt.NDArray[np.int64]
    stated: npt.NDArray[np.bool_]


Places = list[tuple[str, str, list[str]]]  # district, board, numbers of boxes; in the file's order
Reasons = list[tuple[str, str, str, str]]  # district, board, number of a box, reason


class ParquetReader:
    """The columns of one file, in the order in which the process writes them."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._next: dict[str, Any] = self._read()

    def places(self) -> Places:
        """Return the places of the rows; call it first."""
        found: Places = self._next["places"]
        self._next = self._read()
        return found

    def columns(self, prefix: str = "") -> Iterator[Column]:
        """Yield the next columns, as long as their names begin with `prefix`."""
        while (name := self._next.get("column", "")) and name.startswith(prefix):
            size = self._next["rows"] * _STORED.itemsize
            data = self._output.read(size)
            if len(data) < size:
                raise OSError("the process that reads a Parquet file has ended")
            stored = np.frombuffer(data, _STORED)
            stated = stored >= 0
            yield Column(name, np.where(stated, stored, 0), stated)
            self._next = self._read()

    def reasons(self) -> Reasons:
        """Return the reasons; call it last."""
        found: Reasons = self._next["reasons"]
        return found

    def _read(self) -> dict[str, Any]:
        line = self._output.readline()
        if not line.endswith(b"\n"):
            raise OSError("the process that reads a Parquet file has ended")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def open_columns(parquet: Path, common: Sequence[str]) -> Iterator[ParquetReader]:
    """Read a file's columns; raises OSError if it cannot be read."""
    with _process("columns", str(parquet), *common) as output:
        yield ParquetReader(output)


def lines(parquet: Path, condition: str = "true") -> Iterator[tuple[str, str, bytes]]:
    """Yield district, board and line of each row; raises OSError if the file cannot be read."""
    with _process("lines", str(parquet), condition) as output:
        for line in output:
            cevre, kurul, text = line.split(b"\t", 2)
            yield cevre.decode(), kurul.decode(), text


class _Output(io.FileIO):
    """The end of a pipe from which a process is read that must not be silent for long."""

    def __init__(self, descriptor: int, silent_seconds: float) -> None:
        super().__init__(descriptor)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._silent = silent_seconds

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Read what there is; raise TimeoutError if nothing comes in time."""
        if not self._poll.poll(self._silent * 1000):
            raise TimeoutError(f"the process that reads a Parquet file is silent: {self._silent} s")
        return super().readinto(buffer)


@contextmanager
def _process(*words: str) -> Iterator[IO[bytes]]:
    nothing, closed = os.pipe2(os.O_CLOEXEC)
    os.close(closed)
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with _Output(reading, _SILENT_SECONDS) as raw, io.BufferedReader(raw) as output:
        try:
            process = programs.start(programs.PARQUET, words, nothing, writing)
        finally:
            os.close(nothing)
            os.close(writing)
        try:
            yield output
            if process.wait(_SILENT_SECONDS):
                raise OSError(f"{words[1]}: cannot be read, see the log")
        finally:
            process.kill()


def main(words: Sequence[str]) -> None:
    """Write what is asked for to standard output, confined to the folder of the file."""
    parent, *asked = words
    end_with_parent(int(parent))
    write(asked, sys.stdout.buffer, confined=True)


def write(words: Sequence[str], output: IO[bytes], *, confined: bool = False) -> None:
    """Write what is asked for to `output`."""
    import duckdb

    from publisher.results.snapshots.rows import ndjson_lines, parquet_columns, read_parquet

    what, name, *rest = words
    parquet = Path(name)
    if confined:  # the daemon that strangers talk to states the condition
        sandbox.confine([parquet.parent, *_OF_DUCKDB])
    with duckdb.connect(config={"threads": 1}) as database:
        names = parquet_columns(database, parquet)
        if what == "columns":
            _write_columns(database, parquet, names, rest, output)
            return
        cevre, kurul = names.index("cevre"), names.index("kurul")
        place = b""

        def rows() -> Iterator[Sequence[Any]]:
            nonlocal place
            for row in read_parquet(database, parquet, rest[0]):
                place = f"{row[cevre] or ''}\t{row[kurul] or ''}\t".encode()
                yield row

        for line in ndjson_lines(names, rows, parquet.name.removesuffix(PARQUET)):
            output.write(place + line)


def _write_columns(
    database: Any,  # of duckdb, which is imported only here
    parquet: Path,
    names: Sequence[str],
    common: Sequence[str],
    output: IO[bytes],
) -> None:
    source = f"read_parquet('{str(parquet).replace(chr(39), 2 * chr(39))}')"

    def write(**line: object) -> None:
        output.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    # The file is sorted by district and board.
    listed = "SELECT cevre, kurul, list(sandik) FROM"
    places = f"{listed} {source} GROUP BY ALL ORDER BY cevre, kurul"
    write(places=database.execute(places).fetchall())
    votes = [name for name in names if name.startswith(VOTES)]
    shared = {f"{VOTES}{option}" for option in common}
    wanted = [name for name in votes if name not in shared]
    wanted += [name for name in NUMBER_COLUMNS if name in names]
    wanted += [name for name in votes if name in shared]
    for name in (*wanted, VERSION, TIME):
        expression = "epoch(zaman)::BIGINT" if name == TIME else f'"{name}"'
        found = database.execute(f"SELECT {expression} AS c FROM {source}").fetchnumpy()["c"]
        stored = np.ma.filled(found, -1).astype(_STORED)
        write(column=name, rows=len(stored))
        output.write(stored.tobytes())
    with_reason = f"SELECT cevre, kurul, sandik, neden FROM {source} WHERE neden <> ''"
    write(reasons=database.execute(with_reason).fetchall())


if __name__ == "__main__":
    main(sys.argv[1:])
