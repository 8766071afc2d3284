import subprocess
from pathlib import Path

from office import Ssps
from PIL import Image

from config import load
from keys.server_keys import host
from scripts.access import letter


def test_the_letter_has_everything_that_a_party_needs(site: Path, ssps: Ssps) -> None:
    ssps("key", "add", "parti-b", "--password", "--why", "x", "--label", "ofis", "--site", site)

    done = ssps("party", "letter", "parti-b", "--host", "sonuc.example", "--site", site)

    assert done.exit_code == 0, done.output
    [key] = host.public_host_keys(site)
    for said in (
        "B Partisi",
        "sonuc.example",
        "2023-05-14 17:00:00+03:00",
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
