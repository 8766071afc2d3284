import subprocess
from pathlib import Path

import pypdfium2
from office import Ssps
from PIL import Image

from config import load
from keys.credentials import ring
from keys.server_keys import host, sshsig
from scripts.access.party import letter


def test_the_letter_has_everything_that_a_party_needs(site: Path, ssps: Ssps) -> None:
    with (site / "site.toml").open("a") as file:
        file.write('[contact]\nphone = "+90 312 000 00 00"\nemail = "destek@ysk.example"\n')
    ssps("key", "add", "parti-b", "--password", "--why", "x", "--label", "ofis", "--site", site)

    done = ssps("party", "letter", "parti-b", "--host", "sonuc.example", "--site", site)

    assert done.exit_code == 0, done.output
    [key] = host.public_host_keys(site)
    for said in (
        "B Partisi",
        "sonuc.example",
        "2023-05-14T17:00:00+03:00",
        "127.0.0.1, 2001:db8::7",
        f"ssh-ed25519  {key.fingerprint}",
        f"[sonuc.example]:2222 ssh-ed25519 {key.blob}",
        "parola  ofis",
        "sftp -P 2222 -i ANAHTAR parti-b@sonuc.example",
        "mirror --parallel=24 / HEDEF",
        "rclone copy",
        "--transfers 16 --checkers 8 :sftp:/ HEDEF",
        "WinSCP",
        "md. 3/d",
        "telefon +90 312 000 00 00, destek@ysk.example",
        "get -r / HEDEF",
        "python3 araclar/mirror.py --host sonuc.example --port 2222 --user parti-b",
        "sha256sum -c --quiet SHA256SUMS",
        "akis/son.txt",
    ):
        assert said in done.stdout
    assert done.stdout.isascii()
    assert "argon2" not in done.stdout


def test_letter_needs_host_if_the_server_listens_on_every_address(site: Path, ssps: Ssps) -> None:
    path = site / "site.toml"
    path.write_text(path.read_text().replace("127.0.0.1:2222", "0.0.0.0:22"))
    assert ssps("party", "letter", "parti-a", "--site", site).exit_code == 2
    independent = ssps("party", "letter", "bagimsiz-c", "--host", "x.example", "--site", site)
    assert independent.exit_code == 1


def test_the_pdf_has_turkish_letters_and_a_qr_code(site: Path, ssps: Ssps, tmp_path: Path) -> None:
    out = tmp_path / "mektup.pdf"

    done = ssps("party", "letter", "parti-a", "--pdf", out, "--site", site)

    assert done.exit_code == 0, done.output
    content = out.read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"DejaVuSans" in content
    assert content.count(b"/Subtype /Image") == 1
    assert len(content) < 200_000


def test_the_pdf_breaks_no_key_line(site: Path, ssps: Ssps, tmp_path: Path) -> None:
    for name in ("first", "second"):  # a former or next key makes more lines
        host.create_key(tmp_path / name, name)
        ssps("key", "add", "parti-a", "--public-key", tmp_path / f"{name}.pub", "--label",
             "a-long-name-of-a-machine-of-the-party", "--why", "x", "--site", site)  # fmt: skip
    out = tmp_path / "mektup.pdf"
    ssps("party", "letter", "parti-a", "--host", "sonuc-paylasim.secim.example", "--pdf", out,
         "--site", site)  # fmt: skip

    with pypdfium2.PdfDocument(out) as document:
        text = "\n".join(page.get_textpage().get_text_range() for page in document)
    lines = {line.rstrip() for line in text.splitlines()}

    [key] = host.public_host_keys(site)
    assert f"[sonuc-paylasim.secim.example]:2222 ssh-ed25519 {key.blob}" in lines
    assert sshsig.site_allowed_signers(site).strip() in lines
    assert any(line.endswith(key.fingerprint) for line in lines)
    for credential in ring.load(site, "parti-a").credentials:
        [line] = [line for line in lines if credential.fingerprint in line]
        assert credential.not_before.strftime("%Y-%m-%d") in line


def test_a_key_that_does_not_fit_on_paper_is_not_in_the_pdf(site: Path) -> None:
    host.create_key(site / "keys/host/ssh_host_rsa_key", "ssps", bits=2048)
    settings = load.load(site)
    address = letter.Address("a.example", 22)

    on_paper = letter.render_text(settings, settings.parties[0], address, long_keys=False)
    as_text = letter.render_text(settings, settings.parties[0], address)

    assert "a.example ssh-rsa" in as_text
    assert "a.example ssh-rsa" not in on_paper
    assert "a.example ssh-ed25519" in on_paper
    assert "metin olarak ayrıca gönderilir" in on_paper


def test_the_qr_code_is_the_fingerprint(site: Path, tmp_path: Path) -> None:
    import qrcode
    import zxingcpp

    [key] = host.public_host_keys(site)
    qrcode.make(key.fingerprint, border=2).save(tmp_path / "code.png")
    [found] = zxingcpp.read_barcodes(Image.open(tmp_path / "code.png"))
    assert found.text == key.fingerprint


def test_ssh_keygen_reads_the_known_hosts_line_of_the_letter(site: Path, tmp_path: Path) -> None:
    settings = load.load(site)
    text = letter.render_text(settings, settings.parties[0], letter.Address("a.example", 22))
    [line] = [line for line in text.splitlines() if line.startswith("a.example ssh-ed25519")]
    (tmp_path / "known").write_text(line + "\n")
    command = ["ssh-keygen", "-F", "a.example", "-f", str(tmp_path / "known"), "-l"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert host.public_host_keys(site)[0].fingerprint in said
