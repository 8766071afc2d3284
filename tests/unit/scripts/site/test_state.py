from pathlib import Path

from office import Ssps

from keys.ledger import segments


def test_an_exported_state_is_imported_as_a_site(site: Path, tmp_path: Path, ssps: Ssps) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"

    exported = ssps("site", "export-state", copy, "--keys", "--why", "standby", "--site", site)
    imported = ssps("site", "import-state", copy, "--site", new)

    assert (exported.exit_code, imported.exit_code) == (0, 0), exported.stderr + imported.stderr
    for name in ("site.toml", "parties.toml", "keys/host/ssh_host_ed25519_key"):
        assert (new / name).read_bytes() == (site / name).read_bytes()
    [record] = [r.event for r in segments.read_records(new / "ledgers/operations")]
    assert (record.event, record.what) == ("site export-state", str(copy))
    assert record.detail["keys"] is True and record.detail["why"] == "standby"


def test_a_copy_without_keys_says_so_on_both_machines(
    site: Path, tmp_path: Path, ssps: Ssps
) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"

    exported = ssps("site", "export-state", copy, "--why", "audit", "--site", site)
    imported = ssps("site", "import-state", copy, "--site", new)

    assert "without keys/" in exported.stderr and "add --keys" in exported.stderr
    assert "no keys/" in imported.stderr
    assert not (new / "keys").exists()


def test_a_dry_run_names_the_files_and_copies_nothing(
    site: Path, tmp_path: Path, ssps: Ssps
) -> None:
    words = ("site", "export-state", tmp_path / "copy", "--dry-run", "--why", "x", "--site", site)

    listed = ssps(*words).stdout.splitlines()
    with_keys = ssps(*words, "--keys").stdout.splitlines()

    assert {"site.toml", "parties.toml"} <= set(listed)
    assert "keys/host/ssh_host_ed25519_key" in set(with_keys) - set(listed)
    assert not (tmp_path / "copy").exists()


def test_a_dry_run_of_an_import_checks_the_copy_and_installs_nothing(
    site: Path, tmp_path: Path, ssps: Ssps
) -> None:
    copy, new = tmp_path / "copy", tmp_path / "new"
    ssps("site", "export-state", copy, "--why", "standby", "--site", site)

    tried = ssps("site", "import-state", copy, "--dry-run", "--site", new)
    (copy / "parties.toml").write_text("damaged")
    damaged = ssps("site", "import-state", copy, "--dry-run", "--site", new)

    assert tried.exit_code == 0
    assert {"site.toml", "parties.toml"} <= set(tried.stdout.splitlines())
    assert "dry run: nothing has changed" in tried.stderr
    assert (damaged.exit_code, damaged.stdout) == (1, "")
    assert "parties.toml: is damaged in the copy" in damaged.stderr
    assert not new.exists()


def test_an_import_does_not_write_over_a_site(site: Path, tmp_path: Path, ssps: Ssps) -> None:
    copy = tmp_path / "copy"
    ssps("site", "export-state", copy, "--why", "standby", "--site", site)

    imported = ssps("site", "import-state", copy, "--site", site)

    assert imported.exit_code == 1
    assert "site.toml: is in the site's folder already" in imported.stderr


def test_a_copy_is_not_written_into_a_folder_that_exists(
    site: Path, tmp_path: Path, ssps: Ssps
) -> None:
    exported = ssps("site", "export-state", tmp_path, "--why", "standby", "--site", site)

    assert exported.exit_code == 1
    assert f"{tmp_path}: File exists" in exported.stderr
