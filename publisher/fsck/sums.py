"""Checks the SHA256SUMS in the trees: their signatures, and the labels that say what they are."""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from config import layout
from keys.server_keys import sshsig
from publisher.feed.sums_label import parse_label

NO_LABEL = "has no label"  # as an earlier version of the publisher left it
REWRITTEN = "restart the publisher: it writes them again"


def has_label(path: str) -> bool:
    """Say whether the file at `path` in a tree is a SHA256SUMS that has a label beside it."""
    folder, _, name = path.rpartition("/")
    return (
        name == layout.SUMS and folder != layout.TOOLS and layout.RESULTS not in folder.split("/")
    )


def problem(file: Path, path: str, keys: Sequence[Ed25519PublicKey]) -> str | None:
    """Return what is wrong with the SHA256SUMS `file`, at `path` in a tree; None if nothing is.

    `keys` are the site's public signing keys.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None  # a rebuild has just moved the folder
    if not _is_signed(content, file, keys):
        return "is not signed by the site"
    label = file.with_name(layout.LABEL)
    try:
        text = label.read_bytes()
    except FileNotFoundError:
        return NO_LABEL
    if not _is_signed(text, label, keys):
        return f"{label.name} beside it is not signed by the site"
    try:
        found = parse_label(text)
    except ValueError:
        return f"{label.name} beside it is not a label of sums"
    if not found.describes(path.rpartition("/")[0], content):
        return f"{label.name} beside it is of other sums, of {found.folder}"
    return None


def _is_signed(content: bytes, file: Path, keys: Sequence[Ed25519PublicKey]) -> bool:
    try:
        signature = file.with_name(file.name + layout.SIGNATURE_SUFFIX).read_bytes()
    except FileNotFoundError:
        return False
    try:
        sshsig.verify_any(keys, content, signature)
    except sshsig.BadSignature:
        return False
    return True
