import os
import re
import socket
from pathlib import Path

import office
import pytest
from office import Ssps

from config.settings import Settings
from keys.credentials import ring
from keys.kernel import file_system
from keys.ledger import segments
from scripts.daemons import run
from sftpd.sandbox import sandbox

NO_REGISTRY = (
    "state/registry.sqlite: no registry yet: run `ssps registry import FILE.csv --why TEXT`\n"
)


def import_registry(site: Path, ssps: Ssps) -> None:
    (site.parent / "registry.csv").write_text(office.registry_csv(), encoding="utf-8")
    words = ("registry", "import", site.parent / "registry.csv", "--why", "x", "--site", site)
    assert ssps(*words).exit_code == 0


@pytest.mark.slow
def test_init_creates_a_site_that_only_needs_a_registry(tmp_path: Path, ssps: Ssps) -> None:
    site = tmp_path / "site"

    made = ssps("init", site, "--why", "the May election")

    assert made.exit_code == 0
    assert {p.name for p in site.iterdir()} == {
        "site.toml",
        "parties.toml",
        "keys",
        "intake",
        "results",
        "snapshots",
        "store",
        "trees",
        "quarantine",
        "ledgers",
        "state",
    }
    assert (site / "keys/host/ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert (site / "keys/signing/signing_key").stat().st_mode & 0o777 == 0o600
    own = ("keys", "store", "trees", "quarantine", "state", "ledgers")
    assert {(site / name).stat().st_mode & 0o777 for name in own} == {0o700}
    checked = ssps("check", "--site", site)
    assert (checked.exit_code, checked.stdout) == (1, NO_REGISTRY)
    import_registry(site, ssps)
    checked = ssps("check", "--site", site)
    assert (checked.exit_code, checked.stdout) == (0, "")
    record = next(segments.read_records(site / "ledgers/operations"))
    assert (record.event.event, record.event.what) == ("init", str(site))


def test_init_refuses_a_folder_that_is_not_empty(tmp_path: Path, ssps: Ssps) -> None:
    (tmp_path / "mine").write_text("mine")

    made = ssps("init", tmp_path, "--why", "x")

    assert made.exit_code == 1
    assert "not an empty folder" in made.stderr
    assert office.listing(tmp_path) == {"mine": b"mine"}


def test_check_reports_the_faults_of_all_files_at_once(site: Path, ssps: Ssps) -> None:
    (site / "site.toml").write_text(office.SITE_TOML.replace("+03:00", ""), encoding="utf-8")
    parties = office.PARTIES_TOML.replace('["127.0.0.1"]', '["10.0.0.1", "10.0.0.2", "10.0.0.3"]')
    parties = parties.replace("parti-b", "Parti-A").replace("06-ankara-1", "06-ankara")
    (site / "parties.toml").write_text(parties, encoding="utf-8")
    (site / "registry.csv").write_text(
        office.registry_csv(office.ROWS[0], office.ROWS[0]), encoding="utf-8"
    )
    (site / "keys/host/ssh_host_ed25519_key").chmod(0o644)
    damaged = ring.ring_path(site, "parti-a")
    damaged.parent.mkdir(mode=0o700)
    damaged.write_text("rubbish")
    damaged.chmod(0o600)

    checked = ssps("check", "--site", site)

    assert checked.exit_code == 1
    assert [line.split(": ")[:2] for line in checked.stdout.splitlines()] == [
        ["site.toml", "election.opens"],
        ["parties.toml", "parti-a.static_ips"],
        ["parties.toml", "Parti-A.id"],
        ["parties.toml", "Parti-A.id"],
        [
            "keys/host/ssh_host_ed25519_key",
            "permissions 0644 are too open, run `chmod 600 "
            + f"{site}/keys/host/ssh_host_ed25519_key`",
        ],
        ["keys/parties/parti-a.toml", checked.stdout.splitlines()[5].split(": ")[1]],
        ["registry.csv", "line 3"],
        ["registry.csv", "line 3"],
    ]


def test_check_names_a_key_of_an_earlier_version_and_passes(site: Path, ssps: Ssps) -> None:
    stated = office.SITE_TOML + "[ledger]\nkeep_days = 3650\n"
    (site / "site.toml").write_text(stated, encoding="utf-8")
    import_registry(site, ssps)

    checked = ssps("check", "--site", site)

    assert checked.exit_code == 0
    assert "note: site.toml: ledger.keep_days: is no longer used" in checked.stderr


def test_check_notes_what_the_kernel_offers_for_the_sandbox(site: Path, ssps: Ssps) -> None:
    checked = ssps("check", "--site", site)

    assert f"note: this kernel has {sandbox.kernel()}\n" in checked.stderr
    assert re.search(r"Landlock( ABI \d+)?, (no )?seccomp, (no )?openat2\n", checked.stderr)


def test_check_reports_an_unknown_user_if_it_runs_as_root(site: Path, ssps: Ssps) -> None:
    stated = office.SITE_TOML.replace("[sftp]", '[sftp]\nuser = "no-such-user"')
    (site / "site.toml").write_text(stated, encoding="utf-8")
    import_registry(site, ssps)

    checked = ssps("check", "--site", site)

    fault = (
        "site.toml: sftp.user: this machine has no user 'no-such-user': "
        "name one without privileges\n"
    )
    assert checked.stdout == (fault if os.geteuid() == 0 else "")
    if os.geteuid() == 0:
        started = ssps("run", "--site", site)
        assert (started.exit_code, started.stderr) == (1, fault)


def test_check_suggests_districts_for_a_misspelled_one(site: Path, ssps: Ssps) -> None:
    parties = office.PARTIES_TOML.replace("06-ankara-1", "06-ankara")
    (site / "parties.toml").write_text(parties, encoding="utf-8")

    checked = ssps("check", "--site", site)

    assert checked.exit_code == 1
    assert checked.stdout == (
        "parties.toml: parti-b.scope: '06-ankara' is not an election district, "
        "did you mean 06-ankara-1, 06-ankara-2, 06-ankara-3?\n"
    )


def test_check_reports_a_registry_that_is_not_imported_or_has_changed(
    site: Path, ssps: Ssps
) -> None:
    source = site / "registry.csv"
    source.write_text(office.registry_csv(), encoding="utf-8")
    before = ssps("check", "--site", site)

    assert ssps("registry", "import", source, "--why", "x", "--site", site).exit_code == 0

    assert before.stdout.startswith("registry.csv: not imported yet: run ")
    assert ssps("check", "--site", site).exit_code == 0
    source.write_text(office.registry_csv(*office.ROWS[1:]), encoding="utf-8")
    after = ssps("check", "--site", site)
    assert after.stdout.startswith("registry.csv: changed since it was imported: run ")


@pytest.mark.parametrize("where", ["before", "after", "environment"])
def test_the_site_may_be_given_in_three_ways(site: Path, ssps: Ssps, where: str) -> None:
    words = {
        "before": ("--site", site, "party", "list"),
        "after": ("party", "list", "--site", site),
        "environment": ("party", "list"),
    }[where]

    done = ssps(*words, env={"SSPS_SITE": str(site)} if where == "environment" else {})

    assert done.exit_code == 0
    assert "parti-a" in done.stdout


def test_a_command_without_a_site_says_how_to_give_one(tmp_path: Path, ssps: Ssps) -> None:
    nowhere = ssps("check")
    elsewhere = ssps("check", "--site", tmp_path)

    assert nowhere.exit_code == elsewhere.exit_code == 2
    assert "no site given: use --site DIR or SSPS_SITE" in nowhere.stderr
    assert "is not a site" in elsewhere.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["init"],
        ["check"],
        ["registry", "import"],
        ["party", "list"],
        ["party", "show"],
        ["key", "add"],
        ["run"],
        ["publish"],
        ["serve"],
        ["status"],
        ["audit", "tail"],
        ["rehearse", "init"],
        ["rehearse", "scan"],
    ],
    ids=" ".join,
)
def test_commands_have_the_option_site(ssps: Ssps, command: list[str]) -> None:
    shown = ssps(*command, "--help")

    assert shown.exit_code == 0
    assert "--site" in shown.stdout


def test_check_finds_what_run_would_die_of_and_run_stops_with_it(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart would change nothing, so `ssps run` ends instead of starting daemons that die."""
    monkeypatch.undo()  # of `free_ports`
    import_registry(site, ssps)
    (site / "intake").rmdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        stated = re.sub(r"listen = .*", f'listen = "127.0.0.1:{port}"', office.SITE_TOML)
        (site / "site.toml").write_text(stated, encoding="utf-8")

        checked = ssps("check", "--site", site)
        started = ssps("run", "--site", site)

    taken = f"site.toml: sftp.listen: 127.0.0.1:{port} is taken by process {os.getpid()} "
    missing = f"site.toml: intake.folders: {site}/intake does not exist: create it, or mount"
    assert (checked.exit_code, started.exit_code) == (1, 1)
    for found in (checked.stdout, started.stderr):
        assert taken in found
        assert missing in found
    assert not (site / "intake").exists(), "it is not created"


def test_check_finds_an_intake_that_is_not_a_mount_point(site: Path, ssps: Ssps) -> None:
    import_registry(site, ssps)
    stated = office.SITE_TOML + "[intake]\nmounts = true\n"
    (site / "site.toml").write_text(stated, encoding="utf-8")

    assert "is not a mount point, but intake.mounts = true" in ssps("check", "--site", site).stdout


def test_check_finds_a_scope_without_sheets(site: Path, ssps: Ssps) -> None:
    import_registry(site, ssps)
    stated = re.sub(r"scope = \[.*", 'scope = ["81-duzce"]', office.PARTIES_TOML)
    (site / "parties.toml").write_text(stated, encoding="utf-8")

    assert "parti-b.scope: " in (found := ssps("check", "--site", site).stdout)
    assert "has no sheet in the registry" in found


def test_check_finds_trees_on_another_file_system(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_registry(site, ssps)
    for name in ("store", "trees"):
        (site / name).mkdir()
    stat = Path.stat

    def elsewhere(path: Path, **how: bool) -> os.stat_result:
        found = stat(path, **how)
        return os.stat_result((*found[:2], 99, *found[3:10])) if path.name == "trees" else found

    monkeypatch.setattr(Path, "stat", elsewhere)

    assert "trees: is on another file system than store/" in ssps("check", "--site", site).stdout


def test_check_names_the_folders_without_leases(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_registry(site, ssps)
    monkeypatch.setattr(file_system, "is_local", lambda descriptor: False)

    notes = "".join(ssps("check", "--site", site).stderr.split())  # lines break anywhere

    assert f"note:{site}/intake:noleasesonfiles:itisashare" in notes
    assert "afiledscanstaystherefor600s" in notes


def test_the_publisher_itself_starts_with_one_of_its_intake_folders(
    site: Path, ssps: Ssps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that is late after a power cut must not keep the pages of the others waiting."""
    import_registry(site, ssps)
    stated = office.SITE_TOML + '[intake]\nfolders = ["intake", "/nowhere/tarama"]\n'
    (site / "site.toml").write_text(stated, encoding="utf-8")
    started: list[Settings] = []
    monkeypatch.setattr(run, "run_publisher", started.append)

    first = ssps("publish", "--site", site)
    (site / "intake").rmdir()
    second = ssps("publish", "--site", site)

    assert (first.exit_code, second.exit_code, len(started)) == (0, 1, 1)
    assert "/nowhere/tarama does not exist" in second.stderr
