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
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

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


def report(
    data: ScopedData, secim: Secim, cevre: str, election: str, title: str, day: datetime
) -> Json | None:
    """Return the report of a district; None if there is no such district in scope."""
    rows = list(data.rows(Criteria(secim, cevre=cevre)))
    if not rows:
        return None
    options = data.options(secim, cevre)
    opened = [row for row in rows if row.version]
    complete = len(opened) == len(rows)
    snapshot = data.snapshot
    return _typed(
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
        GpUnit=list(_units(rows, cevre)),
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
                BallotCounts=[_ballots(row) for row in opened],
                Contest=[_contest(secim, cevre, options, opened, len(rows))],
            )
        ],
    )


def _contest(
    secim: Secim, cevre: str, options: tuple[Option, ...], opened: list[BoxRow], boxes: int
) -> Json:
    fields: Json = {
        "Name": secim.turkish,
        "ElectionDistrictId": _district_id(cevre),
        "SubUnitsReported": len(opened),
        "TotalSubUnits": boxes,
        "ContestSelection": [_selection(option, opened) for option in options],
    }
    if any(option.tur is Tur.ADAY for option in options):
        return _typed("CandidateContest", f"secim-{secim}", VotesAllowed=1, **fields)
    return _typed("PartyContest", f"secim-{secim}", **fields)


def _selection(option: Option, opened: list[BoxRow]) -> Json:
    counts = [
        _typed("VoteCounts", GpUnitId=_box_id(row), Count=votes, **_COUNT)
        for row in opened
        if (votes := row.votes.get(option.id)) is not None
    ]
    fields: Json = {"SequenceOrder": option.sira, "VoteCounts": counts}
    if option.tur is Tur.ADAY:
        candidates = [f"aday-{option.id}"]
        return _typed(
            "CandidateSelection", f"secenek-{option.id}", CandidateIds=candidates, **fields
        )
    return _typed("PartySelection", f"secenek-{option.id}", PartyIds=[_party_id(option)], **fields)


def _ballots(row: BoxRow) -> Json:
    stated = {"BallotsCast": row.numbers["gecerli"], "BallotsRejected": row.numbers["gecersiz"]}
    known: Json = {name: number for name, number in stated.items() if number is not None}
    return _typed("BallotCounts", GpUnitId=_box_id(row), **_COUNT, **known)


def _units(rows: list[BoxRow], cevre: str) -> Iterator[Json]:
    boards: dict[str, list[BoxRow]] = {}
    for row in rows:
        boards.setdefault(row.place.kurul, []).append(row)
    yield _typed(
        "ReportingUnit",
        _district_id(cevre),
        Type="other",
        OtherType="secim-cevresi",
        Name=_text(titles.district(cevre)),
        ComposingGpUnitIds=[_board_id(cevre, board) for board in boards],
        SubUnitsReported=sum(row.version > 0 for row in rows),
        TotalSubUnits=len(rows),
    )
    for board, of_board in boards.items():
        yield _typed(
            "ReportingUnit",
            _board_id(cevre, board),
            Type="other",
            OtherType="ilce-secim-kurulu",
            Name=_text(titles.board(board)),
            ComposingGpUnitIds=[_box_id(row) for row in of_board],
            SubUnitsReported=sum(row.version > 0 for row in of_board),
            TotalSubUnits=len(of_board),
        )
        for row in of_board:
            stated = {
                "VotersRegistered": row.numbers["secmen"],
                "VotersParticipated": row.numbers["oy_kullanan"],
            }
            known: Json = {name: number for name, number in stated.items() if number is not None}
            yield _typed(
                "ReportingUnit",
                _box_id(row),
                Type="precinct",
                Number=row.place.sandik,
                Name=_text(f"Sandık {row.place.sandik}"),
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


def _box_id(row: BoxRow) -> str:
    return f"sandik-{row.place.cevre}-{row.place.kurul}-{row.place.sandik}"
