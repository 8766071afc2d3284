"""Runs one `ssps` command for an operator of the staff site, whom stdin names.

`ssps staff` starts it for a page that reads the record or changes something, so that both do what
the commands do, with the same records; the record names the operator's account (`staff:amir`) and
address. stdin has one JSON object, the site is the only argument:

    {"who": "amir", "from": "10.20.3.4", "command": ["party", "suspend", "parti-a", "--why", "…"]}

Output and exit code are the command's. The request comes from a process that may have been taken
over, so only the commands of ALLOWED run, with the options of OPTIONS, and they write files only
below the folder for temporary files (TMPDIR), which the process sets that starts this one.
"""

import json
import sys
import tempfile
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from keys.kernel import process
from keys.operations.change_record import account
from scripts.shared import console
from scripts.ssps import main

ALLOWED = frozenset(
    {
        ("party", "suspend"),
        ("party", "resume"),
        ("party", "end-session"),
        ("party", "requests"),
        ("party", "test"),
        ("party", "letter"),
        ("audit", "behind"),
        ("audit", "query"),
        ("audit", "timeline"),
        ("audit", "verify"),
        ("audit", "report"),
    }
)
FILES = frozenset({"--pdf", "--output"})
OPTIONS = FILES | {
    "--address", "--credential", "--csv", "--event", "--every", "--json", "--lang", "--last",
    "--ledger", "--limit", "--outcome", "--override-addresses", "--party", "--path", "--progress",
    "--sha256", "--since", "--until", "--why", "--yes",
}  # fmt: skip


def run(site: str, request: str) -> None:
    """Run the command of a request, and exit as it does."""
    asked = json.loads(request)
    words = [str(word) for word in asked["command"]]
    if tuple(words[:2]) not in ALLOWED:
        sys.exit(f"{' '.join(words[:2])}: not a command of the staff site")
    _check_options(words)
    console.act_for(account(str(asked["who"])), str(asked["from"]))
    main.main(["--site", site, *words], prog_name="ssps")


def _check_options(words: Iterable[str]) -> None:
    allowed = Path(tempfile.gettempdir()).resolve()
    for word in takewhile(lambda word: word != "--", words):
        option, _, value = word.partition("=")
        if word.startswith("-") and option not in OPTIONS:
            sys.exit(f"{option}: not an option of the staff site")
        if option in FILES and allowed not in Path(value).resolve().parents:
            sys.exit(f"{word}: not below {allowed}")


if __name__ == "__main__":
    process.forbid_inspection()  # a command may read the signing key
    run(sys.argv[1], sys.stdin.read())
