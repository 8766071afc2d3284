"""NIST SP 1500-100: every report is valid by the public schema.

The schema is a work of the US government, in the public domain.
"""

import json
from pathlib import Path
from typing import Any

from jsonschema_rs import Draft4Validator
from unit.portal.portal_site import BOARDS, every_result, result
from unit.portal.service.conftest import ServiceCalls

SCHEMA = json.loads((Path(__file__).parent / "nist-sp-1500-100-v2.json").read_bytes())
DISTRICTS = sorted({cevre for cevre, _ in BOARDS})


def faults(report: Any) -> list[str]:
    return [error.message for error in Draft4Validator(SCHEMA).iter_errors(report)]


def test_every_report_is_valid(calls: ServiceCalls) -> None:
    calls.site.publish(*list(every_result())[:-3])

    for cevre in DISTRICTS:
        for secim in ("mv", "cb"):
            report = calls.json(f"/v1/nist/{secim}/{cevre}")
            assert faults(report) == []
            assert dangling(report) == set()


def test_a_report_is_sent_as_it_is_made(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())

    answer = calls.get("/v1/nist/mv/34-istanbul-1")

    assert "content-length" not in answer.headers
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["ssps-status"] == "GECICI SONUC"
    assert calls.get("/v1/nist/mv/99-x").status_code == 404


def test_the_validator_finds_a_fault(calls: ServiceCalls) -> None:
    report = calls.json("/v1/nist/mv/01-adana")
    del report["Issuer"]

    assert faults(report) != []


def dangling(report: Any) -> set[str]:
    """Return the ids that are named and not defined: the schema cannot check that."""
    defined: set[str] = set()
    named: set[str] = set()

    def walk(node: Any, key: str = "") -> None:
        if isinstance(node, dict):
            if "@id" in node:
                assert node["@id"] not in defined
                defined.add(node["@id"])
            for name, value in node.items():
                walk(value, name)
        elif isinstance(node, list):
            for each in node:
                walk(each, key)
        elif key.endswith(("Id", "Ids")) and key != "VendorApplicationId":
            named.add(node)

    walk(report)
    return named - defined


def test_a_report_has_the_votes_of_every_box(calls: ServiceCalls) -> None:
    box = ("34-istanbul-1", "kadikoy-1", "1001")
    calls.site.publish(result(box))

    report = calls.json("/v1/nist/mv/34-istanbul-1")

    (contest,) = report["Election"][0]["Contest"]
    assert report["Status"] == "unofficial-partial"
    assert (contest["SubUnitsReported"], contest["TotalSubUnits"]) == (1, 10)
    votes = {
        selection["PartyIds"][0]: [(v["GpUnitId"], v["Count"]) for v in selection["VoteCounts"]]
        for selection in contest["ContestSelection"]
    }
    assert votes["parti-parti-a"] == [("sandik-34-istanbul-1-kadikoy-1-1001", 102)]
    assert votes["parti-bagimsiz-1"] == [("sandik-34-istanbul-1-kadikoy-1-1001", 7)]
    coalition = next(p for p in report["Party"] if p["@type"] == "ElectionResults.Coalition")
    assert coalition["PartyIds"] == ["parti-parti-a", "parti-parti-b"]
