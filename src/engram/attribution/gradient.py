"""Gradient: how much a class's score would change with each pixel.

    M = max over channels of |dS_y / dx|

Near one input the network is almost a linear function of it, S_y(x) = w . x + b, and w is the gradient: a pixel with a
large weight needs to be changed least to change the score most. One backward pass.

It shows where the network is sensitive, which need not be where the evidence is: over a saturated unit the gradient is
zero however much the unit says. Maps are noisy, since the gradient of a network of ReLUs jumps from pixel to pixel;
`smooth_grad` averages that. They do depend on what was learned (Adebayo et al. 2018, arXiv:1810.03292).

Simonyan, Vedaldi, Zisserman 2013, Deep Inside Convolutional Networks, arXiv:1312.6034, section 3.
"""

from torch import Tensor, nn

from engram.attribution.score import Classes, as_input, asked, class_scores, largest, slope
from engram.grammar import switch
from engram.registry import register


@register("attribution", paper="Simonyan, Vedaldi and Zisserman 2013, arXiv:1312.6034, section 3", year=2013)
def gradient(net: nn.Module, x: Tensor, y: Classes = None, *, signed: bool = False) -> Tensor:
    """How much the score of a class would change with each pixel.

    Maps (B, *S), from 0 up: the largest magnitude over the channels.

    Args:
        net: any module that gives (B, K) scores; it is left as it was.
        x: (B, C, *S) inputs as the network takes them; of vectors (B, D), the map is (B, D).
        y: (B,) the classes asked about, or one for all; by default those that the network predicts.
        signed: the gradient itself, (B, C, *S), in place of its magnitude.

    Raises:
        UserError: x is no batch of real numbers, the network gives no scores of classes, y are not among them, or no
            gradient comes through.

    Source: section 3.1.

    >>> import torch
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> _ = net[1].weight.data.copy_(torch.tensor([[1.0, -2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]]))
    >>> gradient(net, torch.ones(1, 1, 2, 2), 0)
    tensor([[[1., 2.],
             [0., 3.]]])
    """
    switch("gradient", "signed", signed)
    with asked(net) as network:
        given = as_input(network, x)
        scores, _ = class_scores(network, given, y)
        slopes = slope(scores, given)
    return slopes if signed else largest(slopes)
