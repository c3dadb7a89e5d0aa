"""A tensor as a small picture: blue above zero, orange below, the stronger the farther from it; nothing where it is 0.

The background shows through, so that one picture serves light and dark. Maps of an image's channels stand side by side.
What is not a number is magenta.
"""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engram.report.pictures import HIT, MISS, uri

MOST_MAPS = 16
LONGEST = 128
"""Pixels of a side, above which a map is made smaller."""
STRANGE = (255, 0, 200)


def picture(tensor: Tensor) -> tuple[str, int, int]:
    """A PNG as a data URI, its width and its height in pixels; one pixel a number where they are few.

    >>> source, width, height = picture(torch.eye(3))
    >>> source[:22], width, height
    ('data:image/png;base64,', 3, 3)
    """
    maps = _maps(tensor)
    levels = _tiled(maps)
    finite = np.isfinite(levels)
    most = np.abs(levels[finite]).max(initial=0.0) or 1.0
    share = np.where(finite, np.nan_to_num(levels) / most, 0.0)
    pixels = np.zeros((*levels.shape, 4), np.uint8)
    pixels[..., :3] = np.where((share >= 0)[..., None], np.array(HIT), np.array(MISS))
    pixels[..., 3] = np.rint(np.sqrt(np.abs(share)) * 255)
    pixels[~finite & ~np.isneginf(levels) & ~np.isposinf(levels)] = (*STRANGE, 255)
    pixels[np.isinf(levels)] = (*STRANGE, 255)
    pixels[_gaps(maps)] = 0
    image = Image.fromarray(pixels, "RGBA")
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.BOX)
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return uri(written.getvalue()), image.width, image.height


def _maps(tensor: Tensor) -> NDArray[np.float64]:
    """(N, H, W): a row for a vector, the maps of one example for a batch of images."""
    plain = tensor.detach().cpu()
    flat = (plain.abs() if plain.is_complex() else plain).to(torch.float64)
    if flat.dim() < 2:
        flat = _wrapped(flat.reshape(1, -1))
    return flat.reshape(-1, *flat.shape[-2:]).numpy()[:MOST_MAPS]


def _wrapped(row: Tensor) -> Tensor:
    """A long row in several lines."""
    count = row.numel()
    if count <= 32:
        return row
    wide = int(np.ceil(np.sqrt(count)))
    return torch.nn.functional.pad(row, (0, -count % wide)).reshape(-1, wide)


def _grid(count: int) -> tuple[int, int]:
    across = int(np.ceil(np.sqrt(count)))
    return -(-count // across), across


def _tiled(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The maps side by side with a line of one pixel between."""
    count, high, wide = maps.shape
    down, across = _grid(count)
    whole = np.zeros((down * (high + 1) - 1, across * (wide + 1) - 1))
    for number, one in enumerate(maps):
        row, column = divmod(number, across)
        whole[row * (high + 1) :, column * (wide + 1) :][:high, :wide] = one
    return whole


def _gaps(maps: NDArray[np.float64]) -> NDArray[np.bool_]:
    count, high, wide = maps.shape
    return _tiled(np.ones((count, high, wide))) == 0
