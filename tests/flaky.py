"""A pytest plugin for scripts/test, which runs failed tests once more: counts the flaky ones.

A test is flaky if it failed beside others and passed when it was run again, alone. The second run
names each of them and counts them in its last line; more than MOST of them fail the run. Coverage
by room is printed at the end of the run that is the last one.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from _pytest.terminal import TerminalReporter

MOST = 3


@dataclass
class Outcomes:
    """How many tests of the first run had each outcome, and which of them failed."""

    counts: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("flaky")
    group.addoption("--outcomes", type=Path, help="Write what failed in this run to this file.")
    group.addoption("--rerun-of", type=Path, help="Run again what failed in the run of this file.")
    group.addoption("--coverage-of", type=Path, help="Print the coverage in this file, by room.")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker of pytest-xdist reports to the main process
    if config.option.outcomes or config.option.rerun_of:
        config.pluginmanager.register(_Report(config), "flaky-report")


class _Report:
    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._first = Outcomes()
        self._flaky: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the outcomes of a first run; judge a second one."""
        failed = {report.nodeid for kind in ("failed", "error") for report in self._reports(kind)}
        if written := self._config.option.outcomes:
            counts = {kind: len(self._reports(kind)) for kind in ("passed", "skipped")}
            written.write_text(json.dumps({"counts": counts, "failed": sorted(failed)}))
        if read := self._config.option.rerun_of:
            self._first = Outcomes(**json.loads(read.read_text()))
            self._flaky = flaky(self._first, failed)
            if len(self._flaky) > MOST and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: TerminalReporter, exitstatus: pytest.ExitCode
    ) -> Iterator[None]:
        """Name the flaky tests; print coverage if no second run follows."""
        yield
        rerun, measured = self._config.option.rerun_of, self._config.option.coverage_of
        if measured and measured.exists() and (rerun or exitstatus == pytest.ExitCode.OK):
            terminalreporter.section("coverage by room")
            for line in coverage_by_room(json.loads(measured.read_text())):
                terminalreporter.write_line(line)
        if self._flaky:
            terminalreporter.section(f"{len(self._flaky)} flaky, at most {MOST} are allowed")
            for name in self._flaky:
                terminalreporter.write_line(f"FLAKY {name}: failed beside others, passed alone")
        if rerun:  # so that the last line, which comes next, counts the tests of both runs
            stats = terminalreporter.stats
            stats["flaky"] = stats.pop("passed", [])
            for kind, number in self._first.counts.items():
                stats[kind] = stats.get(kind, []) + [None] * number

    def _reports(self, kind: str) -> list[pytest.TestReport]:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        assert isinstance(reporter, TerminalReporter)
        return [
            each for each in reporter.stats.get(kind, []) if isinstance(each, pytest.TestReport)
        ]


def flaky(first: Outcomes, failed: set[str]) -> list[str]:
    """Return the tests that failed in the first run and not in the second."""
    return [name for name in first.failed if name not in failed]


def coverage_by_room(found: dict[str, Any]) -> list[str]:
    """Return a line for each room: the share of its statements that the tests ran.

    `found` is a report of `coverage json`. Statements that only ran in child processes, as those
    of a session do, do not count.
    """
    rooms: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file, measured in found["files"].items():
        for room in ("/".join(file.split("/")[:-1][:2]), "all"):
            rooms[room].update(ran=measured["summary"]["covered_lines"])
            rooms[room].update(of=measured["summary"]["num_statements"])
    return [
        f"{room:<24}{100 * count['ran'] / count['of']:5.1f} % of {count['of']:6,} statements"
        for room, count in sorted(rooms.items(), key=lambda each: (each[0] == "all", each[0]))
        if count["of"]
    ]
