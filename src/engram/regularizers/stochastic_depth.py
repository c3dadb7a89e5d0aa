"""Stochastic depth on any residual network: whole branches are left out at random, deeper ones more often.

    training   y = shortcut(x) + b F(x) / keep_l,  b ~ Bernoulli(keep_l)      judging   y = shortcut(x) + F(x)
    keep_l = 1 - l/L drop,  block l of L

`engram.layers.drop_path` has the layer, its conventions and the three names it goes by. Every residual block of this
package holds one that leaves nothing out, until this word sets it.

Where we differ: the paper multiplies branches by keep when it judges, so that its weights belong to a network that
does. Here a branch that is there is divided by keep while training, and the trained weights mean the same in a network
without the word. In the paper's way: the model `stochastic_depth_110`, or `add_stochastic_depth(net, scale="test")`.

It helps networks deep for their data in long training (110 layers on CIFAR-10 in 500 passes: 6.41 to 5.25 % error); it
hurts shallow ones and short runs. The paper's settings: drop 0.5, linear.

Huang, Sun, Liu, Sedra, Weinberger 2016, arXiv:1603.09382, section 3.
"""

from torch import nn

from engram.grammar import choice
from engram.layers.drop_path import DECAYS, PER, add_stochastic_depth
from engram.registry import register
from engram.regularizers.rule import Rule, share


@register("regularizer", paper="Huang et al. 2016, arXiv:1603.09382, section 3", year=2016, acts="network")
def stochastic_depth(*, drop: float = 0.5, per: str = "batch", decay: str = "linear") -> Rule:
    """Residual branches are left out at random, the last one with the share `drop`.

    Args:
        drop: share of the steps in which the last block is missing.
        per: "batch" decides once for all examples and saves the time, "sample" for each.
        decay: "linear" from the first block to the last, or "constant".

    >>> from engram import models; from engram.regularizers import build
    >>> build("stochastic_depth:0.5", models.resnet20()).changes
    ('stochastic_depth: 9 residual blocks, left out with 0.0556 (first) to 0.5 (last); 6.5 expected in a step',)
    """
    drop = share("stochastic_depth", drop)
    per = choice("stochastic_depth", "per", per, PER)
    decay = choice("stochastic_depth", "decay", decay, DECAYS)

    def put(net: nn.Module) -> str:
        lines = add_stochastic_depth(net, drop, per=per, scale="training", decay=decay)
        return "; ".join(line.removeprefix("stochastic depth: ") for line in lines)

    return Rule(put)
