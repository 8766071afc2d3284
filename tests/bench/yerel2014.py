"""Real figures: the 2014 local election, box by box, taken in and checked.

    scripts/bench yerel2014 FILE.csv.zip

FILE is `yerel2014.csv.zip` of github.com/oztalha/YSK (MIT; not in this repository): 171,384 boxes,
UTF-16 with tabs, one row a box with registered, voted, valid without and upon objection, valid,
invalid, eleven parties and others. Each box becomes a result of the contest `b` in the district of
its province and the board of its ilçe. Prints how long intake and checks take, and how many boxes
each check finds, beside a count made directly on the file.
"""

import argparse
import csv
import io
import json
import logging
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import structlog

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from config import ballot, cevre, registry  # noqa: E402 - from the folders above
from config.ballot import Ballot  # noqa: E402
from config.cevre import ascii_name  # noqa: E402
from config.registry import Registry  # noqa: E402
from config.site import LEDGERS, REGISTRY_INDEX, RESULTS, RESULTS_LEDGER, STORE  # noqa: E402
from keys.ledger.writer import Ledger, utc_now  # noqa: E402
from publisher.intake.watch import Candidate  # noqa: E402
from publisher.page import Stamp  # noqa: E402
from publisher.results import store as result_store  # noqa: E402
from publisher.results.checker import Checker  # noqa: E402
from publisher.results.checks.finding import Check  # noqa: E402
from publisher.results.intake.take_in import ResultContext, ResultIntake  # noqa: E402
from publisher.results.store import ResultStore  # noqa: E402

ELECTION = "2014-03-30-b"
_PLACE_COLUMNS, _NUMBER_COLUMNS = 7, 6


def main() -> None:
    """Convert, take in, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    site = Path(tempfile.mkdtemp(prefix="ssps-bench-2014-"))
    try:
        take_in(file, site)
    finally:
        shutil.rmtree(site)


def take_in(file: Path, site: Path) -> None:
    """Take in every box and print what was found."""
    header, boxes = read(file)
    parties = header[_PLACE_COLUMNS + _NUMBER_COLUMNS :]
    ballots = prepare(site, boxes, parties)
    batch = site / RESULTS / "yerel2014.ndjson"
    with batch.open("w", encoding="utf-8") as out:
        out.writelines(f"{json.dumps(row)}\n" for row in rows(boxes, parties))
    folder = site / LEDGERS / RESULTS_LEDGER
    with Ledger(folder) as ledger, ResultStore(result_store.url(site)) as store:
        index = Registry(site / REGISTRY_INDEX)
        context = ResultContext(site, ELECTION, store, ledger, index, lambda: ballots, utc_now)
        intake = ResultIntake(context)
        checker = Checker(store, index, lambda: ballots, lambda keys: {})
        began, checking = time.perf_counter(), 0.0
        for claimed in intake.claim([Candidate(batch.parent, str(batch), Stamp.of(batch.stat()))]):
            for chunk in intake.take_in(claimed):
                now = time.perf_counter()
                store.replace_findings(checker.add(chunk.results, chunk.known, chunk.sheets))
                checking += time.perf_counter() - now
        took = time.perf_counter() - began
        now = time.perf_counter()
        store.replace_findings(checker.check_changed_places())
        store.commit()
        places = time.perf_counter() - now
        (done,) = store.batches()
        findings = list(store.findings())
        index.close()
    print(f"rows in the file                      {len(boxes):>9,}")
    print(f"accepted, rejected                    {done.accepted:>9,} {done.rejected:>9,}")
    print(f"intake                                {took:>9.1f} s  {len(boxes) / took:,.0f} rows/s")
    print(f"  of that, checks of boxes            {checking:>9.1f} s")
    print(f"sums and neighbours of every board    {places:>9.1f} s")
    print("\nboxes                                   checks      file")
    by_check = Counter(finding.check for finding in findings)
    below = sum(
        finding.check is Check.VOTES_NOT_VALID
        and finding.numbers["oylar"] < finding.numbers["gecerli"]
        for finding in findings
    )
    nobody = by_check[Check.NOBODY_VOTED]
    counted = count(boxes)
    for what, found in (
        ("more voted than registered", by_check[Check.MORE_VOTED_THAN_REGISTERED]),
        ("party sum below the valid total", below),
        ("votes valid upon objection", by_check[Check.VALID_UPON_OBJECTION]),
        ("nobody voted", nobody),
        ("no valid vote, or nobody voted", by_check[Check.NO_VALID_VOTE] + nobody),
    ):
        print(f"  {what:<36}{found:>8,} {counted[what]:>9,}")
    print("\nall findings by check")
    for check, number in by_check.most_common():
        print(f"  {check:<36}{number:>8,}  {check.kind}")


def read(file: Path) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the file."""
    with zipfile.ZipFile(file) as packed:
        text = packed.read(packed.namelist()[0]).decode("utf-16")
    header, *boxes = csv.reader(io.StringIO(text, newline=""), delimiter="\t")
    return header, boxes


def numbers_of(box: list[str]) -> tuple[list[int], list[int]]:
    """Return the six numbers of the form, and the parties' votes."""
    numbers = [int(value) for value in box[_PLACE_COLUMNS:]]
    return numbers[:_NUMBER_COLUMNS], numbers[_NUMBER_COLUMNS:]


def count(boxes: list[list[str]]) -> Counter[str]:
    """Count the anomalies directly, without the product's code."""
    found: Counter[str] = Counter()
    for box in boxes:
        (registered, voted, _, disputed, valid, _), votes = numbers_of(box)
        found["more voted than registered"] += voted > registered
        found["party sum below the valid total"] += sum(votes) < valid
        found["votes valid upon objection"] += disputed > 0
        found["nobody voted"] += voted == 0
        found["no valid vote, or nobody voted"] += valid == 0 or voted == 0
    return found


def places(boxes: list[list[str]]) -> Iterator[tuple[str, str, str]]:
    """Yield district, board and box of each row; a number that an ilçe has twice gets a suffix."""
    districts = {int(name[:2]): name for name in reversed(cevre.names()) if name[:2].isdecimal()}
    seen: Counter[tuple[str, str, str]] = Counter()
    for box in boxes:
        place = districts[int(box[0])], f"{ascii_name(box[4])}-{box[1]}", box[6]
        seen[place] += 1
        yield place if seen[place] == 1 else (*place[:2], f"{box[6]}-{seen[place]}")


def prepare(site: Path, boxes: list[list[str]], parties: list[str]) -> Ballot:
    """Make a site with a registry and a ballot of these boxes."""
    for made in (RESULTS, STORE, Path("state")):
        (site / made).mkdir(parents=True)
    with (site / "kayit.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(registry.COLUMNS) + "\n")
        for serial, (district, board, box) in enumerate(places(boxes), 10**9):
            file.write(f"{serial},b,sandik-sonuc,{district},{board},normal,{box},,1\n")
    registry.import_csv(site / "kayit.csv", site / REGISTRY_INDEX)
    text = ",".join(ballot.COLUMNS) + "\n"
    text += "".join(f"b,,{n},{ascii_name(p)},parti,{p},\n" for n, p in enumerate(parties, 1))
    return ballot.read("ballot.csv", text.splitlines(keepends=True), text.encode())


def rows(boxes: list[list[str]], parties: list[str]) -> Iterator[dict[str, object]]:
    """Yield the rows of the batch."""
    options = [ascii_name(party) for party in parties]
    for box, (district, board, number) in zip(boxes, places(boxes), strict=True):
        (registered, voted, undisputed, disputed, valid, invalid), votes = numbers_of(box)
        yield {
            "secim": "b",
            "cevre": district,
            "kurul": board,
            "sandik": number,
            "sandik_turu": "normal",
            "surum": 1,
            "neden": "",
            "zaman": "2014-03-31T06:00:00+03:00",
            "secmen": registered,
            "oy_kullanan": voted,
            "itirazsiz_gecerli": undisputed,
            "itirazli_gecerli": disputed,
            "gecerli": valid,
            "gecersiz": invalid,
            "oylar": dict(zip(options, votes, strict=True)),
        }


if __name__ == "__main__":
    main()
