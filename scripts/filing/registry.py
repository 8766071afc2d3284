"""`ssps registry`: the table of karekods and the sheets they stand for."""

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
    """The registry: what each karekod stands for."""


@registry.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@console.why_option()
@console.with_site
def import_(file: Path, why: str, site: Path) -> None:
    """Bring in FILE, the registry as CSV, whole or not at all.

    A row at fault changes nothing; up to a hundred are named by their line. A running publisher
    takes the new registry at the next page.
    """
    made = import_registry(site, file, why)
    click.echo(f"{made.rows} sheets, sha256 {made.sha256}")


def import_registry(site: Path, file: Path, why: str) -> index.RegistrySource:
    """Make the site's registry of `file`, and keep a copy of it as registry.csv."""
    if not file.is_file():
        raise console.fault(str(file), "", "is no plain file, save the registry to one first")
    kept = site / REGISTRY_CSV
    with console.recorded_change(site, "registry import", file.name, why) as record:
        record.before = _describe_imported(site)
        bar, progress = console.progress_bar(file.name, file.stat().st_size)
        with bar, index.importing(file, site / REGISTRY_INDEX, progress) as made:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != made.sha256:
                raise console.fault(str(file), "", "changed while it was read, import it again")
            record.done(_describe(made), {"rows": made.rows})
        if not (kept.exists() and kept.samefile(file)):
            files.replace(kept, content, 0o644)
    return made


def _describe(source: index.RegistrySource) -> str:
    return f"{source.rows} sheets, sha256 {source.sha256}"


def _describe_imported(site: Path) -> str | None:
    if not (site / REGISTRY_INDEX).exists():
        return None
    opened = index.Registry(site / REGISTRY_INDEX)
    try:
        return _describe(opened.source())
    except Faults:
        return "damaged"
    finally:
        opened.close()
