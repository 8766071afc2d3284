"""/v1/openapi.json describes the answers of every call, field for field."""

from typing import Any

import jsonschema_rs
import pytest
from unit.portal.portal_site import BOXES, every_result, result
from unit.portal.service.conftest import ServiceCalls
from unit.portal.service.test_field_names import CALLS

from portal.service import schemas
from portal.service.site import description

TEMPLATES = {
    "/v1/boxes/34-istanbul-1/kadikoy-1/1001": "/v1/boxes/{cevre}/{kurul}/{sandik}",
    "/v1/snapshots/1/manifest": "/v1/snapshots/{number}/manifest",
}
OPEN = frozenset({"contests", "files"})  # as the manifest has them


def closed(schema: Any) -> Any:
    """Return a schema whose objects allow no field that they do not describe."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(value) for name, value in schema.items()}
    if "properties" in schema:
        made["additionalProperties"] = False
    return made


def validator(schema: Any) -> jsonschema_rs.Draft202012Validator:
    whole = {**closed(schema), "components": {"schemas": closed(dict(schemas.COMPONENTS))}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def template(path: str) -> str:
    bare = path.partition("?")[0]
    return TEMPLATES.get(bare, bare)


@pytest.mark.slow
def test_every_answer_has_exactly_the_fields_that_are_described(calls: ServiceCalls) -> None:
    calls.site.file_sheet(BOXES[2])
    calls.site.publish(*every_result())
    calls.site.publish(result(BOXES[2], surum=2, neden="itiraz kabul", gecersiz=6))
    tried = set()

    for path in CALLS:
        answer = calls.get(path)
        media_type, schema = schemas.ANSWERS[template(path)]
        if answer.status_code != 200:
            schema = schemas.PROBLEM
        else:
            assert answer.headers["content-type"].partition(";")[0] == media_type
        found = [str(error) for error in validator(schema).iter_errors(answer.json())]
        assert found == [], (path, found[:3])
        tried.add(template(path))

    assert len(tried) == 16


def test_every_call_and_every_error_is_described() -> None:
    described = description()["paths"]

    assert set(schemas.ANSWERS) == {path for path in described if path.startswith("/v1")}
    for path, methods in described.items():
        for call in methods.values():
            [content] = call["responses"]["200"]["content"].values()
            assert content["schema"], path
            for errors in ("4XX", "5XX"):
                [(kind, problem)] = call["responses"][errors]["content"].items()
                assert kind == "application/problem+json"
                assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}


@pytest.mark.parametrize(
    ("change", "said"),
    [({"count": "3"}, "count"), ({"extra": 1}, "extra"), ({"count": None}, "count")],
)
def test_an_answer_of_another_shape_does_not_pass(change: dict[str, Any], said: str) -> None:
    _, schema = schemas.ANSWERS["/v1/gaps"]
    answer: dict[str, Any] = {
        "snapshot": 1,
        "closed_at": None,
        "durum": "GEÇİCİ SONUÇ",
        "count": 0,
        "gaps": [],
    }

    assert validator(schema).is_valid(answer)
    [error] = validator(schema).iter_errors({**answer, **change})
    assert said in f"{error} {error.instance_path}"
