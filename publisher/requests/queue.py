"""What operators ask of the publisher, which alone writes catalog, trees and filing ledger.

A command puts an errand into the folder `state/errands`, as `<id>.json`, and the publisher that
runs carries it out between two batches of pages and answers with `<id>.done`; where none runs,
the command takes its place for that long (publisher/requests/handler). For example

    {"by": ["ayse"], "detail": {"place": "34-istanbul-1/kadikoy-2/1234", "reason": "burnt"},
     "from": "ysk-1", "kind": "absent", "why": "minutes of 14 May, 19.40"}

and `{"done": true, "said": "34-istanbul-1/kadikoy-2/1234 is absent: burnt"}`. The id sorts by time,
names the errand in the filing ledger, and makes it safe to carry out again after a crash.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from config.event import Value
from config.site import REQUESTS
from keys.files import replace

ABSENT, EXPECTED = "absent", "expected"
IDENTIFY, REJECT = "identify", "reject"
REBUILD, REPAIR = "rebuild", "repair"
KINDS = (ABSENT, EXPECTED, IDENTIFY, REJECT, REBUILD, REPAIR)
_ASKED, _DONE = ".json", ".done"


@dataclass(frozen=True, slots=True)
class Request:
    """One thing that one operator, or two of them, want done; `origin` is their machine."""

    id: str
    kind: str
    by: tuple[str, ...]
    origin: str
    why: str
    detail: Mapping[str, Value] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return a detail that is text; ValueError if it is not."""
        value = self.detail.get(name)
        if not isinstance(value, str):
            raise ValueError(f"an errand of kind {self.kind} wants a text {name}")
        return value


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether it was done, and what there is to say, for the operator's eye."""

    done: bool
    message: str


def format_request(request: Request) -> bytes:
    """Write one errand, without its id, which is the file's name."""
    fields = {
        "kind": request.kind,
        "by": request.by,
        "from": request.origin,
        "why": request.why,
        "detail": dict(request.detail),
    }
    return json.dumps(fields, sort_keys=True).encode() + b"\n"


def parse_request(identity: str, content: bytes) -> Request:
    """Read it back; ValueError for anything else."""
    fields = json.loads(content)
    if not isinstance(fields, dict) or set(fields) != {"kind", "by", "from", "why", "detail"}:
        raise ValueError("not an errand")
    by, detail = fields["by"], fields["detail"]
    texts = (fields["kind"], fields["from"], fields["why"], *by) if isinstance(by, list) else (0,)
    if not all(isinstance(text, str) for text in texts) or not isinstance(detail, dict):
        raise ValueError("not an errand")
    if fields["kind"] not in KINDS or not by:
        raise ValueError(f"no errand of kind {fields['kind']!r} by somebody")
    return Request(identity, fields["kind"], tuple(by), fields["from"], fields["why"], detail)


def submit(site: Path, request: Request) -> None:
    """Put an errand where the publisher finds it."""
    folder = site / REQUESTS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(folder / f"{request.id}{_ASKED}", format_request(request))


def pending(site: Path) -> Iterator[Request]:
    """Yield what was asked and not answered yet, the oldest first; what is no errand is answered.

    Costs one look at an empty folder where nothing is asked.
    """
    try:
        names = sorted(path.name for path in (site / REQUESTS).iterdir())
    except FileNotFoundError:
        return
    for name in names:
        if not name.endswith(_ASKED) or name.startswith("."):
            continue
        identity = name.removesuffix(_ASKED)
        try:
            yield parse_request(identity, (site / REQUESTS / name).read_bytes())
        except FileNotFoundError:
            continue
        except (ValueError, TypeError) as error:
            write_answer(site, identity, Answer(False, str(error)))


def write_answer(site: Path, identity: str, given: Answer) -> None:
    """Say what became of an errand; it is not carried out again."""
    content = json.dumps({"done": given.done, "said": given.message}).encode() + b"\n"
    replace(site / REQUESTS / f"{identity}{_DONE}", content)
    (site / REQUESTS / f"{identity}{_ASKED}").unlink(missing_ok=True)


def take_answer(site: Path, identity: str) -> Answer | None:
    """Take the answer to an errand away, None if there is none yet."""
    path = site / REQUESTS / f"{identity}{_DONE}"
    try:
        fields = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    with suppress(FileNotFoundError):
        path.unlink()
    return Answer(fields["done"], fields["said"])
