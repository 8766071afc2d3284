import csv
import io
import json
import re
import string
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import office
import pypdfium2
import pytest
from office import Ssps
from unit.scripts.audit.recorded_night import ONE, SHA, TWO, RecordedNight, run

from config.event import Event, Outcome, Value
from keys.ledger import note, segments
from keys.server_keys import sshsig
from scripts.audit.report import words

pytestmark = pytest.mark.slow


class BalancedTags(HTMLParser):
    """Fails for a tag that is closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def report(ssps: Ssps, folder: Path, *words: object) -> list[str]:
    return run(ssps, "report", *words, "--lang", "en", "-o", folder)


def test_a_report_has_the_figures_of_a_party(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    why: dict[str, Value] = {"why": "call 3", "before": ["static_ips: 192.0.2.7"], "after": None}
    event = Event("party set-ips", "ayse", "ysk-1", "parti-a", detail=why)
    night.record("operations", 210, event)
    night.sign()

    said = report(ssps, tmp_path / "out", "parti-a", "--site", site)

    assert said[0] == "parti-a: 2 of 2 downloaded (100.0 %)"
    page = (tmp_path / "out/parti-a.html").read_text()
    BalancedTags().feed(page)
    assert "Election: " in page
    assert "OpenSSH_9.2" in page
    assert page.count("<svg") == 2
    assert "Changes by operators (1)" in page
    assert '<td class="">static_ips: 192.0.2.7</td>' in page
    assert "2023-05-14T17:00:10+03:00 (14:00:10Z)" in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/parti-a.csv").read_text())))
    assert [(row["sheet"], row["lag_seconds"]) for row in rows] == [
        (ONE, "30.500"),
        (TWO, "60.500"),
    ]
    assert (rows[0]["sha256_filed"], rows[0]["sha256_served"]) == (SHA, SHA)


def test_a_report_on_all_compares_the_parties(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    said = report(ssps, tmp_path / "out", "--all", "--site", site)

    assert said[:2] == [
        "parti-a: 2 of 2 downloaded (100.0 %)",
        "parti-b: 0 of 1 downloaded (0.0 %)",
    ]
    page = (tmp_path / "out/index.html").read_text()
    BalancedTags().feed(page)
    assert "in one filing" in page
    assert 'href="parti-b.html"' in page
    assert len((tmp_path / "out/sheets.csv").read_text().splitlines()) == 4
    assert "credential" in (tmp_path / "out/parti-b.html").read_text()


def test_a_report_names_sheets_that_a_tree_lacked(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    night.filed(700, TWO.replace("s1", "s2"), parties=1)
    night.sign()

    report(ssps, tmp_path / "out", "--all", "--site", site)

    page = (tmp_path / "out/index.html").read_text()
    assert "did not appear in every entitled recipient&#x27;s tree: 1." in page


def test_a_report_escapes_text_from_clients(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    detail: dict[str, Value] = {"reason": "<script>alert(1)</script>", "session": 9}
    event = Event("login-refused", "parti-a", "192.0.2.7", "", Outcome.REFUSED, detail)
    night.record("transfer", 700, event)
    night.sign()

    report(ssps, tmp_path / "out", "parti-a", "--site", site)

    assert "<script" not in (tmp_path / "out/parti-a.html").read_text()


@pytest.mark.slow
def test_a_report_needs_only_copies_of_ledgers_parties_and_key(
    night: RecordedNight, site: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    (site / "ledgers").rename(copy)
    parties = tmp_path / "parties.toml"
    parties.write_text(office.PARTIES_TOML)
    words = ("--ledgers", copy, "--key", public)

    said = report(ssps, tmp_path / "out", "--all", *words, "--parties", parties)
    assert said[:2] == [
        "parti-a: 2 of 2 downloaded (100.0 %)",
        "parti-b: 0 of 1 downloaded (0.0 %)",
    ]
    scoped = report(ssps, tmp_path / "o", "parti-a", *words, "--scope", "35-izmir-2")
    assert scoped[0] == "parti-a: 1 of 1 downloaded (100.0 %)"
    assert "not signed" in (tmp_path / "o/parti-a.html").read_text()
    assert not (tmp_path / "o/parti-a.html.sig").exists()
    assert (
        "unknown party" in ssps("audit", "report", "parti-z", *words, "--parties", parties).stderr
    )


def test_a_report_names_the_signed_root_of_each_ledger(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    said = report(ssps, tmp_path / "out", "parti-a", "--site", site)

    assert said[1] == "all records verified"
    page = (tmp_path / "out/parti-a.html").read_text()
    for ledger in ("filing", "transfer", "operations"):
        checkpoint = segments.read_checkpoint(site / "ledgers" / ledger)
        assert checkpoint is not None
        assert note.unverified_checkpoint(checkpoint).root.hex() in page
    assert "NOT VERIFIED" not in page


@pytest.mark.parametrize("change", ["a record", "the checkpoints"])
def test_no_report_is_made_of_records_that_do_not_verify(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path, change: str
) -> None:
    ledger = site / "ledgers/transfer"
    if change == "a record":
        lines = ledger / "000000000000.jsonl"
        lines.write_bytes(lines.read_bytes().replace(b'"bytes":1000', b'"bytes":1001', 1))
    else:
        (ledger / segments.CHECKPOINT).unlink()
        (ledger / segments.CHECKPOINTS).unlink()
    words = ("audit", "report", "parti-a", "--site", site, "-o", tmp_path / "out")

    refused = ssps(*words)
    assert refused.exit_code == 1
    assert "transfer" in refused.stderr
    assert "--unverified" in refused.stderr
    assert not (tmp_path / "out").exists()

    done = ssps(*words, "--unverified", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["verified"] is False
    page = (tmp_path / "out/parti-a.html").read_text()
    assert 'class="watermark">DOĞRULANMADI' in page
    assert "kanıt olarak kullanılamaz" in page
    assert "DOĞRULANMADI" in pdf_text(tmp_path / "out/parti-a.pdf")


def pdf_text(file: Path) -> str:
    pdf = pypdfium2.PdfDocument(file)
    return "\n".join(page.get_textpage().get_text_range() for page in pdf)


def test_a_report_is_in_turkish_unless_told_otherwise(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    run(ssps, "report", "parti-a", "--site", site, "-o", tmp_path / "out")

    page = (tmp_path / "out/parti-a.html").read_text()
    assert '<html lang="tr">' in page
    assert "Henüz alınmamış (0)" in page
    text = pdf_text(tmp_path / "out/parti-a.pdf")
    assert "Henüz alınmamış (0)" in text
    assert "not yet" not in page + text
    assert "taken" not in page + text


def test_all_texts_exist_in_both_languages_with_the_same_values() -> None:
    for key, (turkish, english) in words._WORDS.items():
        assert turkish.strip(), key
        assert english.strip(), key
        assert _fields(turkish) == _fields(english), key


def _fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text)} - {None}


@pytest.mark.slow
def test_the_files_of_a_report_are_signed(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    report(ssps, tmp_path, "--all", "--site", site)
    signers = tmp_path / "allowed_signers"
    signers.write_text(sshsig.site_allowed_signers(site))

    files = sorted(path for path in tmp_path.glob("*") if path.suffix in (".html", ".pdf", ".csv"))
    assert len(files) == 3 * 3  # of two parties and of all
    for path in files:
        command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "ysk", "-n", "ssps"]
        with path.open("rb") as file:
            subprocess.run([*command, "-s", f"{path}.sig"], stdin=file, check=True)


def test_only_a_refused_login_is_called_a_refusal_of_access(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    night.record("transfer", 500, denied("env", ""))
    night.record("transfer", 501, denied("write", f"/{ONE}"))
    missing: dict[str, Value] = {"session": 3, "reason": "absent"}
    path = "/nothing"
    night.record(
        "transfer", 502, Event("open", "parti-b", "192.0.2.7", path, Outcome.REFUSED, missing)
    )
    night.sign()

    report(ssps, tmp_path, "--all", "--site", site)

    page = (tmp_path / "parti-b.html").read_text()
    for kind, event, reason in (
        ("access refused", "login-refused", "credential"),
        ("service not offered", "denied", "env"),
        ("request to write", "denied", "write"),
        ("path not found", "open", "absent"),
    ):
        cells = "".join(f'<td class="">{text}</td>' for text in (kind, event, reason))
        assert cells in page
    row = re.search(
        "<tr><td[^>]*><a [^>]*>parti-b</a>.*?</tr>", (tmp_path / "index.html").read_text()
    )
    assert row is not None
    assert row[0].endswith('<td class="n">1</td></tr>')  # of refused access, only the login


def denied(verb: str, path: str) -> Event:
    detail: dict[str, Value] = {"session": 3, "verb": verb}
    return Event("denied", "parti-b", "192.0.2.7", path, Outcome.REFUSED, detail)


def test_the_axes_of_the_charts_have_ticks(
    night: RecordedNight, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    report(ssps, tmp_path, "parti-a", "--site", site)

    page = (tmp_path / "parti-a.html").read_text()
    assert "2023-05-14T17:00:10" in page
    assert "≤ 1 s" in page
    growth = page.split("<svg")[1]
    assert growth.count('text-anchor="end">') >= 3  # counts at the axis
    assert len(re.findall(r">\d\d:\d\d:\d\d<", growth)) == 3  # between the first and last time
