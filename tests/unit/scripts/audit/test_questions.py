import csv
import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import office
import pytest
from office import Ssps
from unit.scripts.audit.conftest import KEY

from config.event import Event, Outcome, Value
from keys.feed_segment import FIRST, Segment, format_segment
from keys.ledger.signer import Notary
from keys.ledger.writer import Ledger
from keys.server_keys import sshsig

NOON = datetime(2023, 5, 14, 14, 0, tzinfo=UTC)
ONE = "2023-05-14-cb-mv/34-istanbul-1/kadikoy-2/sandik-1234/cb-sandik-sonuc-s1.jpg"
TWO = "2023-05-14-cb-mv/35-izmir-2/konak-1/sandik-7/cb-sandik-sonuc-s1.jpg"
SHA = "ab" * 32


class RunningSite:
    """Ledgers written by hand, at times that are stated."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = NOON

    def clock(self) -> datetime:
        return self.now

    def record(self, ledger: str, seconds: float, event: Event) -> None:
        self.now = NOON + timedelta(seconds=seconds)
        with Ledger(self.folder / ledger, self.clock) as writer:
            writer.append(event)

    def filed(self, seconds: float, path: str, parties: int = 2) -> None:
        detail: dict[str, Value] = {"sha256": SHA, "karekod": "1093717526", "parties": parties}
        detail |= {"page": "20230514T140001000000-9f3c21ab", "engine": "zbar", "ms": 80}
        self.record(
            "filing", seconds, Event("filed", "publisher", "tarama.jpg", path, detail=detail)
        )

    def served(
        self, seconds: float, party: str, path: str, session: int = 1, whole: bool = True
    ) -> None:
        told: dict[str, Value] = {"session": session, "handle": 4, "size": 1000}
        self.record("transfer", seconds, Event("open", party, "192.0.2.7", f"/{path}", detail=told))
        told = {"session": session, "handle": 4, "bytes": 1000, "complete": whole, "ms": 2500}
        told |= {"sha256": SHA}
        event = Event("close", party, "192.0.2.7", f"/{path}", detail=told)
        self.record("transfer", seconds + 0.5, event)

    def sign(self) -> None:
        for each in self.folder.iterdir():
            with Notary(each, KEY, self.clock) as notary:
                notary.notarize(last=True)


@pytest.fixture
def night(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSite]:
    """parti-a (all) took both sheets, parti-b (two places) neither; somebody guessed passwords."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    told = RunningSite(site / "ledgers")
    told.filed(10, ONE, parties=1)
    told.filed(20, TWO)
    login: dict[str, Value] = {"session": 1, "method": "publickey", "client": "OpenSSH_9.2"}
    login |= {"credential": "SHA256:abc", "cipher": "aes256-gcm@openssh.com", "kex": "mlkem"}
    told.record("transfer", 30, Event("login", "parti-a", "192.0.2.7", "", detail=login))
    told.served(31, "parti-a", ONE, whole=False)
    told.served(40, "parti-a", ONE)
    told.served(80, "parti-a", TWO)
    refused: dict[str, Value] = {"session": 2, "method": "password", "reason": "credential"}
    event = Event("login-refused", "parti-b", "192.0.2.66", "", Outcome.REFUSED, refused)
    told.record("transfer", 90, event)
    told.record("operations", 200, Event("party suspend", "ayse", "ysk-1", "parti-b"))
    told.served(400, "parti-a", ONE, session=3)
    told.sign()
    yield told


def asked(ssps: Ssps, *words: object) -> list[str]:
    done = ssps("audit", *words)
    assert done.exit_code == 0, done.output
    return str(done.stdout).splitlines()


def test_records_are_picked_out_by_all_that_they_answer(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    def count(*words: object) -> int:
        return len(asked(ssps, "query", "--site", site, *words))

    assert count() == 13
    assert count("--party", "parti-a") == 9
    assert count("--ledger", "filing") == 2
    assert count("--event", "close", "--path", "*/sandik-7/*") == 1
    assert count("--outcome", "refused") == 1
    assert count("--address", "192.0.2.66") == 1
    assert count("--credential", "SHA256:ab") == 7  # the login and what its session did
    assert count("--since", "2023-05-14T14:01:20Z", "--until", "2023-05-14T17:01:31+03:00") == 3
    assert count("-n", 3) == 3


def test_an_answer_for_a_script_is_the_ledgers_own_lines(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    lines = asked(ssps, "query", "--site", site, "--ledger", "transfer", "--json")

    assert lines == (site / "ledgers/transfer/000000000000.jsonl").read_text().splitlines()


def test_an_answer_for_a_spreadsheet_runs_no_formula(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    evil = Event("login-refused", "=cmd|' /C calc'!A0", "192.0.2.66", "", Outcome.REFUSED)
    night.record("transfer", 500, evil)

    text = ssps("audit", "query", "--site", site, "--csv", "--since", "2023-05-14T14:08:00Z").stdout

    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["seq"], row["event"]) == ("10", "login-refused")
    assert row["who"] == "'=cmd|' /C calc'!A0"


def test_what_was_written_since_is_found_without_reading_it_all_again(
    night: RunningSite, site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(asked(ssps, "query", "--site", site)) == 13
    night.served(600, "parti-b", TWO)
    assert len(asked(ssps, "query", "--site", site)) == 15
    (index,) = (Path(site.parent / "cache/ssps")).glob("*.duckdb")
    index.write_bytes(b"rubbish" * 1000)
    assert ssps("audit", "query", "--site", site).exit_code == 1
    assert len(asked(ssps, "query", "--site", site, "--rebuild")) == 15


def test_a_line_that_is_no_record_is_said_and_not_passed_over(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    path = site / "ledgers/transfer/000000000000.jsonl"
    path.write_bytes(path.read_bytes() + b"rubbish\n" + b'{"torn')

    done = ssps("audit", "query", "--site", site)

    assert done.exit_code == 1
    assert "1 of its lines are no records, `ssps audit verify` names them" in done.stderr


def test_a_receipt_proves_what_was_served_last_with_the_public_key_alone(
    night: RunningSite, site: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    file = tmp_path / "receipt"

    asked(ssps, "receipt", "parti-a", ONE, "--site", site, "-o", file)

    said = asked(ssps, "receipt", "verify", file, "--key", public)
    assert "#9 ok      close              parti-a 192.0.2.7" in said[0]
    assert "holds: record 9 of 10 in ssps/transfer/" in said[1]
    file.write_bytes(file.read_bytes().replace(b"index 9", b"index 7"))
    done = ssps("audit", "receipt", "verify", file, "--key", public)
    assert (done.exit_code, "does not stand at this place" in done.stderr) == (1, True)


def test_there_is_no_receipt_for_what_was_not_served_in_full(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    done = ssps("audit", "receipt", "parti-b", TWO, "--site", site)

    assert done.exit_code == 1
    assert "no record that parti-b was served all of it" in done.stderr


@pytest.mark.parametrize("named", [ONE, "/" + ONE])
def test_a_sheet_is_told_from_scan_to_first_fetch(
    night: RunningSite, site: Path, ssps: Ssps, named: str
) -> None:
    lines = asked(ssps, "timeline", named, "--site", site, "--json")

    told = [json.loads(line) for line in lines]
    assert [(each["step"], each["who"], each["seq"]) for each in told] == [
        ("scanned", "", 0),
        ("filed", "publisher", 0),
        ("opened", "parti-a", 1),
        ("fetched", "parti-a", 4),
    ]
    assert told[1]["hash"] == (site / "ledgers/filing/000000000000.hashes").read_bytes()[:32].hex()


def test_a_change_is_shown_with_why_before_and_after(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    moved: dict[str, Value] = {"why": "call 3", "before": ["static_ips: 192.0.2.7"]}
    moved |= {"after": None, "reason": "3 addresses", "of": 0}
    event = Event("party set-ips", "ayse", "ysk-1", "parti-b", Outcome.REFUSED, moved)
    night.record("operations", 500, event)

    words = ("query", "--site", site, "--ledger", "operations", "--outcome", "refused")
    (said,) = asked(ssps, *words)
    (row,) = csv.DictReader(io.StringIO("\n".join(asked(ssps, *words, "--csv"))))

    assert said.endswith(
        'party set-ips      ayse ysk-1 parti-b why="call 3" before=[static_ips: 192.0.2.7] '
        'after=- reason="3 addresses" of=0'
    )
    assert [row[key] for key in ("who", "why", "before", "after", "reason")] == [
        "ayse",
        "call 3",
        "static_ips: 192.0.2.7",
        "",
        "3 addresses",
    ]


def test_what_operators_did_about_a_sheet_stands_in_its_timeline(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    why: dict[str, Value] = {"why": "minutes", "before": "expected", "after": "absent: burnt"}
    box = "34-istanbul-1/kadikoy-2/1234"
    night.record("operations", 5, Event("asked", "ayse", "ysk-1", box, detail=why))
    night.record("operations", 6, Event("absent add", "ayse", "ysk-1", box, detail=why))

    told = [json.loads(x) for x in asked(ssps, "timeline", ONE, "--site", site, "--json")]

    assert [each["step"] for each in told[:3]] == ["scanned", "absent add", "filed"]
    assert told[1]["what"] == f"{box} ok why=minutes"


def test_a_sheet_is_found_by_its_karekod_and_an_unknown_one_is_said_to_be(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    assert len(asked(ssps, "timeline", "1093717526", "--site", site)) == 8
    done = ssps("audit", "timeline", "9999999999", "--site", site)
    assert (done.exit_code, "no record of such a sheet" in done.stderr) == (1, True)


def test_a_silence_is_shown_with_what_operators_did_meanwhile(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    words = ("gap", "--site", site, "--until", "2023-05-14T14:06:45Z", "--longer-than")

    filed, served, *near = asked(ssps, *words, 120)

    assert "nothing filed for 385 s, to the end" in filed
    assert "nothing served for 310 s" in near[1]
    assert [line.split()[4] for line in (served, near[0], *near[2:])] == [
        *("filed", "party"),
        *("login-refused", "party", "open"),
    ]
    first, told = map(json.loads, asked(ssps, *words, 120, "--json"))
    assert (first["seconds"], first["open"], told["seconds"], told["open"]) == (
        *(385.0, True),
        *(310.0, False),
    )
    assert [each["event"] for each in told["records"]] == ["login-refused", "party suspend", "open"]
    assert asked(ssps, *words, 1000) == []


def test_a_ledger_is_silent_from_its_last_record_until_now(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    until = ("--until", "2023-05-14T16:30:00+00:00")
    copy = (site / "ledgers", "--longer-than", 400)

    then = asked(ssps, "gap", *copy, *until)
    now = [json.loads(each) for each in asked(ssps, "gap", *copy, "--json")]

    assert [line.partition(": ")[2] for line in then if not line.startswith(" ")] == [
        "nothing filed for 8980 s, to the end",
        "nothing served for 8600 s, to the end",
    ]
    assert then[-1] == "    (no record says why)"
    assert [(Path(each["ledger"]).name, each["open"]) for each in now] == [
        ("filing", True),
        ("transfer", True),
    ]
    assert all(each["seconds"] > 100_000_000 for each in now)


def test_a_silent_feed_is_set_beside_what_the_ledgers_say(
    night: RunningSite, site: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    """From 14.00.15, before the second sheet was filed, to 14.05; number 3 is gone."""
    folder = tmp_path / "mirror/akis"
    folder.mkdir(parents=True)
    previous = FIRST
    for number, seconds in enumerate((5, 15, 300, 350), start=1):
        at = int(NOON.timestamp()) + seconds
        content = format_segment(Segment("2023-05-14-cb-mv", "5f0c", number, at, previous, ()))
        previous = hashlib.sha256(content).hexdigest()
        if number != 3:
            (folder / f"{number:08}.csv").write_bytes(content)
            (folder / f"{number:08}.csv.sig").write_bytes(sshsig.sign(KEY, content))
    words = ("gap", site / "ledgers", "--feed", tmp_path / "mirror", "--key", public)
    limits = ("--until", "2023-05-14T14:06:45Z", "--longer-than", 320)

    lines = asked(ssps, *words, *limits)
    told = [json.loads(each) for each in asked(ssps, *words, *limits, "--json")]

    heads = [line.partition(": ")[2] for line in lines if not line.startswith(" ")]
    assert heads == [
        "nothing filed for 385 s, to the end",
        "akis: segment 3 is missing; 1 filed meanwhile, by the ledger",
        "akis: no segment between 2 and 4 for 335 s; 1 filed meanwhile, by the ledger",
    ]
    assert [line.split()[4] for line in lines[-2:]] == ["filed", "party"]
    assert [(each.get("kind"), each.get("filed")) for each in told] == [
        (None, None),
        ("missing", 1),
        ("silence", 1),
    ]
    nothing = ssps("audit", "gap", site / "ledgers", "--feed", site)
    assert "holds no segment of a feed, such as 00000001.csv" in nothing.stderr


class Balanced(HTMLParser):
    """Raises for a tag that is closed in the wrong place or never."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_says_what_a_party_was_entitled_to_and_took(
    night: RunningSite, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    why: dict[str, Value] = {"why": "call 3", "before": ["static_ips: 192.0.2.7"], "after": None}
    event = Event("party set-ips", "ayse", "ysk-1", "parti-a", detail=why)
    night.record("operations", 210, event)

    said = asked(ssps, "report", "parti-a", "--site", site, "-o", tmp_path / "out")

    assert said[0] == "parti-a: 2 of 2 taken (100.0 %)"
    page = (tmp_path / "out/parti-a.html").read_text()
    Balanced().feed(page)
    assert "OpenSSH_9.2" in page
    assert page.count("<svg") == 2
    assert "What was changed about it (1)" in page
    assert '<td class="">static_ips: 192.0.2.7</td>' in page
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/parti-a.csv").read_text())))
    assert [(row["sheet"], row["lag_seconds"]) for row in rows] == [
        (ONE, "30.500"),
        (TWO, "60.500"),
    ]
    assert (rows[0]["sha256_filed"], rows[0]["sha256_served"]) == (SHA, SHA)


def test_a_report_on_all_compares_what_each_could_see_and_took(
    night: RunningSite, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    said = asked(ssps, "report", "--all", "--site", site, "-o", tmp_path / "out")

    assert said[:2] == ["parti-a: 2 of 2 taken (100.0 %)", "parti-b: 0 of 1 taken (0.0 %)"]
    page = (tmp_path / "out/index.html").read_text()
    Balanced().feed(page)
    assert "by one and the same filing" in page
    assert 'href="parti-b.html"' in page
    assert len((tmp_path / "out/sheets.csv").read_text().splitlines()) == 4
    assert "credential" in (tmp_path / "out/parti-b.html").read_text()


def test_a_sheet_that_a_tree_lacked_is_no_equal_treatment(
    night: RunningSite, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    night.filed(700, TWO.replace("s1", "s2"), parties=1)

    asked(ssps, "report", "--all", "--site", site, "-o", tmp_path / "out")

    page = (tmp_path / "out/index.html").read_text()
    assert "1 sheets were not linked into every entitled party&#x27;s tree at once" in page


def test_a_name_that_a_client_made_up_is_no_markup(
    night: RunningSite, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    detail: dict[str, Value] = {"reason": "<script>alert(1)</script>", "session": 9}
    event = Event("login-refused", "parti-a", "192.0.2.7", "", Outcome.REFUSED, detail)
    night.record("transfer", 700, event)

    asked(ssps, "report", "parti-a", "--site", site, "-o", tmp_path / "out")

    assert "<script" not in (tmp_path / "out/parti-a.html").read_text()


def test_copies_of_the_ledgers_and_of_the_scopes_are_enough(
    night: RunningSite, site: Path, ssps: Ssps, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    (site / "ledgers").rename(copy)
    parties = tmp_path / "parties.toml"
    parties.write_text(office.PARTIES_TOML)

    said = asked(
        ssps, "report", "--all", "--ledgers", copy, "--parties", parties, "-o", tmp_path / "out"
    )
    assert said[:2] == ["parti-a: 2 of 2 taken (100.0 %)", "parti-b: 0 of 1 taken (0.0 %)"]
    scoped = asked(
        ssps, "report", "parti-a", "--ledgers", copy, "--scope", "35-izmir-2", "-o", tmp_path / "o"
    )
    assert scoped[0] == "parti-a: 1 of 1 taken (100.0 %)"
    assert (
        "no party of these"
        in ssps("audit", "report", "parti-z", "--ledgers", copy, "--parties", parties).stderr
    )


def test_other_tools_read_the_transfers_in_their_own_forms(
    night: RunningSite, site: Path, ssps: Ssps
) -> None:
    xferlog = asked(ssps, "export", "--format", "xferlog", "--site", site)
    ecs = [json.loads(line) for line in asked(ssps, "export", "--format", "ecs", "--site", site)]
    ocsf = [json.loads(line) for line in asked(ssps, "export", "--format", "ocsf", "--site", site)]

    assert xferlog[0] == (
        f"Sun May 14 14:00:31 2023 2 192.0.2.7 1000 /{ONE} b _ o r parti-a sftp 0 * i"
    )
    assert xferlog[1].endswith(" * c")
    assert len(xferlog) == 4
    assert len(ecs) == len(ocsf) == 10
    assert ecs[0]["event"]["category"] == ["authentication"]
    assert ecs[0]["user_agent"] == {"original": "OpenSSH_9.2"}
    closed = ecs[4]
    assert closed["@timestamp"] == "2023-05-14T14:00:40.500000Z"
    assert closed["event"]["duration"] == 2_500_000_000
    assert closed["file"] == {"path": f"/{ONE}", "hash": {"sha256": SHA}}
    assert (ocsf[0]["class_uid"], ocsf[0]["type_uid"]) == (3002, 300201)
    assert (ocsf[4]["class_uid"], ocsf[4]["activity_id"]) == (6006, 2)
    assert ocsf[7]["status"] == "Failure"
