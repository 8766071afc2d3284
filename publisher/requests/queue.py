"""The requests of operators to the publisher, as files in the folder `state/errands`.

Only the publisher writes catalog, trees and filing ledger, so a command that changes them sends it
a request. The command writes `<id>.json`:

    {"by": ["ayse"], "detail": {"place": "34-istanbul-1/kadikoy-2/1234", "reason": "burnt"},
     "from": "ysk-1", "kind": "absent", "why": "minutes of 14 May, 19.40"}

The publisher handles it between two batches of pages and answers with `<id>.done`:

    {"done": true, "said": "34-istanbul-1/kadikoy-2/1234 is absent: burnt"}

An answer to the staff site's desk may also have a `cause`, one of the words below, for its pages.

If no publisher runs, the command handles the request itself (publisher/requests/handler). The id
sorts by time and is also in the filing ledger (as `errand`), so that a request that is handled
again after a crash has an effect only once.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from config.event import Value
from config.site import REQUESTS
from keys.files import replace
from publisher.catalog.decisions import review

ABSENT, EXPECTED = "absent", "expected"
IDENTIFY, REJECT = "identify", "reject"
RULE, RESCAN, REREAD = "rule", "rescan", "reread"
REBUILD, REPAIR = "rebuild", "repair"
KINDS = (ABSENT, EXPECTED, IDENTIFY, REJECT, RULE, RESCAN, REREAD, REBUILD, REPAIR)
# Causes: the file was decided on; somebody identified it first; two accounts differ; it is filed
# now; it needs another account; the account contradicts another.
DECIDED, CHANGED, DISPUTED = "decided", "changed", "disputed"
NOW_FILED, NAMED, CONTRADICTED = "filed", "named", review.CONTRADICTED
UNREADABLE = "unreadable"  # the file of the answer is damaged
_REQUEST, _ANSWER = ".json", ".done"  # suffixes of the files


@dataclass(frozen=True, slots=True)
class Request:
    """A request by one or more operators; `origin` is the machine that it was sent from."""

    id: str
    kind: str
    by: tuple[str, ...]
    origin: str
    why: str
    detail: Mapping[str, Value] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """Return the detail `name`; raise ValueError if it is missing or not a text."""
        value = self.detail.get(name)
        if not isinstance(value, str):
            raise ValueError(f"a request of kind {self.kind} needs the text {name!r}")
        return value


@dataclass(frozen=True, slots=True)
class Answer:
    """The publisher's answer: whether the request was carried out, and a message to show."""

    done: bool
    message: str
    cause: str = ""


def format_request(request: Request) -> bytes:
    """Format a request without its id, which is the file's name."""
    fields = {
        "kind": request.kind,
        "by": request.by,
        "from": request.origin,
        "why": request.why,
        "detail": dict(request.detail),
    }
    return json.dumps(fields, sort_keys=True).encode() + b"\n"


def parse_request(identity: str, content: bytes) -> Request:
    """Parse a request; raise ValueError if it is not one."""
    fields = json.loads(content)
    if not isinstance(fields, dict) or set(fields) != {"kind", "by", "from", "why", "detail"}:
        raise ValueError("not a request")
    by, detail = fields["by"], fields["detail"]
    texts = (fields["kind"], fields["from"], fields["why"], *by) if isinstance(by, list) else (0,)
    if not all(isinstance(text, str) for text in texts) or not isinstance(detail, dict):
        raise ValueError("not a request")
    if fields["kind"] not in KINDS:
        raise ValueError(f"unknown kind of request: {fields['kind']!r}")
    if not by:
        raise ValueError("not a request: it names no operator")
    return Request(identity, fields["kind"], tuple(by), fields["from"], fields["why"], detail)


def submit(site: Path, request: Request) -> None:
    """Write a request into the folder."""
    folder = site / REQUESTS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    replace(folder / f"{request.id}{_REQUEST}", format_request(request))


def pending(site: Path) -> Iterator[Request]:
    """Yield the requests that are not answered yet, oldest first.

    A file that is not a request gets an answer that says so. Without requests, this only lists a
    folder.
    """
    try:
        names = sorted(path.name for path in (site / REQUESTS).iterdir())
    except FileNotFoundError:
        return
    for name in names:
        if not name.endswith(_REQUEST) or name.startswith("."):
            continue
        identity = name.removesuffix(_REQUEST)
        try:
            yield parse_request(identity, (site / REQUESTS / name).read_bytes())
        except FileNotFoundError:
            continue
        except (ValueError, TypeError) as error:
            with suppress(PermissionError):  # the publisher does, if this process may not
                write_answer(site, identity, Answer(False, str(error)))


def write_answer(site: Path, identity: str, answer: Answer) -> None:
    """Write the answer and remove the request."""
    fields: dict[str, object] = {"done": answer.done, "said": answer.message}
    if answer.cause:
        fields["cause"] = answer.cause
    content = json.dumps(fields).encode() + b"\n"
    replace(site / REQUESTS / f"{identity}{_ANSWER}", content)
    (site / REQUESTS / f"{identity}{_REQUEST}").unlink(missing_ok=True)


def take_answer(site: Path, identity: str) -> Answer | None:
    """Return the answer to a request and remove it; return None if there is no answer yet."""
    answer = read_answer(site, identity)
    if answer is not None:
        forget_answer(site, identity)
    return answer


def read_answer(site: Path, identity: str) -> Answer | None:
    """Return the answer to a request, None if there is none yet; a damaged one says so."""
    try:
        fields = json.loads((site / REQUESTS / f"{identity}{_ANSWER}").read_bytes())
        return Answer(fields["done"], fields["said"], fields.get("cause", ""))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"the publisher's answer cannot be read, look at what it has done: {error}"
        return Answer(False, message, UNREADABLE)


def forget_answer(site: Path, identity: str) -> None:
    """Remove the answer to a request."""
    with suppress(FileNotFoundError):
        (site / REQUESTS / f"{identity}{_ANSWER}").unlink()


def answered(site: Path) -> list[str]:
    """Return the ids of requests whose answer has not been taken yet."""
    folder = site / REQUESTS
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    return [name.removesuffix(_ANSWER) for name in names if name.endswith(_ANSWER)]
