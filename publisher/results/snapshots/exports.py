"""Writes the ready-made exports of a snapshot, beside its Parquet files, and signs a list of them.

For each contest and for its aggregate sheets (`<name>` is `mv` or `mv-birlestirme`):

    <name>.csv           `;` between columns, UTF-8 with a byte order mark, Turkish headings
    <name>.ndjson.zst    the rows in the format of a batch, Zstandard
    <name>.ndjson.gz     the same, gzip
    <name>.xlsx          one sheet, header frozen, numbers as numbers

and `<secim>.changes.csv` and `<secim>.changes.xlsx` (Genelge md. 6/c). When all are there,
`exports.json` and `exports.json.sig` list them:

    {"format": "ssps-exports-v1", "election": "...", "number": 42, "manifest": "<its sha256>",
     "files": {"mv.csv": {"sha256": "...", "bytes": 123}}}

If a Parquet file is the same as in the previous snapshot, its exports are copied from there. The
last columns of an export name the snapshot. This runs in a process of its own, with the lowest
priority:

    python -m publisher.results.snapshots.preparing SITE NUMBER [--trees]

(publisher/results/snapshots/preparing).
"""

import csv
import gzip
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import duckdb
import xlsxwriter
import zstandard

from config.ballot import Ballot
from config.sheet import Secim
from config.site import SNAPSHOTS
from config.snapshot import AGGREGATES, EXPORTS, EXPORTS_SIGNATURE, MANIFEST, PARQUET, VOTES
from keys.files import sync
from keys.kernel.process import end_with_parent
from publisher.results.snapshots.folder import snapshot_folder
from publisher.results.snapshots.headings import HEADINGS, PROVISIONAL, SNAPSHOT_HEADING, safe_text
from publisher.results.snapshots.merge import QUIET
from publisher.results.snapshots.rows import Rows, ndjson_lines, parquet_columns, read_parquet
from publisher.results.snapshots.snapshot import describe_file

FORMAT = "ssps-exports-v1"
_BOM = "\ufeff"
_TEXTS = ("belge", "cevre", "kurul", "sandik", "sandik_turu", "neden", "zaman")
_MODE = 0o444
_NEW = ".new"
_KINDS = ("xlsx", "ndjson.gz", "ndjson.zst", "csv")  # the slowest first
_LARGE = 1 << 20  # bytes of Parquet; below, starting processes takes longer than the work
_WORKERS = 2


def write_exports(
    site: Path, number: int, election: str, ballot: Ballot | None, sign: Callable[[bytes], bytes]
) -> None:
    """Write every export of a snapshot that is not there yet, then `exports.json`."""
    folder = snapshot_folder(site, number)
    manifest = (folder / MANIFEST).read_bytes()
    export_folder(folder, snapshot_folder(site, number - 1), number, ballot)
    listed = {
        path.name: describe_file(path)
        for path in sorted(folder.iterdir())
        if path.name.endswith((".csv", ".ndjson.zst", ".ndjson.gz", ".xlsx"))
    }
    exports = {
        "format": FORMAT,
        "election": election,
        "number": number,
        "manifest": sha256(manifest).hexdigest(),
        "files": listed,
    }
    content = json.dumps(exports, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
    _place(folder / EXPORTS_SIGNATURE, lambda path: path.write_bytes(sign(content)))
    _place(folder / EXPORTS, lambda path: path.write_bytes(content))
    sync(folder)


def export_folder(folder: Path, before: Path | None, number: int, ballot: Ballot | None) -> None:
    """Write every export of a folder's Parquet files and changes that is not there yet.

    Exports of a Parquet file that is in the folder `before` as well are taken from there.
    """
    missing = []
    for parquet in sorted(folder.glob(f"*{PARQUET}")):
        same = before is not None and _is_same(before / parquet.name, parquet)
        for export in _exports_of(parquet, number, ballot):
            # CSV and XLSX files name their snapshot, so only NDJSON files can be the same.
            if before and same and "ndjson" in export.kind and (before / export.file).exists():
                with suppress(FileExistsError):
                    (folder / export.file).hardlink_to(before / export.file)
            elif not (folder / export.file).exists():
                missing.append(export)
    _write_all(missing)
    for changes in sorted(folder.glob("*.changes.ndjson")):
        _export_changes(changes, number)


def prune_exports(site: Path, newest: int) -> list[int]:
    """Remove the exports of older snapshots, except of the last one in each hour; return which.

    Parquet files, changes, sums and manifests of every snapshot stay.
    """
    exported = sorted(
        int(file.parent.name)
        for file in (site / SNAPSHOTS).glob(f"*/{EXPORTS}")
        if int(file.parent.name) <= newest
    )
    hours = {number: _hour_closed(snapshot_folder(site, number)) for number in exported}
    removed = []
    for number, following in pairwise(exported):
        if hours[number] != hours[following]:
            continue
        folder = snapshot_folder(site, number)
        names = json.loads((folder / EXPORTS).read_bytes())["files"]
        # The list is removed first, so that it never names a file that is gone.
        for name in (EXPORTS, EXPORTS_SIGNATURE, *names):
            (folder / name).unlink(missing_ok=True)
        removed.append(number)
    return removed


def _hour_closed(folder: Path) -> str:
    closed_at: str = json.loads((folder / MANIFEST).read_bytes())["closed_at"]
    return closed_at[: len("2023-05-14T18")]


def heading(column: str, titles: Mapping[str, str]) -> str:
    """Return the Turkish heading of a Parquet column; `titles` names options by their id."""
    if column.startswith(VOTES):
        option = column.removeprefix(VOTES)
        return titles.get(option, option)
    return HEADINGS[column]


def option_titles(ballot: Ballot | None, secim: Secim) -> dict[str, str]:
    """Return the title of each option of a contest; that of an independent names its district."""
    if ballot is None:
        return {}
    return {row.option.id: row.option.ad for row in ballot.rows if row.secim is secim}


class _Export(NamedTuple):
    """One file to write from a Parquet file; `titles` names options by their id."""

    kind: str
    parquet: Path
    number: int
    titles: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.parquet.name.removesuffix(PARQUET)

    @property
    def file(self) -> str:
        return f"{self.name}.{self.kind}"


def _exports_of(parquet: Path, number: int, ballot: Ballot | None) -> list[_Export]:
    contest = Secim(parquet.name.removesuffix(PARQUET).removesuffix(AGGREGATES))
    titles = option_titles(ballot, contest)
    return [_Export(kind, parquet, number, titles) for kind in _KINDS]


def _write_all(exports: Sequence[_Export]) -> None:
    """Write files; if they are large, in two processes, the slowest first."""
    size = sum(export.parquet.stat().st_size for export in exports)
    if size < _LARGE or len(exports) < 2:
        for export in exports:
            _write_export(export)
        return
    ordered = sorted(exports, key=lambda e: (_KINDS.index(e.kind), -e.parquet.stat().st_size))
    context = multiprocessing.get_context("spawn")  # DuckDB has threads, which a fork would lose
    with ProcessPoolExecutor(_WORKERS, context, end_with_parent, (os.getpid(),)) as workers:
        for written in [workers.submit(_write_export, export) for export in ordered]:
            written.result()


def _write_export(export: _Export) -> None:
    with duckdb.connect() as database:
        database.execute(QUIET)
        database.execute("SET threads = 1")
        columns = parquet_columns(database, export.parquet)
        headings = [heading(column, export.titles) for column in columns]

        def rows() -> Iterator[Sequence[Any]]:
            return read_parquet(database, export.parquet)

        def write(path: Path) -> None:
            match export.kind:
                case "xlsx":
                    _write_xlsx(path, columns, headings, rows, export.number, export.name)
                case "csv":
                    _write_csv(path, headings, rows, export.number)
                case "ndjson.zst":
                    _write_zst(path, columns, rows, export.name)
                case _:
                    _write_gz(path, columns, rows, export.name)

        _place(export.parquet.with_name(export.file), write)


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


def parquet_headings(
    database: duckdb.DuckDBPyConnection, parquet: Path, titles: Mapping[str, str]
) -> list[str]:
    """Return the Turkish headings of the columns of a snapshot's Parquet file."""
    return [heading(column, titles) for column in parquet_columns(database, parquet)]


def write_csv(
    file: IO[str], headings: Sequence[str], rows: Iterable[Sequence[Any]], number: int
) -> None:
    """Write rows as CSV that a Turkish Excel opens, each with the snapshot's number."""
    file.write(_BOM)
    writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
    writer.writerow((*map(safe_text, headings), SNAPSHOT_HEADING, "Durum"))
    writer.writerows((*map(_safe, row), number, PROVISIONAL) for row in rows)


def _safe(value: Any) -> Any:
    return safe_text(value) if isinstance(value, str) else value


def _write_csv(path: Path, headings: Sequence[str], rows: Rows, number: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_csv(file, headings, rows(), number)


def _write_zst(path: Path, columns: Sequence[str], rows: Rows, name: str) -> None:
    compressor = zstandard.ZstdCompressor(level=6)
    with path.open("wb") as file, compressor.stream_writer(file, closefd=False) as stream:
        for line in ndjson_lines(columns, rows, name):
            stream.write(line)


def _write_gz(path: Path, columns: Sequence[str], rows: Rows, name: str) -> None:
    with path.open("wb") as file, gzip.GzipFile("", "wb", 5, file, mtime=0) as stream:
        stream.writelines(ndjson_lines(columns, rows, name))


def _write_xlsx(
    path: Path,
    columns: Sequence[str],
    headings: Sequence[str],
    rows: Rows,
    number: int,
    name: str,
) -> None:
    texts = [column in _TEXTS for column in columns]
    with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as book:
        bold = book.add_format({"bold": True})
        book.set_properties({"title": f"{name}, {PROVISIONAL}", "comments": f"snapshot {number}"})
        sheet = book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        for column, text in enumerate((*headings, SNAPSHOT_HEADING, "Durum")):
            sheet.write_string(0, column, text, bold)
        end = len(columns)
        for line, row in enumerate(rows(), 1):
            for column, value in enumerate(row):
                if value is None or value == "":
                    continue
                if texts[column]:
                    sheet.write_string(line, column, value)
                else:
                    sheet.write_number(line, column, value)
            sheet.write_number(line, end, number)
            sheet.write_string(line, end + 1, PROVISIONAL)


_CHANGE_COLUMNS = ("secim", "belge", "cevre", "kurul", "sandik", "surum", "neden", "zaman")


def _export_changes(changes: Path, number: int) -> None:
    stem = changes.name.removesuffix(".ndjson")
    headings = (
        "Seçim",
        *(HEADINGS[column] for column in _CHANGE_COLUMNS[1:]),
        "Alan",
        "Eski",
        "Yeni",
        SNAPSHOT_HEADING,
        "Durum",
    )

    def rows() -> Iterator[Sequence[Any]]:
        with changes.open(encoding="utf-8") as file:
            for text in file:
                change = json.loads(text)
                place = [change[column] or "" for column in _CHANGE_COLUMNS]
                old, new = _flat(change["eski"]), _flat(change["yeni"])
                for column in dict.fromkeys((*old, *new)):
                    if old.get(column) != new.get(column):
                        yield (*place, column, old.get(column), new.get(column))

    def as_csv(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write(_BOM)
            writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
            writer.writerow(headings)
            writer.writerows((*map(_safe, row), number, PROVISIONAL) for row in rows())

    def as_xlsx(path: Path) -> None:
        with xlsxwriter.Workbook(str(path), {"constant_memory": True}) as book:
            sheet = book.add_worksheet("değişiklikler")
            sheet.freeze_panes(1, 0)
            for line, row in enumerate((headings, *((*r, number, PROVISIONAL) for r in rows()))):
                for column, value in enumerate(row):
                    if isinstance(value, int):
                        sheet.write_number(line, column, value)
                    elif value:
                        sheet.write_string(line, column, value)

    _place(changes.with_name(f"{stem}.csv"), as_csv)
    _place(changes.with_name(f"{stem}.xlsx"), as_xlsx)


def _flat(stated: Mapping[str, Any] | None) -> dict[str, int | None]:
    if stated is None:
        return {}
    votes = {f"{VOTES}{option}": number for option, number in stated["oylar"].items()}
    return {**{name: value for name, value in stated.items() if name != "oylar"}, **votes}


def _place(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name and rename it; a file that exists already stays."""
    if path.exists():
        return
    fresh = path.with_name(f".{path.name}{_NEW}")
    fresh.unlink(missing_ok=True)
    write(fresh)
    fresh.chmod(_MODE)
    sync(fresh)
    fresh.rename(path)
