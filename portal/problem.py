"""Errors for programs: `application/problem+json` (RFC 9457), each saying what to do.

{"type": "about:blank", "title": "Unauthorized", "status": 401, "code": "unauthorized",
 "detail": "Kullanıcı adı veya parola yanlış."}
"""

from http import HTTPStatus

import orjson

MEDIA_TYPE = "application/problem+json"
_PREFIXES = ("/v1", "/api")


def is_call(path: str) -> bool:
    """Say whether a path is one of the web service, which programs ask for, and not browsers."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in _PREFIXES)


def content(status: int, detail: str, code: str = "") -> bytes:
    """Return the answer; without a code it gets that of its status."""
    phrase = HTTPStatus(status).phrase
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": phrase,
            "status": status,
            "code": code or phrase.lower().replace(" ", "-"),
            "detail": detail,
        }
    )
