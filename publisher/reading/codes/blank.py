"""Recognises the blank back of a sheet by how little ink is on it.

A pixel is ink if it is darker than the page around it by more than 12 of 255 levels. The page is
measured at half size and without a margin of 4 % on each side. A printed form has 0.5 % of ink or
more, even if it is faded. A blank page with dust has less than 0.02 %, also if a form shines
through from the other side with up to 4 % of its contrast. A page in between does not count as
blank.
"""

import numpy as np
from PIL import Image, ImageFilter

MOST_INK = 0.0005
_DARKER = 12
_MARGIN = 0.04
_LEAST_PAPER = 110  # grey level; a darker picture is not paper, or a scan without light
_LEAST_SIDE = 400  # pixels; a smaller picture is not a page


def ink_share(grey: Image.Image) -> float:
    """Return the share of a page that is ink; 1 for a picture that is too small or too dark."""
    if min(grey.size) < _LEAST_SIDE:
        return 1.0
    half = grey.reduce(2)
    edge = round(half.width * _MARGIN), round(half.height * _MARGIN)
    inner = half.crop((*edge, half.width - edge[0], half.height - edge[1]))
    # The paper: thin marks disappear in the median of a neighbourhood.
    coarse = inner.reduce(8).filter(ImageFilter.MedianFilter(5))
    if float(np.median(np.asarray(coarse))) < _LEAST_PAPER:
        return 1.0
    paper = coarse.resize(inner.size, Image.Resampling.BILINEAR)
    darker = np.asarray(paper, np.int16) - np.asarray(inner, np.int16) > _DARKER
    return float(darker.mean())
