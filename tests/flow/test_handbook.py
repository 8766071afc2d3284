"""The operators' handbook is correct: it has every alert, and its backup restores a site."""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_site import RunningSite, digests, running, running_rehearsal

from config import layout
from publisher.page import Reason

ROOT = Path(__file__).resolve().parents[2]
HANDBOOK = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
SLUG = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
PACKAGES = ("config", "keys", "publisher", "sftpd", "portal", "scripts")
ALERTS = {"error", "warning", "exception", "critical"}
LEVELS = ALERTS | {"info", "debug"}


def logged_events(levels: set[str]) -> set[str]:
    """Return every event that the product logs at these levels, from its source code."""
    found: set[str] = set()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for call in log_calls(tree, levels):
                events = texts(call.args[0], tree)
                assert events, f"{path}:{call.lineno}: which events does this call log?"
                found |= events
    return found


def log_calls(tree: ast.Module, levels: set[str]) -> Iterator[ast.Call]:
    """Yield the calls like log.error(...) or get_logger().error(...)."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=logger, attr=level)):
                if level in levels and "log" in ast.unparse(logger):
                    yield node


def texts(node: ast.expr, tree: ast.Module) -> set[str]:
    """Return the texts that an expression can be.

    It may be a constant, a conditional expression, a variable, or a parameter of a function that
    the same module calls.
    """
    match node:
        case ast.Constant(value=str() as text):
            return {text}
        case ast.IfExp(body=first, orelse=second):
            return texts(first, tree) | texts(second, tree)
        case ast.Name(id=name):
            values = [*assigned(name, tree), *passed(name, tree)]
            return set().union(*(texts(value, tree) for value in values))
    return set()


def assigned(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            yield node.value


def passed(name: str, tree: ast.Module) -> Iterator[ast.expr]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        parameters = [arg.arg for arg in function.args.args if arg.arg != "self"]
        if name not in parameters:
            continue
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(function.name):
                yield from call.args[parameters.index(name) :][:1]


def test_every_logged_alert_is_in_the_handbook() -> None:
    alerts = logged_events(ALERTS)

    assert len(alerts) > 40
    assert {alert for alert in alerts if f"`{alert}`" not in HANDBOOK} == set()


def test_every_logged_event_is_a_slug() -> None:
    assert {event for event in logged_events(LEVELS) if not SLUG.fullmatch(event)} == set()


def test_an_event_that_is_chosen_at_run_time_is_found() -> None:
    source = """
event = "a" if x else "b"
log.error(event)
get_logger().warning("c" if y else "d")
def report(self, event): self._log.error(event)
self.report("e", 1)
"""
    tree = ast.parse(source)

    found = [texts(call.args[0], tree) for call in log_calls(tree, ALERTS)]

    assert {text for some in found for text in some} == {"a", "b", "c", "d", "e"}


def test_every_metric_is_in_the_handbook() -> None:
    source = "".join(path.read_text() for path in (ROOT / "sftpd").rglob("*.py"))
    metrics = set(re.findall(r"^    (ssps_\w+)", source, re.MULTILINE))

    assert len(metrics) >= 11
    assert {metric for metric in metrics if f"`{metric}`" not in HANDBOOK} == set()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_for_quarantine_is_in_the_handbook(reason: Reason) -> None:
    assert f"`{reason}`" in HANDBOOK


def commands(beginning: str, original: Path, copy: Path) -> list[str]:
    """Return the handbook's commands that start with `beginning`, with folders of this machine."""
    lines = [line for line in HANDBOOK.splitlines() if line.startswith(beginning)]
    folders = {"backup:/srv/ssps/": f"{copy}/", " /srv/ssps/": f" {original}/"}
    for documented, here in folders.items():
        lines = [line.replace(documented, here) for line in lines]
    return lines


def run(command: str, *also: int) -> None:
    """Run a command; `also` are the exit codes that the handbook calls normal beside 0."""
    done = subprocess.run(shlex.split(command), check=False)
    assert done.returncode in (0, *also)


def test_a_site_restored_from_the_documented_backup_continues(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    first, checkpoints, second, back = commands("rsync ", tmp_path / "site", copy)
    with running_rehearsal(tmp_path) as here:
        here.scan("--count", 20)
        run(first, 24)
        here.scan("--count", 10)
    run(checkpoints)
    run(second)
    before, pages = counts(here), here.tree("parti-a")
    here.site.rename(tmp_path / "lost")
    here.site.mkdir()

    run(back)

    assert here.ssps("check") == ""
    assert counts(here) == before
    assert here.tree("parti-a") == pages
    assert shared_with_the_store(here, "parti-a") == len(pages_of(pages))
    with running(here.site, here.port, here.log):
        here.scan("--count", 10)
        assert counts(here)["filed"] > before["filed"]
        filing = here.records("filing")
        assert [record.seq for record in filing] == list(range(len(filing)))
        pages_filed = [record for record in filing if record.event.event != "anchor"]
        assert len(pages_filed) == 40  # an anchor of the other ledgers comes once a minute
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        # The same host key: a client that knew the lost machine asks nothing.
        assert here.sftp("parti-a", f"get -r / {mirror}").returncode == 0
        assert pages_of(digests(mirror)) == pages_of(here.tree("parti-a"))


def test_a_backup_has_no_checkpoint_of_records_that_it_lacks(tmp_path: Path) -> None:
    original, copy = tmp_path / "site", tmp_path / "copy"
    _, checkpoints, second, _ = commands("rsync ", original, copy)
    files = ("ledgers/transfer/checkpoint", "state/signed/transfer", "ledgers/transfer/0.jsonl")
    for when in ("before", "after"):  # the server writes and signs between the two commands
        for name in files:
            (original / name).parent.mkdir(parents=True, exist_ok=True)
            (original / name).write_text(when)
        run(checkpoints if when == "before" else second)

    assert [(copy / name).read_text() for name in files] == ["before", "before", "after"]


def counts(here: RunningSite) -> dict[str, int]:
    names = ("expected", "filed", "missing", "versions", "duplicates", "quarantined", "waiting")
    return {name: here.status()[name] for name in names}


def pages_of(tree: dict[str, str]) -> dict[str, str]:
    def is_page(path: str) -> bool:
        try:
            layout.parse(path)
        except ValueError:
            return False
        return True

    return {path: digest for path, digest in tree.items() if is_page(path)}


def shared_with_the_store(here: RunningSite, party: str) -> int:
    """Count the pages of a tree that are one file with their originals."""
    store = {path.stat().st_ino for path in (here.site / "store").rglob("*") if path.is_file()}
    tree = (here.site / "trees" / party).rglob("*")
    return sum(path.stat().st_ino in store for path in tree if path.is_file())
