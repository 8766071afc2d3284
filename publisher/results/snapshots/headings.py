"""The headings of exported tables in Turkish, and texts that no spreadsheet computes."""

HEADINGS = {
    "belge": "Belge",
    "cevre": "Seçim Çevresi",
    "kurul": "İlçe Seçim Kurulu",
    "sandik": "Sandık No",
    "sandik_turu": "Sandık Türü",
    "surum": "Sürüm",
    "neden": "Değişiklik Nedeni",
    "zaman": "İşlem Zamanı",
    "secmen": "Kayıtlı Seçmen",
    "oy_kullanan": "Oy Kullanan",
    "liste_ici_oy_kullanan": "Listede Kayıtlı Oy Kullanan",
    "liste_disi_oy_kullanan": "Liste Dışı Oy Kullanan",
    "zarf": "Zarf",
    "itirazsiz_gecerli": "İtirazsız Geçerli",
    "itirazli_gecerli": "İtirazlı Geçerli",
    "gecerli": "Geçerli",
    "gecersiz": "Geçersiz",
}
SNAPSHOT_HEADING = "Anlık Görüntü"
PROVISIONAL = "GEÇİCİ SONUÇ"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # with these a cell begins that is computed


def safe_text(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: with an apostrophe where needed."""
    return f"'{text}" if text.startswith(_FORMULA) else text
