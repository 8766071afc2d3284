from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from config.registry import RegistryEntry
from config.sheet import Belge, SandikTuru, Secim, Sheet
from publisher.catalog.forms import UsualExtent
from publisher.filing.decide import decide, identified
from publisher.outcome import Decision, Duplicate, Filed, Quarantined
from publisher.page import Arrival, Page, Reading, ReadResult, Reason, Stamp
from publisher.print_map import COLUMNS, ROWS, UsualPrint, print_map_of
from publisher.source import Source

ELECTION = "2023-05-14-cb-mv"
CB = Sheet(Secim.CB, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)
MV = Sheet(Secim.MV, Belge.SANDIK_SONUC, "34-istanbul-1", "kadikoy-2", "1234", 1)
KONAK = Sheet(Secim.CB, Belge.SANDIK_SONUC, "35-izmir-2", "konak-1", "7", 1)
ISTANBUL = Sheet(Secim.CB, Belge.IL_BIRLESTIRME, "34-istanbul-1", None, None, 1)
KNOWN = {
    "1093717526": RegistryEntry("1093717526", CB, SandikTuru.NORMAL, ""),
    "1093717527": RegistryEntry("1093717527", MV, SandikTuru.NORMAL, ""),
    "2000000001": RegistryEntry("2000000001", KONAK, SandikTuru.SEYYAR, ""),
    "4000000001": RegistryEntry("4000000001", ISTANBUL, None, ""),
}
BOX = f"{ELECTION}/34-istanbul-1/kadikoy-2/sandik-1234"
A, B = "a" * 64, "b" * 64


class KnownFacts:
    """Facts in memory: filed digests, quarantined digests, the latest version of CB."""

    def __init__(
        self,
        filed: dict[str, str] | None = None,
        quarantined: dict[tuple[str, Reason], str] | None = None,
        versions: int = 0,
        pixels: dict[tuple[str, Sheet], str] | None = None,
    ) -> None:
        self._filed = filed or {}
        self._quarantined = quarantined or {}
        self._versions = versions
        self._pixels = pixels or {}
        self.usual: dict[tuple[Belge, str], UsualExtent] = {}
        self.prints: dict[Sheet, UsualPrint] = {}

    def path_of_bytes(self, sha256: str) -> str | None:
        return self._filed.get(sha256)

    def path_of_pixels(self, digest: str, sheet: Sheet) -> str | None:
        return self._pixels.get((digest, sheet))

    def usual_extent(self, belge: Belge, copy: str) -> UsualExtent | None:
        return self.usual.get((belge, copy))

    def usual_print(self, election: str, sheet: Sheet) -> UsualPrint | None:
        return self.prints.get(sheet) if election == ELECTION else None

    def usual_prints(self, election: str) -> list[UsualPrint]:
        return list(self.prints.values())

    def quarantined_path(self, sha256: str, reason: Reason) -> str | None:
        return self._quarantined.get((sha256, reason))

    def latest_version(self, sheet: Sheet) -> int:
        return self._versions if sheet == CB else 0


def page(*texts: str, kind: str = "JPEG", fault: Reason | None = None, sha256: str = A) -> Page:
    arrival = Arrival(
        "x", "x.jpg", Source("in", "x.jpg"), Stamp(1, 1, 1), datetime(2023, 5, 14, tzinfo=UTC)
    )
    scans = ("whole", "half")
    readings = tuple(
        Reading(text, "zxing-cpp", scan, 2, (), frame)
        for frame, part in enumerate(texts or ("",), start=1)
        for text in part.split("+")
        if text
        for scan in scans
    )
    frames = len(texts) or 1
    return Page(
        arrival, Stamp(1, 1, 1), sha256, ReadResult(kind, 10, 10, readings, 2, fault, frames)
    )


def decided(page: Page, facts: KnownFacts | None = None, needed_readings: int = 2) -> Decision:
    return decide(page, ELECTION, KNOWN.get, facts or KnownFacts(), needed_readings)


@pytest.mark.parametrize(
    ("texts", "decision"),
    [
        (["1093717526"], "cb"),
        (["1093717526", "1093717526"], "cb"),  # both printed copies
        (["1093717526", "https://example.org"], "cb"),
        (["1093717527"], "mv"),
        ([], Reason.NO_KAREKOD),
        (["https://example.org"], Reason.NO_KAREKOD),
        (["109371752"], Reason.NO_KAREKOD),
        (["../../../etc/passwd"], Reason.NO_KAREKOD),
        (["1093717526\n"], Reason.NO_KAREKOD),
        (["9999999999"], Reason.UNKNOWN_KAREKOD),
        (["1093717526", "1093717527"], Reason.SEVERAL_SHEETS),
        (["1093717526", "9999999999"], Reason.CONFLICTING_KAREKODS),
        (["1093717526", "1093717527", "9999999999"], Reason.SEVERAL_SHEETS),
    ],
)
def test_the_codes_on_a_page_decide_its_outcome(texts: list[str], decision: str | Reason) -> None:
    found = decided(page("+".join(texts)))

    if isinstance(decision, Reason):
        assert found == Quarantined(decision)
    else:
        assert paths(found) == [f"{BOX}/{decision}-sandik-sonuc-s1.jpg"]


def paths(found: Decision) -> list[str]:
    assert isinstance(found, Filed)
    return [sheet.path for sheet in found.sheets]


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        (KnownFacts(versions=1), f"{BOX}/cb-sandik-sonuc-s1.v2.tif"),
        (KnownFacts(versions=2), f"{BOX}/cb-sandik-sonuc-s1.v3.tif"),
        (KnownFacts({A: "its path"}, versions=1), Duplicate("its path")),
        (KnownFacts({B: "other bytes"}, versions=1), f"{BOX}/cb-sandik-sonuc-s1.v2.tif"),
        # Quarantined before its karekod was in the registry; now it is.
        (
            KnownFacts(quarantined={(A, Reason.UNKNOWN_KAREKOD): "q"}),
            f"{BOX}/cb-sandik-sonuc-s1.tif",
        ),
    ],
)
def test_earlier_files_decide_the_version_or_make_it_a_duplicate(
    facts: KnownFacts, decision: str | Decision
) -> None:
    found = decided(page("1093717526", kind="TIFF"), facts)

    assert (paths(found)[0] if isinstance(found, Filed) else found) == decision


def test_the_same_bytes_with_the_same_reason_are_a_duplicate() -> None:
    facts = KnownFacts(quarantined={(A, Reason.NO_KAREKOD): "q"})

    assert decided(page(), facts) == Duplicate("q")
    assert decided(page("9999999999"), facts) == Quarantined(Reason.UNKNOWN_KAREKOD)


def test_a_page_that_could_not_be_read_is_quarantined_with_the_reason_of_the_reading() -> None:
    assert decided(page(fault=Reason.READER_TIMEOUT)) == Quarantined(Reason.READER_TIMEOUT)


@pytest.mark.parametrize("known_at_first", [True, False])
def test_replacing_the_registry_during_a_decision_makes_no_conflict(known_at_first: bool) -> None:
    """A code is looked up only once, so it is either known or unknown."""
    answers = iter([known_at_first, not known_at_first])

    def lookup(karekod: str) -> RegistryEntry | None:
        return KNOWN[karekod] if next(answers) else None

    found = identified(page("1093717526").result.readings, lookup, 2)

    assert found == (KNOWN["1093717526"] if known_at_first else Reason.UNKNOWN_KAREKOD)


def test_each_page_is_filed_as_its_sheet_and_a_sheet_on_two_pages_once() -> None:
    found = decided(
        page("1093717527", "1093717526", "1093717527", kind="PDF"), KnownFacts(versions=1)
    )

    assert isinstance(found, Filed)
    assert [(sheet.frame, sheet.path) for sheet in found.sheets] == [
        (1, f"{BOX}/mv-sandik-sonuc-s1.pdf"),
        (2, f"{BOX}/cb-sandik-sonuc-s1.v2.pdf"),
    ]


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        (["1093717526", "2000000001"], Reason.SEVERAL_BOARDS),
        (
            ["1093717526", "4000000001"],
            Reason.SEVERAL_BOARDS,
        ),  # a sheet of the district, not of the board
        (["1093717526", ""], Reason.NO_KAREKOD),
        (["1093717526", "9999999999"], Reason.UNKNOWN_KAREKOD),
        (["1093717526", "1093717527+1093717526"], Reason.SEVERAL_SHEETS),
    ],
)
def test_a_file_with_one_unfilable_page_is_quarantined_as_a_whole(
    pages: list[str], reason: Reason
) -> None:
    """A party that may see one of its sheets would get them all."""
    assert decided(page(*pages, kind="TIFF")) == Quarantined(reason)


def test_a_single_reading_is_enough_only_if_the_site_asks_for_one() -> None:
    twice = page("1093717526")
    once = replace(twice, result=replace(twice.result, readings=twice.result.readings[:1]))

    assert decided(once) == Quarantined(Reason.TOO_FEW_READINGS)
    loosened = decided(once, needed_readings=1)
    assert isinstance(loosened, Filed)
    assert loosened.needed_readings == 1


def test_each_empty_file_is_quarantined_although_all_have_the_same_bytes() -> None:
    facts = KnownFacts(quarantined={(A, Reason.EMPTY): "quarantine/x"})
    empty = page(fault=Reason.EMPTY)

    assert decide(empty, ELECTION, KNOWN.get, facts, 2) == Quarantined(Reason.EMPTY)


def test_the_same_pixels_in_other_bytes_are_a_duplicate_of_the_same_sheet_only() -> None:
    facts = KnownFacts(versions=1, pixels={("c" * 64, CB): "earlier", ("d" * 64, MV): "other"})

    def with_pixels(digest: str | None) -> Page:
        plain = page("1093717526", sha256=B)
        return replace(plain, result=replace(plain.result, pixels=digest))

    assert decided(with_pixels("c" * 64), facts) == Duplicate("earlier", "c" * 64)
    for digest in ("d" * 64, "e" * 64, None):
        filed = decided(with_pixels(digest), facts)
        assert isinstance(filed, Filed)
        assert filed.sheets[0].version == 2


def test_print_that_fits_better_beside_the_code_is_out_of_place() -> None:
    facts = KnownFacts()
    across, down = np.meshgrid(np.arange(-13, -5, 0.05), np.arange(1, 20, 0.05))
    here = print_map_of(across.ravel(), down.ravel(), 20)
    beside = print_map_of(across.ravel() - 3, down.ravel(), 20)

    def outcome(found: bytes | None) -> Decision:
        plain = page("1093717526")
        return decided(replace(plain, result=replace(plain.result, print_map=found)), facts)

    assert isinstance(outcome(beside), Filed), "nothing is known of this sheet type"
    facts.prints[CB] = UsualPrint(0, np.zeros((ROWS, COLUMNS))).plus(here)
    assert isinstance(outcome(here), Filed)
    assert isinstance(outcome(None), Filed)
    assert outcome(beside) == Quarantined(Reason.CODE_OUT_OF_PLACE)


def test_print_that_reaches_further_than_on_other_sheets_of_the_type_is_out_of_place() -> None:
    facts = KnownFacts()
    means, spread = (14.0, 0.5, 0.4, 21.2), (0.1, 0.1, 0.2, 0.1)
    facts.usual[(CB.belge, "upper")] = UsualExtent(40, means, spread)

    def outcome(measure: str, pages: int = 40) -> Decision:
        facts.usual[(CB.belge, "upper")] = UsualExtent(pages, means, spread)
        plain = page("1093717526")
        readings = (*plain.result.readings, Reading(measure, "pixels", "outline", 1))
        return decided(replace(plain, result=replace(plain.result, readings=readings)), facts)

    assert isinstance(outcome("print 14.4 0.9 1.1 21.7"), Filed)
    out_of_place = Quarantined(Reason.CODE_OUT_OF_PLACE)
    assert outcome("print 14.8 0.5 0.4 21.2") == out_of_place
    assert outcome("print 14.0 1.3 0.4 21.2") == out_of_place
    assert isinstance(outcome("print 14.8 0.5 0.4 21.2", pages=29), Filed)
    assert isinstance(outcome("print 14.8 0.5 21.2 0.4"), Filed), "nothing is known of lower copies"
