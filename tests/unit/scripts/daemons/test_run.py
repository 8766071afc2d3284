from pathlib import Path

from office import Ssps


def test_no_daemon_starts_on_a_site_with_faults(site: Path, ssps: Ssps) -> None:
    (site / "site.toml").write_text("[election]\n")
    (site / "keys/signing/signing_key").chmod(0o644)

    for command in ("run", "publish", "serve"):
        done = ssps(command, "--site", site)

        assert done.exit_code == 1
        assert "site.toml: election.id: is missing, add it" in done.stderr
        assert "keys/signing/signing_key: permissions 0644" in done.stderr
