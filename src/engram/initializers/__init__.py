"""Initial weights by words, one rule or family a file: `he,zero_gamma`, `normal:0.01`, `lsuv`, `grow:runs/vgg11`.

    z_l = W_l f(z_{l-1}) + b_l        Var(z_l) = n Var(w) E[f(z_{l-1})²]       n connections into a unit

Weights too small, and the signal shrinks layer by layer until nothing is learned; too large, and it grows until units
saturate or overflow; all alike, and all units stay alike for ever. A good start keeps the scale through every layer.
With batch normalisation the scale hardly matters; without it a network deeper than a few layers stands or falls by it.

Words act in the order given, each on what the ones before it left: `he,bias:0.1`. Every rule works on the weighted
layers of any network: convolutions and transposed convolutions over 1 to 3 axes, and linear layers. Normalisations and
other parameters keep what their class gives them, but for the rules that are about them.

Sources: LeCun, Bottou, Orr, Müller 1998, Efficient BackProp, section 4.6; Glorot and Bengio 2010, section 4.2; He et
al. 2015, arXiv:1502.01852, section 2.2; and what each rule names.
"""

import inspect
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from engram import registry
from engram.errors import UserError
from engram.grammar import Word, bind, parse, split
from engram.initializers.layers import Given, Rule


def apply(
    net: nn.Module,
    words: str | Iterable[str],
    *,
    rng: torch.Generator | None = None,
    batch: Tensor | None = None,
    outputs: Collection[str] | None = None,
) -> list[str]:
    """Change the weights of `net` in place by each word in turn.

    Args:
        words: `he,zero_gamma`, or a sequence of words.
        rng: a generator on the CPU that all draws come from; without it torch's own.
        batch: (B, C, *S) inputs as the network sees them, for the rules that look at data.
        outputs: names of the layers that give scores, which no nonlinearity follows; without it `head`, else the last.

    Returns:
        A line for each word, saying what it did.

    Raises:
        UserError: an unknown word or value, no layer that the rule is about, or a rule that lacks its batch.

    >>> net = nn.Sequential(nn.Linear(400, 300), nn.ReLU(), nn.Linear(300, 10))
    >>> apply(net, "he,bias:0.1")
    ['he: weights of 2 layers, biases 0', 'bias: 0.1 in 2 layers']
    >>> round(net[0].weight.var().item() * 400, 1)
    2.0
    """
    rules = [(parse(text), _rule(parse(text))) for text in split(words)]
    lacking = needs_batch(words) if batch is None else []
    if lacking:
        raise UserError(f"initializer {lacking[0]} measures the signal of a batch, and was given none")
    given = Given(rng, batch, None if outputs is None else tuple(outputs))
    with torch.no_grad():
        return [f"{word.name}: {rule(net, given)}" for word, rule in rules]


def check(words: str | Iterable[str]) -> None:
    """Refuse unknown words, settings and values before anything is built.

    Raises:
        UserError: one of them; the nearest is named.

    >>> check("hee")
    Traceback (most recent call last):
    engram.errors.UserError: initializer 'hee' is not known
    ...
    """
    for text in split(words):
        _rule(parse(text))


def needs_batch(words: str | Iterable[str]) -> list[str]:
    """The words among these that measure the signal of a batch.

    >>> needs_batch("orthogonal"), needs_batch("lsuv,bias:0.1")
    ([], ['lsuv'])
    """
    names = [parse(text).name for text in split(words)]
    return [name for name in names if registry.find("initializer", name).facts.get("needs_batch", False)]


def _rule(word: Word) -> Rule:
    entry = registry.find("initializer", word.name)
    known = list(inspect.signature(entry.build).parameters)
    settings: dict[str, Any] = bind(word, known, then=f"engram show initializers {word.name}")
    try:
        return entry.build(**settings)
    except TypeError as error:  # a setting that the rule cannot do without
        raise UserError(f"{word.text!r}: {error}", then=f"engram show initializers {word.name}") from None
