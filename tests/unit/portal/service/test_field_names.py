"""The names and types of the fields of every answer of `/v1` are frozen.

fields.json lists, for each call, every field as `path: type`. A client of today depends on them: a
field may be added, but none may be renamed, removed, or get another type. After adding one:

    WRITE_FIELDS=1 python -m pytest tests/unit/portal/service/test_field_names.py
"""

import json
import os
from pathlib import Path
from typing import Any

from unit.portal.portal_site import BOXES, every_result, result
from unit.portal.service.conftest import ServiceCalls

FIELDS = Path(__file__).parent / "fields.json"
MV = "secim=mv&cevre=34-istanbul-1"
CALLS = (
    "/v1/health", "/v1/elections", "/v1/ballots", "/v1/places?secim=mv",
    f"/v1/places?{MV}", f"/v1/summary?{MV}", f"/v1/results?{MV}",
    "/v1/boxes/34-istanbul-1/kadikoy-1/1001", "/v1/aggregates?secim=mv", f"/v1/coverage?{MV}",
    f"/v1/gaps?{MV}&eksik=tutanak", f"/v1/findings?{MV}",
    "/v1/sheets?cevre=34-istanbul-1&kurul=kadikoy-1&sandik=1001", "/v1/snapshots",
    "/v1/snapshots/latest", "/v1/snapshots/1/manifest", "/v1/changes", "/v1/summary?secim=xx",
)  # fmt: skip
# Below these, names are of parties, files and the like.
OPEN = ("oylar", "paylar", "files", "contests", "numbers", "members")


def fields(found: Any, at: str = "") -> set[str]:
    """Return every field below `found`, with its type; `[]` is any element of an array."""
    if isinstance(found, dict):
        if at.rpartition(".")[2] in OPEN:
            return {f"{at}: object of names"}
        inner = [fields(value, f"{at}.{name}" if at else name) for name, value in found.items()]
        return {f"{at}: object"}.union(*inner) if at else set().union(*inner)
    if isinstance(found, list):
        return {f"{at}: array"}.union(*(fields(each, f"{at}[]") for each in found))
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    return {f"{at}: {kinds[type(found)]}"}


def test_no_field_of_any_answer_has_changed(calls: ServiceCalls) -> None:
    calls.site.file_sheet(BOXES[2])
    calls.site.publish(*every_result())
    calls.site.publish(result(BOXES[2], surum=2, neden="itiraz kabul", gecersiz=6))

    found = {path: sorted(fields(calls.get(path).json())) for path in CALLS}

    if os.environ.get("WRITE_FIELDS"):
        FIELDS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    frozen = json.loads(FIELDS.read_text(encoding="utf-8"))
    for path, known in frozen.items():
        assert set(known) <= set(found[path]), path
    assert list(frozen) == list(found)
