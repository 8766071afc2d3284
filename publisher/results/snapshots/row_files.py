r"""The rows that changed since the last snapshot, in files until the next one is closed.

`snapshots/.mv-1.rows.new` has the rows of the table `mv` in the order in which they came. It is CSV
without a header; each line has the columns

    belge,cevre,kurul,sandik,sandik_turu,surum,neden,zaman

then the numbers of the form (NUMBER_COLUMNS), then the votes of each option of the file. `\N` is a
number that the row does not state. The options are those of the ballot when the file was begun. A
row with another option begins the next file, `.mv-2.rows.new`.

So the results process needs the same memory for ten rows and for 400,000. The files need not
survive a crash: the next start removes them, and writes the rows again from the database.

    {"folder": ".../.00000042.new", "before": ".../00000041", "tables": [
        {"name": "mv", "options": ["parti-a"], "files": [
            {"path": ".../.mv-1.rows.new", "options": ["parti-a"]}]}]}

is what the process that merges them (publisher/results/snapshots/merge) reads on stdin: where to
write each table that changed, and the snapshot before, null if there is none.
"""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from config.result import BOX_SHEET, NUMBER_COLUMNS, Result, ResultKey
from config.sheet import Secim
from config.snapshot import AGGREGATES, VOTES

PLACE_COLUMNS = ("belge", "cevre", "kurul", "sandik", "sandik_turu")
VERSION_COLUMNS = ("surum", "neden", "zaman")
NO_NUMBER = "\\N"
MERGE_COMMAND = (sys.executable, "-P", "-m", "publisher.results.snapshots.merge")
_NEW = ".new"
_MAX_CAUSE = 500


@dataclass(frozen=True, slots=True)
class RowFile:
    """One file of rows, and the options that have a column in it."""

    path: Path
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ChangedTable:
    """A table with the files of its changed rows; `options` have the first columns of votes."""

    name: str  # `mv`, `mv-birlestirme`
    options: tuple[str, ...]
    files: tuple[RowFile, ...]


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """Tables to write into `folder`; `before` is the folder of the snapshot before."""

    folder: Path
    before: Path | None
    tables: tuple[ChangedTable, ...]

    def as_json(self) -> bytes:
        """Return the request as the merging process reads it."""
        return json.dumps(asdict(self), default=str).encode()

    @classmethod
    def parse(cls, text: bytes) -> "MergeRequest":
        """Read what `as_json` returned."""
        found: dict[str, Any] = json.loads(text)
        before = found["before"]
        return cls(
            Path(found["folder"]),
            Path(before) if before is not None else None,
            tuple(
                ChangedTable(
                    table["name"],
                    tuple(table["options"]),
                    tuple(
                        RowFile(Path(file["path"]), tuple(file["options"]))
                        for file in table["files"]
                    ),
                )
                for table in found["tables"]
            ),
        )


# Writes the tables of a request; returns how many rows each has.
Merge = Callable[[MergeRequest], dict[str, int]]


def merge_apart(request: MergeRequest) -> dict[str, int]:
    """Merge in a process of its own, whose memory is free again afterwards. OSError if it fails."""
    command = (*MERGE_COMMAND, str(os.getpid()))
    done = subprocess.run(command, input=request.as_json(), capture_output=True)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        cause = lines[-1][:_MAX_CAUSE] if lines else f"it ended with {done.returncode}"
        raise OSError(f"the tables of {request.folder.name} could not be written: {cause}")
    rows: dict[str, int] = json.loads(done.stdout)
    return rows


def table_of(key: ResultKey) -> str:
    """Return the name of the table that has a result: `mv`, `mv-birlestirme`."""
    return key.secim.value if key.belge is BOX_SHEET else f"{key.secim}{AGGREGATES}"


def contest_of(table: str) -> Secim:
    """Return the contest of a table."""
    return Secim(table.removesuffix(AGGREGATES))


def kind_of(column: str) -> str:
    """Return the SQL type of a column."""
    if column in PLACE_COLUMNS or column == "neden":
        return "VARCHAR"
    return {"surum": "INTEGER", "zaman": "TIMESTAMPTZ"}.get(column, "BIGINT")


def columns_of(options: Iterable[str]) -> list[str]:
    """Return the columns of a table with these options."""
    votes = (f"{VOTES}{option}" for option in options)
    return [*PLACE_COLUMNS, *VERSION_COLUMNS, *NUMBER_COLUMNS, *votes]


class RowFiles:
    """Writes the files, for one thread."""

    def __init__(self, folder: Path, options: Callable[[Secim], Sequence[str]]) -> None:
        """`options` returns the ids of a contest's options, in the order of the ballot."""
        self._folder = folder
        self._options = options
        self._open: dict[str, _OpenFile] = {}
        self._files: dict[str, list[RowFile]] = {}

    def add(self, results: Iterable[Result]) -> None:
        """Write results; a later one of the same place replaces an earlier one."""
        for result in results:
            table = table_of(result.key)
            file = self._open.get(table)
            if file is None or not file.options.issuperset(result.votes):
                file = self._open[table] = self._begin(table, result)
            file.write(result)

    def files(self, table: str) -> tuple[RowFile, ...]:
        """Return the files of a table, complete as far as rows were added."""
        if table in self._open:
            self._open[table].flush()
        return tuple(self._files.get(table, ()))

    def clear(self) -> None:
        """Remove all files."""
        for file in self._open.values():
            file.close()
        for files in self._files.values():
            for row_file in files:
                row_file.path.unlink(missing_ok=True)
        self._open.clear()
        self._files.clear()

    def _begin(self, table: str, result: Result) -> "_OpenFile":
        before = self._files.setdefault(table, [])
        known = before[-1].options if before else self._options(contest_of(table))
        options = tuple(dict.fromkeys((*known, *sorted(result.votes))))
        if table in self._open:
            self._open[table].close()
        path = self._folder / f".{table}-{len(before) + 1}.rows{_NEW}"
        before.append(RowFile(path, options))
        return _OpenFile(path, options)


class _OpenFile:
    def __init__(self, path: Path, options: tuple[str, ...]) -> None:
        self.options = frozenset(options)
        self._order = options
        path.unlink(missing_ok=True)
        self._file: IO[str] = path.open("x", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def write(self, result: Result) -> None:
        numbers = (*result.numbers().values(), *map(result.votes.get, self._order))
        self._writer.writerow((*_texts(result), *(NO_NUMBER if n is None else n for n in numbers)))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _texts(result: Result) -> tuple[str | int, ...]:
    key = result.key
    return (
        key.belge.value,
        key.cevre or "",
        key.kurul or "",
        key.sandik or "",
        result.sandik_turu.value if result.sandik_turu else "",
        result.version,
        result.reason,
        result.time.isoformat(),
    )
