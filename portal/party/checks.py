"""What each check of results found, in the words of the site."""

from collections.abc import Iterator, Mapping

from portal.data import titles
from publisher.results.checks.finding import Check, Finding, FindingKind

_ADDED = "toplam."  # before the name of a number: what the results below add up to

KINDS = {
    FindingKind.ERROR: "Tutarsızlık",
    FindingKind.NOTE: "Not",
    FindingKind.HINT: "İpucu",
}
CHECKS = {
    Check.VOTED_PARTS: "Oy kullanan sayısı, listede kayıtlı ve liste dışı oy kullananların "
    "toplamı değil.",
    Check.VALID_PARTS: "Geçerli oy, itirazsız ve itirazlı geçerli oyların toplamı değil.",
    Check.VOTES_NOT_VALID: "Oyların toplamı geçerli oy sayısına eşit değil.",
    Check.BALLOTS_NOT_VOTED: "Geçerli ve geçersiz oyların toplamı oy kullanan sayısına eşit değil.",
    Check.ENVELOPES_NOT_VOTED: "Zarf sayısı oy kullanan sayısına eşit değil.",
    Check.MORE_VOTED_THAN_REGISTERED: "Oy kullanan, kayıtlı seçmen ve liste dışı oy kullananlardan "
    "fazla.",
    Check.NOBODY_VOTED: "Kimse oy kullanmamış.",
    Check.NO_VALID_VOTE: "Oy kullanılmış ama geçerli oy yok.",
    Check.FULL_TURNOUT: "Kayıtlı seçmenlerin hepsi oy kullanmış.",
    Check.VALID_UPON_OBJECTION: "İtiraz üzerine geçerli sayılan oy var.",
    Check.BOX_KIND_DIFFERS: "Sandık türü, sandık listesindekinden farklı.",
    Check.CONTESTS_DIFFER: "Aynı zarfla yapılan iki seçimin oy kullanan sayıları farklı.",
    Check.BOARD_NOT_SUM: "İlçe birleştirme tutanağı, sandıkların toplamına eşit değil.",
    Check.DISTRICT_NOT_SUM: "Çevre birleştirme tutanağı, kurulların toplamına eşit değil.",
    Check.ELECTION_NOT_SUM: "Yurt dışı ve gümrük birleştirmesi, toplamına eşit değil.",
    Check.RESULT_WITHOUT_SHEET: "Sonuç var, imzalı tutanak yok.",
    Check.SHEET_WITHOUT_RESULT: "İmzalı tutanak var, sonuç yok.",
    Check.CHANGED_WITHOUT_REASON: "Sonuç değişmiş, neden bildirilmemiş.",
    Check.CHANGED_WITHOUT_SCAN: "Sonuç değişmiş, yeni tutanak taranmamış.",
    Check.OLDER_THAN_SCAN: "Sonuçtan sonra yeni bir tutanak taranmış.",
    Check.SAME_VECTOR: "İki sandığın oyları tümüyle aynı.",
    Check.ZERO_AMONG_NEIGHBOURS: "Komşu sandıkların hepsinde oyu olan bir seçeneğin burada "
    "oyu yok.",
    Check.SHIFTED_COLUMNS: "Oylar, komşu sandıklardakilere bir sütun kaymış gibi benziyor.",
}


def numbers_of(
    found: Finding, named: Mapping[str, str]
) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield title, number and, of a sum that differs, what the results below it add up to."""
    for name, value in found.numbers.items():
        if not name.startswith(_ADDED):
            yield titles.field(name, named), value, found.numbers.get(f"{_ADDED}{name}")
