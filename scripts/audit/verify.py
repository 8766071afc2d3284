"""`ssps audit verify`: whether this is the record that was signed for."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from keys.feed_segment import parse_segment
from keys.ledger import note, segments
from keys.ledger.verify.verdicts import Finding, Kind, Verdict
from keys.ledger.verify.verify import verify as verify_ledger
from scripts.audit import evidence, feeds
from scripts.shared import console

_MAX_LISTED = 5  # checkpoints that are named each


@click.command()
@evidence.folders_argument
@evidence.key_option
@click.option(
    "--checkpoint",
    "kept",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="One kept from an earlier day, which the ledger must extend: a checkpoint, or what "
    "carries some, a segment of a change feed or a mirror's folder akis. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="One object a ledger.")
@console.with_optional_site
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
    sources = evidence.find(folders, key_files, site)
    names = set(map(_name, sources.ledgers))
    found = {str(path): list(_read_checkpoints(path, names)) for path in kept}
    olds = [old for some in found.values() for old in some]
    own = _assign_checkpoints(sources.ledgers, olds)
    verdicts = []
    for folder in sources.ledgers:
        total = sum(segment.path.stat().st_size for segment in segments.listed(folder))
        bar, show = console.progress_bar(str(folder), total)
        read = 0

        def progress(count: int) -> None:
            nonlocal read
            read += count
            show(read)  # noqa: B023 - called only before the next one is made

        with bar:
            verdicts.append(verify_ledger(folder, sources.keys, own.get(folder, ()), progress))
    strays = [name for name, _ in olds if not any(name in dict(o) for o in own.values())]
    for name in [*strays, *(path for path, some in found.items() if not some)]:
        text = f"{name}: is of none of these ledgers"
        verdicts[0].findings.append(Finding(Kind.ANOTHER_LOG, None, text))
    for verdict in verdicts:
        click.echo(json.dumps(_verdict_fields(verdict)) if as_json else _format_verdict(verdict))
    sys.exit(any(verdict.findings for verdict in verdicts))


def _name(folder: Path) -> str:
    """Return which ledger it is, whatever a copy's folder is called."""
    _, _, named = _origin(segments.checkpoint(folder) or b"").partition("/")
    return named.partition("/")[0] or folder.name


def _read_checkpoints(path: Path, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield checkpoints with where each is from; of a feed, those of ledgers of those names."""
    if path.is_dir():
        for feed in feeds.find_feeds(path):
            for segment in sorted(feed.glob("*.csv")):
                yield from _read_checkpoints(segment, names)
        return
    content = path.read_bytes()
    if not content.startswith(b"# ssps akis "):
        yield str(path), content
        return
    try:
        found = parse_segment(content)
    except ValueError as error:
        raise console.fault(str(path), "", f"{error}, name one as it was mirrored") from None
    for name, message in found.checkpoints:
        if name in names:
            yield f"{path} ({name})", message


def _assign_checkpoints(
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


def _format_verdict(verdict: Verdict) -> str:
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
    if len(verdict.extends) > _MAX_LISTED:
        first, *_, last = verdict.extends
        more = f"{len(verdict.extends):,} checkpoints, the first in {first}, the last in {last}"
        lines.append(f"{verdict.folder}: extends {more}")
    else:
        lines += [f"{verdict.folder}: extends {name}" for name in verdict.extends]
    return "\n".join(lines)


def _verdict_fields(verdict: Verdict) -> dict[str, Any]:
    plain = asdict(verdict)
    plain["folder"] = str(verdict.folder)
    plain["last"] = verdict.last.isoformat() if verdict.last else None
    return plain
