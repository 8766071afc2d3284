"""The words of a report in Turkish and English."""

from typing import Literal

Language = Literal["tr", "en"]

_WORDS: dict[str, tuple[str, str]] = {
    "party_title": ("{party}: erişim ve indirme raporu", "{party}: report on access and downloads"),
    "all_title": ("Bütün alıcılar: karşılaştırma raporu", "All recipients: comparison"),
    "election": ("Seçim: {title}", "Election: {title}"),
    "made": ("Düzenlenme: {time}", "Made at {time}"),
    "times": (
        "Saatler yerel saattir (UTC{offset}); parantez içinde aynı an UTC olarak yazılıdır.",
        "Times are local (UTC{offset}), with the same instant in UTC in brackets.",
    ),
    "verification": ("Kayıtların doğrulanması", "Verification of the records"),
    "verified": (
        "Bu rapor yazılmadan önce kayıt defterleri doğrulandı: her kayıt, imzalı köke uymaktadır.",
        "The ledgers were verified before this report was made: every record matches the signed "
        "root.",
    ),
    "unsigned_tail": (
        "{count} yeni kayıt henüz imzalanmamıştır.",
        "{count} new records are not signed yet.",
    ),
    "not_verified": (
        "DİKKAT: Kayıtlar doğrulanmadı. Bu rapordaki sayılar kanıt olarak kullanılamaz.",
        "WARNING: the records are not verified. The figures in this report are no evidence.",
    ),
    "watermark": ("DOĞRULANMADI", "NOT VERIFIED"),
    "finding": ("bulgu", "finding"),
    "ledger": ("kayıt defteri", "ledger"),
    "records": ("kayıt", "records"),
    "root": ("imzalı kök (SHA-256)", "signed root (SHA-256)"),
    "signed_at": ("imza zamanı", "signed at"),
    "how_signed": (
        "Bu dosya imzalıdır; imza yanındaki .sig dosyasıdır. Doğrulama: {command}",
        "This file is signed; the signature is the .sig file beside it. To verify it: {command}",
    ),
    "how_unsigned": (
        "Bu dosya imzalı değildir: imza anahtarı olmayan bir yerde düzenlenmiştir.",
        "This file is not signed: it was made where the signing key is not.",
    ),
    "terms": ("Terimler", "Terms"),
    "term_entitled": ("hak edilen", "entitled"),
    "term_entitled_is": (
        "Kapsamdaki, yayımlandığı kaydedilmiş tutanak görüntüsü.",
        "A scan in the scope that the filing ledger records as published.",
    ),
    "term_fetched": ("alınmış", "fetched"),
    "term_fetched_is": (
        "Tamamı en az bir kez gönderilmiş ve gönderimin bittiği kaydedilmiş görüntü.",
        "A scan that was sent completely at least once, with a record of the end of the transfer.",
    ),
    "term_pending": ("henüz alınmamış", "not yet fetched"),
    "term_pending_is": (
        "Tam gönderimi kayıtlı olmayan görüntü. Nedeni hakkında bir şey söylemez: alıcı onu henüz "
        "istememiş olabilir.",
        "A scan without a record of a complete transfer. This says nothing about the reason: the "
        "recipient may not have asked for it yet.",
    ),
    "term_lag": ("süre", "lag"),
    "term_lag_is": (
        "Görüntünün bütün alıcıların klasörlerinde aynı anda yayımlanmasından ilk tam gönderimin "
        "bitişine kadar geçen zaman.",
        "The time from publication, which is at one instant for all recipients, to the end of the "
        "first complete transfer.",
    ),
    "entitled": ("hak edilen", "entitled"),
    "fetched": ("alınmış", "fetched"),
    "pending": ("henüz alınmamış", "not yet fetched"),
    "complete": ("oran", "complete"),
    "lag_median": ("süre, ortanca", "lag, median"),
    "lag_p95": ("süre, % 95'i", "lag, 95% within"),
    "bytes": ("gönderilen bayt", "bytes sent"),
    "logins": ("oturum", "logins"),
    "first_login": ("İlk oturum: {text}.", "First login: {text}."),
    "scope": ("Kapsam: {text}.", "Scope: {text}."),
    "scope_all": ("tamamı", "all"),
    "addresses": ("Adresler: {text}.", "Addresses: {text}."),
    "clients": ("Programlar: {text}.", "Clients: {text}."),
    "none": ("Yok.", "None."),
    "none_word": ("yok", "none"),
    "growth": ("Yayımlanan ve alınan görüntüler", "Published and fetched"),
    "growth_text": (
        "{start} ile {end} arasında {filed} görüntü yayımlandı, {fetched} görüntü alındı.",
        "Between {start} and {end}, {filed} scans were published and {fetched} were fetched.",
    ),
    "nothing_filed": ("Görüntü yayımlanmadı.", "Nothing was published."),
    "filed_line": ("yayımlanan", "published"),
    "fetched_line": ("alınan", "fetched"),
    "lags": ("Yayımlanmadan alınmaya kadar geçen süre", "Time from publication to fetching"),
    "lags_text": ("Görüntü sayısı, süreye göre: {text}.", "Scans by lag: {text}."),
    "up_to": ("≤ {time}", "≤ {time}"),
    "longer": ("daha uzun", "longer"),
    "not_yet": ("henüz yok", "not yet"),
    "pending_list": ("Henüz alınmamış ({count})", "Not yet fetched ({count})"),
    "differing": (
        "Yayımlanandan başka SHA-256 ile gönderilen ({count})",
        "Sent with another SHA-256 than published ({count})",
    ),
    "sheet": ("görüntü", "scan"),
    "published_at": ("yayımlanma", "published"),
    "more": ("Ve {count} tane daha: CSV dosyasına bakınız.", "And {count} more: see the CSV file."),
    "refused": ("Kabul edilmeyen istekler ({count})", "Requests that were not granted ({count})"),
    "refused_note": (
        "Yalnız ilk bölüm erişimin reddidir. SSH programları kendiliğinden de sunulmayan şeyler "
        "ister (örneğin env); bunlar erişimin reddi değildir.",
        "Only the first kind is a refusal of access. SSH clients ask for things that are not "
        "offered (such as env) by themselves; that is no refusal of access.",
    ),
    "kind_access": ("erişim reddi", "access refused"),
    "kind_path": ("bulunmayan yol", "path not found"),
    "kind_write": ("yazma isteği", "request to write"),
    "kind_service": ("sunulmayan hizmet", "service not offered"),
    "kind_transfer": ("yarım kalan gönderim", "transfer not completed"),
    "kind": ("tür", "kind"),
    "event": ("olay", "event"),
    "reason": ("neden", "reason"),
    "times_seen": ("sayı", "how often"),
    "first": ("ilk", "first"),
    "last": ("son", "last"),
    "web": ("Web sitesi ve web servisi ({count})", "Web site and web service ({count})"),
    "user": ("kullanıcı", "user"),
    "changes": ("İşletmenin yaptığı değişiklikler ({count})", "Changes by operators ({count})"),
    "when": ("zaman", "when"),
    "who": ("kim", "who"),
    "command": ("komut", "command"),
    "outcome": ("sonuç", "outcome"),
    "why": ("gerekçe", "why"),
    "before": ("önce", "before"),
    "after": ("sonra", "after"),
    "equal": ("Eşit davranma", "Equal treatment"),
    "equal_yes": (
        "Her görüntü, hakkı olan bütün alıcıların klasörlerinde tek işlemle yayımlandı.",
        "Every scan appeared in the trees of all entitled recipients in one filing.",
    ),
    "equal_no": (
        "Hakkı olan her alıcının klasöründe yayımlanmayan görüntü: {count}.",
        "Scans that did not appear in every entitled recipient's tree: {count}.",
    ),
    "in_trees": ("klasör", "in trees"),
    "comparison": ("Karşılaştırma", "Comparison"),
    "bars_text": ("Alınan görüntülerin oranı: {text}.", "Share that was fetched: {text}."),
    "of": ("{part} / {whole}", "{part} of {whole}"),
    "party": ("alıcı", "recipient"),
    "not_granted": ("kabul edilmeyen", "not granted"),
    "access_refused": ("erişim reddi", "access refused"),
    "sheets_csv": (
        "sheets.csv her görüntünün yayımlanma ve alınma zamanını içerir.",
        "sheets.csv has the times of publication and fetching of every scan.",
    ),
    "minute": ("dk", "min"),
    "second": ("sn", "s"),
    "hour": ("sa", "h"),
}


class Words:
    """The words in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._column = 0 if language == "tr" else 1

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values put in."""
        return _WORDS[key][self._column].format(**values)

    def number(self, number: int) -> str:
        """Format a count with the separator of thousands of the language."""
        text = f"{number:,}"
        return text.replace(",", ".") if self.language == "tr" else text
