"""What each call answers, as JSON Schema for `/v1/openapi.json`.

The answers are made by portal/service/answers without these schemas, so describing them costs
nothing when a call is answered. tests/unit/portal/service compares both: an answer with a field
that is not described here, or without one that is, fails. A field may be added to an answer later,
so the published objects do not forbid others, but none of those described is ever removed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from config.ballot import Tur
from config.result import NUMBER_COLUMNS
from config.sheet import Belge, SandikTuru, Secim
from portal.data.criteria import NAMES
from publisher.results.checks.finding import Check, FindingKind
from publisher.results.snapshots.headings import PROVISIONAL

Schema = dict[str, Any]
JSON, NDJSON, BYTES, TEXT = (
    "application/json",
    "application/x-ndjson",
    "application/octet-stream",
    "text/plain",
)
FILES = frozenset({NDJSON, BYTES})  # what is sent with an ETag and in ranges


def _object(
    fields: Mapping[str, Schema], *parts: Mapping[str, Schema], optional: Iterable[str] = ()
) -> Schema:
    """Return the schema of an object with these fields, all of them required but `optional`."""
    properties = {name: schema for part in (fields, *parts) for name, schema in part.items()}
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "required": required, "properties": properties}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _map(of: Schema) -> Schema:
    """Return the schema of an object whose names are of parties, files and the like."""
    return {"type": "object", "additionalProperties": of}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    """Return a reference to a schema of COMPONENTS."""
    return {"$ref": f"#/components/schemas/{name}"}


def _one_of(values: Iterable[str]) -> Schema:
    return {"type": "string", "enum": list(values)}


TEXT_ = {"type": "string"}
BOOLEAN = {"type": "boolean"}
INTEGER = {"type": "integer"}
COUNT = {"type": "integer", "minimum": 0}
NUMBER = {"type": "number", "minimum": 0}
TIME = {"type": "string", "format": "date-time"}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
SECIM, BELGE, TUR = _one_of(Secim), _one_of(Belge), _one_of(SandikTuru)
KAYIT = _object({"ledger": _one_of(("results", "filing")), "seq": COUNT})
PLACE = {"cevre": TEXT_, "kurul": TEXT_, "sandik": TEXT_}
HEAD = {"snapshot": COUNT, "closed_at": _or_null(TIME), "durum": {"const": PROVISIONAL}}
STATED = {name: _or_null(COUNT) for name in NUMBER_COLUMNS}  # null: the board did not state it
ADDED = dict.fromkeys(NUMBER_COLUMNS, COUNT)
VOTES = {"oylar": _map(COUNT)}
SHARE = _object(
    {
        "own": COUNT,
        "share": _or_null(TEXT_),
        "rounded": _or_null(COUNT),
        "total": _or_null(TEXT_),
        "total_rounded": _or_null(COUNT),
    }
)
PAYLAR = _map(_object({"defined": BOOLEAN, "undefined_votes": COUNT, "members": _map(SHARE)}))
TOTAL = {
    "sandik": COUNT,
    **ADDED,
    "katilim": _or_null(NUMBER),
    **VOTES,
    "paylar": _or_null(PAYLAR),
}
BOX = _object(
    {"secim": SECIM, "belge": {"const": "sandik-sonuc"}, **PLACE},
    {"sandik_turu": TUR, "mahalle": TEXT_, "surum": COUNT, "neden": TEXT_},
    {"zaman": _or_null(TIME), **STATED, **VOTES},
    {"tutanak_sayfasi": COUNT, "cetvel_sayfasi": COUNT},
)
SHEET = _object(
    {"secim": SECIM, "belge": BELGE, **{name: _or_null(TEXT_) for name in PLACE}},
    {"sayfa": COUNT, "surum": COUNT, "yol": TEXT_, "sha256": SHA256, "kare": COUNT},
    {"karekod": _or_null(TEXT_), "zaman": _or_null(TIME), "kayit": KAYIT},
)
VERSION = _object(
    {"secim": SECIM, "surum": COUNT, "neden": TEXT_, "zaman": TIME, "kabul": TIME},
    {**STATED, **VOTES, "gecerli_surum": BOOLEAN, "snapshot": _or_null(COUNT)},
    {"digest": TEXT_, "tutanak": _or_null(TEXT_), "tutanak_sha256": _or_null(SHA256)},
    {"kayit": KAYIT},
)
FINDING = _object(
    {"check": _one_of(Check), "kind": _one_of(FindingKind), "secim": SECIM},
    {"places": _list(TEXT_), "numbers": _map(_or_null(INTEGER)), "sheets": _list(TEXT_)},
)
GAP = _object(
    {**PLACE, "sandik_turu": TUR, "mahalle": TEXT_, "sonuc": BOOLEAN, "tutanak": BOOLEAN},
    {"neden": _or_null(TEXT_), "aciklama": _or_null(TEXT_)},
)
COVERAGE = _object(
    {"cevre": TEXT_, "kurul": _or_null(TEXT_)},
    dict.fromkeys(("sandik_toplam", "sandik_acilan", "sandik_tutanakli"), COUNT),
)
AGGREGATE = _object(
    {"secim": SECIM, "belge": BELGE, "cevre": _or_null(TEXT_), "kurul": _or_null(TEXT_)},
    {"surum": COUNT, "neden": TEXT_, "zaman": _or_null(TIME)},
    # An aggregate sheet states only the numbers of its own form.
    {"tutanakta": _or_null(_object(ADDED, VOTES, optional=NUMBER_COLUMNS))},
    {"sandiklardan": _object(ADDED, VOTES), "sandik_toplam": COUNT, "sandik_acilan": COUNT},
    {"farkli": _list(TEXT_), "tutanaklar": _list(_ref("Sheet"))},
)
CONTEST = _object({"secim": SECIM, "ad": TEXT_, "sandik_toplam": COUNT, "sandik_acilan": COUNT})
ELECTION = _object(
    {"id": TEXT_, "ad": TEXT_, "secim_id": COUNT, "acilis": TIME, "kapanis": _or_null(TIME)},
    {"yayin_yasagi_bitis": _or_null(TIME), "secimler": _list(CONTEST)},
)
OPTION = _object(
    {"sira": COUNT, "secenek": TEXT_, "tur": _one_of(Tur), "ad": TEXT_, "ittifak": TEXT_}
)
BALLOT = _object({"secim": SECIM, "cevre": _or_null(TEXT_), "secenekler": _list(_ref("Option"))})
BOARD = _object(
    {"kurul": TEXT_, "ad": TEXT_},
    {"ilk": _or_null(TEXT_), "son": _or_null(TEXT_), "mahalleler": _list(TEXT_)},
    optional=("ilk", "son", "mahalleler"),  # with `cevre`
)
DISTRICT = _object({"cevre": TEXT_, "ad": TEXT_, "kurullar": _list(BOARD)})
MANIFEST = {
    **HEAD,
    "sha256": SHA256,
    "previous": _or_null(SHA256),
    "contests": {"type": "object"},
    "files": {"type": "object"},
    "manifest": TEXT_,
    "signature": TEXT_,
}
CHANGED = _object(STATED, VOTES)
CHANGE = _object(
    {"snapshot": COUNT, "secim": SECIM, "belge": BELGE},
    {name: _or_null(TEXT_) for name in PLACE},
    {"surum": COUNT, "neden": TEXT_, "zaman": TIME, "eski": _or_null(CHANGED), "yeni": CHANGED},
)
# A row of `/api/ssps`: portal/service/ssps_rows has the fields of each call.
SSPS = _list(_map({"type": ["string", "integer", "null"]}))
_EXPORTS = {"exports": _or_null(COUNT)}
PROBLEM = _object(
    {"type": TEXT_, "title": TEXT_, "status": INTEGER, "code": TEXT_, "detail": TEXT_}
)
COMPONENTS: Mapping[str, Schema] = {
    "Problem": PROBLEM,
    "Snapshot": _object(MANIFEST),
    "Box": BOX,
    "Sheet": SHEET,
    "Version": VERSION,
    "Finding": FINDING,
    "Gap": GAP,
    "Coverage": COVERAGE,
    "Aggregate": AGGREGATE,
    "Election": ELECTION,
    "Option": OPTION,
    "Ballot": BALLOT,
    "District": DISTRICT,
    "Change": CHANGE,
}
# By the path of the call: media type and schema of its answer.
ANSWERS: Mapping[str, tuple[str, Schema]] = {
    "/v1/health": (JSON, _object({"status": {"const": "ok"}})),
    "/v1/elections": (
        JSON,
        _object(
            {**HEAD, "elections": _list(_ref("Election"))},
            {"limits": _object({"calls_per_minute": COUNT, "rows_per_call": COUNT})},
        ),
    ),
    "/v1/ballots": (JSON, _object({"ballots": _list(_ref("Ballot"))})),
    "/v1/places": (JSON, _object({"secim": SECIM, "places": _list(_ref("District"))})),
    "/v1/summary": (
        JSON,
        _object(
            {**HEAD, **dict.fromkeys(NAMES, TEXT_)},
            {"toplam": _object({"sandik_toplam": COUNT, "sandik_acilan": COUNT, **TOTAL})},
            optional=[name for name in NAMES if name != "secim"],  # what was asked for
        ),
    ),
    "/v1/results": (
        JSON,
        _object({**HEAD, "count": COUNT, "toplam": _object(TOTAL), "results": _list(_ref("Box"))}),
    ),
    "/v1/boxes/{cevre}/{kurul}/{sandik}": (
        JSON,
        _object(
            {**HEAD, **PLACE, "sonuclar": _list(_ref("Version"))},
            {"tutanaklar": _list(_ref("Sheet")), "uyarilar": _list(_ref("Finding"))},
        ),
    ),
    "/v1/aggregates": (JSON, _object({**HEAD, "aggregates": _list(_ref("Aggregate"))})),
    "/v1/coverage": (JSON, _object({**HEAD, "coverage": _list(_ref("Coverage"))})),
    "/v1/gaps": (JSON, _object({**HEAD, "count": COUNT, "gaps": _list(_ref("Gap"))})),
    "/v1/findings": (JSON, _object({**HEAD, "count": COUNT, "findings": _list(_ref("Finding"))})),
    "/v1/sheets": (JSON, _object({"sheets": _list(_ref("Sheet"))})),
    "/v1/sheets/{path}": (JSON, _ref("Sheet")),
    "/v1/receipts/{ledger}/{seq}": (TEXT, TEXT_),
    "/v1/nist/{secim}/{cevre}": (
        JSON,
        {"type": "object", "description": "NIST SP 1500-100 v2, ElectionReport"},
    ),
    "/v1/snapshots": (
        JSON,
        _object({"newest": COUNT, **_EXPORTS, "snapshots": _list(_ref("Snapshot"))}),
    ),
    "/v1/snapshots/latest": (JSON, _object({**MANIFEST, **_EXPORTS})),
    "/v1/snapshots/{number}/manifest": (JSON, _ref("Snapshot")),
    "/v1/snapshots/{number}": (NDJSON, TEXT_),
    "/v1/snapshots/{number}/files/{name}": (BYTES, {"type": "string", "format": "binary"}),
    "/v1/changes": (
        JSON,
        _object(
            {"snapshot": COUNT, "durum": {"const": PROVISIONAL}, "cursor": TEXT_},
            {"more": BOOLEAN, "changes": _list(_ref("Change"))},
        ),
    ),
}
