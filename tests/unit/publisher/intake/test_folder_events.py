import threading
from collections import deque
from pathlib import Path

import pytest
from running_site import until
from watchdog.observers.inotify import InotifyWatchGroup
from watchdog.observers.inotify_c import InotifyEvent

from publisher.intake.folder_events import FolderEvents


def test_a_folder_may_get_its_watch_from_a_scan_before_its_event_is_handled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """watchdog warns of the second watch; an error here, it would end the thread of events."""
    scanned = threading.Event()
    on_event = InotifyWatchGroup.on_event

    def on_event_after_the_scan(group: InotifyWatchGroup, event: InotifyEvent) -> None:
        scanned.wait(20)
        on_event(group, event)

    monkeypatch.setattr(InotifyWatchGroup, "on_event", on_event_after_the_scan)
    arrived: deque[tuple[str, bool]] = deque()
    events = FolderEvents(tmp_path, arrived, lambda: None)
    events.watch()
    try:
        folder = tmp_path / "batch"
        folder.mkdir()
        assert events.covers(str(folder)) is None
        assert events.covers(str(folder)) is True
        scanned.set()
        (folder / "a.jpg").touch()

        until(lambda: (str(folder / "a.jpg"), False) in arrived, "the file is reported", 20)
    finally:
        events.close()
