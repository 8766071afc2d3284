"""A reload of the staff site names the settings that need a restart."""

from pathlib import Path

from staff_site import SITE_TOML, Staff
from structlog.testing import capture_logs

from portal.staff.server import Server


def test_another_address_for_prometheus_needs_a_restart(staff: Staff) -> None:
    server = Server(staff.entrance, lambda: None, lambda settings: None, ())
    site_toml: Path = staff.site / "site.toml"
    site_toml.write_text(SITE_TOML + 'metrics = "127.0.0.1:9901"\nidle_minutes = 7\n')

    for _ in range(2):  # each reload says so, since the old one stays in use
        with capture_logs() as logs:
            server._reload()
        assert [log["key"] for log in logs if log["event"] == "restart-needed"] == ["staff.metrics"]

    assert staff.entrance.web.idle_minutes == 7
    assert staff.entrance.web.metrics is None
