"""`ssps registry`: import the table that maps each karekod to its sheet."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from config import registry as index
from config.event import Value
from config.fault import Faults
from config.site import REGISTRY_CSV, REGISTRY_INDEX
from keys import files
from publisher.catalog import registry_change
from publisher.catalog.registry_change import RegistryChanges
from scripts.shared import console


@click.group()
def registry() -> None:
    """Manage the registry, which maps each karekod to its sheet."""


@registry.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--force", is_flag=True, help="Also remove or move sheets that are filed already.")
@console.why_option()
@console.with_site
def import_(file: Path, dry_run: bool, force: bool, why: str, site: Path) -> None:
    """Import the registry from FILE, a CSV file.

    FILE may be as a spreadsheet saves it: UTF-8 or UTF-16, separated by commas, semicolons or tabs.
    If rows are wrong, nothing is imported, and up to a hundred of them are named by line. Prints
    the differences from the registry in force. A running publisher uses the new registry from the
    next page on.

    A registry that lacks a filed sheet, or has it with another karekod, is refused without --force.
    With --force the page and its record stay where they are, and `ssps status` lists the sheet as
    filed and no longer expected.
    """
    try:
        source = import_registry(site, file, why, show=_show, force=force, dry_run=dry_run)
    except _DryRun:
        click.echo("dry run: nothing has changed", err=True)
        return
    click.echo(_describe(source))


class _DryRun(Exception):
    """Ends an import before anything has changed."""


def import_registry(
    site: Path,
    file: Path,
    why: str,
    *,
    show: Callable[[RegistryChanges], None] = lambda changes: None,
    force: bool = False,
    dry_run: bool = False,
) -> index.RegistrySource:
    """Import `file` as the site's registry, and keep a copy of it as registry.csv.

    `show` gets the changes first. Raises Faults if rows are wrong, or if a filed sheet would be
    removed or moved and `force` is not given.
    """
    if not file.is_file():
        raise console.fault(str(file), "", "is not a regular file: save the registry to one first")
    if dry_run:
        with _reading(site, file) as (_, changes):
            show(changes)
            _refuse(file, changes, force)
            raise _DryRun
    with console.recorded_change(site, "registry import", file.name, why) as change:
        change.before = _describe_imported(site)
        with _reading(site, file) as (source, changes):
            show(changes)
            _refuse(file, changes, force)
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != source.sha256:
                wrong = "changed while it was read: import the registry again"
                raise console.fault(str(file), "", wrong)
            change.done(_describe(source), _counts(source, changes))
        copy = site / REGISTRY_CSV
        if not (copy.exists() and copy.samefile(file)):
            files.replace(copy, content, 0o644)
    return source


@contextmanager
def _reading(site: Path, file: Path) -> Iterator[tuple[index.RegistrySource, RegistryChanges]]:
    """Make the new index, which replaces the one in force when the body ends without an error."""
    bar, progress = console.progress_bar(file.name, file.stat().st_size)
    with ExitStack() as stack:
        with bar:
            importing = index.importing(file, site / REGISTRY_INDEX, progress)
            source = stack.enter_context(importing)
        yield source, registry_change.compare(site, index.new_index(site / REGISTRY_INDEX))


def _refuse(file: Path, changes: RegistryChanges, force: bool) -> None:
    if changes.filed.number and not force:
        wrong = f"lacks or moves {changes.filed.number:,} sheets that are filed (listed above)"
        advice = "nothing was imported; import the whole registry, or repeat with --force"
        raise console.fault(file.name, "", f"{wrong}: {advice}")


def _counts(source: index.RegistrySource, changes: RegistryChanges) -> dict[str, Value]:
    return {
        "rows": source.rows,
        "added": changes.added.number,
        "removed": changes.removed.number,
        "changed": changes.changed.number,
        "filed_no_longer_expected": changes.filed.number,
    }


def _show(changes: RegistryChanges) -> None:
    for word, sheets in (
        ("added", changes.added),
        ("removed", changes.removed),
        ("changed", changes.changed),
        ("FILED", changes.filed),
    ):
        for line in sheets.first:
            click.echo(f"{word:<8} {line}")
        if sheets.number > len(sheets.first):
            more = "more" if sheets.first else "sheets"
            click.echo(f"{word:<8} {sheets.number - len(sheets.first):,} {more}")
    if not changes.any:
        click.echo("no change: the registry is the same")


def _describe(source: index.RegistrySource) -> str:
    return f"{source.rows} sheets, sha256 {source.sha256}"


def _describe_imported(site: Path) -> str | None:
    if not (site / REGISTRY_INDEX).exists():
        return None
    imported = index.Registry(site / REGISTRY_INDEX)
    try:
        return _describe(imported.source())
    except Faults:
        return "damaged"
    finally:
        imported.close()
