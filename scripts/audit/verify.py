"""`ssps audit verify`: verify that ledgers are unchanged since they were signed."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from config import times
from config.fault import Faults
from config.site import COSIGNED, FEED, OPERATIONS
from keys.feed_segment import parse_segment
from keys.ledger import (
    anchors,
    cosignature,
    cosigned,
    note,
    segments,
    signed_copies,
    unconfirmed,
)
from keys.ledger.anchors import Accepted, Anchor
from keys.ledger.cosigned import CosignedCheckpoint
from keys.ledger.note import Checkpoint
from keys.ledger.verify import (
    Finding,
    FindingKind,
    LedgerFiles,
    VerificationResult,
    find_ledgers,
    verify_ledger,
)
from keys.ledger.verify.clock import records_that_run_backwards
from keys.operations import verified
from keys.operations.verified import Verified, VerifiedLedger
from scripts.audit import evidence, feeds, result_chain
from scripts.audit.evidence import Evidence
from scripts.audit.result_chain import ResultVerdict
from scripts.shared import console

_PROGRESS_SECONDS = 0.2  # between two lines of --progress
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
    "change feed, the akis folder of a party's mirror, or the folder of its witness. "
    "May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each ledger.")
@click.option("--progress", "told", is_flag=True, hidden=True, help="Print it as JSON on stderr.")
@console.with_optional_site
def verify(
    folders: tuple[Path, ...],
    key_files: tuple[Path, ...],
    checkpoint_paths: tuple[Path, ...],
    as_json: bool,
    told: bool,
    site: Path | None,
) -> None:
    """Verify that the ledgers are unchanged since they were signed.

    Finds every record that was changed, dropped, added or reordered.

    FOLDER is a ledger or contains ledgers. Default: the site's ledgers. If old segments of a ledger
    were moved to another disk, name that folder too. The first bad record is named. The exit code
    is 1 if anything is wrong.

    Each ledger is also compared with the checkpoints of it in the other ledgers, in state/signed,
    in the site's change feed, and in those that the parties' witnesses have cosigned. This finds a
    ledger that was shortened together with its own checkpoint.

    Results are verified as well, if `snapshots` is beside the folder of the ledgers: signatures and
    chain of all snapshots, each row of the newest one against its record, and each record against
    its batch in the store. Copies of these folders are enough.
    """
    began = time.monotonic()
    sources = evidence.find(folders, key_files, site)
    ledgers = find_ledgers(sources.ledgers)
    own_site = None if folders else site
    show = _print_progress(ledgers) if told else lambda read: None
    verdicts = verify_all(sources, checkpoint_paths, own_site, show)
    for verdict in verdicts:
        click.echo(json.dumps(_verdict_fields(verdict)) if as_json else _format_verdict(verdict))
    wrong = any(verdict.findings for verdict in verdicts)
    findings = [f"{v.folder}: {f.kind}: {f.text}" for v in verdicts for f in v.findings]
    for found in result_chain.find_results([each.folder for each in ledgers]):
        of_results = result_chain.verify_results(found, sources.keys, _show_step)
        wrong = wrong or bool(of_results.findings)
        findings += [f"{of_results.folder}: {text}" for text in of_results.findings]
        fields = json.dumps(asdict(of_results), ensure_ascii=False)
        click.echo(fields if as_json else _format_results(of_results))
    if own_site is not None:
        seconds = round(time.monotonic() - began, 1)
        checked = tuple(VerifiedLedger(v.folder.name, v.records, v.signed) for v in verdicts)
        state = Verified(datetime.now(UTC), console.operator(), seconds, checked, tuple(findings))
        verified.write(own_site, state)
    sys.exit(wrong)


def _print_progress(ledgers: Iterable[LedgerFiles]) -> Callable[[int], None]:
    """Return a function that prints how many of all bytes were read, as JSON on stderr."""
    total = sum(s.path.stat().st_size for each in ledgers for s in each.segments().values())
    done, said = 0, 0.0

    def show(count: int) -> None:
        nonlocal done, said
        done += count
        if (now := time.monotonic()) >= said + _PROGRESS_SECONDS:
            said = now
            click.echo(json.dumps({"read": done, "total": total}), err=True)

    return show


def verify_all(
    sources: Evidence,
    checkpoint_paths: Sequence[Path],
    site: Path | None,
    also_show: Callable[[int], None] = lambda count: None,
) -> list[VerificationResult]:
    """Verify ledgers, each against older checkpoints and against what the other ledgers say of it.

    With `site`, whose ledgers they are, its change feed is asked too, and the checkpoints in
    state/signed and those that the parties' witnesses have cosigned.
    """
    witnessed: list[CosignedCheckpoint] = []
    ledgers = find_ledgers(sources.ledgers)
    names = {_ledger_name(ledger.folder) for ledger in ledgers}
    by_path = {str(path): list(_read_checkpoints(path, names)) for path in checkpoint_paths}
    older = [checkpoint for found in by_path.values() for checkpoint in found]
    if site is not None:
        # The change feed and the parties' witnesses have checkpoints too: a shortened ledger does
        # not match them.
        witnessed = list(cosigned.read_all(site / COSIGNED, sources.keys))
        seen = [(each.source, each.message) for each in witnessed]
        seen += [(source, found) for source, found, _ in signed_copies.read_all(site, sources.keys)]
        older = list(_without_copies([*older, *_read_site_feed(site, names), *seen]))
    all_folders = [ledger.folder for ledger in ledgers]
    losses = _read_accepted(all_folders)
    older = [each for each in older if not _is_accepted(each[1], losses)]
    known = _assign_anchors(all_folders, losses)
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
            also_show(count)

        with bar:
            kept = assigned.get(ledger.folder, ())
            other = known.get(ledger.folder, ())
            verdict = verify_ledger(ledger, sources.keys, kept, progress, anchors=other)
            name = _ledger_name(ledger.folder)
            verdict.accepted += [_format_loss(each) for each in losses if each.ledger == name]
            verdict.cosigned = [
                _format_cosigned(each)
                for each in witnessed
                if each.seconds is not None and anchors.ledger_name(each.checkpoint.origin) == name
            ]
            verdict.backwards = list(_clock_steps(ledger))
            verdict.unconfirmed = list(_unconfirmed_records(ledger))
            verdicts.append(verdict)
    used = {name for checkpoints in assigned.values() for name, _ in checkpoints}
    unused = [name for name, _ in older if name not in used]
    empty = [path for path, found in by_path.items() if not found]
    for name in [*unused, *empty]:
        text = f"{name}: has no checkpoint of these ledgers"
        verdicts[0].findings.append(Finding(FindingKind.ANOTHER_LOG, None, text))
    return verdicts


def _show_step(what: str) -> None:
    if console.err.is_terminal:
        console.err.print(f"{what} ...")


def _format_results(verdict: ResultVerdict) -> str:
    lines = [f"{verdict.folder}: {text}" for text in (*verdict.findings, *verdict.notes)]
    summary = f"{verdict.folder}: {verdict.snapshots:,} snapshots, {verdict.rows:,} rows of the "
    summary += f"newest, {verdict.lines:,} rows of {verdict.batches:,} batches"
    if not verdict.findings:
        summary += ", OK: all match their signatures and records"
    return "\n".join((*lines, summary))


def _clock_steps(ledger: LedgerFiles) -> Iterator[str]:
    """Yield a line for each record with an earlier time than the record before it."""
    with suppress(OSError, EOFError, segments.DecompressionError):
        for step in records_that_run_backwards(ledger):
            yield str(step)


def _unconfirmed_records(ledger: LedgerFiles) -> Iterator[str]:
    """Yield a line for the records that no daemon vouches for."""
    with suppress(OSError, EOFError, segments.DecompressionError):
        in_order = (segment for _, segment in sorted(ledger.segments().items()))
        for mark in unconfirmed.marks_in(in_order, _ledger_name(ledger.folder)):
            yield f"{mark} (record {mark.seq})"


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
        for file in sorted(path.rglob("*")) if not feeds.find_feeds(path) else ():
            if file.is_file() and file.stat().st_size <= cosignature.MAX_NOTE:
                content = file.read_bytes()
                if anchors.ledger_name(_origin(content)) in names:
                    yield str(file), content
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


def _read_site_feed(site: Path, names: set[str]) -> Iterator[_SourcedCheckpoint]:
    """Yield the checkpoints in the site's change feeds.

    Damaged segments are left out: `ssps audit gap --feed` names those.
    """
    for feed in feeds.find_feeds(site / FEED) if (site / FEED).is_dir() else ():
        for file in sorted(feed.glob("*.csv")):
            with suppress(Faults):
                for name, checkpoint in _read_checkpoints(file, names):
                    yield str(Path(name).relative_to(site)), checkpoint


def _assign_checkpoints(
    ledgers: Sequence[Path], older: Sequence[_SourcedCheckpoint]
) -> dict[Path, list[_SourcedCheckpoint]]:
    """Assign each older checkpoint to the ledger with the same origin, or else the same name.

    A single ledger gets all of them, so that a checkpoint of another origin is reported.
    """
    found: dict[Path, list[_SourcedCheckpoint]] = {}
    origins = {_origin(segments.read_checkpoint(each) or b"") for each in ledgers}
    named = [_ledger_name(each) for each in ledgers]
    for name, checkpoint in older:
        for folder in ledgers:
            newest = segments.read_checkpoint(folder) or b""
            stated = _origin(checkpoint)
            same = stated and stated == _origin(newest)
            if stated not in origins and named.count(anchors.ledger_name(stated)) == 1:
                # The only ledger of that name was begun again, so it has another origin now.
                same = anchors.ledger_name(stated) == _ledger_name(folder)
            if len(ledgers) == 1 or same:
                found.setdefault(folder, []).append((name, checkpoint))
    return found


def _read_accepted(ledgers: Sequence[Path]) -> list[Accepted]:
    """Return the losses that operators have accepted with `ssps recover`."""
    named = [folder for folder in ledgers if _ledger_name(folder) == OPERATIONS]
    return [each for folder in named for each in anchors.accepted(folder)]


def _is_accepted(checkpoint: bytes, losses: Sequence[Accepted]) -> bool:
    try:
        found = note.unverified_checkpoint(checkpoint)
    except ValueError:
        return False
    return any(each.covers(found) for each in losses)


def _assign_anchors(
    ledgers: Sequence[Path], losses: Sequence[Accepted]
) -> dict[Path, list[Anchor]]:
    """Assign the anchors in the ledgers' records: by origin, else to the one ledger of that name.

    So a ledger that began again under another origin is reported.
    """
    by_origin = {_origin(segments.read_checkpoint(each) or b""): each for each in ledgers}
    named: dict[str, list[Path]] = {}
    for each in ledgers:
        named.setdefault(_ledger_name(each), []).append(each)
    found: dict[Path, dict[Checkpoint, Anchor]] = {}
    for source in ledgers:
        for anchor in anchors.all_in(source):
            if any(loss.covers(anchor.checkpoint, anchor.recorded) for loss in losses):
                continue
            alike = named.get(anchor.ledger, [])
            target = by_origin.get(anchor.checkpoint.origin) or (
                alike[0] if len(alike) == 1 else None
            )
            if target is not None and anchor.checkpoint.size:
                found.setdefault(target, {}).setdefault(anchor.checkpoint, anchor)
    return {folder: list(each.values()) for folder, each in found.items()}


def _without_copies(checkpoints: Iterable[_SourcedCheckpoint]) -> Iterator[_SourcedCheckpoint]:
    seen = set()
    for name, checkpoint in checkpoints:
        if checkpoint not in seen:
            seen.add(checkpoint)
            yield name, checkpoint


def _format_cosigned(kept: CosignedCheckpoint) -> str:
    when = times.format_time(datetime.fromtimestamp(kept.seconds or 0, UTC))
    return (
        f"{kept.checkpoint.size:,} records were cosigned by the witness of {kept.party} at {when}"
    )


def _format_loss(loss: Accepted) -> str:
    lost = f"records {loss.kept} to {loss.lost - 1} of {loss.origin} were lost"
    return f"{lost}; `ssps recover` accepted that (record {loss.seq} of {OPERATIONS})"


def _origin(checkpoint: bytes) -> str:
    try:
        return note.unverified_checkpoint(checkpoint).origin
    except ValueError:
        return ""


def _format_verdict(verdict: VerificationResult) -> str:
    lines = [f"{verdict.folder}: {finding.kind}: {finding.text}" for finding in verdict.findings]
    if not (lines or verdict.records or verdict.heads):
        return f"{verdict.folder}: OK: no records yet"
    when = f", signed at {times.format_time(verdict.last)}" if verdict.last else ""
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
    lines += [f"{verdict.folder}: {text}" for text in (*verdict.cosigned, *verdict.accepted)]
    lines += [f"{verdict.folder}: unconfirmed: {text}" for text in verdict.unconfirmed]
    lines += [f"{verdict.folder}: {text}" for text in verdict.backwards[:_MAX_LISTED]]
    if (more := len(verdict.backwards) - _MAX_LISTED) > 0:
        lines.append(f"{verdict.folder}: {more:,} more records are dated backwards")
    return "\n".join(lines)


def _verdict_fields(verdict: VerificationResult) -> dict[str, Any]:
    fields = asdict(verdict)
    fields["folder"] = str(verdict.folder)
    fields["last"] = times.format_optional(verdict.last)
    return fields
