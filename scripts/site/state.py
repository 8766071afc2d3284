"""`ssps site export-state` and `import-state`: what a second machine needs to go on with a site."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from config.site import KEYS
from keys.operations import state_copy
from keys.operations.state_copy import FolderTarget, TarTarget
from scripts.shared import console

_STREAM = "-"
_WITHOUT_KEYS = (
    f"note: without {KEYS}/. The second machine needs the same host keys, signing key and "
    "credentials: add --keys, and send the copy only through ssh or encrypted, because the keys "
    "in it are not"
)


@click.group("site")
def site_() -> None:
    """Copy the state of a site to a second machine."""


@site_.command("export-state")
@click.argument("target", metavar="DIR")
@click.option("--keys", "with_keys", is_flag=True, help="Include private keys and credentials.")
@click.option("--dry-run", is_flag=True, help="Print which files would be copied.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; not with a pipe.")
@console.why_option("Who gets the copy, for the record.")
@console.with_site
def export_state(
    target: str, with_keys: bool, dry_run: bool, as_json: bool, why: str, site: Path
) -> None:
    """Copy settings, ledgers and state to DIR, or to a pipe.

    DIR is a new folder, or `-` for a tar archive on stdout.
    The copy ends with a manifest of all its files and their SHA-256. Without
    --keys it has no private key, no credential and no password. It never has
    the pages and results themselves (store, trees, feed, snapshots, quarantine,
    intake, results), which rsync copies, and no table of PostgreSQL.
    The daemons may run. docs/deploy/standby.md has all steps.
    """
    if as_json and target == _STREAM and not dry_run:
        raise click.UsageError("--json and an archive cannot both go to stdout")
    if dry_run:
        listed = [str(path) for path in state_copy.paths(site, with_keys=with_keys)]
        _print(as_json, "export-state", dry_run=True, changed=False, what=target, files=listed)
        return
    if target == _STREAM and sys.stdout.isatty():
        raise click.UsageError("this would print an archive on the terminal: write it to a pipe")
    if not with_keys:
        click.echo(_WITHOUT_KEYS, err=True)
    made = datetime.now(UTC)
    where = "stdout" if target == _STREAM else str(Path(target).absolute())
    with console.recorded_change(site, "site export-state", where, why) as record:
        record.done([where], {"keys": with_keys})
    if target == _STREAM:
        archive = TarTarget(sys.stdout.buffer)
        manifest = state_copy.export(site, archive, made, with_keys=with_keys)
        archive.close()
        sys.stdout.buffer.flush()
    else:
        folder = FolderTarget(Path(target).absolute())
        manifest = state_copy.export(site, folder, made, with_keys=with_keys)
    size = sum(file.size for file in manifest.files)
    click.echo(f"{where}: {len(manifest.files)} files, {size} bytes", err=True)
    if as_json:
        copied = [file.path for file in manifest.files]
        _print(as_json, "export-state", dry_run=False, changed=True, what=where, files=copied)


@site_.command("import-state")
@click.argument("source", metavar="COPY", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Check the copy, and install nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@console.with_new_site
def import_state(source: str, dry_run: bool, as_json: bool, site: Path) -> None:
    """Install a copy in the folder of a site without its files.

    COPY is the folder of `export-state`, or `-` for an archive on stdin; DIR is
    the site's folder.

    Every file is compared with the manifest first; if one is missing or damaged,
    nothing is changed. The folder may have pages already (store, trees and the
    others that rsync copies). If root imports it, the owner of DIR owns the
    files. After an interruption, import it again. Nothing is recorded: the ledgers of the copy must
    stay those of the first machine until this one takes over.
    """
    if source == _STREAM:
        files = state_copy.read_archive(sys.stdin.buffer)
    else:
        files = state_copy.read_folder(Path(source))
    manifest = (state_copy.examine if dry_run else state_copy.install)(files, site)
    click.echo(f"{site}: {len(manifest.files)} files as they were at {manifest.made}", err=True)
    if not manifest.keys:
        click.echo(f"note: the copy has no {KEYS}/, so no daemon can start here yet", err=True)
    if dry_run:
        click.echo("dry run: nothing has changed", err=True)
    if as_json or dry_run:
        listed = [file.path for file in manifest.files]
        fields = {"dry_run": dry_run, "changed": not dry_run, "what": str(site)}
        _print(as_json, "import-state", made=manifest.made, files=listed, **fields)


def _print(as_json: bool, command: str, *, files: list[str], **fields: object) -> None:
    if as_json:
        found = {"command": f"site {command}", **fields, "files": files}
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for path in files:
        click.echo(path)
