"""Mirrors taken while pages are filed: no partial file, and no file that changes later."""

import itertools
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from unit.publisher.filed_site import KEY, PageFiler, digests, read_sums
from wire.server import RunningServer, StartServer

from config import load
from config.sheet import Belge, Secim, Sheet
from publisher.catalog import catalog
from publisher.catalog.queries.feed import FeedQueries
from publisher.feed.feed import Feed

RATE = 50
ROOT = "2023-05-14-cb-mv"


@contextmanager
def filing(server: RunningServer) -> Iterator[list[Sheet]]:
    """File fifty pages per second, with segments and sums three times per second."""
    settings = load.load(server.site)
    (server.site / "state").mkdir(exist_ok=True)
    filer, filed = PageFiler(settings), list[Sheet]()
    left, done = threading.Event(), threading.Event()

    def file() -> None:
        begun = time.monotonic()
        for number in itertools.takewhile(lambda _: not left.is_set(), itertools.count()):
            box = Sheet(Secim.CB, Belge.SANDIK_SONUC, "c-1", f"k-{number % 7}", f"{number}", 1)
            filer.file(box, f"page {number} " * 3000)
            filed.append(box)
            time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        done.set()

    def feed() -> None:
        store = server.site / "store"
        with FeedQueries(catalog.url(server.site)) as filings:
            kept = Feed(
                settings, filings, KEY, lambda: datetime.now(UTC),
                lambda sha256: store / sha256[:2] / sha256[2:4] / sha256,
            )  # fmt: skip
            kept.begin()
            now = 0.0
            # Three times per second: file times are whole seconds, signatures have one size.
            while not done.wait(0.3):
                kept.tick(now := now + 60)
            kept.tick(now + 60)

    threads = [threading.Thread(target=work) for work in (file, feed)]
    for thread in threads:
        thread.start()
    try:
        yield filed
    finally:
        left.set()
        for thread in threads:
            thread.join()


def copy_with(client: str, server: RunningServer, mirror: Path) -> list[str]:
    site = server.site
    if client == "sftp":
        return ["sftp", *server.ssh("parti-a"), "-r", "-p", "127.0.0.1:/", str(mirror)]
    if client == "rclone":
        return [
            "rclone", "copy", "--config", "/dev/null", "--sftp-host", "127.0.0.1",
            "--sftp-port", str(server.port), "--sftp-user", "parti-a", "--sftp-known-hosts-file",
            str(site / "known_hosts"), "--sftp-key-file", str(site / "clients/parti-a"),
            ":sftp:/", str(mirror),
        ]  # fmt: skip
    ssh = shlex.join(["ssh", "-a", "-x", *server.ssh("parti-a")])
    return [
        "lftp", "--norc", "-c",
        f'set net:max-retries 1; set sftp:auto-confirm no; set sftp:connect-program "{ssh}"; '
        f"open -u parti-a, sftp://127.0.0.1:{server.port}; mirror --parallel=2 / {mirror}",
    ]  # fmt: skip


@pytest.mark.parametrize("client", ["sftp", "lftp", "rclone"])
def test_a_mirror_taken_while_pages_are_filed_is_consistent(
    serve: StartServer, tmp_path: Path, client: str
) -> None:
    server = serve()
    tree, mirror = server.site / "trees" / "parti-a", tmp_path / "mirror"
    command = copy_with(client, server, mirror)

    passes = []
    with filing(server) as filed:
        for _ in range(2):
            time.sleep(1.5)
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            # rclone compares its copy with the server, copies sums that changed meanwhile again,
            # and exits with 1 if they changed a third time.
            messages = [line for line in done.stderr.splitlines() if ": corrupted" in line]
            assert done.returncode == 0 or messages, done.stderr
            again = ("SHA256SUMS", "son.txt", "Attempt", "Failed to copy")
            assert all(any(word in line for word in again) for line in messages), messages
            passes.append(digests(mirror, ".jpg") | digests(mirror, ".csv"))

    after = digests(tree, ".jpg") | digests(tree, ".csv")
    assert 0 < len(passes[0]) < len(after)
    for seen in passes:
        assert seen.items() <= after.items()

    subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert digests(mirror, ".jpg") | digests(mirror, ".csv") == after
    root = read_sums(mirror / ROOT)
    assert sum(len(read_sums((mirror / ROOT / sums).parent)) for sums in root) == len(filed)
