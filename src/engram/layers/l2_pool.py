"""L2 pooling: each window gives the length of its values as a vector, so that strong answers count and signs do not.

    y = sqrt(sum over the window of x^2)          `mean=True`: sqrt(mean of x^2), which does not grow with the window

Between the mean (every value counts alike) and the maximum (one counts): the gradient x_i / y goes to each value in
proportion to it. A pair of filters a quarter wave apart, pooled this way, answers to a pattern wherever it is shifted,
as complex cells do, which is why it stood in networks with learned or fixed filters before ReLU (values of both
signs). After a ReLU, max pooling is as good and quicker. LeNet's descendants weigh the window by a Gaussian; uniform
windows are what stands here.

Where we differ from torch's LPPool: a window of zeros has the gradient 0 and not NaN (the root's infinite slope times
zero), squares of 16 bits are summed in float32, and there is the mean. The values are the same.

Sermanet, Chintala, LeCun 2012, Convolutional neural networks applied to house numbers digit classification, ICPR,
arXiv:1204.3968, section 2.2 (roots of other powers too, from the mean to the maximum); Hyvarinen and Koster 2007,
Complex cell pooling and the statistics of natural images, Network 18(2).
"""

import math

import torch
from torch import Tensor, nn

from engram.errors import UserError
from engram.layers.dimensions import average_pool

HALVES = (torch.float16, torch.bfloat16)


class L2Pool(nn.Module):
    """The root of the sum (or the mean) of the squares in each window.

    Args:
        side: of the windows, in pixels, on every axis.
        stride: pixels between them; none is `side`.
        mean: divide by the number of values under the root.

    Raises:
        UserError: windows or strides below 1.

    >>> L2Pool(2)(torch.tensor([[[[3.0, 0.0], [0.0, -4.0]]]])).item()
    5.0
    """

    def __init__(self, side: int, stride: int | None = None, *, dimensions: int = 2, mean: bool = False) -> None:
        super().__init__()
        stride = side if stride is None else stride
        if side < 1 or stride < 1:
            raise UserError(f"windows of {side} pixels, {stride} apart", allowed="1 pixel or more")
        self.average = average_pool(dimensions)(side, stride)
        self.count = 1.0 if mean else float(side**dimensions)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, *S)
        squares = self.average(x.float().square() if x.dtype in HALVES else x.square())  # (B, C, *out)
        lengths = torch.where(squares == 0, 1, squares).sqrt() * math.sqrt(self.count)
        return torch.where(squares == 0, 0, lengths).to(x.dtype)
