"""Writes the pages of a report: self-contained HTML for one party, and one page to compare all."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

from keys.ledger.record import Record
from scripts.audit.record_text import printable
from scripts.audit.report import charts
from scripts.audit.report.figures import Delivery, FiledSheet, PartyReport

_MAX_SHOWN = 200  # rows of a table; the CSV file has all of them
_LAG_COLUMNS = (  # of the histogram
    (1, "1 s"),
    (5, "5 s"),
    (15, "15 s"),
    (60, "1 min"),
    (300, "5 min"),
    (900, "15 min"),
    (3600, "1 h"),
    (10800, "3 h"),
)
_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#5b6570;--line:#d5dae0;--a:#1f6feb;--b:#c9510c;
--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--line:#363e47;--a:#58a6ff;
--b:#f0883e;--paper:#0d1117}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}
.soft{color:var(--soft)}dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));
gap:.5rem}dl div{border:1px solid var(--line);border-radius:6px;padding:.5rem .75rem}
dt{color:var(--soft);font-size:.85rem}dd{margin:0;font-size:1.25rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.25rem .5rem;
border-bottom:1px solid var(--line);vertical-align:top}td.n,th.n{text-align:right}
td.path{font-family:ui-monospace,monospace;font-size:.85rem;word-break:break-all}
svg{width:100%;height:auto}svg text{font-size:12px;fill:var(--soft)}svg .end{text-anchor:end}
svg .mid{text-anchor:middle}.grid{stroke:var(--line)}.line{fill:none;stroke-width:2}
.s0{stroke:var(--b)}.s1{stroke:var(--a)}svg .t0{fill:var(--b)}svg .t1{fill:var(--a)}
.bar{fill:var(--a)}.rest{fill:var(--line)}
"""


def party_page(report: PartyReport, made: datetime) -> str:
    """Return the page of one party."""
    entitled, downloaded = len(report.sheets), report.downloaded
    facts = [
        ("entitled to", f"{entitled:,}"),
        ("downloaded", f"{downloaded:,}"),
        ("complete", format_share(downloaded, entitled)),
        ("lag, median", format_seconds(report.median)),
        ("lag, 95% within", format_seconds(report.p95)),
        ("bytes sent", f"{report.bytes:,}"),
        ("logins", f"{report.logins:,}"),
        ("first login", format_time(report.first_login)),
    ]
    missing = [each for each in report.sheets if each.time is None]
    differing = [each for each in report.sheets if each.differs]
    used = [
        f"Scope: {report.scope}.",
        f"Addresses: {', '.join(report.addresses) or 'none'}.",
        f"Clients: {', '.join(report.clients) or 'none'}.",
    ]
    parts = [
        _facts(facts),
        f'<p class="soft">{escape(" ".join(used))}</p>',
        "<h2>Filed and downloaded</h2>",
        _growth(report.sheets),
        "<h2>Time from filing to download</h2>",
        charts.column_chart(_histogram(report.sheets)),
        f"<h2>Not downloaded yet ({len(missing):,})</h2>",
        _sheets(missing),
        f"<h2>Downloaded with another SHA-256 than filed ({len(differing):,})</h2>",
        _sheets(differing),
        f"<h2>Refused or failed ({sum(each.count for each in report.refusals):,})</h2>",
        _table(
            ("event", "reason", "how often", "first", "last"),
            (
                (
                    each.event,
                    each.reason,
                    f"{each.count:,}",
                    format_time(each.first),
                    format_time(each.last),
                )
                for each in report.refusals
            ),
            numbers={2},
        ),
        f"<h2>Web site and web service ({sum(each.count for each in report.accesses):,})</h2>",
        _table(
            ("user", "event", "how often", "first", "last"),
            (
                (
                    each.user,
                    each.event,
                    f"{each.count:,}",
                    format_time(each.first),
                    format_time(each.last),
                )
                for each in report.accesses
            ),
            numbers={2},
        ),
        f"<h2>Changes by operators ({len(report.changes):,})</h2>",
        _table(
            ("when", "who", "command", "outcome", "why", "before", "after"),
            (
                (
                    format_time(each.time),
                    each.event.who,
                    each.event.event,
                    ": ".join(filter(None, (each.event.outcome, _detail(each, "reason")))),
                    *(_detail(each, key) for key in ("why", "before", "after")),
                )
                for each in report.changes
            ),
        ),
    ]
    return _page(f"{report.party}: entitled and downloaded", made, parts)


def _detail(record: Record, key: str) -> str:
    value = record.event.detail.get(key)
    return "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)


def comparison_page(
    reports: Sequence[PartyReport], unequal: Sequence[tuple[FiledSheet, int]], made: datetime
) -> str:
    """Return the page that compares the parties."""
    bars = [
        (
            each.party,
            each.downloaded / len(each.sheets) if each.sheets else 0.0,
            f"{each.downloaded:,} of {len(each.sheets):,}",
        )
        for each in reports
    ]
    if unequal:
        text = f"Sheets that did not appear in every entitled party's tree: {len(unequal):,}."
        listed = _table(
            ("sheet", "filed", "in trees", "entitled"),
            (
                (filed.path, format_time(filed.time), str(filed.parties), str(entitled))
                for filed, entitled in unequal[:_MAX_SHOWN]
            ),
            numbers={2, 3},
        )
    else:
        text = "Every sheet appeared in the trees of all entitled parties in one filing."
        listed = ""
    parts = [
        "<h2>Equal treatment</h2>",
        f"<p>{escape(text)}</p>{listed}",
        "<h2>Downloaded</h2>",
        charts.bar_chart(bars),
        "<h2>Comparison</h2>",
        _table(
            ("party", "entitled", "downloaded", "complete", "median lag", "95% within", "bytes",
             "logins", "refused"),
            (
                (
                    f'<a href="{escape(each.party)}.html">{escape(each.party)}</a>',
                    f"{len(each.sheets):,}",
                    f"{each.downloaded:,}",
                    format_share(each.downloaded, len(each.sheets)),
                    format_seconds(each.median),
                    format_seconds(each.p95),
                    f"{each.bytes:,}",
                    f"{each.logins:,}",
                    f"{sum(refusal.count for refusal in each.refusals):,}",
                )
                for each in reports
            ),
            numbers=set(range(1, 9)),
            raw={0},
        ),
        '<p class="soft">sheets.csv has the time of filing and of download of every sheet.</p>',
    ]  # fmt: skip
    return _page("All parties compared", made, parts)


def format_share(part: int, whole: int) -> str:
    """Format a share in percent; it says 100 % only if `part` is all of `whole`."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    return f"{min(percent, 99.9) if part < whole else percent:.1f} %"


def format_seconds(lag: float | None) -> str:
    """Format a lag in the unit that suits it."""
    if lag is None:
        return "-"
    if lag < 120:
        return f"{lag:.1f} s"
    return f"{lag / 60:.1f} min" if lag < 7200 else f"{lag / 3600:.1f} h"


def format_time(time: datetime | None) -> str:
    """Format a time in UTC."""
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _growth(sheets: Sequence[Delivery]) -> str:
    times = [each.filed.time for each in sheets] + [each.time for each in sheets if each.time]
    if not times:
        return "<p>Nothing was filed.</p>"
    start, end = min(times), max(times)
    whole = (end - start).total_seconds() or 1

    def counted(found: Iterable[datetime]) -> list[tuple[float, float]]:
        ordered = sorted(found)
        every = max(1, len(ordered) // 400)
        return [
            ((time - start).total_seconds() / whole, number)
            for number, time in enumerate(ordered, start=1)
            if number % every == 0 or number == len(ordered)
        ]

    lines = [
        ("filed", counted(each.filed.time for each in sheets)),
        ("downloaded", counted(each.time for each in sheets if each.time)),
    ]
    return charts.step_chart(
        lines, f"{format_time(start)} UTC", f"{format_time(end)} UTC", len(sheets)
    )


def _histogram(sheets: Sequence[Delivery]) -> list[tuple[str, int]]:
    names = [name for _, name in _LAG_COLUMNS]
    found = dict.fromkeys([*names, "longer", "never"], 0)
    for each in sheets:
        lag = each.lag
        if lag is None:
            found["never"] += 1
        else:
            found[next((name for bound, name in _LAG_COLUMNS if lag <= bound), "longer")] += 1
    return list(found.items())


def _sheets(found: Sequence[Delivery]) -> str:
    if not found:
        return "<p>None.</p>"
    more = (
        f"<p>And {len(found) - _MAX_SHOWN:,} more: see the CSV file.</p>"
        if len(found) > _MAX_SHOWN
        else ""
    )
    listed = ((each.filed.path, format_time(each.filed.time)) for each in found[:_MAX_SHOWN])
    return _table(("sheet", "filed"), listed) + more


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    listed = (f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    return f"<dl>{''.join(listed)}</dl>"


def _table(
    heads: Sequence[str],
    found: Iterable[Sequence[str]],
    numbers: Iterable[int] = (),
    raw: Iterable[int] = (),
) -> str:
    right, as_is = set(numbers), set(raw)
    body = []
    for row in found:
        cells = (
            f'<td class="{"n" if n in right else "path" if text.count("/") > 1 else ""}">'
            f"{text if n in as_is else escape(printable(text))}</td>"
            for n, text in enumerate(row)
        )
        body.append(f"<tr>{''.join(cells)}</tr>")
    if not body:
        return "<p>None.</p>"
    head = (
        f'<th class="{"n" if n in right else ""}">{escape(text)}</th>'
        for n, text in enumerate(heads)
    )
    return f"<table><tr>{''.join(head)}</tr>{''.join(body)}</table>"


def _page(title: str, made: datetime, parts: Sequence[str]) -> str:
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<h1>{escape(title)}</h1><p class="soft">Made from the ledgers on '
        f"{format_time(made)} UTC. All times are UTC. "
        "<code>ssps audit verify</code> verifies the ledgers.</p>"
        + "\n".join(parts)
        + "\n</html>\n"
    )
