"""The files of a site that anybody at an allowed address may have: style, script, pictures.

Their addresses have a digest of their content, so browsers may keep them for a year.
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

from portal.access.gate import Refusal, gated_router, public

_STATIC = Path(__file__).parent / "static"  # what every site has
_KINDS = {".js": "text/javascript", ".webp": "image/webp"}
_FOREVER = "public, max-age=31536000, immutable"
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    digest: str


class Assets:
    """The files of one site, read once; of two files with one name, the later folder's counts."""

    def __init__(self, *folders: Path, pictures: Path | None = None, root: str = "") -> None:
        self._root = root
        found = [path for folder in (_STATIC, *folders) for path in sorted(folder.iterdir())]
        found += sorted(pictures.glob("*.webp")) if pictures else []
        self._found = {path.name: _read(path) for path in found if not path.name.startswith(".")}

    def address(self, name: str) -> str:
        """Return the address of a file, with the digest of its content."""
        return f"{self._root}/dosya/{self._found[name].digest}/{name}"

    def router(self) -> APIRouter:
        """Return the router that sends the files."""
        made = gated_router()

        @made.get("/dosya/{digest}/{name}")
        @public
        def asset(request: Request, digest: str, name: str) -> Response:
            """Send one file."""
            found = self._found.get(name)
            if found is None or found.digest != digest:
                raise Refusal(404, "missing", "Böyle bir dosya yok.")
            headers = {"cache-control": _FOREVER}
            return Response(found.content, media_type=found.media_type, headers=headers)

        return made


def _read(path: Path) -> _Asset:
    content = path.read_bytes()
    guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    kind = _KINDS.get(path.suffix, guessed)
    return _Asset(content, kind, hashlib.sha256(content).hexdigest()[:_DIGITS])
