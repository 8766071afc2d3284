"""Writes a report as one self-contained HTML file."""

from collections.abc import Sequence
from html import escape

from scripts.audit.record_text import printable
from scripts.audit.report.charts import Drawing, Label, Line, Rectangle, Shape
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

_STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#56606b;--line:#d5dae0;--a:#1f6feb;--b:#b4470a;
--paper:#fff;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa5b1;--line:#363e47;--a:#58a6ff;
--b:#f0883e;--paper:#0d1117;--bad:#ff8a80}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;
margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}
.soft{color:var(--soft)}.facts{display:grid;
grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.5rem}
.facts div{border:1px solid var(--line);border-radius:6px;padding:.5rem .75rem}
.facts dt{color:var(--soft);font-size:.85rem}.facts dd{margin:0;font-size:1.15rem}
.terms dt{font-weight:600}.terms dd{margin:0 0 .5rem 1rem}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right}
td.path{font-family:ui-monospace,monospace;font-size:.85rem;word-break:break-all}
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}
polyline{fill:none;stroke-width:2}.grid{stroke:var(--line);stroke-width:1}
.axis{stroke:var(--soft);stroke-width:1}.filed{stroke:var(--b)}.fetched{stroke:var(--a)}
svg text.filed{fill:var(--b);stroke:none}svg text.fetched{fill:var(--a);stroke:none}
rect.fetched{fill:var(--a);stroke:none}rect.rest{fill:var(--line)}
.watermark{position:fixed;inset:40% 0 auto;text-align:center;font-size:min(9vw,5rem);
font-weight:700;color:var(--bad);opacity:.28;transform:rotate(-24deg);pointer-events:none}
@media print{body{max-width:none;margin:0}h2{break-after:avoid}tr,svg{break-inside:avoid}}
"""


def render(document: Document) -> str:
    """Return the file's text."""
    mark = f'<p class="watermark">{escape(document.watermark)}</p>' if document.watermark else ""
    lines = "".join(f'<p class="soft">{escape(line)}</p>' for line in document.subtitle)
    return (
        f'<!doctype html>\n<html lang="{document.lang}"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(document.title)}</title><style>{_STYLE}</style>"
        f"<h1>{escape(document.title)}</h1>{lines}{mark}\n"
        + "\n".join(map(_block, document.blocks))
        + "\n</html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{escape(text)}</h2>"
        case Paragraph(text, soft):
            opened = '<p class="soft">' if soft else "<p>"
            return f"{opened}{escape(printable(text))}</p>"
        case Facts(pairs):
            return _pairs(pairs, "facts")
        case Terms(pairs):
            return _pairs(pairs, "terms")
        case Chart(drawing, text):
            return _svg(drawing, text)
        case Table():
            return _table(block)


def _pairs(pairs: Sequence[tuple[str, str]], kind: str) -> str:
    listed = (
        f"<div><dt>{escape(name)}</dt><dd>{escape(printable(value))}</dd></div>"
        for name, value in pairs
    )
    return f'<dl class="{kind}">{"".join(listed)}</dl>'


def _table(table: Table) -> str:
    head = (
        f'<th class="{"n" if n in table.numbers else ""}" scope="col">{escape(text)}</th>'
        for n, text in enumerate(table.heads)
    )
    body = []
    for row in table.rows:
        cells = []
        for n, text in enumerate(row):
            shown = escape(printable(text))
            if n == 0 and text in table.links:
                shown = f'<a href="{escape(table.links[text])}">{shown}</a>'
            kind = (
                "n"
                if n in table.numbers
                else "path"
                if text.count("/") > 1 or len(text) == 64
                else ""
            )
            cells.append(f'<td class="{kind}">{shown}</td>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f'<div class="wide"><table><tr>{"".join(head)}</tr>{"".join(body)}</table></div>'


def _svg(drawing: Drawing, text: str) -> str:
    shapes = "".join(map(_shape, drawing.shapes))
    box = f"0 0 {drawing.width:g} {drawing.height:g}"
    return f'<svg viewBox="{box}" role="img" aria-label="{escape(text)}">{shapes}</svg>'


def _shape(shape: Shape) -> str:
    match shape:
        case Line(points, style):
            listed = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            return f'<polyline class="{style}" points="{listed}"/>'
        case Rectangle(x, y, width, height, style):
            place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            return f'<rect class="{style}" {place}/>'
        case Label(x, y, text, anchor, style):
            place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
            return f'<text class="{style}" {place}>{escape(printable(text))}</text>'
