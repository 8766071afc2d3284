"""Errors of the web service, each as `application/problem+json` (portal/problem)."""

from fastapi import Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from portal import problem

_DETAILS = {
    404: "Böyle bir çağrı yok; çağrılar /v1/openapi.json adresindedir.",
    405: "Bütün çağrılar GET ile yapılır.",
}


def answer_error(error: Exception) -> Response:
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
    return Response(problem.content(status, detail, code), status, headers, problem.MEDIA_TYPE)
