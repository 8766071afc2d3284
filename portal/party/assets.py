"""The files of the site that anybody at a registered address may have: style, script, pictures.

Their addresses have a digest of their content, so browsers may keep them for a year.
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Request, Response

from portal.access.gate import Refusal, gated_router, public

_FOLDER = Path(__file__).parent / "static"
HELP_FOLDER = Path(__file__).parent / "help"
_KINDS = {".js": "text/javascript", ".webp": "image/webp"}
_FOREVER = "public, max-age=31536000, immutable"
_DIGITS = 16

router = gated_router()


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    digest: str


@cache
def _assets() -> dict[str, _Asset]:
    found = {}
    for path in (*sorted(_FOLDER.iterdir()), *sorted(HELP_FOLDER.glob("*.webp"))):
        if path.name.startswith("."):
            continue
        content = path.read_bytes()
        guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        kind = _KINDS.get(path.suffix, guessed)
        digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
        found[path.name] = _Asset(content, kind, digest)
    return found


def address(name: str) -> str:
    """Return the address of a file, with the digest of its content."""
    return f"/dosya/{_assets()[name].digest}/{name}"


@router.get("/dosya/{digest}/{name}")
@public
def asset(request: Request, digest: str, name: str) -> Response:
    """Send one file."""
    found = _assets().get(name)
    if found is None or found.digest != digest:
        raise Refusal(404, "missing", "Böyle bir dosya yok.")
    return Response(found.content, media_type=found.media_type, headers={"cache-control": _FOREVER})
