import json
import subprocess
import sys
from pathlib import Path

from office import Ssps

from config.event import Event, Outcome
from keys.ledger.writer import Ledger


def served(site: Path, count: int) -> None:
    with Ledger(site / "ledgers/transfer") as transfer:
        for number in range(count):
            detail = {"session": 1, "handle": number}
            transfer.append(Event("open", "parti-a", "192.0.2.7", f"/{number}.jpg", detail=detail))


def test_tail_shows_the_last_records_in_order(site: Path, ssps: Ssps) -> None:
    served(site, 30)

    shown = ssps("audit", "tail", "-n", 3, "--site", site).stdout.splitlines()

    assert [line.split()[1] for line in shown] == ["#27", "#28", "#29"]
    assert shown[0].endswith("open               parti-a 192.0.2.7 /27.jpg handle=27 session=1")


def test_tail_json_prints_the_ledger_lines_unchanged(site: Path, ssps: Ssps) -> None:
    served(site, 2)

    lines = ssps("audit", "tail", "--json", "--site", site).stdout

    assert lines == (site / "ledgers/transfer/000000000000.jsonl").read_text()
    assert [json.loads(line)["seq"] for line in lines.splitlines()] == [0, 1]


def test_control_characters_in_a_user_name_are_escaped(site: Path, ssps: Ssps) -> None:
    with Ledger(site / "ledgers/transfer") as transfer:
        transfer.append(Event("login-refused", "\x1b[2J\n", "192.0.2.7", "", Outcome.REFUSED))

    shown = ssps("audit", "tail", "--site", site).stdout

    assert shown.count("\n") == 1
    assert "\x1b" not in shown
    assert r"\x1b[2J\n" in shown


def test_tail_of_a_missing_ledger_prints_nothing(site: Path, ssps: Ssps) -> None:
    done = ssps("audit", "tail", "--ledger", "filing", "--site", site)

    assert (done.exit_code, done.stdout) == (0, "")


def test_tail_reports_a_damaged_record(site: Path, ssps: Ssps) -> None:
    served(site, 2)
    path = site / "ledgers/transfer/000000000000.jsonl"
    path.write_text(path.read_text().replace("parti-a", "parti-b\\u0000", 1).replace("{", "", 1))

    done = ssps("audit", "tail", "--site", site)

    assert done.exit_code == 1
    assert "000000000000.jsonl: at byte 0: " in done.stderr


def test_audit_imports_neither_daemon_nor_paramiko() -> None:
    code = (
        "import sys; from scripts.ssps import main; main(['audit', 'tail', '--help'], "
        "standalone_mode=False); print(sorted({m.split('.')[0] for m in sys.modules} & "
        "{'paramiko', 'sftpd', 'publisher', 'sqlalchemy', 'PIL', 'zxingcpp', 'pyzbar'}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_tail_shows_the_records_of_all_hosts_or_of_one(site: Path, ssps: Ssps) -> None:
    for ledger in ("transfer", "transfer@gw2", "transfer@gw1"):
        with Ledger(site / "ledgers" / ledger) as transfer:
            transfer.append(Event("list", "parti-a", "192.0.2.7", f"/of-{ledger}"))

    def shown(*words: str) -> list[str]:
        lines = ssps("audit", "tail", "--site", site, *words).stdout.splitlines()
        return [line.rpartition("/of-")[2].rstrip() for line in lines]

    assert shown() == ["transfer", "transfer@gw2", "transfer@gw1"]
    assert shown("-n", "2") == ["transfer@gw2", "transfer@gw1"]
    assert shown("--ledger", "transfer@gw1") == ["transfer@gw1"]
    assert ssps("audit", "tail", "--site", site, "--ledger", "x@gw1").exit_code == 2


def test_a_query_finds_the_records_of_all_hosts(site: Path, ssps: Ssps) -> None:
    for ledger in ("transfer", "transfer@gw2"):
        with Ledger(site / "ledgers" / ledger) as transfer:
            transfer.append(Event("list", "parti-a", "192.0.2.7", f"/of-{ledger}"))

    done = ssps("audit", "query", "--site", site, "--ledger", "transfer")

    assert [line.rpartition("/of-")[2].rstrip() for line in done.stdout.splitlines()] == [
        "transfer",
        "transfer@gw2",
    ]
