"""Finds the ledgers and the public keys that an audit command works on.

They are those of a site, or copies in any folder: an auditor needs no site.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config.site import LEDGERS, ledger_kind
from keys.ledger import note, segments
from keys.operations import site_keys
from scripts.shared import console

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Evidence:
    """The ledgers to read, and the public keys that may have signed their checkpoints."""

    ledgers: tuple[Path, ...]
    keys: tuple[Ed25519PublicKey, ...]

    def of_kind(self, kind: str) -> list[Path]:
        """Return the ledgers of a kind: several from several hosts, or from several sites."""
        return [folder for folder in self.ledgers if ledger_kind(folder.name) == kind]


folders_argument = click.argument(
    "folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path, exists=True)
)
key_option = click.option(
    "--key",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YSK's public signing key in OpenSSH or C2SP format. Default: the site's keys. "
    "May be repeated.",
)


def find(
    folders: Sequence[Path], key_files: Sequence[Path], site: Path | None, with_keys: bool = True
) -> Evidence:
    """Find the ledgers in `folders`, or those of the site if there are no folders.

    Raises UsageError if neither folders nor a site are given, Faults if they hold no ledger.
    """
    if not folders and site is None:
        raise click.UsageError("no ledgers given: name their folders, or a site with --site DIR")
    searched = folders or [site / LEDGERS] if site is not None else folders
    ledgers = sorted({each for folder in searched for each in _find_ledgers(folder)})
    if not ledgers:
        raise console.fault(
            ", ".join(map(str, searched)), "", "contains no ledger: name a folder that does"
        )
    return Evidence(tuple(ledgers), public_keys(key_files, site) if with_keys else ())


def public_keys(key_files: Sequence[Path], site: Path | None) -> tuple[Ed25519PublicKey, ...]:
    """Read the given key files, or those of the site that are on record if none are given.

    Raises UsageError without any.
    """
    if not key_files and site is not None:
        for fault in site_keys.unrecorded(site):
            click.echo(f"warning: {fault}", err=True)
        found = tuple(site_keys.public_signing_keys(site))
    else:
        found = tuple(map(read_key, key_files))
    if not found:
        raise click.UsageError("no public key given: name YSK's public signing key with --key FILE")
    return found


def read_key(path: Path) -> Ed25519PublicKey:
    """Read a public key; raise Faults if the file is not one."""
    try:
        return note.parse_public_key(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise console.fault(str(path), "", f"{error}: name YSK's public signing key") from None


def _find_ledgers(folder: Path) -> Iterable[Path]:
    """Yield `folder` if it is a ledger, else the ledgers at most three levels below it."""
    if _is_ledger(folder):
        yield folder.resolve()
        return
    for pattern in ("*", "*/*", "*/*/*"):
        for below in folder.glob(pattern):
            if below.is_dir() and _is_ledger(below):
                yield below.resolve()


def _is_ledger(folder: Path) -> bool:
    return bool(segments.list_segments(folder)) or (folder / segments.CHECKPOINT).exists()
