"""`ssps party letter`: one page in Turkish with all that a party needs in order to connect.

On stdout it is plain ASCII, so that it survives any mail program. As PDF it keeps the Turkish
letters and shows the fingerprint of the host key as a QR code too.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from config import load, parallel, times
from config.party import Party
from config.settings import Settings
from config.site import HOST_KEYS, SIGNING_KEYS
from config.turkish import to_ascii
from keys.credentials import ring
from keys.operations import ring_files, site_keys
from keys.server_keys import host, sshsig
from publisher.feed import readme
from scripts.access import parties
from scripts.shared import console
from scripts.shared import pdf as pdf_file

if TYPE_CHECKING:
    from fpdf import FPDF

_MAX_COLUMNS = 150  # of one line on paper, in the smallest type
_TEXT = """\
SANDIK SONUÇLARI PAYLAŞIM SİSTEMİ (SSPS)
SFTP erişim bilgileri

Sayın {name},

Yardım              {contact}

Sandık tutanaklarının görüntülerini kayıtlı adresinizden SFTP ile indirebilirsiniz. Erişim yalnız
okumak içindir.

Seçim               {title}
Sunucu              {host}
Port                {port}
Kullanıcı adı       {user}
Açılış              {opens}
{closes}Kayıtlı adresler    {addresses}
Kapsam              {scope}
{rehearsals}
Sunucu anahtarının parmak izi aşağıdadır. İlk bağlantıda karşılaştırınız. Başka bir parmak izi
görürseniz bağlanmayınız ve bizi arayınız:

{fingerprints}

known_hosts dosyanıza ekleyeceğiniz satırlar:

{known_hosts}
İmzaları doğrulamak için allowed_signers dosyanıza ekleyeceğiniz satır:

{signers}
Kayıtlı kimlik bilgileriniz:

{credentials}

Bağlantı

  sftp    sftp -P {port} -i ANAHTAR {user}@{host}
          sonra: get -r / HEDEF
  lftp    lftp -e 'set sftp:connect-program "ssh -a -x -i ANAHTAR"; \
mirror --parallel={lftp} / HEDEF; quit' sftp://{user}:@{host}:{port}
  rclone  rclone copy --sftp-host {host} --sftp-port {port} --sftp-user {user} \\
            --sftp-key-file ANAHTAR --sftp-known-hosts-file ~/.ssh/known_hosts \\
            --transfers {transfers} --checkers {checkers} :sftp:/ HEDEF
  WinSCP  Dosya protokolü SFTP; sunucu, port ve kullanıcı adı yukarıdaki gibi; özel anahtar:
          Gelişmiş > SSH > Kimlik Doğrulama. Sonra Komutlar > Eşitle (yerel klasöre).
  mirror  araclar/mirror.py, her dosyayı doğrulayan eşitleme programı (Python 3.9, paramiko):
          python3 araclar/mirror.py --host {host} --port {port} --user {user} \\
            --key ANAHTAR --known-hosts known_hosts --signers allowed_signers \\
            --election {election} --to HEDEF --follow

Doğrulama (kopyanın içinde, allowed_signers dosyası yanında; her adım BENIOKU.txt'de anlatılır)

  ssh-keygen -Y verify -f allowed_signers -I ysk -n ssps \\
    -s {election}/SHA256SUMS.sig < {election}/SHA256SUMS
  (cd {election} && sha256sum -c --quiet SHA256SUMS)
  find {election} -mindepth 2 -name SHA256SUMS \\
    -execdir sha256sum -c --quiet {{}} +
  İlki 'Good "ssps" signature for ysk' yazar, ötekiler hiçbir şey yazmaz. Başka bir şey görürseniz
  kopyayı kullanmayınız ve bizi arayınız.

Değişiklik akışı

  akis/son.txt en yeni listenin adıdır; akis/00000042.csv o listedir ve imzası yanındadır (.sig).
  Liste yeni dosyaların yolunu, büyüklüğünü ve SHA-256 değerini verir. Dakikada en az bir liste
  yayımlanır; mirror.py bu akışı izler.

Koşullar

  - Genelge uyarınca yalnız bildirdiğiniz adreslerden (en çok iki sabit adres) ve yukarıdaki
    kimlik bilgileriyle bağlanabilirsiniz. Diğer SSPS hizmetlerinin parolaları burada geçerli
    değildir (md. 3/d).
  - Özel anahtarınızı ve parolanızı kimseyle paylaşmayınız. Kaybederseniz hemen bizi arayınız.
  - Verileri, yayın yasağı kalkana kadar yayımlamayınız ve başkasına vermeyiniz.
  - Bütün bağlantılar ve indirmeler kayda geçer.
"""


@dataclass(frozen=True, slots=True)
class Address:
    """The host and port that the parties connect to; the server may listen on another address."""

    host: str
    port: int


@click.command()
@click.argument("party_id", metavar="PARTY")
@click.option(
    "--host", "name", help="The name or address that the party connects to. Default: sftp.address."
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="The port that the party connects to. Default: sftp.address, then sftp.listen.",
)
@click.option(
    "--pdf",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a PDF to this file, with the fingerprint as a QR code.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with the text.")
@console.with_site
def letter(
    party_id: str,
    name: str | None,
    port: int | None,
    pdf: Path | None,
    as_json: bool,
    site: Path,
) -> None:
    """Print the letter that tells PARTY how to connect.

    Host, port, user name, fingerprints, times, example commands, conditions.
    """
    settings = load.load(site)
    party = parties.find_with_login(settings, party_id)
    stated = settings.sftp.public_address
    if name is None and stated is None:
        raise click.UsageError(
            f"the server listens on {settings.sftp.host}, every address: set sftp.address in "
            "site.toml, or give the address to print with --host"
        )
    host_name, its_port = stated or ("", settings.sftp.port)
    address = Address(name or host_name, port or its_port)
    text = render_text(settings, party, address, long_keys=pdf is None)
    if as_json:
        fields = {"party": party_id, "host": address.host, "port": address.port, "text": text}
        click.echo(json.dumps({**fields, "pdf": str(pdf) if pdf else None}, ensure_ascii=False))
    if pdf is None:
        if not as_json:
            click.echo(to_ascii(text), nl=False)
        return
    prints = [line.fingerprint for line in host.public_host_keys(site)]
    pdf.write_bytes(render_pdf(text, prints[0]))
    click.echo(f"{pdf}: letter to {party_id} written", err=True)


def render_text(
    settings: Settings, party: Party, address: Address, *, long_keys: bool = True
) -> str:
    """Return the text of the letter; `long_keys` includes known_hosts lines of any length.

    A line of an RSA key does not fit on paper, and a key that is broken over lines is no use.
    """
    election, site = settings.election, settings.site
    zone = election.opens.tzinfo
    site_keys.require(site, HOST_KEYS, SIGNING_KEYS)
    lines = host.public_host_keys(site)
    coming = host.public_host_keys(site, next_keys=True)
    prints = [f"  {line.kind:12} {line.fingerprint}" for line in lines]
    prints += [f"  {line.kind:12} {line.fingerprint}  (sonraki anahtar)" for line in coming]
    known = host.known_hosts(site, address.host, address.port)
    if not long_keys:
        fitting = [line for line in known.splitlines() if len(line) <= _MAX_COLUMNS]
        fitting.append("  (diğer anahtarlar metin olarak ayrıca gönderilir)")
        known = "\n".join(fitting) + "\n"
    held = [
        f"  {c.fingerprint}  {'parola' if c.kind is ring.CredentialKind.PASSWORD else 'anahtar'}"
        f"  {c.label}  {times.format_time(c.not_before, zone)}"
        f" .. {times.format_time(c.not_after, zone)}"
        for c in ring_files.load(site, party.id).credentials
    ]
    closes = (
        f"Kapanış             {times.format_time(election.closes, zone)}\n"
        if election.closes
        else ""
    )
    at_once = parallel.within(settings.sftp.max_sessions_per_party)
    return _TEXT.format(
        name=party.name,
        lftp=at_once.lftp,
        transfers=at_once.transfers,
        checkers=at_once.checkers,
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
        known_hosts=known,
        election=election.id,
        contact=readme.contact_line(settings.contact),
        credentials="\n".join(held) or "  (henüz yok: açık anahtarınızı gönderiniz)",
    )


def render_pdf(text: str, fingerprint: str, fonts: Path = pdf_file.FONTS) -> bytes:
    """Return the letter as PDF; raise Faults if the font for Turkish letters is not installed."""
    import qrcode

    page = pdf_file.new_pdf(fonts)
    page.add_page()
    _write(page, text.splitlines())
    picture = io.BytesIO()
    qrcode.make(fingerprint, border=2).save(picture, "PNG")
    picture.seek(0)
    page.image(picture, x=page.w - pdf_file.MARGIN - 32, y=14, w=32)
    return bytes(page.output())


def _write(page: "FPDF", lines: Sequence[str]) -> None:
    """Write the lines; one with columns or a key is made smaller until it fits, never broken."""
    for number, line in enumerate(lines):
        columns = line.startswith("  ") or "   " in line or " ssh-" in line or " ecdsa-" in line
        page.set_font("mono" if columns else "sans", size=12 if number == 0 else 8)
        while columns and page.get_string_width(line) > page.epw - 2 * page.c_margin:
            page.set_font("mono", size=page.font_size_pt - 0.25)
        page.multi_cell(0, 4.2, line or " ", new_x="LMARGIN", new_y="NEXT", align="L")
