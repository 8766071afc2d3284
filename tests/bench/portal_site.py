"""Makes the site that scripts/bench portal measures: a registry, results and closed snapshots.

The country is as large as Turkey's (201,000 boxes, two contests), with boards in every district,
voters abroad and at customs gates, and mahalles. It is made once and kept in the folder that
`--site` names; making it takes a few minutes.

    python portal_site.py SITE NUMBER       closes snapshot NUMBER, with some corrections
"""

import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402
from results import deliver, take_in  # noqa: E402 - from this folder

from config import ballot, cevre, registry  # noqa: E402
from config.ballot import Ballot  # noqa: E402
from config.registry import Registry  # noqa: E402
from config.settings import ShareLevel  # noqa: E402
from config.site import (  # noqa: E402
    BALLOT_CSV,
    LEDGERS,
    REGISTRY_INDEX,
    RESULTS,
    RESULTS_LEDGER,
    STORE,
)
from keys.ledger.writer import Ledger, utc_now  # noqa: E402
from keys.server_keys import sshsig  # noqa: E402
from publisher.results import store as result_store  # noqa: E402
from publisher.results.checker import Checker  # noqa: E402
from publisher.results.intake.take_in import ResultContext, ResultIntake  # noqa: E402
from publisher.results.snapshots.exports import write_exports  # noqa: E402
from publisher.results.snapshots.snapshot import SnapshotWriter  # noqa: E402
from publisher.results.snapshots.summary import summary_lines  # noqa: E402
from publisher.results.store import ResultStore  # noqa: E402

ELECTION = "bench-cb-mv"
KEY = Ed25519PrivateKey.from_private_bytes(b"b" * 32)
_BOXES_A_BOARD = 184
_BOXES_A_MAHALLE = 6
_PARTIES = 26
_CORRECTIONS_A_THOUSAND = 10
_CORRECTED = 20  # boxes of one later snapshot
Box = tuple[str, str, str, str, str]  # district, board, number, kind, mahalle


def make(site: Path, boxes: int, *, exports: bool = True) -> None:
    """Make the site: snapshot 1 with every result, snapshot 2 with some corrections."""
    for folder in (RESULTS, STORE, Path("state")):
        (site / folder).mkdir(parents=True)
    _prepare(site, boxes)
    batches = [rows(boxes, 1, 1000), rows(boxes, 2, _CORRECTIONS_A_THOUSAND)]
    ballots = _ballot(site)
    closed = _take_in(site, ballots, batches)
    if exports:
        write_exports(site, closed, ELECTION, ballots, lambda t: sshsig.sign(KEY, t))


def correct(site: Path, number: int) -> None:
    """Close one more snapshot, in which some boxes have a later version."""
    _take_in(site, _ballot(site), [rows(_CORRECTED, number, 1000)])


def _ballot(site: Path) -> Ballot:
    text = (site / BALLOT_CSV).read_text(encoding="utf-8")
    return ballot.read(BALLOT_CSV, text.splitlines(keepends=True), text.encode())


def _take_in(site: Path, ballots: Ballot, batches: Iterable[Iterator[str]]) -> int:
    """Take in batches, and close a snapshot after each; return the number of the last."""
    folder = site / LEDGERS / RESULTS_LEDGER
    with Ledger(folder) as ledger, ResultStore(result_store.url(site)) as store:
        index = Registry(site / REGISTRY_INDEX)
        context = ResultContext(site, ELECTION, store, ledger, index, lambda: ballots, utc_now)
        intake = ResultIntake(context)
        checker = Checker(store, index, lambda: ballots, lambda keys: {})
        snapshots = SnapshotWriter(
            site, ELECTION, store, ledger, lambda text: sshsig.sign(KEY, text), utc_now
        )
        snapshots.recover()
        for lines in batches:
            take_in(intake, checker, store, snapshots, deliver(site, "batch.ndjson", lines))
            store.replace_findings(checker.check_changed_places())
            store.commit()
            closed = snapshots.close_snapshot(
                lambda secim: summary_lines(secim, checker.sums, ballots, ShareLevel.CEVRE)
            )
        snapshots.close()
        index.close()
    return closed.number


def _prepare(site: Path, boxes: int) -> None:
    serial = iter(range(1_000_000_000, 10_000_000_000))
    with (site / "kayit.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(registry.COLUMNS) + "\n")
        for secim in ("cb", "mv"):
            for district, board, box, kind, mahalle in places(boxes):
                line = f"sandik-sonuc,{district},{board},{kind},{box},{mahalle},1"
                file.write(f"{next(serial)},{secim},{line}\n")
    registry.import_csv(site / "kayit.csv", site / REGISTRY_INDEX)
    text = ",".join(ballot.COLUMNS) + "\n"
    text += "".join(f"cb,,{n},aday-{n},aday,Aday {n},\n" for n in range(1, 5))
    for n in range(1, _PARTIES + 1):
        alliance = "ortak-1" if n <= 4 else "ortak-2" if n <= 8 else ""
        text += f"mv,,{n},parti-{n},parti,Parti {n},{alliance}\n"
    for n in (1, 2):
        text += f"mv,,{_PARTIES + n},ortak-{n},ittifak,İttifak {n},\n"
    (site / BALLOT_CSV).write_text(text, encoding="utf-8")


def places(boxes: int) -> Iterator[Box]:
    """Yield each box."""
    districts = cevre.names()
    for number in range(boxes):
        board, place = divmod(number, _BOXES_A_BOARD)
        district = districts[board % len(districts)]
        if district in (cevre.ABROAD, cevre.CUSTOMS):
            yield district, f"yer-{board}", f"A{place + 1}", district, ""
        else:
            kind = "cezaevi" if place == _BOXES_A_BOARD - 1 else "normal"
            mahalle = f"Mahalle {place // _BOXES_A_MAHALLE + 1}"
            yield district, f"kurul-{board}", str(1001 + place), kind, mahalle


def rows(boxes: int, version: int, a_thousand: int) -> Iterator[str]:
    """Yield the rows of both contests as lines of NDJSON, of some boxes in a thousand."""
    rng = random.Random(version)  # noqa: S311 - no secret in it
    options = {
        "cb": [f"aday-{n}" for n in range(1, 5)],
        "mv": [f"parti-{n}" for n in range(1, _PARTIES + 1)] + ["ortak-1", "ortak-2"],
    }
    for district, board, box, kind, _ in places(boxes):
        if rng.randrange(1000) >= a_thousand:
            continue
        for secim, names in options.items():
            votes = {name: rng.randrange(20) for name in names}
            valid = sum(votes.values())
            yield (
                json.dumps(
                    {
                        "secim": secim,
                        "cevre": district,
                        "kurul": board,
                        "sandik": box,
                        "sandik_turu": kind,
                        "surum": version,
                        "neden": "" if version == 1 else "itiraz kabul",
                        "zaman": "2023-05-14T18:30:00+03:00",
                        "secmen": valid + 50,
                        "oy_kullanan": valid + 7,
                        "itirazsiz_gecerli": valid,
                        "itirazli_gecerli": 0,
                        "gecerli": valid,
                        "gecersiz": 7,
                        "oylar": votes,
                    }
                )
                + "\n"
            )


if __name__ == "__main__":
    correct(Path(sys.argv[1]), int(sys.argv[2]))
