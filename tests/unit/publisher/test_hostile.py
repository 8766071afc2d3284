import os
import threading
from collections.abc import Callable

import pytest
from PIL import Image
from unit.publisher import hostile
from unit.publisher.consistency import assert_consistent

from config.settings import Settings
from publisher.catalog.queries import counts as catalog_counts
from publisher.publish import publish
from publisher.reading.formats.rasterize import open_file

Draw = Callable[..., Image.Image]
Encode = Callable[..., bytes]
CB, MV = "1093717526", "1093717527"


@pytest.mark.slow
def test_every_hostile_file_is_quarantined_with_its_reason_and_the_next_page_is_read(
    settings: Settings, draw: Draw, encode: Encode
) -> None:
    """One worker reads them all, with a good page after each."""
    intake = settings.site / "intake"
    files = hostile.files(draw(CB, CB), draw(CB, MV), encode)
    os.mkfifo(intake / "pipe.jpg")
    (intake / "link.jpg").symlink_to("/etc/passwd")
    for number, (name, (content, _)) in enumerate(files.items()):
        (intake / name).write_bytes(content)
        (intake / f"{name}-good").write_bytes(encode(draw(CB, CB, note=str(number)), "PNG"))
    stop = threading.Event()
    expected = 2 + 2 * len(files)

    def watch() -> None:
        while not stop.wait(0.05):
            counts = catalog_counts.counts(settings.site)
            done = counts.filed + counts.versions + counts.quarantined + counts.duplicates
            if done >= expected and not list((settings.site / "state" / "spool").iterdir()):
                stop.set()

    watching = threading.Thread(target=watch)
    watching.start()
    limit = threading.Timer(120, stop.set)
    limit.start()
    publish(settings, stop=stop, workers=1)
    limit.cancel()
    watching.join()

    events = assert_consistent(settings).events
    reasons = {e.origin: e.detail.get("reason") for e in events if e.event != "filed"}
    assert reasons == {name: str(reason) for name, (_, reason) in files.items()} | {
        "pipe.jpg": "not-a-file",
        "link.jpg": "not-a-file",
    }
    good = {event.origin: event.detail["evidence"] for event in events if event.event == "filed"}
    assert good.keys() == {f"{name}-good" for name in files}
    for lines in good.values():
        assert isinstance(lines, list)
        assert all("by zxing-cpp, whole" in line for line in lines), "one pass must be enough"


def test_every_page_of_a_pdf_is_rendered(draw: Draw) -> None:
    found = open_file(hostile.pdf([draw(CB, CB), draw(MV, MV)]))

    assert (found.format, found.sizes) == ("PDF", ((900, 1500), (900, 1500)))
    assert found.grey(1).size == (900, 1500)
