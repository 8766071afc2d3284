"""Runs one `ssps` command for an operator of the staff site, whom stdin names.

`ssps staff` starts it for a page that reads the record or changes something, so that both do what
the commands do, with the same records; the record names the operator's account (`staff:amir`) and
address. stdin has one JSON object, the site is the only argument:

    {"who": "amir", "from": "10.20.3.4", "command": ["party", "suspend", "parti-a", "--why", "…"]}

Output and exit code are the command's. Only the commands of ALLOWED run.
"""

import json
import sys

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


def run(site: str, request: str) -> None:
    """Run the command of a request, and exit as it does."""
    asked = json.loads(request)
    words = [str(word) for word in asked["command"]]
    if tuple(words[:2]) not in ALLOWED:
        sys.exit(f"{' '.join(words[:2])}: not a command of the staff site")
    console.act_for(account(str(asked["who"])), str(asked["from"]))
    main.main(["--site", site, *words], prog_name="ssps")


if __name__ == "__main__":
    run(sys.argv[1], sys.stdin.read())
