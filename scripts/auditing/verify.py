"""`ssps audit verify`: whether this is the record that was signed for."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from keys import note, segments
from scripts import console
from scripts.auditing import where
from scripts.auditing.verdicts import Finding, Kind, Verdict
from scripts.auditing.verifying import verify as examine


@click.command()
@where.folders
@where.keys
@click.option(
    "--checkpoint",
    "kept",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A checkpoint kept from an earlier day: the ledger must extend it. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="One object a ledger.")
@console.with_site_if_any
def verify(
    folders: tuple[Path, ...],
    key_files: tuple[Path, ...],
    kept: tuple[Path, ...],
    as_json: bool,
    site: Path | None,
) -> None:
    """Prove that ledgers are what was signed for, record by record.

    FOLDER is a copy of a ledger or of several; without one, the site's. Names the first record
    that was changed, dropped, added or reordered. Exit code 1 if anything was.
    """
    evidence = where.evidence(folders, key_files, site)
    olds = [(str(path), path.read_bytes()) for path in kept]
    own = _assigned(evidence.ledgers, olds)
    verdicts = []
    for folder in evidence.ledgers:
        total = sum(segment.path.stat().st_size for segment in segments.listed(folder))
        bar, show = console.reading(str(folder), total)
        read = 0

        def progress(count: int) -> None:
            nonlocal read
            read += count
            show(read)  # noqa: B023 - called only before the next one is made

        with bar:
            verdicts.append(examine(folder, evidence.keys, own.get(folder, ()), progress))
    strays = [name for name, _ in olds if not any(name in dict(o) for o in own.values())]
    for name in strays:
        text = f"{name}: is of none of these ledgers"
        verdicts[0].findings.append(Finding(Kind.ANOTHER_LOG, None, text))
    for verdict in verdicts:
        click.echo(json.dumps(_plain(verdict)) if as_json else _told(verdict))
    sys.exit(any(verdict.findings for verdict in verdicts))


def _assigned(
    ledgers: Sequence[Path], olds: Sequence[tuple[str, bytes]]
) -> dict[Path, list[tuple[str, bytes]]]:
    """Give each old checkpoint to the ledger of its origin; with one ledger, to that."""
    found: dict[Path, list[tuple[str, bytes]]] = {}
    for name, message in olds:
        for folder in ledgers:
            newest = segments.checkpoint(folder) or b""
            if len(ledgers) == 1 or (_origin(message) and _origin(message) == _origin(newest)):
                found.setdefault(folder, []).append((name, message))
    return found


def _origin(message: bytes) -> str:
    try:
        return note.parse_checkpoint(note.unproved_text(message)).origin
    except ValueError:
        return ""


def _told(verdict: Verdict) -> str:
    wrong = [f"{verdict.folder}: {finding.kind}: {finding.text}" for finding in verdict.findings]
    since = verdict.records - verdict.signed
    when = f" at {verdict.last:%Y-%m-%d %H:%M:%S} UTC" if verdict.last else ""
    said = f"{verdict.folder}: {verdict.records:,} records"
    if not wrong:
        said += f", all as signed for by {verdict.origin}{when}; {verdict.heads} checkpoints hold"
    if since > 0:
        said += f"; {since:,} not signed for yet"
    if verdict.removed:
        said += f"; {verdict.removed:,} removed, their hashes hold"
    lines = [*wrong, said]
    lines += [f"{verdict.folder}: extends {name}" for name in verdict.extends]
    return "\n".join(lines)


def _plain(verdict: Verdict) -> dict[str, Any]:
    plain = asdict(verdict)
    plain["folder"] = str(verdict.folder)
    plain["last"] = verdict.last.isoformat() if verdict.last else None
    return plain
