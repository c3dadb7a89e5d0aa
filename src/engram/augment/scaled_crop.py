"""Scaled crop: the picture at a random size, and a window of the network's size cut anywhere from it.

The picture is resized so that it covers the network's size r times, and a window is cut from it; proportions stay:

    r uniform in [smallest, largest],   window = network's size over r max(h / H, w / W), in stored pixels

with (H, W) the stored and (h, w) the network's size. The network sees things near and far, whole and in part. It is the
gentler word beside `resized_crop`: it never distorts, and shows at least a fifth of a square picture by default. It
hurts where size is the answer, and where a part of the picture says nothing. Judge at several scales too: the words
`dense` and `scales` of `views`.

Very Deep Convolutional Networks (Simonyan and Zisserman 2014), section 3.1: "scale jittering", shorter side uniform in
[256, 512]; 25.6 % top-1 error of VGG-16 against 27.0 % at the fixed side of 256 (table 3). Deep Residual Learning (He
et al. 2016), section 3.4: [256, 480]. Both cut windows of 224. The defaults are the latter, 256/224 = 1.14 to
480/224 = 2.14; VGG's is `scaled_crop:1.14:2.29`.

Where we differ: pictures are stored at one size, so what is enlarged beyond that is no sharper than it; give
`data.stored_size` about the middle of the range. AlexNet's window of 224 from pictures of 256 is `crop:0` with
`--data.stored_size 256`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from engram.augment.crop import resample_at
from engram.grammar import number
from engram.registry import register


@register(
    "augmentation",
    paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 3.4",
    year=2016,
    stage="pixels",
    crops=True,
    dimensions=(2,),
)
def scaled_crop(
    smallest: float = 256 / 224, largest: float = 480 / 224, *, size: Sequence[int] | None = None
) -> Callable[[Tensor, Generator], Tensor]:
    """Random size, then a random window: `scaled_crop:1.14:2.14` is ResNet's shorter side of 256 to 480 for 224.

    Args:
        smallest: least size of the whole picture, in sizes of the network.
        largest: greatest size.
        size: of the window (none: the picture's own).
    """
    number("scaled_crop", "smallest", smallest, 1)
    number("scaled_crop", "largest", largest, smallest)

    def apply(x: Tensor, rng: Generator) -> Tensor:
        window = tuple(size or x.shape[2:])
        return resample_at(x, draw_windows(len(x), x.shape[2:], window, smallest, largest, rng), window)

    return apply


def draw_windows(
    batch: int, shape: Sequence[int], window: Sequence[int], smallest: float, largest: float, rng: Generator
) -> Tensor:
    """Boxes (B, 4) as top, left, height, width in stored pixels: scale uniform, then place uniform.

    >>> draw_windows(1, (256, 256), (224, 224), 2.0, 2.0, torch.Generator().manual_seed(0))[:, 2:]
    tensor([[128., 128.]])
    """
    draws = torch.rand(batch, 3, generator=rng, device=rng.device)
    cover = max(wanted / length for wanted, length in zip(window, shape, strict=True))
    scale = (smallest + draws[:, 0] * (largest - smallest)) * cover
    tall, wide = window[0] / scale, window[1] / scale
    return torch.stack([draws[:, 1] * (shape[0] - tall), draws[:, 2] * (shape[1] - wide), tall, wide], dim=1)
