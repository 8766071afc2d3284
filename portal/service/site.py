"""All calls of the web service, as one list of routers, and their description (OpenAPI)."""

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from portal.access.gate import add_routes, gated_router, public
from portal.service import result_calls, schemas, snapshot_calls, ssps_calls

_VERSION = "1"
_ABOUT = (
    "Sandık sonuçları, geçici. HTTP Basic (kullanıcı adı ve parola) ile, yalnız kayıtlı "
    "adreslerden. Hatalar application/problem+json; sınır aşılınca 429 ve Retry-After."
)

_BEARER = "Basic ile aynı: kullanıcı adı, iki nokta ve parola, base64 olarak"

router = gated_router(prefix="/v1", tags=["service"])
ROUTERS = (router, result_calls.router, snapshot_calls.router, ssps_calls.router)


def include(app: FastAPI) -> None:
    """Add the calls to the application."""
    add_routes(app, *ROUTERS)


@router.get("/openapi.json", include_in_schema=False)
@public
async def openapi() -> dict[str, Any]:
    """Describe all calls; needs no login."""
    return description()


@cache
def description() -> dict[str, Any]:
    """Return the description of all calls (OpenAPI 3.1)."""
    routes = [r for each in ROUTERS for r in each.routes if isinstance(r, APIRoute)]
    made = get_openapi(title="SSPS", version=_VERSION, description=_ABOUT, routes=routes)
    parts = made.setdefault("components", {})
    parts["securitySchemes"] = {
        "basic": {"type": "http", "scheme": "basic"},
        "bearer": {"type": "http", "scheme": "bearer", "description": _BEARER},
    }
    parts.setdefault("schemas", {}).update(schemas.COMPONENTS)
    problem = {
        "description": "Hata; ne yapılacağını detail söyler",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
        },
    }
    for path, calls in made["paths"].items():
        for call in calls.values():
            if path != "/v1/health":
                call["security"] = [{"basic": []}, {"bearer": []}]
            answers = call["responses"]
            answers.pop("422", None)
            answers |= {
                "4XX": problem,
                "5XX": problem,
            }
            media_type, schema = schemas.ANSWERS.get(path, (schemas.JSON, schemas.SSPS))
            content = {media_type: {"schema": schema}}
            answers["200"] = {"description": answers["200"]["description"], "content": content}
            if media_type in schemas.FILES:
                answers["206"] = {"description": "İstenen bölüm (Range)", "content": content}
                answers["304"] = {"description": "Değişmedi (If-None-Match)"}
    return made
