"""`ssps registry`: import the table that maps each karekod to its sheet."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import click

from config import registry as index
from config.event import Value
from config.fault import Faults
from config.site import REGISTRY_CSV, REGISTRY_INDEX
from keys import files
from publisher.catalog.queries import registry_change
from publisher.catalog.queries.registry_change import RegistryChanges
from scripts.shared import change, console
from scripts.shared.change import Change, Plan


@click.group()
def registry() -> None:
    """Manage the registry, which maps each karekod to its sheet."""


@registry.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Also remove or move sheets that are filed already.")
@change.mode_options()
@console.why_option()
@console.with_site
def import_(file: Path, force: bool, mode: change.Mode, why: str, site: Path) -> None:
    """Import the registry from FILE, a CSV file.

    The columns are karekod, secim, belge, cevre, kurul, sandik_turu, sandik, mahalle, sayfa:

    \b
        karekod,secim,belge,cevre,kurul,sandik_turu,sandik,mahalle,sayfa
        1093717526,cb,sandik-sonuc,34-istanbul-1,kadikoy-2,normal,1234,Caferağa,1

    FILE may be as a spreadsheet saves it: UTF-8 or UTF-16, separated by commas, semicolons or tabs.
    If rows are wrong, nothing is imported, and up to a hundred of them are named by line. Prints
    the differences from the registry in force. A running publisher uses the new registry from the
    next page on.

    A registry that lacks a filed sheet, or has it with another karekod, is refused without --force.
    With --force the page and its record stay where they are, and `ssps status` lists the sheet as
    filed and no longer expected.
    """  # noqa: D301
    with _Import(site, file, why, force) as importing:
        done = change.carry_out(site, importing, mode)
    if done is not None:
        click.echo(done.new)


@registry.command()
@click.argument("wanted", metavar="KAREKOD|PLACE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@console.with_site
def find(wanted: str, as_json: bool, site: Path) -> None:
    """Find the sheet of a KAREKOD, or all sheets of a PLACE.

    A KAREKOD is ten digits. A PLACE is a district, a board or a box. Exit code 1 if the registry
    has none. For example:

    \b
        ssps registry find 1093717526
        ssps registry find 34-istanbul-1/kadikoy-2
        ssps registry find 34-istanbul-1/kadikoy-2/1234 --json
    """  # noqa: D301
    opened = index.Registry(site / REGISTRY_INDEX)
    try:
        if index.is_karekod(wanted):
            found = [entry for entry in [opened.lookup(wanted)] if entry is not None]
        else:
            found = list(opened.at_place(*_place(wanted)))
    finally:
        opened.close()
    if as_json:
        click.echo(json.dumps([_row(entry) for entry in found], ensure_ascii=False))
    for entry in () if as_json else found:
        click.echo("  ".join(str(value) for value in _row(entry).values() if value is not None))
    if not found:
        click.echo(f"{wanted}: not in the registry", err=True)
        raise SystemExit(1)


def _place(text: str) -> tuple[str, ...]:
    parts = text.strip("/").split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise click.UsageError(
            f"{text!r} is neither ten digits nor a place such as 34-istanbul-1/kadikoy-2/1234"
        )
    parts[2:] = [part.removeprefix("sandik-") for part in parts[2:]]
    return tuple(parts)


def _row(entry: index.RegistryEntry) -> dict[str, str | int | None]:
    sheet = entry.sheet
    return {
        "karekod": entry.karekod,
        "secim": sheet.secim.value,
        "belge": sheet.belge.value,
        "cevre": sheet.cevre,
        "kurul": sheet.kurul,
        "sandik_turu": entry.sandik_turu.value if entry.sandik_turu else None,
        "sandik": sheet.sandik,
        "mahalle": entry.mahalle or None,
        "sayfa": sheet.page,
    }


def import_registry(site: Path, file: Path, why: str) -> None:
    """Import `file` without printing anything; raise Faults if rows are wrong."""
    with _Import(site, file, why) as importing:
        change.apply(site, importing, quiet=True)


class _Discarded(Exception):
    """Ends an import whose index is not put in place."""


class _Import(Change[str | None]):
    """Replaces the registry, and keeps a copy of the file as registry.csv.

    `plan` makes the new index, `apply` puts it in place. Use it in a `with` statement, which
    removes an index that was not put in place.
    """

    def __init__(self, site: Path, file: Path, why: str, force: bool = False) -> None:
        super().__init__("registry import", file.name, why)
        if not file.is_file():
            wrong = "is not a regular file: save the registry to one first"
            raise console.fault(str(file), "", wrong)
        self._site, self._file, self._force = site, file, force
        self._stack = ExitStack()

    def __enter__(self) -> "_Import":
        return self

    def __exit__(self, *_: object) -> None:
        self._discard()

    def _discard(self) -> None:
        with suppress(_Discarded), self._stack:
            raise _Discarded

    def read(self) -> str | None:
        """Return the registry in force: its rows and its digest."""
        return _describe_imported(self._site)

    def describe(self, old: str | None) -> Value:
        return old

    def plan(self, old: str | None) -> Plan[str | None]:
        """Make the new index; raise Faults if a filed sheet would be removed or moved."""
        self._discard()
        bar, progress = console.progress_bar(self._file.name, self._file.stat().st_size)
        with bar:
            importing = index.importing(self._file, self._site / REGISTRY_INDEX, progress)
            source = self._stack.enter_context(importing)
        changes = registry_change.compare(self._site, index.new_index(self._site / REGISTRY_INDEX))
        preview = list(_preview(changes))
        if changes.filed.number and not self._force:
            self.show(preview)
            wrong = f"lacks or moves {changes.filed.number:,} sheets that are filed (listed above)"
            advice = "nothing was imported; import the whole registry, or repeat with --force"
            raise console.fault(self._file.name, "", f"{wrong}: {advice}")
        content = self._file.read_bytes()
        if hashlib.sha256(content).hexdigest() != source.sha256:
            wrong = "changed while it was read: import the registry again"
            raise console.fault(str(self._file), "", wrong)

        def apply() -> None:
            self._stack.close()
            copy = self._site / REGISTRY_CSV
            if not (copy.exists() and copy.samefile(self._file)):
                files.replace(copy, content, 0o644)

        new = _describe(source)
        return Plan(new, preview, lambda: new, apply, _counts(source, changes))

    def show(self, preview: Sequence[str]) -> None:
        """Print the differences on stdout: they are what the command is asked for."""
        for line in preview:
            click.echo(line)


def _counts(source: index.RegistrySource, changes: RegistryChanges) -> dict[str, Value]:
    return {
        "rows": source.rows,
        "added": changes.added.number,
        "removed": changes.removed.number,
        "changed": changes.changed.number,
        "filed_no_longer_expected": changes.filed.number,
    }


def _preview(changes: RegistryChanges) -> Iterator[str]:
    for word, sheets in (
        ("added", changes.added),
        ("removed", changes.removed),
        ("changed", changes.changed),
        ("FILED", changes.filed),
    ):
        yield from (f"{word:<8} {line}" for line in sheets.first)
        if sheets.number > len(sheets.first):
            more = "more" if sheets.first else "sheets"
            yield f"{word:<8} {sheets.number - len(sheets.first):,} {more}"
    if not changes.any:
        yield "no change: the registry is the same"


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
