"""scripts/test names and counts the tests that passed only when they were run again."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
FLAKY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({count}))
def test_once_more(number, tmp_path):
    seen = Path(__file__).with_name(f"seen-{{number}}")
    if not seen.exists():
        seen.touch()
        raise AssertionError
"""
STEADY = "import pytest\n@pytest.mark.ours\ndef test_good():\n    pass\n"
BROKEN = "def test_bad():\n    raise AssertionError\n"


def run_twice(folder: Path, *sources: str) -> tuple[int, list[str]]:
    """Run the tests in `sources` as scripts/test does; return exit code and last output."""
    tests, results = folder / "tests", folder / "results"
    tests.mkdir()
    results.mkdir()
    (tests / "pytest.ini").write_text("[pytest]\nmarkers = ours\naddopts = --strict-markers\n")
    for number, source in enumerate(sources):
        (tests / f"test_{number}.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "flaky"]
    for options in (
        [f"--outcomes={results / 'first'}"],
        [f"--rerun-of={results / 'first'}", "--last-failed", "--last-failed-no-failures", "none"],
    ):
        done = subprocess.run(
            [*command, *options],
            cwd=tests,
            env={
                "PYTHONPATH": str(TESTS),
                "PATH": "/usr/bin:/bin",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # importing them takes most of the time
            },
            capture_output=True,
            text=True,
            check=False,
        )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.slow
def test_a_test_that_passes_the_second_time_is_named_and_counted(tmp_path: Path) -> None:
    code, lines = run_twice(tmp_path, STEADY, FLAKY.format(count=1))

    assert code == 0
    assert "FLAKY test_1.py::test_once_more[0]: failed beside others, passed alone" in lines
    assert "1 passed, 1 flaky in " in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "expected"), [(3, 0), (4, 1)])
def test_more_than_three_flaky_tests_fail_the_run(
    tmp_path: Path, count: int, expected: int
) -> None:
    code, lines = run_twice(tmp_path, FLAKY.format(count=count))

    assert code == expected
    assert f"{count} flaky, at most 3 are allowed" in "".join(lines)


@pytest.mark.slow
def test_a_test_that_fails_twice_fails_the_run_and_is_not_flaky(tmp_path: Path) -> None:
    code, lines = run_twice(tmp_path, STEADY, BROKEN)

    assert code == 1
    assert "1 failed, 1 passed in " in lines[-1]
    assert not [line for line in lines if line.startswith("FLAKY")]
