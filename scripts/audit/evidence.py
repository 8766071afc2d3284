"""Which ledgers and which keys a command of the auditor works on: a site's, or copies anywhere."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config.site import LEDGERS, SIGNING_KEYS
from keys.ledger import note, segments
from scripts.shared import console

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Evidence:
    """Ledgers, and the keys that may have signed for them."""

    ledgers: tuple[Path, ...]
    keys: tuple[Ed25519PublicKey, ...]

    def named(self, name: str) -> list[Path]:
        """Return the ledgers of that name, one for each gateway."""
        return [folder for folder in self.ledgers if folder.name == name]


folders_argument = click.argument(
    "folders", metavar="[FOLDER]...", nargs=-1, type=click.Path(path_type=Path, exists=True)
)
key_option = click.option(
    "--key",
    "key_files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YSK's public signing key, as OpenSSH or C2SP write it; the site's own without it.",
)


def find(
    folders: Sequence[Path], key_files: Sequence[Path], site: Path | None, with_keys: bool = True
) -> Evidence:
    """Find the ledgers in `folders`, or the site's; raise UsageError or Faults if there is none."""
    if not folders and site is None:
        raise click.UsageError("which ledgers? Name their folders, or a site with --site DIR.")
    searched = folders or [site / LEDGERS] if site is not None else folders
    found = sorted({each for folder in searched for each in _ledgers(folder)})
    if not found:
        stated = ", ".join(map(str, searched))
        raise console.fault(stated, "", "holds no ledger, name a folder that does")
    return Evidence(tuple(found), public_keys(key_files, site) if with_keys else ())


def public_keys(key_files: Sequence[Path], site: Path | None) -> tuple[Ed25519PublicKey, ...]:
    """Return the keys that were named, or the site's; raise UsageError if there is none."""
    if not key_files and site is not None:
        key_files = sorted((site / SIGNING_KEYS).rglob("*.pub"))
    if not key_files:
        raise click.UsageError("whose signature? Name YSK's public key with --key FILE.")
    return tuple(map(read_key, key_files))


def read_key(path: Path) -> Ed25519PublicKey:
    """Read a public key; raise Faults for what is none."""
    try:
        return note.public_key(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise console.fault(str(path), "", f"{error}, name YSK's public signing key") from None


def _ledgers(folder: Path) -> Iterable[Path]:
    """Yield `folder` if it is a ledger, or those within it, three levels down at most."""
    if segments.listed(folder) or (folder / segments.CHECKPOINT).exists():
        yield folder.resolve()
        return
    for pattern in ("*", "*/*", "*/*/*"):
        for below in folder.glob(pattern):
            if below.is_dir() and (
                segments.listed(below) or (below / segments.CHECKPOINT).exists()
            ):
                yield below.resolve()
