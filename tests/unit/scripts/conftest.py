from pathlib import Path

import office
import pytest
from click.testing import CliRunner
from office import Ssps

from config.site import HOST_KEYS, SIGNING_KEYS
from keys.server_keys import host
from scripts.daemons import obstacles
from scripts.ssps import main


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with the settings of tests/office and new keys."""
    site = office.site(tmp_path / "site")
    host.create_key(site / HOST_KEYS / "ssh_host_ed25519_key", "ssps")
    host.create_key(site / SIGNING_KEYS / host.SIGNING_KEY, "ssps")
    (site / "keys").chmod(0o700)
    (site / "state").mkdir()
    (site / "intake").mkdir()
    return site


@pytest.fixture
def ssps() -> Ssps:
    """Runs `ssps` with the given words in this process."""
    return lambda *words, **kwargs: CliRunner().invoke(main, [str(w) for w in words], **kwargs)


@pytest.fixture(autouse=True)
def free_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every port be free: another server may listen on that of the test site."""
    monkeypatch.setattr(obstacles, "_try_listening", lambda host, port: None)
