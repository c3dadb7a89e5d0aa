"""Crops: another part of the picture each time it is seen, so that where a thing stands does not matter.

*Padded random crop.* A margin is put around the picture and a window of the network's size is cut at a random place,
every place equally likely: with a margin of 4 a 32 x 32 picture is shifted by -4..4 pixels in each direction. The
margin has the mean colour, which is zero after normalisation; a network then reads the margin as "nothing there".
Helps almost always on small pictures; hurts where position itself is the answer. Deep Residual Learning (He et al.
2016), section 4.2, after Deeply-Supervised Nets (Lee et al. 2015): a margin of 4 on CIFAR-10.

*Random resized crop.* A window whose share a of the picture's area is uniform in [smallest, largest] and whose aspect
ratio r = width / height is log-uniform in [1 / aspect, aspect] is cut anywhere and resized to the network's size:

    width = sqrt(a W H r),  height = sqrt(a W H / r)

The standard for photographs of 100 pixels and more. Going Deeper with Convolutions (Szegedy et al. 2015), section 6:
areas "distributed evenly between 8% and 100%", aspect in [3/4, 4/3]. Small shares need long training; short runs and
small sets do better from 0.35 on. Where we differ from the usual programs: they draw area and aspect until the window
fits, up to ten times, which makes large windows rarer than the paper says and needs a varying number of draws. We
draw the area first and then the aspect from what fits with it, four draws a picture. Windows are drawn between
pixels, and end on whole ones only where the resizing needs it. A long narrow picture cannot hold all areas at an
aspect within the limits; its areas end at what it can hold.

*Centre crop.* The window in the middle: what evaluation uses, and training when no word crops.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from engram.augment.layout import from_rows, to_rows
from engram.augment.padding import FILLS, pad
from engram.augment.sampling import sample
from engram.errors import UserError
from engram.grammar import choice, number
from engram.registry import register

Apply = Callable[[Tensor, Generator], Tensor]


@register(
    "augmentation",
    paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2",
    year=2016,
    stage="pixels",
    crops=True,
)
def crop(
    padding: int = 4, fill: str = "mean", *, size: Sequence[int] | None = None, mean: Tensor | None = None
) -> Apply:
    """Padded random crop: `crop:4` shifts by up to 4 pixels; `crop:4:reflect` mirrors at the edge.

    Args:
        padding: margin on every side, pixels. With stored pictures larger than the network's, 0 is enough.
        fill: what the margin shows: mean, reflect or edge.
        size: of the window (none: the picture's own).
    """
    widest = min(size) - 1 if size else math.inf  # beyond, a window could miss the picture
    margin = int(number("crop", "padding", padding, 0, widest, whole=True))
    choice("crop", "fill", fill, FILLS)

    def apply(x: Tensor, rng: Generator) -> Tensor:
        window = tuple(size or x.shape[2:])
        x = pad(x, margins(x.shape[2:], window, margin), fill, mean)
        return crop_at(x, draw_corners(len(x), x.shape[2:], window, rng), window)

    return apply


@register(
    "augmentation",
    paper="Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6",
    year=2015,
    stage="pixels",
    crops=True,
    dimensions=(2,),
)
def resized_crop(
    smallest: float = 0.08, largest: float = 1.0, aspect: float = 4 / 3, *, size: Sequence[int] | None = None
) -> Apply:
    """Random resized crop: `resized_crop:0.35:1` cuts 35 % to 100 % of the area and resizes it.

    Args:
        smallest: least share of the picture's area.
        largest: greatest share.
        aspect: greatest ratio of width to height, and of height to width.
        size: of the result (none: the picture's own).
    """
    number("resized_crop", "smallest", smallest, 0, 1, above=True)
    number("resized_crop", "largest", largest, smallest, 1)
    number("resized_crop", "aspect", aspect, 1)

    def apply(x: Tensor, rng: Generator) -> Tensor:
        boxes = draw_boxes(len(x), (x.shape[2], x.shape[3]), smallest, largest, aspect, rng)
        return resample_at(x, boxes, tuple(size or x.shape[2:]))

    return apply


@register(
    "augmentation", paper="Krizhevsky et al., AlexNet, NIPS 2012, section 4.1", year=2012, stage="pixels", crops=True
)
def center_crop(*, size: Sequence[int] | None = None, mean: Tensor | None = None) -> Apply:
    """The window in the middle; what happens by itself when no other word crops."""
    return lambda x, rng: crop_center(x, tuple(size or x.shape[2:]), mean)


def margins(shape: Sequence[int], window: Sequence[int], margin: int = 0) -> list[tuple[int, int]]:
    """What goes before and after each axis: `margin`, or more where the picture is still smaller than the window.

    >>> margins((28, 40), (32, 32))
    [(2, 2), (0, 0)]
    """
    missing = [max(0, wanted - length - 2 * margin) for length, wanted in zip(shape, window, strict=True)]
    return [(margin + gap // 2, margin + gap - gap // 2) for gap in missing]


def draw_corners(batch: int, shape: Sequence[int], window: Sequence[int], rng: Generator) -> Tensor:
    """First corner (B, n) of each picture's window, every place where it fits equally likely."""
    axes = [
        torch.randint(length - wanted + 1, (batch,), generator=rng, device=rng.device)
        for length, wanted in zip(shape, window, strict=True)
    ]
    return torch.stack(axes, dim=1)


def crop_at(x: Tensor, corners: Tensor, window: Sequence[int]) -> Tensor:
    """A window from each picture.

    Args:
        x: (B, C, *S), any dtype, S at least the window.
        corners: int64 (B, n), the window's first place on each axis of S; moved inside where it would reach out.
        window: n lengths.

    Returns:
        (B, C, *window), channels-last.

    >>> crop_at(torch.arange(10).view(2, 1, 5), torch.tensor([[0], [2]]), (3,))
    tensor([[[0, 1, 2]],
    <BLANKLINE>
            [[7, 8, 9]]])
    """
    rows = to_rows(x)
    batch, *shape, channels = rows.shape
    if any(wanted > length for length, wanted in zip(shape, window, strict=True)):
        raise UserError(f"a window of {tuple(window)} does not fit into pictures of {tuple(shape)}")
    # The number, in the whole batch, of the pixel where each row of each window begins.
    start = torch.arange(batch, device=x.device)
    for axis, (length, wanted) in enumerate(zip(shape, window, strict=True)):
        place = corners[:, axis].clamp(0, length - wanted).view(batch, *[1] * (start.dim() - 1))
        start = start * length + place
        if axis < len(shape) - 1:
            start = start.unsqueeze(-1) + torch.arange(wanted, device=x.device)
    # All runs of `window` pixels in the batch as one overlapping view, and whole runs copied out of it: 29 us for
    # 128 x 32 x 32 x 3 uint8 with one core. A gather of single values takes 250-400 us, a loop of slices 330 us.
    run = window[-1] * channels
    runs = rows.as_strided((rows.numel() // channels - window[-1] + 1, run), (channels, 1))
    return from_rows(runs.index_select(0, start.view(-1)).view(batch, *window, channels))


def crop_center(x: Tensor, window: Sequence[int], mean: Tensor | None = None) -> Tensor:
    """The middle window, with a margin of the mean colour where the picture is smaller than the window.

    >>> crop_center(torch.arange(6).view(1, 1, 6), (2,))
    tensor([[[2, 3]]])
    """
    x = pad(x, margins(x.shape[2:], window), "mean", mean)
    return window_at(x, [(length - wanted) // 2 for length, wanted in zip(x.shape[2:], window, strict=True)], window)


def window_at(x: Tensor, corner: Sequence[int], window: Sequence[int]) -> Tensor:
    """The same window of every picture, (B, C, *window): a view, nothing is copied."""
    for axis, (start, wanted) in enumerate(zip(corner, window, strict=True), start=2):
        x = x.narrow(axis, start, wanted)
    return x


def draw_boxes(
    batch: int, shape: tuple[int, int], smallest: float, largest: float, aspect: float, rng: Generator
) -> Tensor:
    """Boxes (B, 4) as top, left, height, width in pixels: area uniform, aspect log-uniform among those that fit."""
    height, width = shape
    draws = torch.rand(batch, 4, generator=rng, device=rng.device)
    most = min(largest * height * width, aspect * min(height, width) ** 2)
    least = min(smallest * height * width, most)
    area = least + draws[:, 0] * (most - least)
    low = (area / height**2).log().clamp(min=-math.log(aspect))
    high = (width**2 / area).log().clamp(max=math.log(aspect))
    half = (low + draws[:, 1] * (high - low)) / 2  # log of the aspect's square root
    wide = (area.sqrt() * half.exp()).clamp(max=width)
    tall = (area.sqrt() / half.exp()).clamp(max=height)
    return torch.stack([draws[:, 2] * (height - tall), draws[:, 3] * (width - wide), tall, wide], dim=1)


def resample_at(x: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    """The box of each picture, resized bilinearly and without aliasing.

    On the CPU, uint8 pictures go one by one through torch's uint8 kernel, whose filter widens as the picture shrinks;
    box edges are rounded to whole pixels. Anywhere else all are read at once, and pictures stored much larger than the
    result are read k x k times a pixel and averaged (k the whole number nearest to stored / result).

    Args:
        x: (B, C, H, W), uint8 or float.
        boxes: (B, 4) top, left, height, width in pixels; edges, not pixel centres: (0, 0, H, W) is all of it.
        size: (h, w).

    Returns:
        (B, C, h, w) of the same dtype, channels-last; uint8 rounded to nearest.

    >>> resample_at(torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[0.0, 0.0, 1.0, 2.0]]), (1, 4))
    tensor([[[[0., 1., 3., 4.]]]])
    """
    if x.device.type == "cpu" and x.dtype == torch.uint8:
        return _resize_each(x, boxes, size)
    down = max(1, round(min(x.shape[2] / size[0], x.shape[3] / size[1])))
    top, left, tall, wide = boxes.unbind(1)
    rows = _places(top, tall, x.shape[2], size[0] * down)  # (B, h)
    columns = _places(left, wide, x.shape[3], size[1] * down)  # (B, w)
    batch = len(x)
    shape = (batch, rows.shape[1], columns.shape[1])
    places = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    return sample(x, places, outside="edge", average=down)


def _resize_each(x: Tensor, boxes: Tensor, size: Sequence[int]) -> Tensor:
    # A loop over pictures, and still the fastest. us a picture with one core of a busy machine, loop / all at once by
    # grid_sample: 32 x 32 17 / 16, 64 x 64 23 / 61, 128 to 112 41 / 248, 256 to 224 108 / 1200. The filter as two
    # matrix products takes 10 times as long as the loop; Pillow's resize 310 at 256 to 224.
    height, width = x.shape[2:]
    resized = from_rows(x.new_empty(len(x), *size, x.shape[1]))
    edges = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).round().int().tolist()
    for index, (top, left, bottom, right) in enumerate(edges):
        top, left = min(top, height - 1), min(left, width - 1)  # a box under half a pixel still has one
        part = x[index : index + 1, :, top : max(bottom, top + 1), left : max(right, left + 1)]
        resized[index] = F.interpolate(part, size=tuple(size), mode="bilinear", antialias=True)[0]
    return resized


def _places(start: Tensor, length: Tensor, full: int, count: int) -> Tensor:
    """Where `count` evenly spread samples fall, in the coordinates of grid_sample: -1 and 1 are the outer edges."""
    share = (torch.arange(count, device=start.device) + 0.5) / count
    return (start[:, None] + length[:, None] * share) * (2 / full) - 1
