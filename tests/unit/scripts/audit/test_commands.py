import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from office import Ssps
from unit.keys.ledger.signed_ledgers import KEY
from unit.scripts.audit.recorded_night import NOON, ONE, SHA, TWO, RecordedNight, run

from config.event import Event, Outcome, Value
from keys.feed_segment import NO_PREVIOUS, FeedSegment, format_segment
from keys.server_keys import sshsig


def test_query_filters_by_every_field(night: RecordedNight, site: Path, ssps: Ssps) -> None:
    def count(*words: object) -> int:
        return len(run(ssps, "query", "--site", site, *words))

    assert count() == 13
    assert count("--party", "parti-a") == 9
    assert count("--ledger", "filing") == 2
    assert count("--event", "close", "--path", "*/sandik-7/*") == 1
    assert count("--outcome", "refused") == 1
    assert count("--address", "192.0.2.66") == 1
    assert count("--credential", "SHA256:ab") == 7  # the login and what its session did
    assert count("--since", "2023-05-14T14:01:20Z", "--until", "2023-05-14T17:01:31+03:00") == 3
    assert count("-n", 3) == 3


def test_query_json_prints_the_ledger_lines_unchanged(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    lines = run(ssps, "query", "--site", site, "--ledger", "transfer", "--json")

    assert lines == (site / "ledgers/transfer/000000000000.jsonl").read_text().splitlines()


def test_query_csv_escapes_formulas(night: RecordedNight, site: Path, ssps: Ssps) -> None:
    event = Event("login-refused", "=cmd|' /C calc'!A0", "192.0.2.66", "", Outcome.REFUSED)
    night.record("transfer", 500, event)

    text = ssps("audit", "query", "--site", site, "--csv", "--since", "2023-05-14T14:08:00Z").stdout

    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["seq"], row["event"]) == ("10", "login-refused")
    assert row["who"] == "'=cmd|' /C calc'!A0"


def test_the_index_picks_up_new_records_and_can_be_rebuilt(
    night: RecordedNight, site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(run(ssps, "query", "--site", site)) == 13
    night.served(600, "parti-b", TWO)
    assert len(run(ssps, "query", "--site", site)) == 15
    (index,) = (Path(site.parent / "cache/ssps")).glob("*.duckdb")
    index.write_bytes(b"rubbish" * 1000)
    assert ssps("audit", "query", "--site", site).exit_code == 1
    assert len(run(ssps, "query", "--site", site, "--rebuild")) == 15


def test_query_reports_a_line_that_is_not_a_record(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    path = site / "ledgers/transfer/000000000000.jsonl"
    path.write_bytes(path.read_bytes() + b"rubbish\n" + b'{"torn')

    done = ssps("audit", "query", "--site", site)

    assert done.exit_code == 1
    assert "lines that are not records: 1; `ssps audit verify` names them" in done.stderr


def test_a_receipt_of_the_last_download_is_verified_with_the_public_key(
    night: RecordedNight, site: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    file = tmp_path / "receipt"

    run(ssps, "receipt", "parti-a", ONE, "--site", site, "-o", file)

    said = run(ssps, "receipt", "verify", file, "--key", public)
    assert "#9 ok      close              parti-a 192.0.2.7" in said[0]
    assert "valid: record 9 of 10 in ssps/transfer/" in said[1]
    file.write_bytes(file.read_bytes().replace(b"index 9", b"index 7"))
    done = ssps("audit", "receipt", "verify", file, "--key", public)
    assert (done.exit_code, "is not number 7 of the signed ledger" in done.stderr) == (1, True)


def test_there_is_no_receipt_without_a_complete_download(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    done = ssps("audit", "receipt", "parti-b", TWO, "--site", site)

    assert done.exit_code == 1
    assert "no record of a complete download by parti-b" in done.stderr


@pytest.mark.slow
def test_the_record_of_the_portal_is_queried_reported_and_proved(
    night: RecordedNight, site: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    user: dict[str, Value] = {"user": "parti-b.ayse", "session": 1 << 47}
    event = Event("login", "parti-b", "192.0.2.8", "", detail=user)
    night.record("access", 500, event)
    seen = {**user, "sha256": SHA, "form": "picture"}
    night.record("access", 501, Event("sheet", "parti-b", "192.0.2.8", f"/{TWO}", detail=seen))
    night.sign()

    assert len(run(ssps, "query", "--site", site, "--ledger", "access")) == 2
    run(ssps, "report", "parti-b", "--site", site, "--lang", "en", "-o", tmp_path / "report")
    page = (tmp_path / "report/parti-b.html").read_text()
    assert "Web site and web service (2)" in page and "parti-b.ayse" in page
    run(ssps, "receipt", "parti-b", TWO, "--site", site, "-o", tmp_path / "receipt")
    said = run(ssps, "receipt", "verify", tmp_path / "receipt", "--key", public)
    assert "sheet" in said[0] and "valid: record 1 of 2 in ssps/access/" in said[1]


@pytest.mark.parametrize("named", [ONE, "/" + ONE])
def test_timeline_shows_a_sheet_from_scan_to_download(
    night: RecordedNight, site: Path, ssps: Ssps, named: str
) -> None:
    lines = run(ssps, "timeline", named, "--site", site, "--json")

    steps = [json.loads(line) for line in lines]
    assert [(each["step"], each["who"], each["seq"]) for each in steps] == [
        ("scanned", "", 0),
        ("filed", "publisher", 0),
        ("opened", "parti-a", 1),
        ("fetched", "parti-a", 4),
    ]
    assert steps[1]["hash"] == (site / "ledgers/filing/000000000000.hashes").read_bytes()[:32].hex()


def test_query_shows_why_before_and_after_of_a_change(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    detail: dict[str, Value] = {"why": "call 3", "before": ["static_ips: 192.0.2.7"]}
    detail |= {"after": None, "reason": "3 addresses", "of": 0}
    event = Event("party set-ips", "ayse", "ysk-1", "parti-b", Outcome.REFUSED, detail)
    night.record("operations", 500, event)

    words = ("query", "--site", site, "--ledger", "operations", "--outcome", "refused")
    (said,) = run(ssps, *words)
    (row,) = csv.DictReader(io.StringIO("\n".join(run(ssps, *words, "--csv"))))

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


def test_timeline_includes_commands_of_operators(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    why: dict[str, Value] = {"why": "minutes", "before": "expected", "after": "absent: burnt"}
    box = "34-istanbul-1/kadikoy-2/1234"
    night.record("operations", 5, Event("asked", "ayse", "ysk-1", box, detail=why))
    night.record("operations", 6, Event("absent add", "ayse", "ysk-1", box, detail=why))

    steps = [json.loads(x) for x in run(ssps, "timeline", ONE, "--site", site, "--json")]

    assert [each["step"] for each in steps[:3]] == ["scanned", "absent add", "filed"]
    assert steps[1]["what"] == f"{box} ok why=minutes"


def test_timeline_finds_a_sheet_by_karekod_and_rejects_an_unknown_one(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    assert len(run(ssps, "timeline", "1093717526", "--site", site)) == 8
    done = ssps("audit", "timeline", "9999999999", "--site", site)
    assert (done.exit_code, "no record of this sheet" in done.stderr) == (1, True)


def test_gap_lists_a_quiet_period_with_commands_of_operators(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    words = ("gap", "--site", site, "--until", "2023-05-14T14:06:45Z", "--longer-than")

    filed, served, *near = run(ssps, *words, 120)

    assert "nothing filed for 385 s, and nothing since" in filed
    assert "nothing served for 310 s" in near[1]
    assert [line.split()[3] for line in (served, near[0], *near[2:])] == [
        *("filed", "party"),
        *("login-refused", "party", "open"),
    ]
    first, second = map(json.loads, run(ssps, *words, 120, "--json"))
    assert (first["seconds"], first["open"], second["seconds"], second["open"]) == (
        *(385.0, True),
        *(310.0, False),
    )
    assert [each["event"] for each in second["records"]] == [
        "login-refused",
        "party suspend",
        "open",
    ]
    assert run(ssps, *words, 1000) == []


def test_gap_lists_the_time_since_the_last_record(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    until = ("--until", "2023-05-14T16:30:00+00:00")
    copy = (site / "ledgers", "--longer-than", 400)

    then = run(ssps, "gap", *copy, *until)
    now = [json.loads(each) for each in run(ssps, "gap", *copy, "--json")]

    assert [line.partition(": ")[2] for line in then if not line.startswith(" ")] == [
        "nothing filed for 8980 s, and nothing since",
        "nothing served for 8600 s, and nothing since",
    ]
    assert then[-1] == "    (no record explains it)"
    assert [(Path(each["ledger"]).name, each["open"]) for each in now] == [
        ("filing", True),
        ("transfer", True),
    ]
    assert all(each["seconds"] > 100_000_000 for each in now)


def test_gap_compares_a_feed_with_the_ledgers(
    night: RecordedNight, site: Path, ssps: Ssps, public: Path, tmp_path: Path
) -> None:
    """The feed pauses from 14.00.15, before the second filing, to 14.05, and lacks segment 3."""
    folder = tmp_path / "mirror/akis"
    folder.mkdir(parents=True)
    previous = NO_PREVIOUS
    for number, seconds in enumerate((5, 15, 300, 350), start=1):
        at = int(NOON.timestamp()) + seconds
        content = format_segment(FeedSegment("2023-05-14-cb-mv", "5f0c", number, at, previous, ()))
        previous = hashlib.sha256(content).hexdigest()
        if number != 3:
            (folder / f"{number:08}.csv").write_bytes(content)
            (folder / f"{number:08}.csv.sig").write_bytes(sshsig.sign(KEY, content))
    words = ("gap", site / "ledgers", "--feed", tmp_path / "mirror", "--key", public)
    options = ("--until", "2023-05-14T14:06:45Z", "--longer-than", 320)

    lines = run(ssps, *words, *options)
    problems = [json.loads(each) for each in run(ssps, *words, *options, "--json")]

    heads = [line.partition(": ")[2] for line in lines if not line.startswith(" ")]
    assert heads == [
        "nothing filed for 385 s, and nothing since",
        "akis: segment 3 is missing; the ledger shows 1 filed meanwhile",
        "akis: no segment between 2 and 4 for 335 s; the ledger shows 1 filed meanwhile",
    ]
    assert [line.split()[3] for line in lines[-2:]] == ["filed", "party"]
    assert [(each.get("kind"), each.get("filed")) for each in problems] == [
        (None, None),
        ("missing", 1),
        ("silence", 1),
    ]
    nothing = ssps("audit", "gap", site / "ledgers", "--feed", site)
    assert "contains no segment of a feed, such as 00000001.csv" in nothing.stderr


def test_export_writes_xferlog_ecs_and_ocsf(night: RecordedNight, site: Path, ssps: Ssps) -> None:
    xferlog = run(ssps, "export", "--format", "xferlog", "--site", site)
    ecs = [json.loads(line) for line in run(ssps, "export", "--format", "ecs", "--site", site)]
    ocsf = [json.loads(line) for line in run(ssps, "export", "--format", "ocsf", "--site", site)]

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


def test_the_json_of_export_is_ecs_and_xferlog_has_none(
    night: RecordedNight, site: Path, ssps: Ssps
) -> None:
    ecs = run(ssps, "export", "--format", "ecs", "--site", site)

    assert ecs
    assert run(ssps, "export", "--json", "--site", site) == ecs
    assert run(ssps, "export", "--json", "--format", "ecs", "--site", site) == ecs
    for wrong in (("--json", "--format", "xferlog"), ()):
        assert ssps("audit", "export", *wrong, "--site", site).exit_code == 2
