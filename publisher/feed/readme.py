"""BENIOKU.txt: what a party's tree is, on what terms, and how to prove that one has all of it.

Turkish in plain ASCII, since clients differ in Unicode. The commands are `COMMANDS`, which the
tests run just as they are printed; they work in the folder that the tree was mirrored into, with
the `allowed_signers` beside it that the party has in its kit and on its letter.
"""

from datetime import datetime

from config.party import Party
from config.settings import Settings
from config.turkish import to_ascii
from keys.server_keys import sshsig

COMMANDS = (
    f"ssh-keygen -Y verify -f {sshsig.ALLOWED_SIGNERS} -I {sshsig.PRINCIPAL} -n {sshsig.NAMESPACE}"
    " -s {election}/SHA256SUMS.sig < {election}/SHA256SUMS",
    "(cd {election} && sha256sum -c --quiet SHA256SUMS)",
    "find {election} -mindepth 2 -name SHA256SUMS -execdir sha256sum -c --quiet {{}} +",
)
_TEXT = """\
SANDIK SONUCLARI PAYLASIM SISTEMI
{title}
{party} icin

NEDIR
  Bu dizinde, ilce secim kurullarinda taranan tutanaklarin goruntuleri durur. Her goruntu
  tarayicidan ciktigi gibidir; degistirilmez, silinmez. Duzeltilen bir tutanak ilkinin
  yaninda .v2, .v3 ... ekiyle durur. Dosya saati dosyalama saatidir.
    {election}/<secim cevresi>/<ilce secim kurulu>/sandik-<no>/<secim>-<belge>-s<sayfa>
    {election}/<secim cevresi>/<ilce secim kurulu>/birlestirme/...
  Kapsaminiz: {scope}

KOSULLAR
  Erisim {opens} itibariyla acilir; yalniz okunur, yalniz bildirdiginiz sabit IP
  adreslerinden ve size verilen kimlikle yapilir (Genelge md. 4). Her baglanti ve her dosya
  aktarimi kayit altindadir. {ban}

DOGRULAMA
  allowed_signers dosyasi size verilen zarftadir; bu dizinin kopyasina koyun ve kopyanin icinde:
  1. Toplamlarin imzasi:
     {commands[0]}
  2. Kurullarin toplam listeleri:
     {commands[1]}
  3. Butun goruntuler:
     {commands[2]}
  Toplamlar yaklasik dakikada bir yenilenir; kopya alinirken yenilendiyse bir kez daha
  esitleyin. Eksik dosya, eslesmeyen toplam ya da gecersiz imza olursa kurula bildirin.

DEGISIKLIK AKISI
  akis/ altinda yeni dosyalarin numarali, imzali listeleri vardir; akis/son.txt en yenisini
  soyler. Hicbir sey gelmese de dakikada en az bir liste kapanir. Her liste bir oncekinin
  sha256 degerini tasir. Agaci bastan sona taramadan esitlemek icin bunlari izleyin.
"""


def text(settings: Settings, party: Party) -> str:
    """Return the file that stands at the root of `party`'s tree."""
    election = settings.election
    banned = "Yayin yasagi surdukce yayimlanamaz."
    if election.ban_lifts is not None:
        banned = f"Yayin yasagi {_moment(election.ban_lifts)} itibariyla kalkar."
    return _TEXT.format(
        title=_plain(election.title),
        party=_plain(party.name),
        election=election.id,
        scope="butun secim cevreleri" if party.scope.places is None else str(party.scope),
        opens=_moment(election.opens),
        ban=banned,
        commands=commands(election.id),
    )


def commands(election: str) -> list[str]:
    """Return the three commands that verify a mirror, as they are printed."""
    return [command.format(election=election) for command in COMMANDS]


def _moment(when: datetime) -> str:
    return f"{when:%d.%m.%Y %H.%M} ({when:%z})"


def _plain(words: str) -> str:
    return to_ascii(words).encode("ascii", "ignore").decode()
