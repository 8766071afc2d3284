"""Draws a QR code as SVG, for the secret of a second factor."""

import qrcode
from qrcode.constants import ERROR_CORRECT_M


def svg(text: str) -> str:
    """Return an SVG picture of `text`; it is one path, so it needs no style and no script."""
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_M, border=4)
    code.add_data(text)
    code.make()
    rows = code.get_matrix()
    squares = "".join(
        f"M{x} {y}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark
    )
    size = len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" role="img" '
        f'aria-label="QR kodu" class="qr"><path fill="#fff" d="M0 0h{size}v{size}H0z"/>'
        f'<path fill="#000" d="{squares}"/></svg>'
    )
