from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

import office
import pytest
from pydantic import BaseModel

from config import load, registry, schema, scope
from config.fault import Fault, Faults
from config.settings import (
    Algorithms,
    IntakeSettings,
    LedgerSettings,
    SandboxMode,
    SftpSettings,
)
from config.site import REGISTRY_INDEX


def test_a_good_site_is_read(tmp_path: Path) -> None:
    site = office.site(tmp_path)

    settings = load.load(site)

    turkey = timezone(timedelta(hours=3))
    assert settings.election.id == "2023-05-14-cb-mv"
    assert settings.election.opens == datetime(2023, 5, 14, 17, tzinfo=turkey)
    assert settings.election.closes is None
    assert settings.sftp == SftpSettings("127.0.0.1", 2222, 512, 32)
    assert settings.intake == IntakeSettings((site / "intake",), 2.0, 30.0)
    assert [p.id for p in settings.parties] == ["parti-a", "parti-b", "bagimsiz-c"]
    assert settings.parties[0].scope == scope.ALL
    assert settings.parties[1].static_ips == (ip_address("127.0.0.1"), ip_address("2001:db8::7"))
    assert settings.parties[0].contact.email == "bilgi@parti-a.example"
    assert settings.party("parti-b") is settings.parties[1]
    assert settings.party("parti-z") is None


def test_optional_keys_are_read(tmp_path: Path) -> None:
    more = """
        drain_seconds = 5
        rate_mbit = 200
        proxies = ["192.0.2.1", "2001:db8::1"]
        metrics = "127.0.0.1:9422"
        algorithms = "pq-only"
        cage = "best-effort"
        user = "ssps"
        """
    parties = office.PARTIES_TOML.replace('id = "parti-b"', 'id = "parti-b"\nsuspended = true')
    site = office.site(tmp_path, office.SITE_TOML + more, parties)

    settings = load.load(site)

    assert settings.sftp == SftpSettings(
        "127.0.0.1",
        2222,
        512,
        32,
        drain_seconds=5.0,
        rate_mbit=200.0,
        proxies=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        metrics=("127.0.0.1", 9422),
        algorithms=Algorithms.PQ_ONLY,
        cage=SandboxMode.BEST_EFFORT,
        user="ssps",
    )
    assert [p.suspended for p in settings.parties] == [False, True, False]


def test_a_key_of_an_earlier_version_is_ignored_with_a_warning(tmp_path: Path) -> None:
    more = 'packet_layer = "plain"\n[ledger]\nkeep_days = 3650\nsegment_mb = 8\n'
    site = office.site(tmp_path, office.SITE_TOML + more)

    settings = load.load(site)

    assert settings.ledger == LedgerSettings(segment_mb=8)
    assert [
        str(warning).partition(": is no longer used: ")[0] for warning in settings.warnings
    ] == [
        "site.toml: ledger.keep_days",
        "site.toml: sftp.packet_layer",
    ]


def test_removed_keys_are_not_keys_of_the_schema() -> None:
    for key in schema.REMOVED_KEYS:
        section, name = key.split(".")
        model = schema.Site.model_fields[section].annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        assert name not in model.model_fields


EVERYTHING_WRONG = """\
[election]
id = "Seçim"
title = ""
opens = 2023-05-14T17:00:00
[sftp]
listen = "localhost"
max_sessions = 0
spelling = true
[intake]
folders = []
settle_seconds = -1
"""

PARTIES_WRONG = """\
[[party]]
id = "parti-a"
name = "A"
kind = "party"
scope = ["34-istanbul-9"]
static_ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
[[party]]
id = "Parti-A"
name = "A"
kind = "club"
scope = "everything"
static_ips = ["192.0.2.0/24"]
[[party]]
id = "parti-a"
name = "A"
kind = "independent"
scope = "all"
static_ips = []
tckn = "1"
[[party]]
id = "../etc"
"""


def test_every_fault_of_both_files_is_named_at_once(tmp_path: Path) -> None:
    site = office.site(tmp_path, EVERYTHING_WRONG, PARTIES_WRONG)

    settings, faults = load.read(site)

    assert settings is None
    assert [(f.file, f.key) for f in faults] == [
        ("site.toml", "election.id"),
        ("site.toml", "election.title"),
        ("site.toml", "election.opens"),
        ("site.toml", "sftp.listen"),
        ("site.toml", "sftp.max_sessions"),
        ("site.toml", "sftp.spelling"),
        ("site.toml", "intake.folders"),
        ("site.toml", "intake.settle_seconds"),
        ("parties.toml", "parti-a.static_ips"),
        ("parties.toml", "Parti-A.id"),
        ("parties.toml", "Parti-A.id"),
        ("parties.toml", "Parti-A.kind"),
        ("parties.toml", "Parti-A.scope"),
        ("parties.toml", "Parti-A.static_ips"),
        ("parties.toml", "parti-a.id"),
        ("parties.toml", "parti-a.static_ips"),
        ("parties.toml", "parti-a.tckn"),
        ("parties.toml", "../etc.id"),
        ("parties.toml", "../etc.name"),
        ("parties.toml", "../etc.kind"),
        ("parties.toml", "../etc.scope"),
        ("parties.toml", "../etc.static_ips"),
    ]


def test_an_election_that_closes_before_it_opens_is_a_fault(tmp_path: Path) -> None:
    wrong = "closes = 2023-05-14T17:00:00+03:00\nopens = "
    site = office.site(tmp_path, office.SITE_TOML.replace("opens = ", wrong))

    with pytest.raises(Faults) as error:
        load.load(site)

    assert str(error.value) == (
        "site.toml: election.closes: 2023-05-14 17:00:00+03:00 is not after opens "
        "(2023-05-14 17:00:00+03:00), correct one of them"
    )


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "06-ankara-1",
            "06-ankara-4",
            "parties.toml: parti-b.scope: '06-ankara-4' is not an election district, "
            "did you mean 06-ankara-1, 06-ankara-2, 06-ankara-3?",
        ),
        (
            'id = "parti-b"',
            'id = "parti-a"',
            "parties.toml: parti-a.id: is there twice, give each party its own id",
        ),
        (
            '["34-istanbul-1"]',
            '["34-istanbul-1", "34-istanbul-2"]',
            "parties.toml: bagimsiz-c.scope: an independent receives only its own district "
            "(Genelge md. 3/c), name that one",
        ),
    ],
)
def test_a_party_that_contradicts_other_keys_is_a_fault_with_advice(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    site = office.site(tmp_path, parties_toml=office.PARTIES_TOML.replace(old, new))

    with pytest.raises(Faults) as error:
        load.load(site)

    assert str(error.value) == line


def test_missing_files_and_invalid_toml_are_faults(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("[election\n")

    _, faults = load.read(tmp_path)

    assert [f.file for f in faults] == ["site.toml", "parties.toml"]
    assert "is not TOML (" in faults[0].message
    assert faults[1] == Fault("parties.toml", "", "is missing, `ssps init` writes an example")


def test_a_board_that_is_not_in_the_registry_is_a_fault(
    tmp_path: Path,
) -> None:
    wrong = office.PARTIES_TOML.replace("konak-1", "konak-9")
    site = office.site(tmp_path, parties_toml=wrong)
    assert load.load(site)
    (site / "registry.csv").write_text(office.registry_csv(), encoding="utf-8")

    registry.import_csv(site / "registry.csv", site / REGISTRY_INDEX)

    _, faults = load.read(site)
    assert [str(f) for f in faults] == [
        "parties.toml: parti-b.scope: 35-izmir-2/konak-9 is not a board in the registry, "
        "correct it, or import the registry again"
    ]


@pytest.mark.parametrize(
    "folders",
    [
        '[""]',
        '["."]',
        '["/"]',
        '["keys"]',
        '["trees/parti-a"]',
        '["state/spool"]',
        '["intake/../store"]',
        '["..", "intake"]',
        '["intake", "intake"]',
        '["intake", "intake/scanner-1"]',
        '["a\\u0000b"]',
    ],
)
def test_an_intake_folder_with_other_files_is_a_fault(tmp_path: Path, folders: str) -> None:
    site = office.site(tmp_path / "site", office.SITE_TOML + f"[intake]\nfolders = {folders}\n")

    _, faults = load.read(site)

    assert {(f.file, f.key) for f in faults} == {("site.toml", "intake.folders")}


def test_several_intake_folders_may_be_anywhere_else(tmp_path: Path) -> None:
    stated = f'["intake", "{tmp_path}/share/scans"]'
    site = office.site(tmp_path / "site", office.SITE_TOML + f"[intake]\nfolders = {stated}\n")

    assert load.load(site).intake.folders == (site / "intake", tmp_path / "share/scans")


def test_a_damaged_index_is_a_fault_with_the_command_to_run(tmp_path: Path) -> None:
    site = office.site(tmp_path)
    (site / "state").mkdir()
    (site / REGISTRY_INDEX).write_bytes(b"rubbish" * 1000)

    _, faults = load.read(site)

    assert [f.file for f in faults] == ["state/registry.sqlite"]
    assert faults[0].message.endswith("run `ssps registry import registry.csv`")


REHEARSAL = """
[[rehearsal]]
id = "prova-1"
title = "Prova"
opens = 2023-05-07T10:00:00+03:00
closes = 2023-05-07T12:00:00+03:00
"""


def test_a_rehearsal_has_a_folder_of_its_own(tmp_path: Path) -> None:
    [found] = load.load(office.site(tmp_path / "site", office.SITE_TOML + REHEARSAL)).rehearsals
    assert (found.id, found.folder) == ("prova-1", tmp_path / "site/rehearsals/prova-1")


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("prova-1", "2023-05-14-cb-mv", "2023-05-14-cb-mv: another rehearsal or the election"),
        ("T12:00", "T10:00", "prova-1.closes: 2023-05-07 10:00:00+03:00 is not after opens"),
        ("2023-05-07T", "2023-05-15T", "prova-1.opens: is after the election opens"),
        ("title", 'folder = "."\ntitle', "prova-1.folder: '.' has the real election's files"),
        ("title", 'folder = "trees/x"\ntitle', "prova-1.folder: 'trees/x' has the real"),
    ],
)
def test_a_rehearsal_that_could_be_confused_with_the_election_is_a_fault(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    site = office.site(tmp_path / "site", office.SITE_TOML + REHEARSAL.replace(old, new))
    assert f"site.toml: rehearsal.{fault}" in "\n".join(map(str, load.read(site)[1]))


def test_overlapping_rehearsals_are_a_fault(tmp_path: Path) -> None:
    twice = REHEARSAL + REHEARSAL.replace("prova-1", "prova-2").replace("T10:00", "T11:59")
    site = office.site(tmp_path / "site", office.SITE_TOML + twice)
    assert [str(f) for f in load.read(site)[1]] == [
        "site.toml: rehearsal.prova-2.opens: overlaps with rehearsal prova-1, correct one of them"
    ]


def test_the_name_of_this_host_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.site(tmp_path)
    assert load.load(tmp_path).host == ""

    monkeypatch.setenv("SSPS_HOST", "gw2")
    assert load.load(tmp_path).host == "gw2"


def test_a_wrong_name_of_a_host_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office.site(tmp_path)
    monkeypatch.setenv("SSPS_HOST", "GW 2")

    with pytest.raises(Faults, match="SSPS_HOST: 'GW 2' is not the name of a host"):
        load.load(tmp_path)


def test_a_host_can_listen_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = '[hosts.gw2]\nsftp_listen = "127.0.0.9:2022"\nportal_listen = "127.0.0.9:8443"\n'
    site = office.site(tmp_path, office.SITE_TOML + hosts)

    def listens() -> tuple[str, int]:
        sftp = load.load(site).sftp
        return sftp.host, sftp.port

    assert listens() == ("127.0.0.1", 2222)
    monkeypatch.setenv("SSPS_HOST", "gw2")
    assert listens() == ("127.0.0.9", 2022)
    monkeypatch.setenv("SSPS_HOST", "gw3")
    assert listens() == ("127.0.0.1", 2222)
