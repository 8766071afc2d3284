"""The process that prepares a closed snapshot: its exports, and what the parties' trees get of it.

    python -m publisher.results.snapshots.preparing SITE NUMBER [--trees]

It runs beside the intake of results with a low priority, for one snapshot at a time. Killed at
any moment, the next one finishes its work. Exit code 1 if the disk failed; the cause is then the
last line on stderr.
"""

import json
import os
import sys
from pathlib import Path

import duckdb

from config import load
from config.snapshot import MANIFEST
from keys.operations import site_keys
from keys.server_keys import sshsig
from publisher.results.ballot_file import load_ballot
from publisher.results.snapshots.exports import prune_exports, write_exports
from publisher.results.snapshots.folder import snapshot_folder
from publisher.results.snapshots.prepared import TREES, scopes_of_trees
from publisher.results.snapshots.views import write_views

_NICE = 10  # about a tenth of a processor that others want too; with 19 it would be a sixtieth


def main(site: Path, number: int, trees: bool) -> int:
    """Prepare one snapshot of a site."""
    os.nice(_NICE)
    os.umask(0o022)
    manifest = json.loads((snapshot_folder(site, number) / MANIFEST).read_bytes())
    key = site_keys.signing_key(site)
    ballot = load_ballot(site)

    def sign(text: bytes) -> bytes:
        return sshsig.sign(key, text)

    try:
        write_exports(site, number, manifest["election"], ballot, sign)
        if trees:
            write_views(site, number, scopes_of_trees(load.load(site)), ballot, sign)
        prune_exports(site, number)
    except (OSError, duckdb.IOException) as error:
        print(f"snapshot {number}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), TREES in sys.argv[3:]))
