"""Composes the reports: on one party, and the comparison of all."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from config.times import format_time
from keys.ledger.record import Record
from scripts.audit.report import charts
from scripts.audit.report.document import (
    Block,
    Chart,
    Document,
    Facts,
    Heading,
    Paragraph,
    Table,
    Terms,
)
from scripts.audit.report.figures import (
    Access,
    Delivery,
    FiledSheet,
    PartyReport,
    Refusal,
    RefusalKind,
)
from scripts.audit.report.proof import Proof
from scripts.audit.report.words import Words

_MAX_SHOWN = 200  # rows of a table; the CSV file has all of them
_MAX_POINTS = 400  # of a line in a chart
_LAG_COLUMNS = ((1, "second", 1), (5, "second", 1), (15, "second", 1), (60, "minute", 60),
                (300, "minute", 60), (900, "minute", 60), (3600, "hour", 3600),
                (10800, "hour", 3600))  # fmt: skip
# (lags from here on, their unit, its seconds)
_LAG_UNITS = ((7200.0, "hour", 3600), (120.0, "minute", 60), (float("-inf"), "second", 1))
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all pages of a report share.

    `names` has the parties' names by id, and `signed` says whether the files are signed.
    """

    words: Words
    zone: tzinfo
    made: datetime
    title: str
    names: dict[str, str]
    proof: Proof | None
    signed: bool

    def time(self, time: datetime | None) -> str:
        """Format a time in the zone of the election, with the same instant in UTC beside it."""
        local = format_time(time, self.zone)
        return local if time is None else f"{local} ({time.astimezone(UTC):%H:%M:%S}Z)"

    def name(self, party: str) -> str:
        """Return a party's name with its id, or only the id if no name is known."""
        name = self.names.get(party)
        return f"{name} ({party})" if name and name != party else party


def party_document(report: PartyReport, setting: Setting) -> Document:
    """Return the report on one party."""
    words = setting.words
    number = words.number
    entitled, fetched = len(report.sheets), report.downloaded
    missing = [each for each in report.sheets if each.time is None]
    differing = [each for each in report.sheets if each.differs]
    scope = words("scope_all") if report.scope.places is None else str(report.scope)
    used = (
        words("scope", text=scope),
        words("first_login", text=setting.time(report.first_login)),
        words("addresses", text=", ".join(report.addresses) or words("none_word")),
        words("clients", text=", ".join(report.clients) or words("none_word")),
    )
    facts = (
        (words("entitled"), number(entitled)),
        (words("fetched"), number(fetched)),
        (words("pending"), number(entitled - fetched)),
        (words("complete"), format_share(fetched, entitled, words)),
        (words("lag_median"), format_seconds(report.median, words)),
        (words("lag_p95"), format_seconds(report.p95, words)),
        (words("bytes"), number(report.bytes)),
        (words("logins"), number(report.logins)),
    )
    refused = sum(each.count for each in report.refusals)
    accesses = sum(each.count for each in report.accesses)
    blocks: list[Block] = [
        *_proof(setting, f"{report.party}.pdf"),
        Facts(facts),
        Paragraph(" ".join(used), soft=True),
        _terms(words),
        Heading(words("growth")),
        _growth(report.sheets, setting),
        Heading(words("lags")),
        _lags(report.sheets, words),
        Heading(words("pending_list", count=number(len(missing)))),
        *_sheets(missing, setting),
        Heading(words("differing", count=number(len(differing)))),
        *_sheets(differing, setting),
        Heading(words("refused", count=number(refused))),
        Paragraph(words("refused_note"), soft=True),
        *_refusals(report.refusals, setting),
        Heading(words("web", count=number(accesses))),
        *_accesses(report.accesses, setting),
        Heading(words("changes", count=number(len(report.changes)))),
        *_changes(report.changes, setting),
    ]
    title = words("party_title", party=setting.name(report.party))
    return _document(title, blocks, setting)


def comparison_document(
    reports: Sequence[PartyReport], unequal: Sequence[tuple[FiledSheet, int]], setting: Setting
) -> Document:
    """Return the report that compares the parties."""
    words = setting.words
    number = words.number
    bars = [
        (
            each.party,
            each.downloaded / len(each.sheets) if each.sheets else 0.0,
            words("of", part=number(each.downloaded), whole=number(len(each.sheets))),
        )
        for each in reports
    ]
    equality: list[Block] = [Paragraph(words("equal_yes"))]
    if unequal:
        lacking = [
            (filed.path, setting.time(filed.time), str(filed.parties), str(entitled))
            for filed, entitled in unequal[:_MAX_SHOWN]
        ]
        titles = (words("sheet"), words("published_at"), words("in_trees"), words("entitled"))
        equality = [
            Paragraph(words("equal_no", count=number(len(unequal)))),
            Table(titles, lacking, frozenset({2, 3})),
        ]
    listed = [
        (
            each.party,
            number(len(each.sheets)),
            number(each.downloaded),
            format_share(each.downloaded, len(each.sheets), words),
            format_seconds(each.median, words),
            format_seconds(each.p95, words),
            number(each.bytes),
            number(each.logins),
            number(_count(each.refusals, RefusalKind.ACCESS)),
        )
        for each in reports
    ]
    heads = ("party", "entitled", "fetched", "complete", "lag_median", "lag_p95", "bytes",
             "logins", "access_refused")  # fmt: skip
    shares = "; ".join(f"{name}: {label}" for name, _, label in bars)
    blocks: list[Block] = [
        *_proof(setting, "index.pdf"),
        _terms(words),
        Heading(words("equal")),
        *equality,
        Heading(words("fetched_line")),
        Chart(charts.bar_chart(bars), words("bars_text", text=shares)),
        Heading(words("comparison")),
        Table(
            [words(head) for head in heads],
            listed,
            frozenset(range(1, len(heads))),
            {each.party: f"{each.party}.html" for each in reports},
        ),
        Paragraph(words("sheets_csv"), soft=True),
    ]
    return _document(words("all_title"), blocks, setting)


def format_share(part: int, whole: int, words: Words) -> str:
    """Format a share in percent; it says 100 only if `part` is all of `whole`."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    text = f"{min(percent, 99.9) if part < whole else percent:.1f}"
    return f"% {text.replace('.', ',')}" if words.language == "tr" else f"{text} %"


def format_seconds(lag: float | None, words: Words) -> str:
    """Format a lag in the unit that suits it."""
    if lag is None:
        return "-"
    unit, size = next((unit, size) for least, unit, size in _LAG_UNITS if lag >= least)
    text = f"{lag / size:.1f}"
    return f"{text.replace('.', ',') if words.language == 'tr' else text} {words(unit)}"


def _document(title: str, blocks: Sequence[Block], setting: Setting) -> Document:
    words = setting.words
    offset = setting.made.astimezone(setting.zone).strftime("%z")
    subtitle = [
        *([words("election", title=setting.title)] if setting.title else ()),
        words("made", time=setting.time(setting.made)),
        words("times", offset=f"{offset[:3]}:{offset[3:]}"),
    ]
    verified = setting.proof is not None and setting.proof.verified
    return Document(words.language, title, subtitle, blocks, "" if verified else words("watermark"))


def _proof(setting: Setting, file: str) -> list[Block]:
    words, proof = setting.words, setting.proof
    blocks: list[Block] = [Heading(words("verification"))]
    if proof is None or not proof.verified:
        blocks.append(Paragraph(words("not_verified")))
    else:
        blocks.append(Paragraph(words("verified")))
    if proof is not None and proof.findings:
        blocks.append(Table((words("ledger"), words("finding")), proof.findings))
    if proof is not None and proof.roots:
        rows = [
            (each.name, words.number(each.records), setting.time(each.signed_at), each.sha256)
            for each in proof.roots
        ]
        heads = (words("ledger"), words("records"), words("signed_at"), words("root"))
        blocks.append(Table(heads, rows, frozenset({1})))
        if tail := sum(each.unsigned for each in proof.roots):
            blocks.append(Paragraph(words("unsigned_tail", count=words.number(tail))))
    command = f"ssh-keygen -Y verify -f allowed_signers -I ysk -n ssps -s {file}.sig < {file}"
    how = words("how_signed", command=command) if setting.signed else words("how_unsigned")
    return [*blocks, Paragraph(how, soft=True)]


def _terms(words: Words) -> Terms:
    keys = ("term_entitled", "term_fetched", "term_pending", "term_lag")
    return Terms([(words(key), words(f"{key}_is")) for key in keys])


def _growth(sheets: Sequence[Delivery], setting: Setting) -> Block:
    words = setting.words
    filed = sorted(each.filed.time for each in sheets)
    fetched = sorted(each.time for each in sheets if each.time)
    if not filed:
        return Paragraph(words("nothing_filed"))
    start, end = filed[0], max(filed[-1], *fetched[-1:], filed[0])
    whole = (end - start).total_seconds() or 1.0

    def counted(ordered: Sequence[datetime]) -> list[tuple[float, float]]:
        every = max(1, len(ordered) // _MAX_POINTS)
        return [
            ((time - start).total_seconds() / whole, number)
            for number, time in enumerate(ordered, start=1)
            if number % every == 0 or number == len(ordered)
        ]

    lines: list[tuple[str, charts.Style, list[tuple[float, float]]]] = [
        (words("filed_line"), "filed", counted(filed)),
        (words("fetched_line"), "fetched", counted(fetched)),
    ]
    ticks = []
    for share in _TICKS:
        at = (start + share * (end - start)).astimezone(setting.zone)
        ticks.append((share, f"{at:%Y-%m-%dT%H:%M:%S}" if share in (0, 1) else f"{at:%H:%M:%S}"))
    text = words(
        "growth_text",
        start=setting.time(start),
        end=setting.time(end),
        filed=words.number(len(filed)),
        fetched=words.number(len(fetched)),
    )
    return Chart(charts.step_chart(lines, ticks, len(filed)), text)


def _lags(sheets: Sequence[Delivery], words: Words) -> Chart:
    bounds = [(bound, f"{bound // unit} {words(name)}") for bound, name, unit in _LAG_COLUMNS]
    names = [words("up_to", time=text) for _, text in bounds]
    found = dict.fromkeys([*names, words("longer"), words("not_yet")], 0)
    for each in sheets:
        lag = each.lag
        if lag is None:
            found[words("not_yet")] += 1
            continue
        fitting = (name for (bound, _), name in zip(bounds, names, strict=True) if lag <= bound)
        found[next(fitting, words("longer"))] += 1
    text = ", ".join(f"{name}: {count}" for name, count in found.items())
    return Chart(charts.column_chart(list(found.items())), words("lags_text", text=text))


def _sheets(found: Sequence[Delivery], setting: Setting) -> Iterable[Block]:
    words = setting.words
    rows = [(each.filed.path, setting.time(each.filed.time)) for each in found[:_MAX_SHOWN]]
    yield from _table((words("sheet"), words("published_at")), rows, words)
    if (more := len(found) - _MAX_SHOWN) > 0:
        yield Paragraph(words("more", count=words.number(more)))


def _refusals(refusals: Sequence[Refusal], setting: Setting) -> Iterable[Block]:
    words = setting.words
    order = list(RefusalKind)
    rows = [
        (
            words(f"kind_{each.kind.value}"),
            each.event,
            each.reason,
            words.number(each.count),
            setting.time(each.first),
            setting.time(each.last),
        )
        for each in sorted(refusals, key=lambda each: (order.index(each.kind), -each.count))
    ]
    heads = ("kind", "event", "reason", "times_seen", "first", "last")
    yield from _table([words(head) for head in heads], rows, words, {3})


def _accesses(accesses: Sequence[Access], setting: Setting) -> Iterable[Block]:
    words = setting.words
    rows = [
        (
            each.user,
            each.event,
            words.number(each.count),
            setting.time(each.first),
            setting.time(each.last),
        )
        for each in accesses
    ]
    heads = ("user", "event", "times_seen", "first", "last")
    yield from _table([words(head) for head in heads], rows, words, {2})


def _changes(changes: Sequence[Record], setting: Setting) -> Iterable[Block]:
    words = setting.words
    rows = [
        (
            setting.time(each.time),
            each.event.who,
            each.event.event,
            ": ".join(filter(None, (each.event.outcome, _detail(each, "reason")))),
            *(_detail(each, key) for key in ("why", "before", "after")),
        )
        for each in changes
    ]
    heads = ("when", "who", "command", "outcome", "why", "before", "after")
    yield from _table([words(head) for head in heads], rows, words)


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], words: Words, numbers: Iterable[int] = ()
) -> Iterable[Block]:
    if rows:
        yield Table(heads, rows, frozenset(numbers))
    else:
        yield Paragraph(words("none"))


def _detail(record: Record, key: str) -> str:
    value = record.event.detail.get(key)
    return "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def _count(refusals: Iterable[Refusal], kind: RefusalKind) -> int:
    return sum(each.count for each in refusals if each.kind is kind)
