"""Follows results from a snapshot back to the batches that they came from, without the database.

Copies of three folders of a site and the public key are enough: `ledgers/results`, `snapshots`, and
`store` with the batches. The steps:

Step 1  Every manifest is signed, names the SHA-256 of the manifest before it, and the results
        ledger has a record of it. The list of exports is signed as well.
Step 2  Every file of a snapshot has the SHA-256 that the manifest, or the list of exports, states.
Step 3  Every row of the newest snapshot has a record of the same contest, sheet, place, version and
        digest in the results ledger. The manifest says how many results the snapshot holds
        (`last_result`): of these records, it has the newest version of each, and no other row.
Step 4  The store has every batch that a record names, with its SHA-256, and the line that the
        record names states numbers with the record's digest.

`ssps audit verify` does all of this after it has verified the ledgers themselves.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config import result_batch
from config.event import ResultsEvent
from config.result import Result
from config.result_batch import GoodRow
from config.site import LEDGERS, RESULTS_LEDGER, SNAPSHOTS, STORE, original_file
from config.snapshot import (
    AGGREGATES,
    EXPORTS,
    EXPORTS_SIGNATURE,
    FORMAT,
    MANIFEST,
    PARQUET,
    SIGNATURE,
    result_of,
)
from keys.ledger.segments import read_records
from keys.server_keys import sshsig
from keys.server_keys.sshsig import BadSignature

_NUMBER = re.compile("[0-9]{8,}", re.ASCII)
_ROWS_A_FETCH = 5000
_MAX_TEXTS = 100  # problems that are named; a site with more is another one

Progress = Callable[[str], None]


class _Of(NamedTuple):
    """What a record of a result is about."""

    secim: str
    belge: str
    place: str


class ResultRecord(NamedTuple):
    """The part of a record that ties a result to its batch; `place` counts results from 1."""

    seq: int
    place: int
    version: int
    digest: str
    batch: str
    name: str
    line: int


@dataclass
class RecordedResults:
    """What the results ledger says: the records of each result, and the snapshots by number."""

    results: dict[_Of, list[ResultRecord]] = field(default_factory=lambda: defaultdict(list))
    snapshots: dict[int, tuple[int, str]] = field(default_factory=dict)  # number and digest
    count: int = 0

    def of(self, result: Result) -> list[ResultRecord]:
        """Return the records of a result's contest, sheet and place."""
        return self.results.get(_of(result), [])


@dataclass(frozen=True)
class ResultFolders:
    """A site, or copies of the folders of one that hold results."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The results ledger."""
        return self.root / LEDGERS / RESULTS_LEDGER

    @property
    def snapshots(self) -> Path:
        """The folder of all snapshots."""
        return self.root / SNAPSHOTS

    @property
    def has_store(self) -> bool:
        """Whether there is a store, or a copy of it."""
        return (self.root / STORE).is_dir()

    def numbers(self) -> list[int]:
        """Return the numbers of the snapshots, in order."""
        if not self.snapshots.is_dir():
            return []
        return sorted(int(p.name) for p in self.snapshots.iterdir() if _NUMBER.fullmatch(p.name))

    def snapshot(self, number: int) -> Path:
        """Return the folder of a snapshot."""
        return self.snapshots / f"{number:08}"

    def manifest(self, number: int) -> dict[str, Any]:
        """Return a snapshot's manifest; raise OSError or ValueError if it is not readable."""
        content = json.loads((self.snapshot(number) / MANIFEST).read_bytes())
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"is not in the format {FORMAT}")
        return content


@dataclass
class ResultVerdict:
    """What was verified, and what is wrong."""

    folder: str
    findings: list[str] = field(default_factory=list)
    snapshots: int = 0
    rows: int = 0
    batches: int = 0
    lines: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Note a problem; of very many only the first are named."""
        if len(self.findings) < _MAX_TEXTS:
            self.findings.append(text)
        elif len(self.findings) == _MAX_TEXTS:
            self.findings.append("and more")


def find_results(ledgers: Sequence[Path]) -> list[ResultFolders]:
    """Return the folders of results beside these ledgers, for each site or copy of one."""
    roots = [each.parent.parent for each in ledgers if each.name == RESULTS_LEDGER]
    return [found for root in roots if (found := ResultFolders(root)).numbers()]


def verify_results(
    folders: ResultFolders,
    keys: Sequence[Ed25519PublicKey],
    progress: Progress = lambda what: None,
) -> ResultVerdict:
    """Carry out the four steps."""
    verdict = ResultVerdict(str(folders.snapshots))
    numbers = folders.numbers()  # before the ledger, which then has a record of each
    progress("reading the records of results")
    recorded = read_recorded(folders.ledger)
    _verify_manifests(folders, numbers, recorded, keys, verdict)
    progress("hashing the snapshots")
    for number in numbers:
        _verify_files(folders.snapshot(number), verdict)
    progress("comparing the rows of the newest snapshot with the records")
    if numbers:
        _verify_rows(folders, numbers[-1], recorded, verdict)
    progress("comparing the records with the batches")
    if folders.has_store:
        _verify_batches(folders, numbers, recorded, verdict)
    else:
        verdict.notes.append("the batches are not there, so records are not compared with them")
    return verdict


def read_recorded(ledger: Path) -> RecordedResults:
    """Read what a results ledger says of results and snapshots."""
    found = RecordedResults()
    batches: dict[str, str] = {}  # so that each digest is in memory once
    for record in read_records(ledger):
        event, detail = record.event, record.event.detail
        if event.event == ResultsEvent.ACCEPTED:
            of = _Of(str(detail["secim"]), str(detail["belge"]), event.what)
            batch = batches.setdefault(str(detail["batch"]), str(detail["batch"]))
            found.count += 1
            found.results[of].append(
                ResultRecord(
                    record.seq,
                    found.count,
                    int(str(detail["version"])),
                    str(detail["digest"]),
                    batch,
                    batches.setdefault(event.origin, event.origin),
                    int(str(detail["line"])),
                )
            )
        elif event.event == ResultsEvent.SNAPSHOT:
            found.snapshots[int(event.what)] = record.seq, str(detail["sha256"])
    return found


def signature_problem(
    folder: Path, name: str, signature: str, keys: Sequence[Ed25519PublicKey]
) -> str:
    """Say what is wrong with the signature of a file; "" if one of `keys` made it."""
    try:
        content, signed = (folder / name).read_bytes(), (folder / signature).read_bytes()
    except OSError as error:
        return f"cannot be verified ({error.strerror}: {Path(error.filename or '').name})"
    try:
        sshsig.verify_any(keys, content, signed)
    except BadSignature as error:
        return f"has no valid signature ({error})"
    return ""


def rows_of(
    folder: Path, manifest: dict[str, Any], where: str = "true", values: Sequence[object] = ()
) -> Iterator[Result]:
    """Yield the results that the Parquet files of a snapshot state; ValueError if one is none."""
    with closing(duckdb.connect()) as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET enable_progress_bar = false")  # it would be drawn on stdout
        for name in sorted(manifest["files"]):
            if not name.endswith(PARQUET):
                continue
            secim = name.removesuffix(PARQUET).removesuffix(AGGREGATES)
            quoted = str(folder / name).replace("'", "''")
            found = database.execute(f"SELECT * FROM '{quoted}' WHERE {where}", list(values))
            columns = [column[0] for column in found.description or ()]
            while part := found.fetchmany(_ROWS_A_FETCH):
                for row in part:
                    values_of = dict(zip(columns, row, strict=True))
                    yield result_of(secim, values_of, manifest["election"])


def batch_results(
    folders: ResultFolders, batch: str, name: str, election: str, lines: set[int]
) -> dict[int, Result]:
    """Return the results that these lines of a batch in the store state; OSError may happen."""
    with (folders.root / original_file(batch)).open("rb") as file:
        rows = result_batch.read(name, file, election)
        return {r.line: r.result for r in rows if r.line in lines and isinstance(r, GoodRow)}


def batch_problem(
    folders: ResultFolders, row: Result, record: ResultRecord, election: str
) -> str | None:
    """Say why the batch of a record does not state the numbers of a row; None if it does."""
    place = original_file(record.batch)
    try:
        with (folders.root / place).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        stated = batch_results(folders, record.batch, record.name, election, {record.line})
    except OSError as error:
        return f"{place}: the batch {record.name} cannot be read ({error.strerror})"
    if digest != record.batch:
        return f"{place}: the batch {record.name} was changed"
    of_line = stated.get(record.line)
    if of_line is None or of_line.digest() != row.digest():
        return f"{place}: line {record.line} of the batch {record.name} has other numbers"
    return None


def manifest_digest(folder: Path) -> str:
    """Return the SHA-256 of a snapshot's manifest."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def changed_files(folder: Path) -> list[str]:
    """Return what is wrong with the files that a snapshot's manifest and exports list."""
    verdict = ResultVerdict(str(folder))
    _verify_files(folder, verdict)
    return verdict.findings


def _verify_manifests(
    folders: ResultFolders,
    numbers: Sequence[int],
    recorded: RecordedResults,
    keys: Sequence[Ed25519PublicKey],
    verdict: ResultVerdict,
) -> None:
    previous: str | None = None
    expected = 1
    for number in numbers:
        folder = folders.snapshot(number)
        place = f"{SNAPSHOTS}/{folder.name}"
        for missing in range(expected, number):
            verdict.add(f"{SNAPSHOTS}/{missing:08}: is missing")
            previous = recorded.snapshots.get(missing, (0, ""))[1]
        expected = number + 1
        try:
            content = (folder / MANIFEST).read_bytes()
            manifest = folders.manifest(number)
            stated = manifest["number"], manifest["previous"]
        except (OSError, ValueError, KeyError) as error:
            verdict.add(f"{place}/{MANIFEST}: cannot be read: {error}")
            previous = recorded.snapshots.get(number, (0, ""))[1]
            continue
        digest = hashlib.sha256(content).hexdigest()
        if problem := signature_problem(folder, MANIFEST, SIGNATURE, keys):
            verdict.add(f"{place}/{MANIFEST}: {problem}")
        if stated != (number, previous):
            verdict.add(f"{place}/{MANIFEST}: does not follow the snapshot before it")
        _, on_record = recorded.snapshots.get(number, (0, ""))
        if not on_record and number == numbers[-1]:
            verdict.notes.append(f"{place}: is not recorded yet")
        elif on_record != digest:
            verdict.add(f"{place}/{MANIFEST}: is not the one that the results ledger names")
        previous = digest
        verdict.snapshots += 1
        if (folder / EXPORTS).exists():
            _verify_exports(folder, digest, keys, verdict)
    for missing in sorted(recorded.snapshots.keys() - set(numbers)):
        if missing >= expected:
            verdict.add(f"{SNAPSHOTS}/{missing:08}: is missing, and the results ledger names it")


def _verify_exports(
    folder: Path, manifest: str, keys: Sequence[Ed25519PublicKey], verdict: ResultVerdict
) -> None:
    place = f"{SNAPSHOTS}/{folder.name}/{EXPORTS}"
    if problem := signature_problem(folder, EXPORTS, EXPORTS_SIGNATURE, keys):
        verdict.add(f"{place}: {problem}")
    elif json.loads((folder / EXPORTS).read_bytes())["manifest"] != manifest:
        verdict.add(f"{place}: is of another snapshot")


def _verify_files(folder: Path, verdict: ResultVerdict) -> None:
    for listing in (MANIFEST, EXPORTS):
        try:
            files = json.loads((folder / listing).read_bytes())["files"]
        except (OSError, ValueError, KeyError):
            continue  # `_verify_manifests` says so
        for name, stated in files.items():
            place = f"{SNAPSHOTS}/{folder.name}/{name}"
            try:
                with (folder / name).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                if listing == MANIFEST:  # exports of older snapshots may be removed
                    verdict.add(f"{place}: is missing")
            else:
                if digest != stated["sha256"]:
                    verdict.add(f"{place}: was changed")


def _verify_rows(
    folders: ResultFolders, number: int, recorded: RecordedResults, verdict: ResultVerdict
) -> None:
    place = f"{SNAPSHOTS}/{number:08}"
    try:
        manifest = folders.manifest(number)
        last = int(manifest["last_result"])
        for result in rows_of(folders.snapshot(number), manifest):
            verdict.rows += 1
            if problem := row_problem(result, recorded, last):
                verdict.add(f"{place}: {result.key.secim} {result.key.place}: {problem}")
        held = sum(any(r.place <= last for r in each) for each in recorded.results.values())
        if held != verdict.rows:
            verdict.add(f"{place}: has {verdict.rows} rows, the results ledger {held}")
    except (OSError, ValueError, KeyError, duckdb.Error) as error:
        verdict.add(f"{place}: its rows cannot be read: {error}")


def record_of(result: Result, recorded: RecordedResults) -> ResultRecord | None:
    """Return the record of a row of a snapshot, None if there is none with its numbers."""
    digest = result.digest()
    wanted = result.version, digest
    return next((r for r in recorded.of(result) if (r.version, r.digest) == wanted), None)


def row_problem(result: Result, recorded: RecordedResults, last: int) -> str:
    """Say why a row of a snapshot with `last` results is not what is on record; "" if it is."""
    if record_of(result, recorded) is None:
        return f"version {result.version} with these numbers is not in the results ledger"
    newest = max((r.version for r in recorded.of(result) if r.place <= last), default=0)
    if newest != result.version:
        return f"has version {result.version}, the results ledger has version {newest}"
    return ""


def _verify_batches(
    folders: ResultFolders,
    numbers: Sequence[int],
    recorded: RecordedResults,
    verdict: ResultVerdict,
) -> None:
    election = ""
    for number in numbers:
        try:
            election = folders.manifest(number)["election"]
        except (OSError, ValueError, KeyError):
            continue
    by_batch: dict[tuple[str, str], dict[int, tuple[_Of, ResultRecord]]] = defaultdict(dict)
    for of, records in recorded.results.items():
        for record in records:
            by_batch[record.batch, record.name][record.line] = of, record
    for (batch, name), lines in sorted(by_batch.items()):
        place = str(original_file(batch))
        try:
            with (folders.root / place).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            stated = batch_results(folders, batch, name, election, set(lines))
        except OSError as error:
            verdict.add(f"{place}: the batch {name} cannot be read ({error.strerror})")
            continue
        verdict.batches += 1
        if digest != batch:
            verdict.add(f"{place}: the batch {name} was changed")
        for line, (of, record) in lines.items():
            verdict.lines += 1
            result = stated.get(line)
            if result is None or (_of(result), result.digest()) != (of, record.digest):
                what = f"does not state the numbers of record {record.seq}"
                verdict.add(f"{place}: line {line} of the batch {name} {what}")


def _of(result: Result) -> _Of:
    return _Of(result.key.secim.value, result.key.belge.value, result.key.place)
