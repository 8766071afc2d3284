"""Sheets (*tutanak*): the eleven signed forms of a count, and the identity of one page.

A sheet is identified by contest, form, place and page. The form's level says which parts of the
place it has: a box-level form has district, board and box; an election-level form has none.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum

from config import name


class Level(Enum):
    """The level at which a form is filed; the number is how many parts its place has."""

    ELECTION = 0
    DISTRICT = 1
    BOARD = 2
    BOX = 3


class Secim(StrEnum):
    """A contest (*seçim türü*); contests on the same day are in one tree."""

    CB = "cb"
    MV = "mv"
    BB = "bb"
    B = "b"
    BM = "bm"
    IG = "ig"
    MH = "mh"

    @property
    def turkish(self) -> str:
        """The contest's name as it is printed on its sheets."""
        return _CONTESTS[self]


_CONTESTS = {
    Secim.CB: "Cumhurbaşkanı Seçimi",
    Secim.MV: "Milletvekili Genel Seçimi",
    Secim.BB: "Büyükşehir Belediye Başkanlığı Seçimi",
    Secim.B: "Belediye Başkanlığı Seçimi",
    Secim.BM: "Belediye Meclisi Üyeliği Seçimi",
    Secim.IG: "İl Genel Meclisi Üyeliği Seçimi",
    Secim.MH: "Mahalle Muhtarlığı Seçimi",
}


class SandikTuru(StrEnum):
    """The kind of a ballot box (*sandık türü*)."""

    NORMAL = "normal"
    CEZAEVI = "cezaevi"
    SEYYAR = "seyyar"
    GUMRUK = "gumruk"
    YURT_DISI = "yurt-disi"


class Belge(StrEnum):
    """A form (*belge*). Its code is part of the file name, and its level decides the folder."""

    SAYIM_DOKUM_CETVELI = "sayim-dokum-cetveli"
    SANDIK_SONUC = "sandik-sonuc"
    ILCE_BIRLESTIRME = "ilce-birlestirme"
    ILCE_BIRLESTIRME_KURULLAR = "ilce-birlestirme-kurullar"
    IL_BIRLESTIRME = "il-birlestirme"
    GUMRUK_ILCE_BIRLESTIRME_RUMUZ = "gumruk-ilce-birlestirme-rumuz"
    GUMRUK_ILCE_BIRLESTIRME_KURUL = "gumruk-ilce-birlestirme-kurul"
    GUMRUK_KAPILARI_BIRLESTIRME = "gumruk-kapilari-birlestirme"
    YURT_DISI_ULKE_BIRLESTIRME = "yurt-disi-ulke-birlestirme"
    YURT_DISI_ULKELER_BIRLESTIRME = "yurt-disi-ulkeler-birlestirme"
    ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME = "ulkeler-ve-gumruk-kapilari-birlestirme"

    @property
    def turkish(self) -> str:
        """The form's title as it is printed."""
        return _FORMS[self][0]

    @property
    def level(self) -> Level:
        """The level at which it is filed."""
        return _FORMS[self][1]


_FORMS = {
    Belge.SAYIM_DOKUM_CETVELI: ("Karekodlu Sayım Döküm Cetveli", Level.BOX),
    Belge.SANDIK_SONUC: ("Sandık Sonuç Tutanağı", Level.BOX),
    Belge.ILCE_BIRLESTIRME: ("İlçe Birleştirme Tutanağı", Level.BOARD),
    Belge.ILCE_BIRLESTIRME_KURULLAR: ("İlçe Birleştirme Tutanağı (Kurullar)", Level.BOARD),
    Belge.IL_BIRLESTIRME: ("İl Birleştirme Tutanağı", Level.DISTRICT),
    Belge.GUMRUK_ILCE_BIRLESTIRME_RUMUZ: (
        "Gümrük İlçe Birleştirme Tutanağı (Rumuz)",
        Level.BOARD,
    ),
    Belge.GUMRUK_ILCE_BIRLESTIRME_KURUL: (
        "Gümrük İlçe Birleştirme Tutanağı (Kurul)",
        Level.BOARD,
    ),
    Belge.GUMRUK_KAPILARI_BIRLESTIRME: ("Gümrük Kapıları Birleştirme Tutanağı", Level.DISTRICT),
    Belge.YURT_DISI_ULKE_BIRLESTIRME: ("Yurt Dışı Ülke Birleştirme Tutanağı", Level.BOARD),
    Belge.YURT_DISI_ULKELER_BIRLESTIRME: (
        "Yurt Dışı Ülkeler Birleştirme Tutanağı",
        Level.DISTRICT,
    ),
    Belge.ULKELER_VE_GUMRUK_KAPILARI_BIRLESTIRME: (
        "Ülkeler ve Gümrük Kapıları Birleştirme Tutanağı",
        Level.ELECTION,
    ),
}


MAX_PAGE = 999
# The parts of a place at each level.
_PARTS = {level: ("cevre", "kurul", "sandik")[: level.value] for level in Level}


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page of one signed form: what a karekod identifies.

    Parts of the place below the form's level are None. Raises ValueError if a part is missing, not
    allowed at this level, or not a safe name; so every Sheet can be filed.
    """

    secim: Secim
    belge: Belge
    cevre: str | None
    kurul: str | None
    sandik: str | None
    page: int

    def __post_init__(self) -> None:
        parts = _PARTS[self.belge.level]
        for key, value in (("cevre", self.cevre), ("kurul", self.kurul), ("sandik", self.sandik)):
            if value is None:
                if key in parts:
                    cause = f"{key}: empty, but {self.belge} is filed by {key}: fill it in"
                    raise ValueError(cause)
                continue
            if key not in parts:
                level = self.belge.level.name.lower()
                raise ValueError(
                    f"{key}: {value!r}, but {self.belge} is filed at {level} level: leave it empty"
                )
            wrong = name.box_fault(value) if key == "sandik" else name.fault(value)
            if wrong:
                raise ValueError(f"{key}: {wrong}")
        if not 1 <= self.page <= MAX_PAGE:
            raise ValueError(f"sayfa: {self.page}, pages are numbered 1 to {MAX_PAGE}")
