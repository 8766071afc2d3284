"""Error pages, in the words of the site; denied and missing look the same."""

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from portal.access.gate import ToLogin
from portal.web.rendering import page

_TEXTS = {
    400: "İstek anlaşılamadı.",
    403: "Bu işlem yapılamaz.",
    404: "Böyle bir sayfa yok, ya da görme yetkiniz yok.",
    405: "Bu adres böyle kullanılamaz.",
    422: "Adresteki bir ölçüt anlaşılamadı.",
    429: "Çok fazla istek geldi. Biraz bekleyip yeniden deneyin.",
    503: "Şu anda yanıt verilemiyor. Biraz sonra yeniden deneyin.",
}
_log = structlog.get_logger()
_OURS = "Sunucuda bir hata oldu. Yeniden deneyin; sürerse bizi arayın."


def answer_error(request: Request, error: Exception) -> Response:
    """Return the page for an error, or send the browser to the login."""
    if isinstance(error, ToLogin):
        return RedirectResponse((error.headers or {})["Location"], 303)
    headers: dict[str, str] = {}
    status, text = 500, _OURS
    if isinstance(error, RequestValidationError):
        status, text = 422, _TEXTS[422]
    elif isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
        told = hasattr(error, "slug") and isinstance(error.detail, str)
        text = str(error.detail) if told else _TEXTS.get(status, _OURS)
    else:
        _log.error("portal-error", path=request.scope["path"], cause=repr(error))
    return page(request, "hata.html", status, headers, text=text, number=status)
