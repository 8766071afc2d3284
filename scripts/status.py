"""`ssps status`: how much of what is expected has come in."""

import json
from pathlib import Path

import click

from config import registry
from publisher import catalog
from scripts import console


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For a script: one JSON object.")
@console.with_site
def status(as_json: bool, site: Path) -> None:
    """Count the sheets: expected, filed, missing.

    And the pages that were not filed: duplicates, in quarantine, waiting; and the links that some
    party's tree would not take (gaps).
    """
    counted = count(site)
    if as_json:
        click.echo(json.dumps(counted))
        return
    share = f" ({100 * counted['filed'] / counted['expected']:.1f} %)" * bool(counted["expected"])
    for key, value in counted.items():
        click.echo(f"{key:12}{value:>10,}{share if key == 'filed' else ''}")


def count(site: Path) -> dict[str, int]:
    """Return what `ssps status --json` prints."""
    expected = 0
    if (site / registry.INDEX).exists():
        opened = registry.Registry(site / registry.INDEX)
        expected = opened.source().rows
        opened.close()
    counts = catalog.counts(site, site / registry.INDEX)
    return {
        "expected": expected,
        "filed": counts.filed,
        "missing": expected - (counts.registered or 0),
        "versions": counts.versions,
        "duplicates": counts.duplicates,
        "quarantined": counts.quarantined,
        "waiting": counts.waiting,
        "gaps": counts.gaps,
    }
