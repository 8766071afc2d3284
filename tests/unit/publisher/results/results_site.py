"""A small site that takes in results: one board of eight boxes, two contests."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from config import ballot, registry
from config.registry import Registry
from config.site import LEDGERS, REGISTRY_INDEX, RESULTS, RESULTS_LEDGER, STORE
from keys.ledger.segments import read_records
from keys.ledger.writer import Ledger
from publisher.intake.watch import Candidate
from publisher.page import Stamp
from publisher.results import store as result_store
from publisher.results.intake.take_in import RecordedChunk, ResultContext, ResultIntake
from publisher.results.store import ResultStore

ELECTION = "2023-05-14-cb-mv"
NOW = datetime(2023, 5, 14, 18, 0, tzinfo=UTC)
BOXES = range(1, 9)
BALLOT = """\
secim,cevre,sira,secenek,tur,ad,ittifak
mv,,1,parti-a,parti,A Partisi,ortak
mv,,2,parti-b,parti,B Partisi,ortak
mv,,3,ortak,ittifak,ORTAK İTTİFAKI,
cb,,1,aday-1,aday,Birinci Aday,
cb,,2,aday-2,aday,İkinci Aday,
"""


def row(box: int = 1, /, **changes: object) -> dict[str, object]:
    """Return a sound row of a box, with changes."""
    made: dict[str, object] = {
        "secim": "mv",
        "cevre": "34-istanbul-1",
        "kurul": "kadikoy-2",
        "sandik": str(box),
        "sandik_turu": "normal",
        "surum": 1,
        "neden": "",
        "zaman": "2023-05-14T18:30:00+03:00",
        "secmen": 300,
        "oy_kullanan": 250,
        "itirazsiz_gecerli": 245,
        "itirazli_gecerli": 0,
        "gecerli": 245,
        "gecersiz": 5,
        "oylar": {"parti-a": 100 + box, "parti-b": 140 - box, "ortak": 5},
    }
    return made | changes


def registry_csv() -> str:
    lines = ["karekod,secim,belge,cevre,kurul,sandik_turu,sandik,mahalle,sayfa"]
    serial = iter(range(1_000_000_000, 2_000_000_000))
    for secim in ("cb", "mv"):
        lines += [
            f"{next(serial)},{secim},sandik-sonuc,34-istanbul-1,kadikoy-2,normal,{box},Caferağa,1"
            for box in BOXES
        ]
        lines.append(f"{next(serial)},{secim},ilce-birlestirme,34-istanbul-1,kadikoy-2,,,,1")
    return "\n".join(lines) + "\n"


class Killed(BaseException):
    """The process ends here, as if it was killed."""


class ResultsSite:
    """A site that takes in results; `kill_at` names a step after which the process is killed."""

    def __init__(
        self, path: Path, registry_text: str | None = None, ballot_text: str = BALLOT
    ) -> None:
        self.path = path
        self.kill_at: str | None = None
        self._delivered = self._calls = 0
        for folder in (RESULTS, STORE, Path("state")):
            (path / folder).mkdir(parents=True)
        (path / "kayit.csv").write_text(registry_text or registry_csv(), encoding="utf-8")
        registry.import_csv(path / "kayit.csv", path / REGISTRY_INDEX)
        lines = ballot_text.splitlines(keepends=True)
        self.ballot = ballot.read("ballot.csv", lines, ballot_text.encode())

    def step(self, name: str) -> None:
        if name == self.kill_at:
            self.kill_at = None
            raise Killed(name)

    def now(self) -> datetime:
        """Return a time that is later at each call, so that batches have an order."""
        self._calls += 1
        return NOW + timedelta(microseconds=self._calls)

    def set_clock_back(self) -> None:
        self._calls -= 100

    def deliver(self, *rows: object, name: str | None = None) -> Candidate:
        """Put a batch into results/, complete."""
        self._delivered += 1
        folder = self.path / RESULTS
        path = folder / (name or f"parti-{self._delivered}.ndjson")
        lines = (r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in rows)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return Candidate(folder, str(path), Stamp.of(path.stat()))

    def take_in(self, *candidates: Candidate) -> list[RecordedChunk]:
        """Run once: recover, claim, take in; return what changed."""
        with self.opened() as (intake, _):
            changed = list(intake.recover())
            return changed + list(intake.take_in(*intake.claim(candidates)))

    def opened(self) -> "Opened":
        return Opened(self)

    def waiting(self) -> list[Candidate]:
        folder = self.path / RESULTS
        return [Candidate(folder, str(p), Stamp.of(p.stat())) for p in sorted(folder.iterdir())]

    def store(self) -> ResultStore:
        return ResultStore(result_store.url(self.path))

    def events(self) -> list[tuple[str, str]]:
        """Return event and place of each record."""
        folder = self.path / LEDGERS / RESULTS_LEDGER
        return [(r.event.event, r.event.what) for r in read_records(folder)]

    def accepted(self) -> list[tuple[str | None, int, bool]]:
        """Return box, version and whether it is the newest, of each result."""
        with self.store() as store:
            found = store.since(0, store.last_recorded())
            return [(s.result.key.sandik, s.result.version, s.newest) for s in found]

    def quarantined(self) -> list[tuple[int, str]]:
        with self.store() as store:
            return [(set_aside.line, set_aside.fault) for set_aside in store.quarantined()]


class Opened:
    def __init__(self, site: ResultsSite) -> None:
        self._site = site

    def __enter__(self) -> tuple[ResultIntake, ResultContext]:
        path = self._site.path
        self._ledger = Ledger(path / LEDGERS / RESULTS_LEDGER, lambda: NOW)
        self._store = self._site.store()
        self._registry = Registry(path / REGISTRY_INDEX)
        context = ResultContext(
            path,
            ELECTION,
            self._store,
            self._ledger,
            self._registry,
            lambda: self._site.ballot,
            self._site.now,
            step=self._site.step,
        )
        return ResultIntake(context), context

    def __exit__(self, *_: object) -> None:
        self._store.close()
        self._registry.close()
        self._ledger.close()
