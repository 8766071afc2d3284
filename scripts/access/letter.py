"""`ssps party letter`: what a party has to know, on one page, in Turkish.

The text is for print and keeps its Turkish letters; what a client shows or types is in ASCII. As
PDF it carries the host key's fingerprint as a QR code too.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config import load
from config.party import Party
from config.settings import Settings
from keys.credentials import ring
from keys.server_keys import host, sshsig
from scripts.access import parties
from scripts.shared import console, times

if TYPE_CHECKING:
    from fpdf import FPDF

_FONTS = Path("/usr/share/fonts/truetype/dejavu")
_TEXT = """\
SANDIK SONUÇLARI PAYLAŞIM SİSTEMİ (SSPS)
SFTP erişim bilgileri

Sayın {name},

Sandık tutanaklarının görüntüleri, kayıtlı adresinizden ve yalnız okumak üzere, SFTP ile
erişiminize açılmıştır.

Seçim               {title}
Sunucu              {host}
Kapı (port)         {port}
Kullanıcı adı       {user}
Açılış              {opens}
{closes}Kayıtlı adresler    {addresses}
Kapsam              {scope}
{rehearsals}
Sunucu anahtarının parmak izi; ilk bağlantıda karşılaştırınız, başka bir iz görürseniz
bağlanmayınız ve bizi arayınız:

{fingerprints}

known_hosts dosyanıza eklenecek satırlar:

{known_hosts}
İmzaları doğrulamak için allowed_signers dosyanıza yazılacak satır:

{signers}
Kayıtlı kimlik bilgileriniz:

{credentials}

Bağlantı

  sftp    sftp -P {port} -i ANAHTAR {user}@{host}
  lftp    lftp -e 'set sftp:connect-program "ssh -a -x -i ANAHTAR"; \
mirror --parallel=4 / HEDEF; quit' sftp://{user}:@{host}:{port}
  rclone  rclone copy --sftp-host {host} --sftp-port {port} --sftp-user {user} \
--sftp-key-file ANAHTAR --sftp-known-hosts-file ~/.ssh/known_hosts :sftp:/ HEDEF
  WinSCP  Dosya protokolü SFTP; sunucu, kapı ve kullanıcı adı yukarıdaki gibi; özel anahtar:
          Gelişmiş > SSH > Kimlik Doğrulama. Sonra Komutlar > Eşitle (yerel klasöre).

Koşullar

  - Erişim, Genelge uyarınca bildirdiğiniz en çok iki sabit adresten ve yukarıdaki kimlik
    bilgileriyle sağlanır. Diğer SSPS hizmetlerinin parolaları burada geçmez (md. 3/d).
  - Özel anahtarınız ve parolanız size aittir; kimseyle paylaşmayınız, kaybolursa hemen arayınız.
  - Veriler, yayın yasağı kalkana kadar yayımlanamaz ve üçüncü kişilere verilemez.
  - Bütün bağlantılar ve aktarımlar kayıt altına alınır.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the parties reach the server, which may be another address than it listens on."""

    host: str
    port: int


@click.command()
@click.argument("party_id", metavar="PARTY")
@click.option("--host", "name", help="The name or address that the party connects to.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port; as the server listens.")
@click.option(
    "--pdf",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it to this file as PDF, with the fingerprint as a QR code.",
)
@console.with_site
def letter(party_id: str, name: str | None, port: int | None, pdf: Path | None, site: Path) -> None:
    """Write the letter to PARTY: host, port, user, fingerprints, times, commands, terms."""
    party = parties.find_with_login(site, party_id)
    settings = load.load(site)
    listens = settings.sftp.host
    if name is None and listens in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        raise click.UsageError(f"the server listens on {listens}: name it with --host")
    address = Address(name or listens, port or settings.sftp.port)
    text = render_text(settings, party, address, plainly=pdf is None)
    if pdf is None:
        click.echo(text, nl=False)
        return
    prints = [line.fingerprint for line in host.public_host_keys(site)]
    pdf.write_bytes(render_pdf(text, prints[0]))
    click.echo(f"{pdf}: the letter to {party_id}", err=True)


def render_text(settings: Settings, party: Party, address: Address, *, plainly: bool = True) -> str:
    """Return the letter's text."""
    election, site = settings.election, settings.site
    zone = election.opens.tzinfo
    lines = host.public_host_keys(site)
    coming = host.public_host_keys(site, coming=True)
    prints = [f"  {line.kind:12} {line.fingerprint}" for line in lines]
    prints += [f"  {line.kind:12} {line.fingerprint}  (sonraki anahtar)" for line in coming]
    known = host.known_hosts(site, address.host, address.port) if plainly else ""
    held = [
        f"  {c.fingerprint}  {'parola' if c.kind is ring.CredentialKind.PASSWORD else 'anahtar'}"
        f"  {c.label}  {times.format_time(c.not_before, zone)}"
        f" .. {times.format_time(c.not_after, zone)}"
        for c in ring.load(site, party.id).credentials
    ]
    closes = (
        f"Kapanış             {times.format_time(election.closes, zone)}\n"
        if election.closes
        else ""
    )
    return _TEXT.format(
        name=party.name,
        title=election.title,
        host=address.host,
        port=address.port,
        user=party.id,
        opens=times.format_time(election.opens, zone),
        closes=closes,
        addresses=", ".join(map(str, party.static_ips)),
        scope="tamamı" if party.scope.places is None else party.scope,
        rehearsals="".join(
            f"Prova               {times.format_time(r.opens, zone)}"
            f" .. {times.format_time(r.closes, zone)}\n"
            for r in settings.rehearsals
        ),
        fingerprints="\n".join(prints),
        signers=sshsig.site_allowed_signers(site),
        known_hosts=known or "  (metin olarak ayrıca gönderilir)\n",
        credentials="\n".join(held) or "  (henüz yok: açık anahtarınızı gönderiniz)",
    )


def render_pdf(text: str, fingerprint: str, fonts: Path = _FONTS) -> bytes:
    """Return the letter as PDF; raise Faults if its font is not installed."""
    import qrcode
    from fpdf import FPDF

    sans, mono = fonts / "DejaVuSans.ttf", fonts / "DejaVuSansMono.ttf"
    if not (sans.exists() and mono.exists()):
        message = "is missing, and with it the Turkish letters: apt-get install fonts-dejavu-core"
        raise console.fault(str(sans), "", message)
    page = FPDF(format="A4")
    page.set_margin(18)
    page.set_auto_page_break(auto=True, margin=15)
    page.add_page()
    page.add_font("sans", fname=str(sans))
    page.add_font("mono", fname=str(mono))
    _write(page, text.splitlines())
    picture = io.BytesIO()
    qrcode.make(fingerprint, border=2).save(picture, "PNG")
    picture.seek(0)
    page.image(picture, x=page.w - 18 - 32, y=14, w=32)
    return bytes(page.output())


def _write(page: "FPDF", lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        columns = line.startswith("  ") or "   " in line
        page.set_font("mono" if columns else "sans", size=12 if number == 0 else 8)
        page.multi_cell(0, 4.2, line or " ", new_x="LMARGIN", new_y="NEXT", align="L")
