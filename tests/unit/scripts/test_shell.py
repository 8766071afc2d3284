"""What a shell shows of `ssps`: the man page, completion, and what a mistyped command gets."""

import os
import shutil
import subprocess
import sys

import pytest
from office import Ssps
from slow_rest import slow_rest

from scripts import completion, man_page
from scripts.command_reference import contexts
from scripts.shared.examples import EXAMPLES


def test_the_man_page_has_every_command_and_every_option() -> None:
    text = man_page.render()

    for context in contexts():
        assert context.command_path.replace("-", r"\-") in text
        for option in context.command.params:
            for name in option.opts if option.param_type_name == "option" else []:
                if not getattr(option, "hidden", False):
                    assert name.replace("-", r"\-") in text, (context.command_path, name)


def test_the_man_page_has_the_example_of_every_command() -> None:
    lines = man_page.render().splitlines()

    for example in EXAMPLES.values():
        if example.isascii():
            assert "  " + example.replace("-", r"\-") in lines


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_has_nothing_to_say_about_the_man_page() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"],
        input=man_page.render(), capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "word", "offered"),
    slow_rest(
        [
            ("ssps key ", "rev", "revoke"),
            ("ssps ", "stat", "status"),
            ("ssps key add ", "--dr", "--dry"),
        ],
        quick=1,
    ),
)
def test_bash_is_offered_commands_and_options(words: str, word: str, offered: str) -> None:
    line = words + word
    environment = {**os.environ, "_SSPS_COMPLETE": "bash_complete", "COMP_WORDS": line,
                   "COMP_CWORD": str(len(words.split()))}  # fmt: skip
    code = "import sys; sys.argv = ['ssps']; from scripts.ssps import main; main(prog_name='ssps')"

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stderr == ""
    assert any(each.partition(",")[2].startswith(offered) for each in done.stdout.splitlines())


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_its_completion(shell: str) -> None:
    assert f"_SSPS_COMPLETE={shell}_complete" in completion.source(shell)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("stauts",), "Did you mean 'status'"),
        (("party", "shwo"), "Did you mean 'show'"),
        (("key", "list", "--jsn"), "--json"),
    ],
)
def test_a_mistyped_command_or_option_gets_a_suggestion(
    words: tuple[str, ...], said: str, ssps: Ssps
) -> None:
    done = ssps(*words)

    assert done.exit_code == 2
    assert said in done.stderr
