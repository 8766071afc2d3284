from pathlib import Path

import office
import pytest

from config import load
from config.fault import Faults


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "17:00:00+03:00",
            "17:00:00",
            "site.toml: election.opens: has no time zone, add one: 2023-05-14T17:00:00+03:00",
        ),
        (
            "opens = 2023-05-14T17:00:00+03:00",
            'opens = "2023"',
            "site.toml: election.opens: write a time without quotes, "
            "such as 2023-05-14T17:00:00+03:00",
        ),
        (
            "[sftp]",
            "[sftp]\nport = 22",
            "site.toml: sftp.port: unknown key, remove it or write one of: "
            "listen, address, max_sessions, max_sessions_per_party, login_grace_seconds, "
            "stall_seconds, idle_seconds, drain_seconds, rate_mbit, opens_per_second, "
            "memory_mb_per_party, proxies, metrics, algorithms, sha1_signatures, cage, user, "
            "must_change_password",
        ),
        (
            'listen = "127.0.0.1:2222"',
            "",
            "site.toml: sftp.listen: is missing, add it",
        ),
        (
            "127.0.0.1:2222",
            "127.0.0.1:99999",
            "site.toml: sftp.listen: 99999 is not a port, the highest is 65535",
        ),
    ],
)
def test_a_fault_of_the_site_says_what_to_do(tmp_path: Path, old: str, new: str, line: str) -> None:
    site = office.site(tmp_path, office.SITE_TOML.replace(old, new))

    with pytest.raises(Faults) as error:
        load.load(site)

    assert str(error.value) == line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            '["127.0.0.1"]',
            '["192.0.2.1", "192.0.2.2", "192.0.2.3"]',
            "parties.toml: parti-a.static_ips: 3 addresses, at most 2 are allowed "
            "(Genelge md. 4/b-2)",
        ),
        (
            '["127.0.0.1"]',
            '["192.0.2.1", "192.0.2.1"]',
            "parties.toml: parti-a.static_ips: has the same address twice, write it once",
        ),
    ],
)
def test_a_fault_of_a_party_says_what_to_do(tmp_path: Path, old: str, new: str, line: str) -> None:
    site = office.site(tmp_path, parties_toml=office.PARTIES_TOML.replace(old, new))

    with pytest.raises(Faults) as error:
        load.load(site)

    assert str(error.value) == line


@pytest.mark.parametrize("number", ["9" * 5000, "true", "nan", '"2"'])
def test_an_invalid_number_is_a_fault(tmp_path: Path, number: str) -> None:
    text = office.SITE_TOML + f"[intake]\nsettle_seconds = {number}\n"

    _, faults = load.read(office.site(tmp_path, text))

    assert [f.file for f in faults] == ["site.toml"]


@pytest.mark.parametrize(("stated", "witnesses"), [("", 2), ("[qr]\nwitnesses = 1\n", 1)])
def test_qr_witnesses_may_be_two_or_one(tmp_path: Path, stated: str, witnesses: int) -> None:
    assert load.load(office.site(tmp_path, office.SITE_TOML + stated)).qr.witnesses == witnesses


@pytest.mark.parametrize("number", ["0", "3", "true"])
def test_another_number_of_witnesses_is_a_fault(tmp_path: Path, number: str) -> None:
    text = office.SITE_TOML + f"[qr]\nwitnesses = {number}\n"

    _, faults = load.read(office.site(tmp_path, text))

    assert [f.key for f in faults] == ["qr.witnesses"]
