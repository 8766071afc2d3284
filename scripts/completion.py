"""Prints the completion of `ssps` for a shell: `python -m scripts.completion bash|zsh|fish`.

`ssps init --system` installs all three. Without it:

    python -m scripts.completion bash > ~/.local/share/bash-completion/completions/ssps
"""

import sys

from click.shell_completion import get_completion_class

from scripts.ssps import main

SHELLS = ("bash", "zsh", "fish")


def source(shell: str) -> str:
    """Return what the shell reads to complete the commands and options of `ssps`."""
    made = get_completion_class(shell)
    if made is None:
        raise ValueError(f"{shell!r}: write one of {', '.join(SHELLS)}")
    return made(main, {}, "ssps", "_SSPS_COMPLETE").source()


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in SHELLS:
        print(source(sys.argv[1]), end="")
    else:
        sys.exit(f"write the name of your shell: {', '.join(SHELLS)}")
