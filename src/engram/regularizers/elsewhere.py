"""Regularisers that are settings of the recipe already: words for them, so that they stand in the same list.

    label_smoothing:0.1    training.label_smoothing   the target's share 0.1 is spread over all classes: no answer is
                                                      worth more than 0.9 and confidence stops growing
    mixup:0.2              augment ... mixup:0.2      examples and targets are mixed in pairs, by Beta(0.2, 0.2)
    early_stopping:5       training.patience          five passes without a better validation result end the run: of
                                                      all weights on the way from small to large, the best are kept

The words change neither the network nor the step: `engram.regularizers.settings` says what they set, and the recipe
sets it. In a loop of one's own they are `F.cross_entropy(..., label_smoothing=0.1)`, `engram.augment.mixup`, an `if`.

Label smoothing helps large sets and calibration, and hurts distillation and what the scores tell of how classes
resemble each other. Mixup helps long training and wrong labels and hurts short runs. Early stopping is free, needs a
validation split, and hurts where the result gets worse before it gets better (a rate that falls at the end).

The papers' settings: 0.1 (Inception-v3); 0.2 to 0.4 (ImageNet), 1 (CIFAR-10); 2 to 10 passes.

Szegedy et al. 2016, arXiv:1512.00567, section 7; Zhang, Cisse, Dauphin, Lopez-Paz 2018, mixup, arXiv:1710.09412,
section 2; Prechelt 1998, Early stopping - but when?, section 2.
"""

from typing import Any

from torch import nn

from engram.grammar import number
from engram.registry import register
from engram.regularizers.rule import Rule, share


@register("regularizer", paper="Szegedy et al. 2016, arXiv:1512.00567, section 7", year=2016, acts="recipe")
def label_smoothing(*, share_spread: float = 0.1) -> Rule:
    """A share of every target is spread over all classes: the setting label_smoothing.

    Args:
        share_spread: of the target.

    >>> from engram.regularizers import settings
    >>> settings("label_smoothing:0.1")
    {'training.label_smoothing': 0.1}
    """
    return _sets("training.label_smoothing", share("label_smoothing", share_spread, "share_spread"))


@register("regularizer", paper="Zhang et al. 2018, arXiv:1710.09412, section 2", year=2018, acts="recipe")
def mixup(*, strength: float = 0.2) -> Rule:
    """Examples and targets are mixed in pairs: a word more in augment.

    Args:
        strength: of Beta(strength, strength), which the share of the first is drawn from.

    >>> from engram.regularizers import settings
    >>> settings("mixup:0.4")
    {'augment': ('mixup:0.4',)}
    """
    return _sets("augment", (f"mixup:{number('mixup', 'strength', strength, 0, above=True):g}",))


@register("regularizer", paper="Prechelt 1998, Early stopping - but when?, section 2", year=1998, acts="recipe")
def early_stopping(*, patience: int = 5) -> Rule:
    """Passes without a better validation result end the run: the setting patience.

    Args:
        patience: so many of them.

    >>> from engram.regularizers import settings
    >>> settings("early_stopping:3")
    {'training.patience': 3}
    """
    return _sets("training.patience", int(number("early_stopping", "patience", patience, 1, whole=True)))


def _sets(key: str, value: Any) -> Rule:
    said = f"adds {' '.join(value)} to augment" if key == "augment" else f"sets {key.rpartition('.')[2]} {value}"

    def put(net: nn.Module) -> str:
        return said

    return Rule(put, settings={key: value})
