"""The calls of the web service: who may call, what comes back, and what is on record."""

import asyncio
import json
from contextlib import ExitStack
from datetime import timedelta

import httpx
import pytest
import web_site
import zstandard
from unit.portal.portal_site import BOXES, every_result, result
from unit.portal.service.conftest import BASIC, ServiceCalls

from config.sheet import Secim
from keys.credentials import ring, user_changes
from keys.credentials.users import Role, State, User, Users
from keys.ledger.receipt import parse_receipt
from portal.access.limits import MAX_FILES, MAX_OPEN
from portal.data.live import LiveData
from portal.service import result_calls, snapshot_calls
from publisher.database import Unreachable

ISTANBUL = "secim=mv&cevre=34-istanbul-1"


def test_a_call_needs_the_password_of_a_service_user(calls: ServiceCalls) -> None:
    nobody = calls.get("/v1/summary", auth=None)
    wrong = calls.get("/v1/summary", auth=("parti-a.servis", "wrong"))
    web_user = calls.get("/v1/summary", auth=("parti-a.ayse", web_site.PASSWORD))

    for answer in (nobody, wrong, web_user):
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert answer.json()["code"] == "unauthorized"
    assert calls.get("/v1/health", auth=None).json() == {"status": "ok"}
    assert calls.get("/v1/openapi.json", auth=None).json()["openapi"].startswith("3.1")


def test_every_call_is_on_record_before_it_is_answered(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())

    calls.json("/v1/results?secim=mv&cevre=01-adana")

    event, who, what, outcome, detail = calls.portal.records()[-1]
    assert (event, who, what, outcome) == (
        "call",
        "parti-a",
        "/v1/results?secim=mv&cevre=01-adana",
        "ok",
    )
    assert (detail["user"], detail["rows"], detail["snapshot"]) == ("parti-a.servis", 2, 1)


def test_a_call_without_its_database_may_be_repeated_and_is_on_record(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise Unreachable("server closed the connection unexpectedly")

    monkeypatch.setattr(LiveData, "scoped", lost)

    answer = calls.get(f"/v1/summary?{ISTANBUL}")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert answer.json()["code"] == "unavailable"
    event, who, what, outcome, detail = calls.portal.records()[-1]
    assert (event, who, outcome, detail["status"]) == ("denied", "parti-a", "refused", 503)
    assert what == f"/v1/summary?{ISTANBUL}"


def test_a_summary_has_the_boxes_opened_of_all_and_their_sum(calls: ServiceCalls) -> None:
    calls.site.publish(result(BOXES[2]), result(BOXES[3]))

    found = calls.json(f"/v1/summary?{ISTANBUL}")

    assert found["snapshot"] == 1
    assert found["durum"] == "GEÇİCİ SONUÇ"
    total = found["toplam"]
    assert (total["sandik_acilan"], total["sandik_toplam"]) == (2, 10)
    assert total["oylar"]["parti-a"] == 205
    assert total["paylar"]["ortak"]["members"]["parti-a"]["own"] == 205
    assert total["katilim"] == round((214 + 215) / 800, 6)


def test_results_have_every_number_as_an_integer(calls: ServiceCalls) -> None:
    calls.site.publish(result(BOXES[2]))

    found = calls.json(f"/v1/results?{ISTANBUL}&sirala=gecerli&azalan=true&limit=2")

    first, second = found["results"]
    assert found["count"] == 10
    assert first["cevre"] == "34-istanbul-1"
    assert first["gecerli"] == 209
    assert first["oylar"] == {
        "parti-a": 102, "parti-b": 50, "parti-c": 40, "ortak": 10, "bagimsiz-1": 7,
    }  # fmt: skip
    assert first["zarf"] is None
    assert first["zaman"] == "2023-05-14T15:30:00Z"
    assert (second["surum"], second["gecerli"], second["oylar"]) == (0, None, {})
    assert found["toplam"]["gecerli"] == 209


def test_results_that_are_written_in_parts_are_all_there(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.site.publish(result(BOXES[2]))
    monkeypatch.setattr(result_calls, "_ROWS_A_PART", 3)
    for offset, number in ((0, 10), (1, 9), (9, 1), (10, 0), (11, 0)):
        found = calls.json(f"/v1/results?{ISTANBUL}&offset={offset}")

        assert found["count"] == 10
        assert len({(each["kurul"], each["sandik"]) for each in found["results"]}) == number
        assert calls.portal.records()[-1][4]["rows"] == number


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("secim=xx", "secim"),
        ("alan=ay", "alan"),
        ("durum=x", "durum"),
        ("sirala=1;drop table", "sirala"),
        ("limit=0", "limit"),
        ("limit=abc", "limit"),
        ("cevr=34-istanbul-1", "cevr"),
        ("mahalle=%00", "mahalle"),
    ],
)
def test_a_wrong_parameter_is_a_problem_that_says_which(
    calls: ServiceCalls, query: str, says: str
) -> None:
    answer = calls.get(f"/v1/results?{query}")

    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_an_election_names_its_contests_and_the_limits(calls: ServiceCalls) -> None:
    calls.site.publish(result(BOXES[0]))

    answer = calls.get("/v1/elections")

    (election,) = answer.json()["elections"]
    assert election["id"] == "2023-05-14-cb-mv"
    assert election["secim_id"] > 0
    assert [c["secim"] for c in election["secimler"]] == ["mv", "cb"]
    assert answer.headers["ratelimit-policy"] == '"calls";q=6000;w=60'


def test_ballots_name_what_a_district_has_besides(calls: ServiceCalls) -> None:
    found = calls.json("/v1/ballots?secim=mv")["ballots"]

    assert [(b["cevre"], [o["secenek"] for o in b["secenekler"]]) for b in found] == [
        (None, ["parti-a", "parti-b", "parti-c", "ortak"]),
        ("34-istanbul-1", ["bagimsiz-1"]),
        ("35-izmir-2", ["bagimsiz-1", "bagimsiz-2"]),
    ]


def test_places_go_down_to_the_mahalle(calls: ServiceCalls) -> None:
    (district,) = calls.json(f"/v1/places?{ISTANBUL}")["places"]

    assert district["ad"] == "İstanbul 1"
    assert district["kurullar"][0] == {
        "kurul": "kadikoy-1",
        "ad": "Kadıköy 1",
        "ilk": "1001",
        "son": "1006",
        "mahalleler": ["Caferağa", "Moda"],
    }


def test_a_box_has_its_history_and_its_proof(calls: ServiceCalls) -> None:
    path = calls.site.file_sheet(BOXES[2])
    calls.site.publish(result(BOXES[2]))
    calls.site.publish(result(BOXES[2], surum=2, neden="itiraz kabul", gecersiz=9))

    found = calls.json("/v1/boxes/34-istanbul-1/kadikoy-1/1001")
    record = found["sonuclar"][1]["kayit"]
    proof = calls.get(f"/v1/receipts/{record['ledger']}/{record['seq']}")
    sheet = calls.json(f"/v1/sheets/{path}")

    assert [(v["surum"], v["neden"], v["snapshot"]) for v in found["sonuclar"]] == [
        (1, "", 1),
        (2, "itiraz kabul", 2),
    ]
    assert found["tutanaklar"][0]["yol"] == path
    assert parse_receipt(proof.content).index == record["seq"]
    assert sheet["sha256"] == found["tutanaklar"][0]["sha256"]
    assert calls.json("/v1/sheets?cevre=34-istanbul-1&kurul=kadikoy-1&sandik=1001")["sheets"]
    assert calls.get("/v1/sheets/../../etc/passwd").status_code == 404
    assert calls.get("/v1/sheets/%2e%2e%2f%2e%2e%2fetc%2fpasswd").status_code == 404


def test_gaps_findings_coverage_and_aggregates_answer(calls: ServiceCalls) -> None:
    calls.site.publish(result(BOXES[0], gecersiz=9))

    gaps = calls.json("/v1/gaps?secim=mv")
    findings = calls.json("/v1/findings?kontrol=ballots-not-voted")
    coverage = calls.json("/v1/coverage?secim=mv")
    aggregates = calls.json("/v1/aggregates?secim=mv&cevre=01-adana")

    assert gaps["count"] == 20
    assert findings["findings"][0]["places"] == ["01-adana/aladag/sandik-1"]
    assert coverage["coverage"][0] == {
        "cevre": "01-adana", "kurul": None, "sandik_toplam": 2, "sandik_acilan": 1,
        "sandik_tutanakli": 0,
    }  # fmt: skip
    assert aggregates["aggregates"][0]["sandiklardan"]["oylar"]["parti-a"] == 100


@pytest.mark.slow
def test_a_whole_snapshot_comes_in_the_best_encoding(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result(), exports=True)

    plain = calls.get("/v1/snapshots/1", headers={"Accept-Encoding": "identity"})
    small = calls.get("/v1/snapshots/1?secim=mv", headers={"Accept-Encoding": "gzip, zstd;q=0"})
    raw = calls.get("/v1/snapshots/1", headers={"Accept-Encoding": "br"})

    rows = [json.loads(line) for line in plain.content.splitlines()]
    assert len(rows) == 42
    assert {row["secim"] for row in rows} == {"cb", "mv"}
    assert small.headers["content-encoding"] == "gzip"
    assert len(small.content.splitlines()) == 21  # the client has unpacked it
    assert raw.content == plain.content
    assert calls.get("/v1/snapshots/1", headers={"Accept-Encoding": "br, *;q=0"}).status_code == 406


@pytest.mark.slow
def test_a_snapshot_can_be_fetched_in_parts_and_is_not_sent_twice(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result(), exports=True)
    path, zstd = "/v1/snapshots/1", {"Accept-Encoding": "zstd"}
    folder = calls.site.path / "snapshots" / "00000001"
    names = ("cb.ndjson.zst", "mv.ndjson.zst")
    whole = b"".join((folder / name).read_bytes() for name in names)

    head = calls.portal.client().send(
        "HEAD", path, headers=zstd, auth=("parti-a.servis", web_site.PASSWORD)
    )
    etag = head.headers["etag"]
    part = raw_bytes(calls, path, {**zstd, "Range": "bytes=10-99", "If-Range": etag})
    rest = raw_bytes(calls, path, {**zstd, "Range": "bytes=100-", "If-Range": etag})
    other = raw_bytes(calls, path, {**zstd, "Range": "bytes=10-99", "If-Range": '"old"'})
    again = calls.get(path, headers={**zstd, "If-None-Match": etag})
    beyond = calls.get(path, headers={**zstd, "Range": "bytes=999999-"})

    assert head.headers["content-length"] == str(len(whole))
    assert not etag.startswith("W/")
    assert part == (206, whole[10:100], f"bytes 10-99/{len(whole)}")
    assert rest == (206, whole[100:], f"bytes 100-{len(whole) - 1}/{len(whole)}")
    assert other == (200, whole, None)
    assert again.status_code == 304
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")
    assert beyond.headers["content-type"] == "application/problem+json"
    assert (beyond.json()["status"], f"{len(whole)} bayt" in beyond.json()["detail"]) == (416, True)
    assert not {"content-encoding", "etag"} & set(beyond.headers)
    unpacked = zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True).read()
    assert len(unpacked.splitlines()) == 42


def raw_bytes(
    calls: ServiceCalls, path: str, headers: dict[str, str]
) -> tuple[int, bytes, str | None]:
    """Return status, bytes as they were sent, and the range."""
    client = calls.portal.client().http
    request = client.build_request("GET", path, headers=headers)

    async def fetch() -> tuple[int, bytes, str | None]:
        auth = ("parti-a.servis", web_site.PASSWORD)
        answer = await client.send(request, auth=auth, stream=True)
        content = b"".join([chunk async for chunk in answer.aiter_raw()])
        await answer.aclose()
        return answer.status_code, content, answer.headers.get("content-range")

    return calls.portal.runner.run(fetch())


def test_a_snapshot_without_ready_made_files_is_made_while_it_is_sent(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())

    for encoding in ("zstd", "gzip", "identity"):
        found = calls.get("/v1/snapshots/1?secim=cb", headers={"Accept-Encoding": encoding})
        content = found.content
        if encoding == "zstd" and content[:4] == b"\x28\xb5\x2f\xfd":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        assert found.headers.get("content-encoding", "identity") == encoding
        assert len(content.splitlines()) == 21
    assert calls.get("/v1/snapshots/2").status_code == 404
    assert calls.get("/v1/snapshots/0").status_code == 422


@pytest.mark.parametrize("party", ["parti-a", "parti-b"])
def test_a_snapshot_without_an_encoding_can_be_fetched_in_parts(
    calls: ServiceCalls, party: str
) -> None:
    calls.site.publish(*every_result(), exports=True)

    def get(**headers: str) -> httpx.Response:
        asked = {"Accept-Encoding": "identity", **headers}
        return calls.get("/v1/snapshots/1", party, headers=asked)

    whole = get()
    size, etag = len(whole.content), whole.headers["etag"]
    part = get(Range="bytes=10-99")
    rest = get(**{"Range": f"bytes={size - 7}-", "If-Range": etag})
    last = get(Range="bytes=-5")
    other = get(**{"Range": "bytes=10-99", "If-Range": '"old"'})
    several = get(Range="bytes=0-1,4-5")
    beyond = get(Range=f"bytes={size}-")

    assert whole.headers["accept-ranges"] == "bytes"
    assert (part.status_code, part.content) == (206, whole.content[10:100])
    assert (part.headers["content-range"], part.headers["etag"]) == (f"bytes 10-99/{size}", etag)
    assert (rest.status_code, rest.content) == (206, whole.content[-7:])
    assert (last.status_code, last.content) == (206, whole.content[-5:])
    assert (other.status_code, other.content) == (200, whole.content)
    assert (several.status_code, several.content) == (200, whole.content)
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert snapshot_calls._making == set()
    assert calls.portal.entrance.limits.files._open == {}


def test_manifests_are_listed_with_their_signatures(calls: ServiceCalls) -> None:
    calls.site.publish(result(BOXES[0]))
    calls.site.publish(result(BOXES[1]))

    listed = calls.json("/v1/snapshots?since=0")
    latest = calls.json("/v1/snapshots/latest")
    file = calls.get("/v1/snapshots/2/files/mv.changes.ndjson")
    head = calls.portal.client().send(
        "HEAD", "/v1/snapshots/latest", auth=("parti-a.servis", web_site.PASSWORD)
    )

    assert head.status_code == 200
    assert [s["snapshot"] for s in listed["snapshots"]] == [1, 2]
    assert latest["previous"] == listed["snapshots"][0]["sha256"]
    assert json.loads(latest["manifest"])["number"] == 2
    assert latest["signature"].startswith("-----BEGIN SSH SIGNATURE-----")
    folder = calls.site.path / "snapshots" / "00000002"
    assert file.content == (folder / "mv.changes.ndjson").read_bytes()
    for name in ("..%2flatest", "nothing.csv", ".hidden", "%00"):
        assert calls.get(f"/v1/snapshots/2/files/{name}").status_code == 404


def test_changes_go_on_where_the_last_answer_ended(calls: ServiceCalls) -> None:
    calls.site.publish(*(result(box) for box in BOXES[:3]))

    first = calls.json("/v1/changes?limit=2")
    second = calls.json(f"/v1/changes?since={first['cursor']}")
    calls.site.publish(result(BOXES[0], surum=2, neden="itiraz kabul", gecersiz=9))
    calls.refresh()
    third = calls.json(f"/v1/changes?since={second['cursor']}")

    assert (len(first["changes"]), first["more"]) == (2, True)
    assert (len(second["changes"]), second["more"]) == (1, False)
    (change,) = third["changes"]
    assert (change["snapshot"], change["neden"]) == (2, "itiraz kabul")
    assert (change["eski"]["gecersiz"], change["yeni"]["gecersiz"]) == (5, 9)
    assert calls.get("/v1/changes?since=nonsense").status_code == 400


def test_a_party_gets_only_its_scope_by_every_call(calls: ServiceCalls) -> None:
    calls.site.file_sheet(BOXES[2])
    other = calls.site.file_sheet(BOXES[0])
    calls.site.publish(*every_result(), exports=True)
    b = "parti-b"

    snapshot = calls.get("/v1/snapshots/1", b, headers={"Accept-Encoding": "identity"})
    rows = [json.loads(line) for line in snapshot.content.splitlines()]
    changes = calls.json("/v1/changes", b)["changes"]

    assert {row["kurul"] for row in rows} == {"kadikoy-2"}
    assert len(rows) == 8
    assert {change["kurul"] for change in changes} == {"kadikoy-2"}
    assert calls.json("/v1/results?secim=mv", b)["count"] == 4
    assert calls.json("/v1/summary?secim=mv&cevre=01-adana", b)["toplam"]["sandik_toplam"] == 0
    assert calls.get(f"/v1/sheets/{other}", b).status_code == 404
    assert calls.get("/v1/boxes/01-adana/aladag/1", b).status_code == 404
    assert calls.get("/v1/snapshots/1/files/mv.csv", b).status_code == 404
    assert calls.get("/v1/nist/mv/01-adana", b).status_code == 404
    assert [d["cevre"] for d in calls.json("/v1/places?secim=mv", b)["places"]] == ["34-istanbul-1"]


def test_a_suspended_user_is_out_at_the_next_call(calls: ServiceCalls) -> None:
    calls.json("/v1/summary")
    suspended = User("servis", Role.SERVICE, (web_site.password(),), State.SUSPENDED)
    web_site.write_users(calls.site.path, Users("parti-a", (suspended,)))

    assert calls.get("/v1/summary").status_code == 401


def test_every_route_of_the_service_is_described(calls: ServiceCalls) -> None:
    described = calls.get("/v1/openapi.json", auth=None).json()["paths"]

    assert {"/v1/elections", "/v1/ballots", "/v1/places", "/v1/snapshots/latest", "/v1/changes",
            "/v1/snapshots/{number}", "/v1/results", "/v1/sheets/{path}", "/v1/health",
            "/api/ssps/getIlList"} <= set(described)  # fmt: skip
    assert Secim.MV in described["/v1/summary"]["get"]["parameters"][0]["schema"]["enum"]


def test_no_call_is_answered_without_its_record(calls: ServiceCalls) -> None:
    calls.site.publish(result(BOXES[0]))
    paths = [
        path.replace("{number}", "1").replace("{", "").replace("}", "")
        for path in calls.get("/v1/openapi.json", auth=None).json()["paths"]
        if path != "/v1/health"
    ]
    for path in paths:
        before = len(calls.portal.records())

        answer = calls.get(path)

        status = answer.status_code
        assert status != 200 or answer.headers["ssps-status"] == "GECICI SONUC", path
        event, who, what, _, detail = calls.portal.records()[-1]
        assert len(calls.portal.records()) > before, path
        assert (event, who) == ("call" if status == 200 else "denied", "parti-a"), path
        assert (what, detail["user"]) == (path, "parti-a.servis")


def test_one_snapshot_is_made_for_a_party_at_a_time_and_a_few_for_all(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.site.publish(*every_result())
    making = {"parti-a"}
    monkeypatch.setattr(snapshot_calls, "_making", making)

    busy = calls.get("/v1/snapshots/1")
    for _ in range(2):  # each one makes room for the next
        assert calls.get("/v1/snapshots/1", "parti-b").status_code == 200
    assert making == {"parti-a"}
    making |= {"parti-x", "parti-y"}
    all_busy = calls.get("/v1/snapshots/1", "parti-b")

    assert (busy.status_code, busy.json()["code"]) == (503, "busy")
    assert busy.headers["retry-after"] == "10"
    assert all_busy.status_code == 503


def test_a_user_has_only_some_calls_that_wait(calls: ServiceCalls) -> None:
    calls.json("/v1/summary")
    waiting = calls.portal.entrance.limits.waiting_calls
    with ExitStack() as stack:
        for _ in range(MAX_OPEN):
            stack.enter_context(waiting.counted("parti-a.servis"))
        many = [calls.get(f"/v1/{call}?wait=50") for call in ("changes", "snapshots")]
        at_once = calls.get("/v1/changes")
        other = calls.get("/v1/changes?wait=0.01", "parti-b")

    assert [(each.status_code, each.headers["retry-after"]) for each in many] == [(429, "10")] * 2
    assert (at_once.status_code, other.status_code) == (200, 200)
    assert calls.get("/v1/changes?wait=0.01").status_code == 200


@pytest.mark.parametrize("path", ["/v1/changes?wait=50", "/v1/snapshots?wait=50"])
def test_a_call_that_waits_is_answered_when_a_snapshot_closes(
    calls: ServiceCalls, path: str
) -> None:
    calls.json("/v1/summary")
    client = calls.portal.client().http
    auth = ("parti-a.servis", web_site.PASSWORD)

    async def waiting() -> tuple[bool, int, str]:
        call = asyncio.create_task(client.get(path, auth=auth))
        for _ in range(20):
            await asyncio.sleep(0.01)
        early = call.done()
        await asyncio.to_thread(calls.site.publish, result(BOXES[0]))
        await calls.sites.refresh()
        answer = await asyncio.wait_for(call, 30)
        return early, answer.status_code, answer.text

    early, status, text = calls.portal.runner.run(waiting())

    assert (early, status) == (False, 200)
    assert json.loads(text)[("changes" if "changes" in path else "snapshots")]


@pytest.mark.parametrize("path", ["/v1/changes", "/v1/snapshots"])
def test_a_call_that_waits_holds_no_view_and_ends_when_its_client_is_gone(
    calls: ServiceCalls, path: str
) -> None:
    calls.json("/v1/summary")
    waiting = calls.portal.entrance.limits.waiting_calls

    async def see() -> bool:
        while not waiting._open:
            await asyncio.sleep(0.01)
        return await calls.portal.forgets_a_view()

    assert calls.portal.while_read(f"{path}?wait=50", BASIC, see, begins=False)
    assert not waiting._open


def test_a_user_who_is_suspended_while_a_call_waits_gets_no_answer(calls: ServiceCalls) -> None:
    calls.json("/v1/summary")

    async def answer() -> int:
        auth = ("parti-a.servis", web_site.PASSWORD)
        client = calls.portal.client().http
        call = asyncio.create_task(client.get("/v1/changes?wait=50", auth=auth))
        while not calls.portal.entrance.limits.waiting_calls._open:
            await asyncio.sleep(0.01)
        suspended = User("servis", Role.SERVICE, (web_site.password(),), State.SUSPENDED)
        users = Users("parti-a", (suspended,))
        await asyncio.to_thread(web_site.write_users, calls.site.path, users)
        await asyncio.to_thread(calls.site.publish, result(BOXES[0]))
        await calls.sites.refresh()
        return (await call).status_code

    assert calls.portal.runner.run(answer()) == 401


@pytest.mark.parametrize("encoding", ["zstd", "gzip", "identity"])
def test_a_slow_client_of_a_snapshot_that_is_made_for_it_keeps_no_other_waiting(
    calls: ServiceCalls, encoding: str
) -> None:
    calls.site.publish(*every_result())
    path, headers = "/v1/snapshots/1?secim=mv", {**BASIC, "accept-encoding": encoding}

    async def see() -> tuple[int, bool]:
        auth = ("parti-a.servis", web_site.PASSWORD)
        other = await calls.portal.client().http.get(path, auth=auth)
        return other.status_code, await calls.portal.forgets_a_view()

    assert calls.portal.while_read(path, headers, see) == (200, True)
    assert snapshot_calls._making == set()


def test_a_user_has_only_some_files_at_a_time(calls: ServiceCalls) -> None:
    calls.site.publish(*every_result())
    files = calls.portal.entrance.limits.files
    with ExitStack() as stack:
        for _ in range(MAX_FILES):
            stack.enter_context(files.counted("parti-a.servis"))
        many = calls.get("/v1/snapshots/1")
        other = calls.get("/v1/snapshots/1", "parti-b")

    assert (many.status_code, many.headers["retry-after"]) == (429, "10")
    assert (other.status_code, calls.get("/v1/snapshots/1").status_code) == (200, 200)


def test_snapshots_that_a_user_asks_for_at_one_moment_are_counted_before_they_are_sent(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.site.publish(*every_result(), exports=False)
    cut = calls.portal.noted_cuts(monkeypatch)
    full = iter((False, True))  # the others begin after this one was let in
    monkeypatch.setattr(calls.portal.entrance.limits.files, "is_full", lambda login: next(full))

    answer = calls.get("/v1/snapshots/1", headers={"accept-encoding": "zstd"})

    assert (answer.content, cut, snapshot_calls._making) == (b"", [True], set())


@pytest.mark.parametrize("ready_made", [True, False])
def test_a_snapshot_that_is_sent_is_cut_off_when_its_user_is_no_longer_admitted(
    calls: ServiceCalls, monkeypatch: pytest.MonkeyPatch, ready_made: bool
) -> None:
    calls.site.publish(*every_result(), exports=ready_made)
    cut = calls.portal.noted_cuts(monkeypatch)
    monkeypatch.setattr(calls.portal.entrance, "still_admitted", lambda who: False)

    answer = calls.get("/v1/snapshots/1", headers={"accept-encoding": "zstd"})

    assert (answer.content, cut) == (b"", [True])


def test_a_call_that_does_not_exist_says_where_to_look(calls: ServiceCalls) -> None:
    assert "openapi.json" in calls.get("/v1/nothing").json()["detail"]
    assert "wait" in calls.get("/v1/snapshots/latest").json()["detail"]


def test_a_program_changes_its_password_without_a_gap(calls: ServiceCalls) -> None:
    site, path = calls.site.path, "/v1/elections"
    old = web_site.password()
    new = ring.chosen_password_credential(
        ring.hash_password("Topkapi-Sarayi-18"), label="", not_before=web_site.OPEN, added_by="x"
    )
    new_login = ("parti-a.servis", "Topkapi-Sarayi-18")
    assert calls.get(path).status_code == 200
    servis = User("servis", Role.SERVICE, (old,))
    reset = user_changes.reset(
        Users("parti-a", (servis,)), "servis", new, overlap=timedelta(hours=1)
    )

    web_site.write_users(site, reset)
    during = [calls.get(path).status_code, calls.get(path, auth=new_login).status_code]
    calls.portal.now += timedelta(hours=1)
    after = [calls.get(path).status_code, calls.get(path, auth=new_login).status_code]

    assert (during, after) == ([200, 200], [401, 200])
    web_site.write_users(site, user_changes.reset(reset, "servis", old))
    assert calls.get(path, auth=new_login).status_code == 401
