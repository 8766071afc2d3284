"""Makes PDF files whose fonts have Turkish letters."""

from pathlib import Path
from typing import TYPE_CHECKING

from scripts.shared import console

if TYPE_CHECKING:
    from fpdf import FPDF

FONTS = Path("/usr/share/fonts/truetype/dejavu")
MARGIN = 18.0  # millimetres


def new_pdf(fonts: Path = FONTS) -> "FPDF":
    """Return a PDF of A4 pages with the fonts `sans` and `mono`, without a page yet.

    Raises Faults if the fonts are not installed.
    """
    from fpdf import FPDF

    sans, mono = fonts / "DejaVuSans.ttf", fonts / "DejaVuSansMono.ttf"
    if not (sans.exists() and mono.exists()):
        message = "font not installed: apt-get install fonts-dejavu-core"
        raise console.fault(str(sans), "", message)
    pdf = FPDF(format="A4")
    pdf.set_margin(MARGIN)
    pdf.set_auto_page_break(auto=True, margin=15)
    pdf.add_font("sans", fname=str(sans))
    pdf.add_font("mono", fname=str(mono))
    return pdf
