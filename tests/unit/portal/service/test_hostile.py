"""What an attacker with a valid login can send: nothing leaks, nothing breaks, nothing runs."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unit.portal.portal_site import BOARDS, BOXES, every_result, mahalle_of
from unit.portal.service.conftest import ServiceCalls

from portal.service.site import description

INJECTIONS = (
    "' OR '1'='1", "1; DROP TABLE result", "\" UNION SELECT * FROM sqlite_master --", "{{7*7}}",
    "${7*7}", "%(a)s", "../../../../etc/passwd", "..\\..\\site.toml", "/etc/passwd", "\x00", "%00",
    "\ud800", "A" * 5000, "-1", "1e999", "NaN", "[]", "{}", "<script>alert(1)</script>", "=1+1",
    "\r\nX-Injected: 1", "İ" * 200,
)  # fmt: skip
PATHS = (
    "/v1/results?secim={}", "/v1/results?secim=mv&cevre={}", "/v1/results?secim=mv&kurul={}",
    "/v1/results?secim=mv&mahalle={}", "/v1/results?secim=mv&ilk={}&son={}",
    "/v1/results?secim=mv&sirala={}", "/v1/results?secim=mv&sirala=oylar.{}",
    "/v1/results?limit={}", "/v1/results?offset={}", "/v1/summary?tur={}", "/v1/places?cevre={}",
    "/v1/findings?kontrol={}", "/v1/findings?secim=mv&cevre={}&kurul={}", "/v1/changes?since={}",
    "/v1/changes?limit={}", "/v1/changes?wait={}", "/v1/snapshots?since={}", "/v1/snapshots/{}",
    "/v1/snapshots/1?secim={}", "/v1/snapshots/1/files/{}", "/v1/snapshots/{}/manifest",
    "/v1/sheets/{}", "/v1/sheets?cevre={}&kurul={}&sandik={}", "/v1/boxes/{}/kadikoy-1/1001",
    "/v1/boxes/34-istanbul-1/{}/1001", "/v1/boxes/34-istanbul-1/kadikoy-1/{}",
    "/v1/receipts/{}/1", "/v1/receipts/results/{}", "/v1/nist/{}/01-adana", "/v1/nist/mv/{}",
    "/api/ssps/getIlList?secimTuru={}", "/api/ssps/getSecimSandikSonucList?ilceId={}",
    "/api/ssps/getSecimSonucList?sandikNoIlk={}&sandikRumuzSon={}", "/v1/{}",
)  # fmt: skip


_BASE = "https://ssps.test"


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_value_of_any_parameter_breaks_a_call_or_leaks(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())
    for path in PATHS:
        for value in INJECTIONS:
            text = quote(value.encode("utf-8", "surrogatepass"), safe="")
            target = path.replace("{}", text)

            answer = calls.get(target, "parti-b")

            assert answer.status_code < 500, (target, answer.text)
            assert "x-injected" not in answer.headers
            leaked = ("kadikoy-1", "Moda", "root:", "CREATE TABLE", "Traceback", "sqlite3", "49")
            found = [word for word in leaked if word in answer.text and word not in target]
            assert found in ([], ["49"]), (target, answer.text)  # 49 is a number like others
            if answer.status_code >= 400:
                assert answer.headers["content-type"] == "application/problem+json", target
                assert answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.no_cover
def test_no_place_of_another_party_is_told_by_any_parameter_of_any_call(
    calls: ServiceCalls,
) -> None:
    """parti-b has one board; it asks for every other place, wherever a call takes a place."""
    others = [(*board, boxes[-1]) for board, boxes in BOARDS.items() if board[1] != "kadikoy-2"]
    sheets = [calls.site.file_sheet(box) for box in others]
    calls.site.publish(*every_result(), exports=True)
    hidden = ("kadikoy-1", "aladag", "konak", "almanya", "kapikule", "adana", "izmir", "Moda")
    tried = 0
    for path, methods in description()["paths"].items():
        parameters = methods["get"].get("parameters", ())
        for box, sheet in zip(others, sheets, strict=True):
            place = dict(zip(("cevre", "kurul", "sandik"), box, strict=True))
            place |= {"mahalle": mahalle_of(box), "ilk": box[2], "son": box[2], "secim": "mv"}
            target = path
            for name, value in {**place, "path": sheet, "ledger": "results"}.items():
                target = target.replace(f"{{{name}}}", value)
            target = re.sub("{.*?}", "1", target)
            asked = [p["name"] for p in parameters if p["in"] == "query" and p["name"] in place]
            for names in [asked, *([name] for name in asked)]:
                query = {name: place[name] for name in names}
                answer = calls.get(target, "parti-b", params=query)

                tried += 1
                sent = f"{target} {query}"
                told = [word for word in hidden if word in answer.text and word not in sent]
                assert told == [], (sent, answer.text[:300])
                assert answer.status_code in (200, 400, 404, 422), sent
    assert tried > 400


@pytest.mark.slow
@pytest.mark.no_cover
def test_schemathesis_finds_no_fault_of_the_server(calls: ServiceCalls) -> None:
    """Calls that follow openapi.json, and calls that do not, get an answer that it describes."""
    import schemathesis  # which takes 0.7 s, so that only this test waits for it
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [status_code_conformance, content_type_conformance, response_schema_conformance]
    calls.site.publish(*every_result())
    described = calls.get("/v1/openapi.json", auth=None).json()
    schema = schemathesis.openapi.from_dict(described)
    fast = settings(
        max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    tried = 0

    def call(case: Any) -> None:
        nonlocal tried
        tried += 1
        sent = case.as_transport_kwargs(base_url=_BASE)
        params = {**(sent.get("params") or {}), "wait": "0"}
        path = sent["url"].removeprefix(_BASE)
        if not path.startswith(("/v1/changes", "/v1/snapshots?", "/v1/snapshots")):
            params.pop("wait")
        answer = calls.get(path, params=params or None)
        assert answer.status_code < 500, (path, params, answer.text)
        case.validate_response(answer, checks=checks)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json", path

    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]
        has_parameters = bool(operation.query or operation.path_parameters)
        for mode in schemathesis.GenerationMode if has_parameters else ():
            fast(given(case=operation.as_strategy(generation_mode=mode))(call))()
    assert tried > 200


@given(text=st.text(max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_accept_encoding_and_range_header_is_harmless(text: str) -> None:
    from portal.service.serve_file import choose_encoding, matches, parse_range

    assert choose_encoding(text, ("zstd", "gzip", "identity")) in ("zstd", "gzip", "identity", None)
    matches(text, '"etag"')
    try:
        found = parse_range(f"bytes={text}", 1000)
    except ValueError:
        return
    assert found is None or 0 <= found.first < found.end <= 1000


def test_a_compressed_body_is_never_unpacked(calls: ServiceCalls) -> None:
    """No call takes a body, so a decompression bomb has nowhere to go."""
    bomb = b"\x1f\x8b" + b"\x00" * 60_000

    statuses = [
        calls.portal.client()
        .send(
            method,
            "/v1/summary",
            content=body,
            headers={"Content-Encoding": "gzip"},
            auth=("parti-a.servis", "Yedi-Kule-Kapisi-17"),
        )
        .status_code
        for method in ("GET", "POST")
        for body in (bomb, bomb * 2)
    ]

    assert statuses == [400, 413, 405, 413]


def test_only_reading_methods_exist(calls: ServiceCalls) -> None:
    for path in ("/v1/summary", "/v1/results", "/api/ssps/getIlList", "/v1/snapshots/1"):
        for method in ("POST", "PUT", "PATCH", "DELETE", "TRACE"):
            answer = calls.portal.client().send(
                method, path, auth=("parti-a.servis", "Yedi-Kule-Kapisi-17")
            )
            assert answer.status_code == 405, (method, path)


def test_a_record_of_another_partys_box_is_no_receipt(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())

    proofs = [calls.get(f"/v1/receipts/results/{n}", "parti-b") for n in range(50)]

    told = [p.content for p in proofs if p.status_code == 200]
    assert len(told) == 2 * sum(box[1] == "kadikoy-2" for box in BOXES)
    assert {p.status_code for p in proofs} == {200, 404}
