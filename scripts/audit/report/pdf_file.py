"""Writes a report as PDF, on A4 pages with page numbers."""

from datetime import datetime
from typing import TYPE_CHECKING

from scripts.audit.record_text import printable
from scripts.audit.report.charts import Drawing, Label, Line, Rectangle
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
from scripts.shared.pdf import new_pdf

if TYPE_CHECKING:
    from fpdf import FPDF

_COLORS = {
    "grid": (213, 218, 224),
    "axis": (86, 96, 107),
    "filed": (180, 71, 10),
    "fetched": (31, 111, 235),
    "rest": (225, 229, 234),
    "text": (60, 68, 77),
}
_INK, _SOFT, _MARK = (27, 31, 36), (86, 96, 107), (240, 190, 186)
_POINTS_A_PIXEL = 0.72  # of the type in charts, which are drawn at about two thirds of their size


def render(document: Document, made: datetime) -> bytes:
    """Return the file's bytes, which are the same for the same report."""
    pdf = new_pdf()
    pdf.set_creation_date(made)
    pdf.set_title(document.title)
    pdf.set_lang(document.lang)
    pages = _Pages(pdf, document)
    pages.write()
    return bytes(pdf.output())


class _Pages:
    """Writes the blocks one below the other; a page that begins gets the watermark first."""

    def __init__(self, pdf: "FPDF", document: Document) -> None:
        self._pdf = pdf
        self._document = document
        # fpdf2 calls these at each page break.
        pdf.header = self._begin_page  # type: ignore[method-assign]
        pdf.footer = self._end_page  # type: ignore[method-assign]

    def write(self) -> None:
        pdf = self._pdf
        pdf.add_page()
        self._text(self._document.title, size=15)
        for line in self._document.subtitle:
            self._text(line, size=8, color=_SOFT)
        blocks = self._document.blocks
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if isinstance(block, Heading):
                self._heading(block, following)
            else:
                self._block(block)

    def _begin_page(self) -> None:
        if not (mark := self._document.watermark):
            return
        pdf = self._pdf
        pdf.set_font("sans", size=44)
        pdf.set_text_color(*_MARK)
        x, y = pdf.w / 2, pdf.h / 2
        with pdf.rotation(35, x, y):
            pdf.text(x - pdf.get_string_width(mark) / 2, y, mark)
        pdf.set_text_color(*_INK)

    def _end_page(self) -> None:
        pdf = self._pdf
        pdf.set_y(-12)
        pdf.set_font("sans", size=7)
        pdf.set_text_color(*_SOFT)
        pdf.cell(0, 4, f"{self._document.title}   {pdf.page_no()} / {{nb}}", align="C")

    def _heading(self, heading: Heading, following: Block | None) -> None:
        """Write a heading on the page where what follows it begins."""
        pdf = self._pdf
        pdf.ln(3)
        chart = following.drawing if isinstance(following, Chart) else None
        needed = chart.height * pdf.epw / chart.width if chart is not None else 16.0
        if pdf.will_page_break(needed + 10):
            pdf.add_page()
        self._text(heading.text, size=11)

    def _block(self, block: Block) -> None:
        match block:
            case Paragraph(text, soft):
                self._text(text, size=8, color=_SOFT if soft else _INK)
            case Facts(pairs):
                self._table(Table(("", ""), pairs), heads=False)
            case Terms(pairs):
                for name, meaning in pairs:
                    self._text(f"{name}:  {meaning}", size=8)
                self._pdf.ln(1)
            case Chart(drawing):
                self._chart(drawing)
            case Table():
                self._table(block)

    def _text(self, text: str, size: float, color: tuple[int, int, int] = _INK) -> None:
        self._pdf.set_font("sans", size=size)
        self._pdf.set_text_color(*color)
        self._pdf.multi_cell(
            0, size * 0.5, printable(text), align="L", new_x="LMARGIN", new_y="NEXT"
        )

    def _table(self, table: Table, heads: bool = True) -> None:
        from fpdf.fonts import FontFace

        pdf = self._pdf
        pdf.set_font("sans", size=7)
        pdf.set_text_color(*_INK)
        pdf.set_draw_color(*_COLORS["grid"])
        pdf.set_fill_color(255, 255, 255)
        # A column is as wide as its longest text, up to a limit, and never less than a short word.
        widths = [
            min(46, max(8, *(len(row[n]) for row in (table.heads, *table.rows))))
            for n in range(len(table.heads))
        ]
        with pdf.table(
            borders_layout="HORIZONTAL_LINES",
            col_widths=tuple(widths),
            first_row_as_headings=heads,
            headings_style=FontFace(color=_SOFT),
            line_height=3.6,
            padding=0.6,
            text_align=tuple(
                "RIGHT" if n in table.numbers else "LEFT" for n in range(len(table.heads))
            ),
            wrapmode="CHAR",
        ) as grid:
            for row in (table.heads, *table.rows) if heads else table.rows:
                cells = grid.row()
                for text in row:
                    cells.cell(printable(text))
        pdf.ln(1)

    def _chart(self, drawing: Drawing) -> None:
        pdf = self._pdf
        scale = pdf.epw / drawing.width
        if pdf.will_page_break(drawing.height * scale + 2):
            pdf.add_page()
        left, top = pdf.l_margin, pdf.get_y() + 1

        def place(x: float, y: float) -> tuple[float, float]:
            return left + x * scale, top + y * scale

        for shape in drawing.shapes:
            color = _COLORS[shape.style]
            match shape:
                case Line(points, style):
                    pdf.set_draw_color(*color)
                    pdf.set_line_width(0.15 if style in ("grid", "axis") else 0.45)
                    pdf.polyline([place(x, y) for x, y in points])
                case Rectangle(x, y, width, height):
                    pdf.set_fill_color(*color)
                    pdf.rect(*place(x, y), width * scale, height * scale, style="F")
                case Label(x, y, text, anchor):
                    pdf.set_font("sans", size=12 * _POINTS_A_PIXEL * 0.72)
                    pdf.set_text_color(*color)
                    at_x, at_y = place(x, y)
                    share = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
                    shown = printable(text)
                    pdf.text(at_x - share * pdf.get_string_width(shown), at_y, shown)
        pdf.set_line_width(0.2)
        pdf.set_y(top + drawing.height * scale + 1)
