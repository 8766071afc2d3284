"""`ssps audit verify`: verify that ledgers are unchanged since they were signed."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from keys.feed_segment import parse_segment
from keys.ledger import note, segments
from keys.ledger.verify import (
    Finding,
    FindingKind,
    VerificationResult,
    find_ledgers,
    verify_ledger,
)
from scripts.audit import evidence, feeds
from scripts.shared import console

_MAX_LISTED = 5  # older checkpoints that are listed one by one

# (where the checkpoint was found, the signed checkpoint)
_SourcedCheckpoint = tuple[str, bytes]


@click.command()
@evidence.folders_argument
@evidence.key_option
@click.option(
    "--checkpoint",
    "checkpoint_paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="An older checkpoint that the ledger must extend: a checkpoint file, a segment of a "
    "change feed, or the akis folder of a party's mirror. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each ledger.")
@console.with_optional_site
def verify(
    folders: tuple[Path, ...],
    key_files: tuple[Path, ...],
    checkpoint_paths: tuple[Path, ...],
    as_json: bool,
    site: Path | None,
) -> None:
    """Verify that the ledgers are unchanged since they were signed.

    Finds every record that was changed, dropped, added or reordered.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers. If old segments of a ledger
    were moved to another disk, name that folder too. The first bad record is named. The exit code
    is 1 if anything is wrong.
    """
    sources = evidence.find(folders, key_files, site)
    ledgers = find_ledgers(sources.ledgers)
    names = {_ledger_name(ledger.folder) for ledger in ledgers}
    by_path = {str(path): list(_read_checkpoints(path, names)) for path in checkpoint_paths}
    older = [checkpoint for found in by_path.values() for checkpoint in found]
    assigned = _assign_checkpoints([ledger.folder for ledger in ledgers], older)
    verdicts = []
    for ledger in ledgers:
        total = sum(segment.path.stat().st_size for segment in ledger.segments().values())
        bar, show = console.progress_bar(str(ledger.folder), total)
        read = 0

        def progress(count: int) -> None:
            nonlocal read
            read += count
            show(read)  # noqa: B023 - not called after this turn of the loop

        with bar:
            kept = assigned.get(ledger.folder, ())
            verdicts.append(verify_ledger(ledger, sources.keys, kept, progress))
    used = {name for checkpoints in assigned.values() for name, _ in checkpoints}
    unused = [name for name, _ in older if name not in used]
    empty = [path for path, found in by_path.items() if not found]
    for name in [*unused, *empty]:
        text = f"{name}: has no checkpoint of these ledgers"
        verdicts[0].findings.append(Finding(FindingKind.ANOTHER_LOG, None, text))
    for verdict in verdicts:
        click.echo(json.dumps(_verdict_fields(verdict)) if as_json else _format_verdict(verdict))
    sys.exit(any(verdict.findings for verdict in verdicts))


def _ledger_name(folder: Path) -> str:
    """Return the ledger's name from its checkpoint, since a copy's folder may have another name."""
    _, _, named = _origin(segments.read_checkpoint(folder) or b"").partition("/")
    return named.partition("/")[0] or folder.name


def _read_checkpoints(path: Path, names: set[str]) -> Iterator[_SourcedCheckpoint]:
    """Yield the checkpoints in a file or folder; from a feed only those of the ledgers `names`."""
    if path.is_dir():
        for feed in feeds.find_feeds(path):
            for file in sorted(feed.glob("*.csv")):
                yield from _read_checkpoints(file, names)
        return
    content = path.read_bytes()
    if not content.startswith(b"# ssps akis "):
        yield str(path), content
        return
    try:
        segment = parse_segment(content)
    except ValueError as error:
        wrong = f"{error}: name a segment exactly as it was mirrored"
        raise console.fault(str(path), "", wrong) from None
    for name, checkpoint in segment.checkpoints:
        if name in names:
            yield f"{path} ({name})", checkpoint


def _assign_checkpoints(
    ledgers: Sequence[Path], older: Sequence[_SourcedCheckpoint]
) -> dict[Path, list[_SourcedCheckpoint]]:
    """Assign each older checkpoint to the ledger with the same origin.

    If there is only one ledger it gets all of them, so that one of another origin is reported.
    """
    found: dict[Path, list[_SourcedCheckpoint]] = {}
    for name, checkpoint in older:
        for folder in ledgers:
            newest = segments.read_checkpoint(folder) or b""
            same = _origin(checkpoint) and _origin(checkpoint) == _origin(newest)
            if len(ledgers) == 1 or same:
                found.setdefault(folder, []).append((name, checkpoint))
    return found


def _origin(checkpoint: bytes) -> str:
    try:
        return note.unverified_checkpoint(checkpoint).origin
    except ValueError:
        return ""


def _format_verdict(verdict: VerificationResult) -> str:
    lines = [f"{verdict.folder}: {finding.kind}: {finding.text}" for finding in verdict.findings]
    if not (lines or verdict.records or verdict.heads):
        return f"{verdict.folder}: OK: no records yet"
    when = f", signed at {verdict.last:%Y-%m-%d %H:%M:%S} UTC" if verdict.last else ""
    summary = f"{verdict.folder}: {verdict.records:,} records"
    if not lines:
        summary += f", OK: all match the checkpoint of {verdict.origin}{when}"
        summary += f"; checkpoints verified: {verdict.heads}"
    if (unsigned := verdict.records - verdict.signed) > 0:
        summary += f"; not signed yet: {unsigned:,}"
    if verdict.removed:
        summary += f"; removed, hashes verified: {verdict.removed:,}"
    lines.append(summary)
    if len(verdict.extends) > _MAX_LISTED:
        first, *_, last = verdict.extends
        number = f"{len(verdict.extends):,} older checkpoints"
        lines.append(f"{verdict.folder}: extends {number}, from {first} to {last}")
    else:
        lines += [f"{verdict.folder}: extends {name}" for name in verdict.extends]
    return "\n".join(lines)


def _verdict_fields(verdict: VerificationResult) -> dict[str, Any]:
    fields = asdict(verdict)
    fields["folder"] = str(verdict.folder)
    fields["last"] = verdict.last.isoformat() if verdict.last else None
    return fields
