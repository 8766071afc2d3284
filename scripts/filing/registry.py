"""`ssps registry`: import the table that maps each karekod to its sheet."""

import hashlib
from pathlib import Path

import click

from config import registry as index
from config.fault import Faults
from config.site import REGISTRY_CSV, REGISTRY_INDEX
from keys import files
from scripts.shared import console


@click.group()
def registry() -> None:
    """Manage the registry, which maps each karekod to its sheet."""


@registry.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@console.why_option()
@console.with_site
def import_(file: Path, why: str, site: Path) -> None:
    """Import the registry from FILE, a CSV file.

    If rows are wrong, nothing is imported, and up to a hundred of them are named by line. A
    running publisher uses the new registry from the next page on.
    """
    click.echo(_describe(import_registry(site, file, why)))


def import_registry(site: Path, file: Path, why: str) -> index.RegistrySource:
    """Import `file` as the site's registry, and keep a copy of it as registry.csv."""
    if not file.is_file():
        raise console.fault(str(file), "", "is not a regular file: save the registry to one first")
    copy = site / REGISTRY_CSV
    with console.recorded_change(site, "registry import", file.name, why) as change:
        change.before = _describe_imported(site)
        bar, progress = console.progress_bar(file.name, file.stat().st_size)
        with bar, index.importing(file, site / REGISTRY_INDEX, progress) as source:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != source.sha256:
                wrong = "changed while it was read: import the registry again"
                raise console.fault(str(file), "", wrong)
            change.done(_describe(source), {"rows": source.rows})
        if not (copy.exists() and copy.samefile(file)):
            files.replace(copy, content, 0o644)
    return source


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
