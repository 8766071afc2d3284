"""The dashboard and the alert rules of docs/monitoring fit what the daemons print."""

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import office
import pytest
import yaml
from unit.portal.portal_site import PortalSite

from config.load import load
from keys.operations.publisher_state import PublisherState
from publisher.status import figures, metrics
from sftpd.monitor.metrics import Counters, Gauges, MetricsPage

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs/monitoring"
NOW = datetime(2023, 5, 14, 18, 30, tzinfo=UTC)
NAME = re.compile(r"\bssps_[a-z_]+")
# What a rule and a panel must have (Prometheus: alerting rules; Grafana: JSON model).
RULE_KEYS = {"alert", "expr", "for", "labels", "annotations"}
PANEL_KEYS = {"id", "type", "title", "gridPos", "targets", "datasource"}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all metrics that the SFTP server and the staff site print."""
    site = tmp_path_factory.mktemp("night") / "site"
    PortalSite(site)
    office.site(site, parties_toml="")
    taken = figures.take(load(site), NOW)
    running = PublisherState(1)
    taken = replace(taken, publisher=running)
    gauges = Gauges(Counter(), 0, 0.0, 0, 0.0, {}, 0, running)
    pages = metrics.render(taken, NOW, 0) + MetricsPage(Counters(), lambda: gauges)()
    return set(re.findall(r"^# TYPE (ssps_\S+)", pages.decode(), re.MULTILINE))


def used(expression: str) -> set[str]:
    """Return the metrics in an expression; a histogram is named without `_bucket`."""
    return {name.removesuffix("_bucket") for name in NAME.findall(expression)}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    assert set(group) == {"name", "rules"}
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "grafana.json").read_text())
    return found


def test_every_alert_has_what_prometheus_wants_and_says_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10
    for rule in rules():
        assert set(rule) == RULE_KEYS
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "action"}
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_every_alert_has_a_test_for_promtool() -> None:
    """promtool itself runs it: docs/monitoring/README.md."""
    stated = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    tested = {t["alertname"] for case in stated for t in case.get("alert_rule_test", [])}

    assert tested == {rule["alert"] for rule in rules()}


def test_every_panel_has_what_grafana_wants_and_none_covers_another() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        assert set(panel) >= PANEL_KEYS
        assert all(target["expr"] for target in panel["targets"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        across, down = (
            range(place["x"], place["x"] + place["w"]),
            range(place["y"], place["y"] + place["h"]),
        )
        cells = {(x, y) for x in across for y in down}
        assert not cells & taken
        taken |= cells


def test_every_metric_in_the_files_is_printed_by_a_daemon(printed: set[str]) -> None:
    expressions = [rule["expr"] for rule in rules()]
    expressions += [t["expr"] for panel in dashboard()["panels"] for t in panel["targets"]]

    assert set().union(*map(used, expressions)) - printed == set()


def test_every_metric_that_is_printed_is_in_the_handbook(printed: set[str]) -> None:
    handbook = (ROOT / "docs/operate.md").read_text()
    assert printed - set(NAME.findall(handbook)) == set()
