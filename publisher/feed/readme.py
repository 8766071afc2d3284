"""Writes BENIOKU.txt, which tells a party what its tree is, on what terms, and how to verify it.

The text is Turkish in UTF-8. Its commands that verify are COMMANDS, TOOL_COMMANDS and AGE_COMMAND,
and a test runs them exactly as they are printed. They work in the folder of the mirror, with the
file `allowed_signers` in it, which the party got with its kit and on its letter.
"""

from contextlib import suppress
from datetime import datetime
from pathlib import Path

from config import layout, parallel, times
from config.fault import Faults
from config.party import Contact, Party
from config.settings import Settings
from config.site import HOST_KEYS
from keys.operations import site_keys
from keys.server_keys import host, sshsig

_VERIFY = (
    f"ssh-keygen -Y verify -f {sshsig.ALLOWED_SIGNERS} -I {sshsig.PRINCIPAL} -n {sshsig.NAMESPACE}"
)
COMMANDS = (
    f"{_VERIFY} -s {{election}}/SHA256SUMS.sig < {{election}}/SHA256SUMS",
    "(cd {election} && sha256sum -c --quiet SHA256SUMS)",
    "find {election} -mindepth 2 -name SHA256SUMS -execdir sha256sum -c --quiet {{}} +",
    # For each SHA256SUMS: its label names this election and folder and these sums, and is signed.
    "find {election} -name SHA256SUMS ! -path '*/sonuclar/*' -exec sh -c 'd=$(dirname \"$0\") && "
    'grep -qxF "yer: $d" "$0.kunye" && '
    '(cd "$d" && tail -n 1 SHA256SUMS.kunye | sha256sum -c --quiet) && '
    f'{_VERIFY} -s "$0.kunye.sig" < "$0.kunye" > /dev/null'
    ' || echo "$0"\' {{}} \\;',
)
# The sums have no label. Other signed sums could be in their place, but they do not name mirror.py,
# so its own signature is verified too.
TOOL_COMMANDS = (
    COMMANDS[0].format(election=layout.TOOLS),
    COMMANDS[1].format(election=layout.TOOLS),
    f"{_VERIFY} -s {layout.TOOLS}/{layout.MIRROR}.sig < {layout.TOOLS}/{layout.MIRROR}",
)
# The newest segment is signed, of this election, and was closed in the last ten minutes.
AGE_COMMAND = (
    f'(n=akis/$(cat akis/son.txt) && {_VERIFY} -s "$n.sig" < "$n" && '
    "grep -qx '# secim: {election}' \"$n\" && t=$(sed -n 's/^# kapanis: //p' \"$n\") && "
    '[ "$t" \\> "$(date -u -d \'-10 min\' +%FT%TZ)" ] && echo "$t")'
)
_TEXT = """\
SANDIK SONUÇLARI PAYLAŞIM SİSTEMİ
{title}
{party} için

NEDİR
  Bu dizinde, ilçe seçim kurullarında taranan tutanakların görüntüleri vardır. Her görüntü
  tarayıcıdan çıktığı gibidir; değiştirilmez, silinmez. Bir tutanak düzeltilirse yenisi,
  ilkinin yanına .v2, .v3 ... ekiyle konur. Dosyanın saati, dosyalandığı saattir.
    {election}/<seçim çevresi>/<ilçe seçim kurulu>/sandik-<no>/<seçim>-<belge>-s<sayfa>
    {election}/<seçim çevresi>/<ilçe seçim kurulu>/birlestirme/...
    akis/       yeni dosyaların listeleri (değişiklik akışı)
    araclar/    eşitleme programı mirror.py, sunucunun ve imzaların açık anahtarları
  Kapsamınız: {scope}

YARDIM
  {contact}
  Bağlanamazsanız kullanıcı adınızı ({user}) ve denediğiniz saati söyleyin.

KOŞULLAR
  Erişim {opens} itibarıyla açılır; yalnız okunur, yalnız bildirdiğiniz sabit IP
  adreslerinden ve size verilen kimlikle yapılır (Genelge md. 4). Her bağlantı ve her dosya
  aktarımı kayıt altındadır. {ban}

EŞİTLEME
  Anahtarınızın dosyası ve known_hosts satırları mektubunuzdadır. ANAHTAR ve HEDEF sizindir.
  1. Deneme:
       sftp {sftp_port}-i ANAHTAR {user}@{host}
     Başarılı olursa "Connected to {host}." yazar ve sftp> sorar. `ls` bu dosyayı gösterir.
  2. Tek sefer, en yalın yol. Başarılı olursa "sftp>" sorusuna hatasız döner:
       get -r / HEDEF
     Her seferinde hepsini indirir. -a seçeneğini kullanmayın: değişen toplam ve imzaları yenilemez.
  3. Uzak bir hatta da hızlı olan ve oturum sınırınızı aşmayan komutlar. Başarılı olurlarsa hata
     yazmadan biterler ve hemen ardından `echo $?` 0 yazar:
       lftp -e 'set sftp:connect-program "ssh -a -x -i ANAHTAR"; mirror \
--parallel={at_once.lftp} / HEDEF; quit' sftp://{user}:@{host}{url_port}
       rclone copy --sftp-host {host} {rclone_port}--sftp-user {user} --sftp-key-file ANAHTAR \
--sftp-known-hosts-file known_hosts \
--transfers {at_once.transfers} --checkers {at_once.checkers} :sftp:/ HEDEF
  4. Seçim gecesi boyunca, her dosyayı doğrulayarak (Python 3.9 ve paramiko ister). Kopyanın
     içinde, aşağıdaki doğrulamanın 1. ve 5. adımından sonra:
       python3 araclar/mirror.py --host {host} {mirror_port}--user {user} --key ANAHTAR \
--known-hosts araclar/known_hosts --signers allowed_signers \
--election {election} --to . --follow
     Başarılı olursa on saniyede bir "segments 42, complete 42, waiting 0, ..." yazar: waiting 0,
     her şeyin indiğini ve doğrulandığını gösterir. `--once` ile bir kez çalışır ve 0 koduyla biter.
     araclar/ dizinindeki mirror.py, known_hosts ve allowed_signers imzalıdır.

WINDOWS
  WinSCP: dosya protokolü SFTP, sunucu {host}, kapı {port}, kullanıcı {user}; özel anahtar
  Gelişmiş > SSH > Kimlik Doğrulama altında (.ppk; OpenSSH anahtarını WinSCP dönüştürür). İlk
  bağlantıda gösterilen parmak izini mektubunuzla karşılaştırın. Sonra Komutlar > Eşitle, yön:
  yerel. Başarılı olursa kuyruk boşalır ve hata penceresi çıkmaz. Komut satırından:
       {winscp}
     Başarılı olursa `echo %ERRORLEVEL%` 0 yazar.
  PuTTY: puttygen anahtarı .ppk olarak kaydeder. Sonra:
       psftp -P {port} -i ANAHTAR.ppk {user}@{host}
     Parmak izini karşılaştırıp y ile onaylayın. Başarılı olursa "Remote working directory is /"
     yazar ve psftp> sorar. `get -r / HEDEF` hepsini indirir.
  Windows'un kendi OpenSSH'ı ile 1. ve 2. adımdaki sftp komutları aynıdır. mirror.py için:
       py -m pip install paramiko
       py araclar\\mirror.py --host {host} {mirror_port}--user {user} --key ANAHTAR \
--known-hosts araclar\\known_hosts --signers allowed_signers \
--election {election} --to . --follow
     Aşağıdaki doğrulamanın tümünü o yapar; imza komutu cmd.exe içinde de çalışır.

DOĞRULAMA
  allowed_signers satırı mektubunuzdadır; dosyayı bu dizinin kopyasına koyun ve kopyanın içinde:
  1. Toplamların imzası. Başarılı olursa 'Good "ssps" signature for ysk' yazar:
     {commands[0]}
  2. Kurulların toplam listeleri. Başarılı olursa hiçbir şey yazmaz:
     {commands[1]}
  3. Bütün görüntüler. Başarılı olursa hiçbir şey yazmaz:
     {commands[2]}
  4. Her listenin künyesi (SHA256SUMS.kunye: seçim, dizin, saat, sıra no). Başka yerden ya da
  künyesiz bir listenin yolunu yazar. Başarılı olursa hiçbir şey yazmaz:
     {commands[3]}
  5. araclar/ dizini; ilk ve son komut 1. adımdaki gibi, ikincisi hiçbir şey yazmaz:
     {tools[0]}
     {tools[1]}
     {tools[2]}
  6. Kopyanın yaşı, yayın sürerken. Son on dakikada imzalanan listenin saatini (UTC) yazar.
  Yazmazsa kopya ya da sunucu eski bir durumu gösteriyor:
     {age}
  Toplamlar yaklaşık dakikada bir yenilenir; kopya alınırken yenilendiyse bir kez daha
  eşitleyin. Eksik dosya, eşleşmeyen toplam ya da geçersiz imza olursa kurula bildirin.

{results}DEĞİŞİKLİK AKIŞI
  akis/ altında yeni dosyaların numaralı ve imzalı listeleri vardır. En yeni listenin adı
  akis/son.txt dosyasındadır. Yeni dosya gelmese de dakikada en az bir liste yayımlanır.
  Her listede bir öncekinin sha256 değeri vardır. Bu listeleri izlerseniz, eşitlemek için
  bütün dizini taramanız gerekmez. Listenin sütunları:
    path         dosyanın yolu
    size         bayt olarak büyüklüğü
    sha256       içeriğinin SHA-256 değeri
    filed_at     dosyalandığı saat (UTC)
    sheet        belgenin türü, örneğin sandik-sonuc
    version      sürümü: 1, düzeltilmiş ya da yeniden taranmışsa 2, 3 ...
    supersedes   yerini aldığı önceki sürümün yolu; ilk sürümde boş
"""


_WINSCP = (
    'winscp.com /command "open sftp://{user}@{name}:{port}/ -privatekey=ANAHTAR.ppk '
    '-hostkey=""ssh-ed25519 255 {fingerprint}""" "synchronize local C:\\HEDEF /" "exit"'
)
_RESULTS = """\
SONUÇLAR
  {election}/sonuclar/ altında sandık sonuçları vardır: her numara, bütün sonuçların o andaki
  hâlidir ve bir daha değişmez. <seçim>.csv ve .xlsx tabloları, <seçim>.changes.csv önceki
  numaradan bu yana değişenleri gerekçesiyle verir; -birlestirme dosyaları birleştirme
  tutanaklarıdır. manifest.json imzalıdır ve dosyaların sha256 değerlerini verir.
  Sonuçlar geçicidir; kesin sonucu kurulun imzalı tutanağı gösterir.

"""


def text(settings: Settings, party: Party) -> str:
    """Return the text of BENIOKU.txt for a party's tree."""
    election = settings.election
    ban = "Yayın yasağı sürdükçe yayımlanamaz."
    if election.ban_lifts is not None:
        ban = f"Yayın yasağı {_moment(election.ban_lifts)} itibarıyla kalkar."
    name, port = settings.sftp.public_address or ("SUNUCU", settings.sftp.port)
    is_usual = port == 22
    return _TEXT.format(
        title=election.title,
        party=party.name,
        election=election.id,
        scope="bütün seçim çevreleri" if party.scope.places is None else str(party.scope),
        opens=_moment(election.opens),
        ban=ban,
        user=party.id,
        contact=contact_line(settings.contact),
        host=f"[{name}]" if ":" in name else name,
        port=port,
        sftp_port="" if is_usual else f"-P {port} ",
        url_port="" if is_usual else f":{port}",
        rclone_port="" if is_usual else f"--sftp-port {port} ",
        mirror_port="" if is_usual else f"--port {port} ",
        winscp=_WINSCP.format(
            user=party.id, name=name, port=port, fingerprint=_fingerprint(settings.site)
        ),
        at_once=parallel.within(settings.sftp.max_sessions_per_party),
        commands=commands(election.id),
        tools=TOOL_COMMANDS,
        age=AGE_COMMAND.format(election=election.id),
        results=_RESULTS.format(election=election.id) if settings.results.in_trees else "",
    )


def contact_line(contact: Contact) -> str:
    """Return whom the parties call, in Turkish; the letter if the site does not say it."""
    stated = [contact.name, contact.phone and f"telefon {contact.phone}", contact.email]
    return ", ".join(filter(None, stated)) or "Size mektubu gönderen kurulu arayınız."


def _fingerprint(site: Path) -> str:
    """Return the fingerprint of the ed25519 host key without `SHA256:`, as WinSCP wants it."""
    with suppress(Faults, OSError, ValueError, IndexError):
        site_keys.require(site, HOST_KEYS)
        for key in host.public_host_keys(site):
            if key.kind == "ssh-ed25519":
                return key.fingerprint.removeprefix("SHA256:")
    return "PARMAK-IZI"


def commands(election: str) -> list[str]:
    """Return the commands that verify a mirror, as BENIOKU.txt prints them."""
    return [command.format(election=election) for command in COMMANDS]


def _moment(when: datetime) -> str:
    return times.format_time(when, when.tzinfo)
