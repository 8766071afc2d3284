"""Errors of the web service: `application/problem+json` (RFC 9457), each saying what to do.

{"type": "about:blank", "title": "Unauthorized", "status": 401, "code": "unauthorized",
 "detail": "Kullanıcı adı veya parola yanlış."}
"""

from http import HTTPStatus

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

PREFIXES = ("/v1", "/api")
_DETAILS = {
    404: "Böyle bir çağrı yok; çağrılar /v1/openapi.json adresindedir.",
    405: "Bütün çağrılar GET ile yapılır.",
}
_MEDIA_TYPE = "application/problem+json"


def is_call(request: Request) -> bool:
    """Say whether a request is one of a program, and not of a browser."""
    path = request.url.path
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in PREFIXES)


def answer(error: Exception) -> JSONResponse:
    """Return the answer for an error."""
    headers: dict[str, str] = {}
    code = ""
    if isinstance(error, HTTPException):
        status, detail = error.status_code, str(error.detail)
        headers = dict(error.headers or {})
        code = str(getattr(error, "slug", ""))
        if not code:  # of the framework, in English
            detail = _DETAILS.get(status, detail)
    elif isinstance(error, RequestValidationError):
        status, code = 422, "invalid"
        wrong = (f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        detail = "; ".join(wrong)
    else:
        status, code, detail = 500, "internal", "Sunucu hatası. Yeniden deneyin, sonra bizi arayın."
    phrase = HTTPStatus(status).phrase
    content = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "code": code or phrase.lower().replace(" ", "-"),
        "detail": detail,
    }
    return JSONResponse(content, status, headers, _MEDIA_TYPE)
