"""The results of a district as NIST SP 1500-100 version 2, Election Results Common Data Format.

One report has one contest of one district: its boards and boxes as reporting units, each option as
a selection, and its votes by box. Source: usnistgov/ElectionResultsReporting, the JSON schema of
version 2, against which the tests validate it.

    our model                     theirs
    district                      ReportingUnit, Type other (secim-cevresi)
    board                         ReportingUnit, Type other (ilce-secim-kurulu)
    box                           ReportingUnit, Type precinct
    party, independent            Party; PartySelection
    alliance (joint votes)        Coalition; PartySelection
    candidate                     Candidate; CandidateSelection
    registered, voted             VotersRegistered, VotersParticipated of the box
    valid, invalid                BallotsCast, BallotsRejected of BallotCounts

A large district has fifteen thousand boxes, and a number of votes for each option in each of them:
its report has 50 MB. It is made in chunks, from a few numbers of each box.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import orjson

from config.ballot import Option, Tur
from config.sheet import Secim
from portal.data import titles
from portal.data.answers.boxes import BoxRow
from portal.data.criteria import Criteria
from portal.data.scoped import ScopedData

Json = dict[str, Any]
_NAMESPACE = "ElectionResults."
_ISSUER, _ABBREVIATION, _VENDOR = "Yüksek Seçim Kurulu", "YSK", "SSPS"
_LANGUAGE = "tr"
_COUNT = {"Type": "total"}
_NO_VOTES = -1  # an option that is not on the sheet of a box
_AT_A_TIME = 500


@dataclass(frozen=True, slots=True)
class _Box:
    """What a report has of a box besides its votes."""

    kurul: str
    number: str
    id: str
    opened: bool
    registered: int | None
    voted: int | None
    valid: int | None
    invalid: int | None


def report(
    data: ScopedData, secim: Secim, cevre: str, election: str, title: str, day: datetime
) -> Iterator[bytes] | None:
    """Return the report of a district in chunks; None if there is no such district in scope."""
    options = data.options(secim, cevre)
    boxes, votes = list[_Box](), {option.id: array("q") for option in options}
    for row in data.rows(Criteria(secim, cevre=cevre)):
        boxes.append(_box(row))
        for option, column in votes.items():
            column.append(row.votes.get(option, _NO_VOTES))
    if not boxes:
        return None
    opened = sum(box.opened for box in boxes)
    complete = opened == len(boxes)
    snapshot = data.snapshot
    made = _typed(
        "ElectionReport",
        Format="precinct-level",
        GeneratedDate=_date_time(snapshot.closed_at or day),
        Issuer=_ISSUER,
        IssuerAbbreviation=_ABBREVIATION,
        SequenceStart=1,
        SequenceEnd=1,
        Status="unofficial-complete" if complete else "unofficial-partial",
        VendorApplicationId=_VENDOR,
        Notes=f"Geçici sonuç, anlık görüntü {snapshot.number}",
        GpUnit=_units(boxes, cevre),
        Party=list(_parties(options, secim)),
        Election=[
            _typed(
                "Election",
                Name=_text(title),
                StartDate=f"{day:%Y-%m-%d}",
                EndDate=f"{day:%Y-%m-%d}",
                Type="general",
                ElectionScopeId=_district_id(cevre),
                ExternalIdentifier=[_identifier(election)],
                Candidate=list(_candidates(options)),
                BallotCounts=(_ballots(box) for box in boxes if box.opened),
                Contest=[_contest(secim, cevre, options, opened, boxes, votes)],
            )
        ],
    )
    return _chunks(made)


def _chunks(node: object) -> Iterator[bytes]:
    """Yield a value as JSON. An iterator is an array, of which some elements are made at a time."""
    if isinstance(node, Iterator):
        start = b"["
        while some := list(islice(node, _AT_A_TIME)):
            yield start + orjson.dumps(some)[1:-1]
            start = b","
        yield b"[]" if start == b"[" else b"]"
    elif isinstance(node, dict):
        start = b"{"
        for name, value in node.items():
            yield start + orjson.dumps(name) + b":"
            yield from _chunks(value)
            start = b","
        yield b"{}" if start == b"{" else b"}"
    elif isinstance(node, list):
        start = b"["
        for each in node:
            yield start
            yield from _chunks(each)
            start = b","
        yield b"[]" if start == b"[" else b"]"
    else:
        yield orjson.dumps(node)


def _box(row: BoxRow) -> _Box:
    stated = (row.numbers[name] for name in ("secmen", "oy_kullanan", "gecerli", "gecersiz"))
    place = row.place
    name = f"sandik-{place.cevre}-{place.kurul}-{place.sandik}"
    return _Box(place.kurul, place.sandik, name, row.version > 0, *stated)


def _contest(
    secim: Secim,
    cevre: str,
    options: tuple[Option, ...],
    opened: int,
    boxes: list[_Box],
    votes: Mapping[str, Sequence[int]],
) -> Json:
    fields: Json = {
        "Name": secim.turkish,
        "ElectionDistrictId": _district_id(cevre),
        "SubUnitsReported": opened,
        "TotalSubUnits": len(boxes),
        "ContestSelection": [_selection(each, boxes, votes[each.id]) for each in options],
    }
    if any(option.tur is Tur.ADAY for option in options):
        return _typed("CandidateContest", f"secim-{secim}", VotesAllowed=1, **fields)
    return _typed("PartyContest", f"secim-{secim}", **fields)


def _selection(option: Option, boxes: list[_Box], votes: Sequence[int]) -> Json:
    counts = (
        _typed("VoteCounts", GpUnitId=box.id, Count=number, **_COUNT)
        for box, number in zip(boxes, votes, strict=True)
        if box.opened and number != _NO_VOTES
    )
    fields: Json = {"SequenceOrder": option.sira, "VoteCounts": counts}
    if option.tur is Tur.ADAY:
        candidates = [f"aday-{option.id}"]
        return _typed(
            "CandidateSelection", f"secenek-{option.id}", CandidateIds=candidates, **fields
        )
    return _typed("PartySelection", f"secenek-{option.id}", PartyIds=[_party_id(option)], **fields)


def _ballots(box: _Box) -> Json:
    stated = {"BallotsCast": box.valid, "BallotsRejected": box.invalid}
    known: Json = {name: number for name, number in stated.items() if number is not None}
    return _typed("BallotCounts", GpUnitId=box.id, **_COUNT, **known)


def _units(boxes: list[_Box], cevre: str) -> Iterator[Json]:
    boards: dict[str, list[_Box]] = {}
    for box in boxes:
        boards.setdefault(box.kurul, []).append(box)
    yield _typed(
        "ReportingUnit",
        _district_id(cevre),
        Type="other",
        OtherType="secim-cevresi",
        Name=_text(titles.district(cevre)),
        ComposingGpUnitIds=[_board_id(cevre, board) for board in boards],
        SubUnitsReported=sum(box.opened for box in boxes),
        TotalSubUnits=len(boxes),
    )
    for board, of_board in boards.items():
        yield _typed(
            "ReportingUnit",
            _board_id(cevre, board),
            Type="other",
            OtherType="ilce-secim-kurulu",
            Name=_text(titles.board(board)),
            ComposingGpUnitIds=[box.id for box in of_board],
            SubUnitsReported=sum(box.opened for box in of_board),
            TotalSubUnits=len(of_board),
        )
        for box in of_board:
            stated = {"VotersRegistered": box.registered, "VotersParticipated": box.voted}
            known: Json = {name: number for name, number in stated.items() if number is not None}
            yield _typed(
                "ReportingUnit",
                box.id,
                Type="precinct",
                Number=box.number,
                Name=_text(f"Sandık {box.number}"),
                **known,
            )


def _parties(options: tuple[Option, ...], secim: Secim) -> Iterator[Json]:
    for option in options:
        if option.tur is Tur.ITTIFAK:
            members = [
                _party_id(o) for o in options if o.tur is Tur.PARTI and o.ittifak == option.id
            ]
            contests = [f"secim-{secim}"]
            name = _text(option.ad)
            yield _typed(
                "Coalition", _party_id(option), Name=name, PartyIds=members, ContestIds=contests
            )
        elif option.tur is not Tur.ADAY:
            recognized = option.tur is Tur.PARTI
            yield _typed(
                "Party", _party_id(option), Name=_text(option.ad), IsRecognizedParty=recognized
            )


def _candidates(options: tuple[Option, ...]) -> Iterator[Json]:
    for option in options:
        if option.tur is Tur.ADAY:
            yield _typed("Candidate", f"aday-{option.id}", BallotName=_text(option.ad))


def _typed(kind: str, identifier: str | None = None, **fields: Any) -> Json:
    made: Json = {"@type": f"{_NAMESPACE}{kind}"}
    if identifier is not None:
        made["@id"] = identifier
    return made | fields


def _text(content: str) -> Json:
    string = _typed("LanguageString", Content=content, Language=_LANGUAGE)
    return _typed("InternationalizedText", Text=[string])


def _identifier(value: str) -> Json:
    return _typed("ExternalIdentifier", Type="other", OtherType="ssps", Value=value)


def _date_time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _party_id(option: Option) -> str:
    return f"parti-{option.id}"


def _district_id(cevre: str) -> str:
    return f"cevre-{cevre}"


def _board_id(cevre: str, kurul: str) -> str:
    return f"kurul-{cevre}-{kurul}"
