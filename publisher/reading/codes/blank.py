"""Recognises the blank back of a sheet by how little ink is on it.

The measure is the share of pixels, of the page at half size and without a margin of 4 % on each
side, that are darker by more than 12 of 255 levels than the page around them. A printed form has
0.5 % or more even if it is faded; a blank page with dust, and with a form that shines through from
the other side at up to 4 % of its contrast has less than 0.02 %. A page in between is not blank.
"""

import numpy as np
from PIL import Image, ImageFilter

MOST_INK = 0.0005
_DARKER = 12
_MARGIN = 0.04
_LEAST_SIDE = 400  # pixels; a smaller picture is no page


def ink_share(grey: Image.Image) -> float:
    """Return the share of a page that is ink; 1 for a picture that is too small to be a page."""
    if min(grey.size) < _LEAST_SIDE:
        return 1.0
    half = grey.reduce(2)
    edge = round(half.width * _MARGIN), round(half.height * _MARGIN)
    inner = half.crop((*edge, half.width - edge[0], half.height - edge[1]))
    # The paper: thin marks disappear in the median of a neighbourhood.
    coarse = inner.reduce(8).filter(ImageFilter.MedianFilter(5))
    paper = coarse.resize(inner.size, Image.Resampling.BILINEAR)
    darker = np.asarray(paper, np.int16) - np.asarray(inner, np.int16) > _DARKER
    return float(darker.mean())
