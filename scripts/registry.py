"""`ssps registry`: the table of karekods and the sheets they stand for."""

import hashlib
from pathlib import Path

import click

from config import registry as index
from config.fault import Faults
from keys import files
from scripts import console


@click.group()
def registry() -> None:
    """The registry: what each karekod stands for."""


@registry.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@console.with_site
def import_(file: Path, site: Path) -> None:
    """Bring in FILE, the registry as CSV, whole or not at all.

    A row at fault changes nothing; up to a hundred are named by their line. A running publisher
    takes the new registry at the next page.
    """
    made = bring_in(site, file)
    click.echo(f"{made.rows} sheets, sha256 {made.sha256}")


def bring_in(site: Path, file: Path) -> index.Source:
    """Make the site's registry of `file`, and keep a copy of it as registry.csv."""
    if not file.is_file():
        raise console.fault(str(file), "", "is no plain file, save the registry to one first")
    kept = site / "registry.csv"
    with console.operating(site) as record:
        bar, progress = console.reading(file.name, file.stat().st_size)
        with bar, index.importing(file, site / index.INDEX, progress) as made:
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != made.sha256:
                raise console.fault(str(file), "", "changed while it was read, import it again")
            detail = {"before": _imported(site), "after": made.sha256, "rows": made.rows}
            record("registry import", file.name, detail)
        if not (kept.exists() and kept.samefile(file)):
            files.replace(kept, content, 0o644)
    return made


def _imported(site: Path) -> str | None:
    if not (site / index.INDEX).exists():
        return None
    opened = index.Registry(site / index.INDEX)
    try:
        return opened.source().sha256
    except Faults:
        return None  # it is damaged, which is why it is brought in anew
    finally:
        opened.close()
