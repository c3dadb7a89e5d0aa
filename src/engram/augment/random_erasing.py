"""Random erasing: a random box of the input overwritten with noise, so that no single part can be relied on.

With probability 1/2 a picture loses a box whose share of the area is uniform in [smallest, largest] and whose aspect
(width over height) lies in [1 / aspect, aspect], anywhere inside the picture; in its place stands noise, an own number
for every value. Beside `cutout` the box varies in size and proportions, is never cut off by the border, and leaves half
of the pictures whole.

    height = sqrt(share H W / ratio),   width = sqrt(share H W ratio)

Random Erasing Data Augmentation (Zhong et al. 2017), section 3: probability 0.5, shares 0.02 to 0.4, aspect 0.3 to 3.3;
WRN-28-10 on CIFAR-10 3.72 to 3.08 % error (the paper's, not ours). Helps against overfitting and where things stand
half hidden; hurts tiny pictures and short runs.

Where we differ. The paper draws noise uniform over 0..255; here the input is normalised already, and normal noise of
mean 0 and deviation 1 has the data's own mean and deviation. It draws the aspect uniform and repeats until the box
fits, which favours tall and small boxes; we draw the area first and then the aspect log-uniform among those that fit,
as for `resized_crop`, with a fixed number of draws. Sides are rounded to whole pixels. A signal loses a stretch, and a
volume a box of its own proportions.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from engram.augment.crop import draw_boxes
from engram.augment.layout import from_rows, to_rows
from engram.grammar import choice, number
from engram.registry import register

WITH = ("noise", "mean")


@register(
    "augmentation",
    paper="Zhong et al., Random Erasing Data Augmentation, 2017, arXiv:1708.04896, section 3",
    year=2017,
    stage="input",
)
def random_erasing(
    probability: float = 0.5, smallest: float = 0.02, largest: float = 0.4, aspect: float = 10 / 3, fill: str = "noise"
) -> Callable[[Tensor, Generator], Tensor]:
    """A random box of noise in half of the pictures: `random_erasing`, or `random_erasing:0.5:0.02:0.2` for small ones.

    Args:
        probability: that a picture loses anything.
        smallest: least share of the area.
        largest: greatest share.
        aspect: greatest ratio of width to height, and of height to width.
        fill: noise, or mean for the mean colour.
    """
    number("random_erasing", "probability", probability, 0, 1)
    number("random_erasing", "smallest", smallest, 0, 1, above=True)
    number("random_erasing", "largest", largest, smallest, 1)
    number("random_erasing", "aspect", aspect, 1)
    choice("random_erasing", "fill", fill, WITH)

    def apply(x: Tensor, rng: Generator) -> Tensor:
        starts, lengths = draw_erased(len(x), x.shape[2:], probability, smallest, largest, aspect, rng)
        return erase_at(x, starts, lengths, draw_noise(x, rng) if fill == "noise" else None)

    return apply


def draw_erased(
    batch: int,
    shape: Sequence[int],
    probability: float,
    smallest: float,
    largest: float,
    aspect: float,
    rng: Generator,
) -> tuple[Tensor, Tensor]:
    """Where each picture's box begins and how long it is along each axis, int64 (B, n) both; no length: no box."""
    spared = torch.rand(batch, generator=rng, device=rng.device) >= probability
    sides = torch.tensor(list(shape), device=rng.device)
    if len(shape) == 2:
        boxes = draw_boxes(batch, (shape[0], shape[1]), smallest, largest, aspect, rng)
        starts, lengths = boxes[:, :2], boxes[:, 2:]
    else:
        draws = torch.rand(batch, 1 + len(shape), generator=rng, device=rng.device)
        share = (smallest + draws[:, :1] * (largest - smallest)) ** (1 / len(shape))
        lengths = share * sides
        starts = draws[:, 1:] * (sides - lengths)
    lengths = lengths.round().long().clamp(min=1)
    starts = torch.minimum(starts.round().long(), sides - lengths)
    return starts, lengths * ~spared[:, None]


def draw_noise(x: Tensor, rng: Generator) -> Tensor:
    """Normal noise in the shape and dtype of x (B, C, *S), channels-last."""
    noise = torch.randn(len(x), *x.shape[2:], x.shape[1], generator=rng, device=rng.device)
    return from_rows(noise.to(x.dtype))


def erase_at(x: Tensor, starts: Tensor, lengths: Tensor, noise: Tensor | None = None) -> Tensor:
    """Pictures with a box of noise each, or of zeros.

    Args:
        x: float (B, C, *S), normalised.
        starts: int64 (B, n), the first pixel along each axis of S.
        lengths: int64 (B, n), pixels; 0 leaves the picture whole.
        noise: the shape of x, of which only the boxes are used (none: zeros, the mean colour).

    Returns:
        the same shape and dtype, channels-last.

    >>> erase_at(torch.ones(1, 1, 5), torch.tensor([[1]]), torch.tensor([[3]]))
    tensor([[[1., 0., 0., 0., 1.]]])
    """
    rows = to_rows(x)
    batch, *shape, _ = rows.shape
    inside = torch.ones(batch, *[1] * len(shape), 1, dtype=torch.bool, device=x.device)
    for axis, length in enumerate(shape):
        place = torch.arange(length, device=x.device) - starts[:, axis, None]
        among = (place >= 0) & (place < lengths[:, axis, None])  # (B, length)
        inside = inside & among.view(batch, *[1] * axis, -1, *[1] * (len(shape) - axis))
    return from_rows(torch.where(inside, to_rows(noise) if noise is not None else rows.new_zeros(()), rows))
