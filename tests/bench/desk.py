"""Measure what identifying a quarantined page at the desk takes, in a real browser.

A rehearsal has so many pages in quarantine, each between two that were filed. Two operators
identify every one with the keyboard alone, from the first entry of the queue on. It prints key
strokes and seconds from a page's entry to the next page's: these seconds are those of site and
browser; a person looks at the page besides. At the end every page must be filed as the sheet that
it shows.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from desk_night import DeskNight, Done, desk_night, identify_all, signed_in
from running_site import until
from web_browser import chromium_browser

from config.site import FILING


def main() -> None:
    """Print the medians, and one JSON object with them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pages", type=int, default=100, help="pages in quarantine")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        desk_night(Path(folder), options.pages) as night,
        chromium_browser() as browser,
    ):
        done: list[Done] = []
        for account in night.kit["operators"]:
            page = signed_in(night, browser, account)
            begun = time.monotonic()
            mine = identify_all(night, page, options.pages)
            print(f"{account['name']}: {len(mine)} pages in {time.monotonic() - begun:.1f} s")
            done += mine
            page.context.close()
        until(lambda: len(_filed(night)) == options.pages, "every page is filed", seconds=120)
        wrong = _filed(night) ^ set(night.truth.values())
    seconds, strokes = [each.seconds for each in done], [each.strokes for each in done]
    found = {
        "pages": len(done),
        "median_seconds": round(median(seconds), 2),
        "p95_seconds": round(quantiles(seconds, n=20)[-1], 2),
        "median_strokes": median(strokes),
        "most_strokes": max(strokes),
        "suggested": round(sum(each.strokes <= 3 for each in done) / len(done), 3),
        "wrong": len(wrong),
    }
    print(json.dumps(found))


def _filed(night: DeskNight) -> set[str]:
    return {
        str(record.event.detail["karekod"])
        for record in night.site.records(FILING)
        if "identified_by" in record.event.detail
    }


if __name__ == "__main__":
    main()
