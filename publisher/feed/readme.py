"""Writes BENIOKU.txt, which tells a party what its tree is, on what terms, and how to verify it.

The text is Turkish in plain ASCII, because clients differ in how they show Unicode. Its commands
are COMMANDS, and a test runs them exactly as they are printed. They work in the folder of the
mirror, with the file `allowed_signers` in it, which the party got with its kit and on its letter.
"""

from datetime import datetime

from config import parallel
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
  Bu dizinde, ilce secim kurullarinda taranan tutanaklarin goruntuleri vardir. Her goruntu
  tarayicidan ciktigi gibidir; degistirilmez, silinmez. Bir tutanak duzeltilirse yenisi,
  ilkinin yanina .v2, .v3 ... ekiyle konur. Dosyanin saati, dosyalandigi saattir.
    {election}/<secim cevresi>/<ilce secim kurulu>/sandik-<no>/<secim>-<belge>-s<sayfa>
    {election}/<secim cevresi>/<ilce secim kurulu>/birlestirme/...
  Kapsaminiz: {scope}

KOSULLAR
  Erisim {opens} itibariyla acilir; yalniz okunur, yalniz bildirdiginiz sabit IP
  adreslerinden ve size verilen kimlikle yapilir (Genelge md. 4). Her baglanti ve her dosya
  aktarimi kayit altindadir. {ban}

ESITLEME
  Sunucunun adi, anahtarinizin dosyasi ve known_hosts satirlari zarfinizdadir. Uzak bir hatta da
  hizli olan ve oturum sinirinizi asmayan komutlar (SUNUCU, ANAHTAR ve HEDEF sizindir):
    lftp -e 'set sftp:connect-program "ssh -a -x -i ANAHTAR"; mirror \
--parallel={at_once.lftp} / HEDEF; quit' sftp://{user}:@SUNUCU
    rclone copy --sftp-host SUNUCU --sftp-user {user} --sftp-key-file ANAHTAR \
--sftp-known-hosts-file known_hosts \
--transfers {at_once.transfers} --checkers {at_once.checkers} :sftp:/ HEDEF

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

{results}DEGISIKLIK AKISI
  akis/ altinda yeni dosyalarin numarali ve imzali listeleri vardir. En yeni listenin adi
  akis/son.txt dosyasindadir. Yeni dosya gelmese de dakikada en az bir liste yayimlanir.
  Her listede bir oncekinin sha256 degeri vardir. Bu listeleri izlerseniz, esitlemek icin
  butun dizini taramaniz gerekmez.
"""


_RESULTS = """\
SONUCLAR
  {election}/sonuclar/ altinda sandik sonuclari vardir: her numara, butun sonuclarin o andaki
  halidir ve bir daha degismez. <secim>.csv ve .xlsx tablolari, <secim>.changes.csv onceki
  numaradan bu yana degisenleri gerekcesiyle verir; -birlestirme dosyalari birlestirme
  tutanaklaridir. manifest.json imzalidir ve dosyalarin sha256 degerlerini verir.
  Sonuclar gecicidir; kesin sonucu kurulun imzali tutanagi gosterir.

"""


def text(settings: Settings, party: Party) -> str:
    """Return the text of BENIOKU.txt for a party's tree."""
    election = settings.election
    ban = "Yayin yasagi surdukce yayimlanamaz."
    if election.ban_lifts is not None:
        ban = f"Yayin yasagi {_moment(election.ban_lifts)} itibariyla kalkar."
    return _TEXT.format(
        title=_plain(election.title),
        party=_plain(party.name),
        election=election.id,
        scope="butun secim cevreleri" if party.scope.places is None else str(party.scope),
        opens=_moment(election.opens),
        ban=ban,
        user=party.id,
        at_once=parallel.within(settings.sftp.max_sessions_per_party),
        commands=commands(election.id),
        results=_RESULTS.format(election=election.id) if settings.results.in_trees else "",
    )


def commands(election: str) -> list[str]:
    """Return the three commands that verify a mirror, as BENIOKU.txt prints them."""
    return [command.format(election=election) for command in COMMANDS]


def _moment(when: datetime) -> str:
    return f"{when:%d.%m.%Y %H.%M} ({when:%z})"


def _plain(words: str) -> str:
    return to_ascii(words).encode("ascii", "ignore").decode()
