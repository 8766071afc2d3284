"""A reload of the staff site names the settings that need a restart."""

from pathlib import Path

import pytest
from staff_site import SITE_TOML, Staff
from structlog.testing import capture_logs

from keys.operations import server_state
from portal import broker_client
from portal.broker_answers import Answers
from portal.staff.server import Server


def test_another_address_for_prometheus_needs_a_restart(
    staff: Staff, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = staff.entrance.settings
    answers = Answers(settings, server_state.STAFF, Server.ledger, lambda new: None)
    monkeypatch.setattr(broker_client, "ask", lambda verb, *words: getattr(answers, verb)(*words))
    server = Server(staff.entrance, ())
    site_toml: Path = staff.site / "site.toml"
    site_toml.write_text(SITE_TOML + 'metrics = "127.0.0.1:9901"\nidle_minutes = 7\n')

    for _ in range(2):  # each reload says so, since the old one stays in use
        with capture_logs() as logs:
            server._reload()
        assert [log["key"] for log in logs if log["event"] == "restart-needed"] == ["staff.metrics"]

    assert staff.entrance.web.idle_minutes == 7
    assert staff.entrance.web.metrics is None
