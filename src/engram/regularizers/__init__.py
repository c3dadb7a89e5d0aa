"""What keeps a network from learning its examples by heart, by words for any network: `l2:5e-4,dropout:0.5`.

A network fits anything, noise among it, if it is let. Each word here takes something away while it trains, and acts in
one of four places; judging is as it was without:

    on the gradient    l2 elastic gradient_noise            after backward, before clipping and the step
    on the weights     l1 elastic max_norm                  after the step
    in the network     dropout channel_dropout drop_block drop_connect stochastic_depth noise activation_noise
    in the recipe      label_smoothing mixup early_stopping settings that exist already, under their usual names

Penalties and constraints are about weights: biases, and all that belongs to a normalisation, are spared unless a word
says `on=all`. They are few, do not over-fit, and a scale pulled to 0 switches its channel off.

What goes into a network goes in place: in front of a layer as a part of it without parameters. The names in the state
dict stay, so weights load and save as before, into networks with or without it.

It helps where training gets better than validation, and by as much. It hurts where the network does not even fit its
training examples: then everything here makes it worse. More data by augmentation helps more than any of it.

In a loop of one's own, with nothing but torch:

>>> import torch; from torch import nn; import torch.nn.functional as F
>>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
>>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
>>> regularization = build("l1:1e-4,max_norm:3,dropout:0.5", net)
>>> for line in regularization.changes:
...     print(line)
l1: 0.0001 on 2 weights of 2,368 values, by the proximal step; biases and norms spared
max_norm: 3 for each of 42 units of 2 weights
dropout: 0.5 before 3
>>> x, y = torch.rand(8, 1, 8, 8), torch.arange(8)
>>> F.cross_entropy(net(x), y).backward()
>>> regularization.regularize(net)  # between backward and step
>>> optimizer.step()
>>> regularization.constrain(net, lr=0.1)  # after it, with the rate it had

What is elsewhere: `decay_groups` is the optimisers' own weight decay, `clip_norm` the bound on the gradient's length.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engram import registry
from engram.errors import UserError
from engram.grammar import Word, bind, parse, split
from engram.regularizers.clipping import clip_norm
from engram.regularizers.decay import decay_groups
from engram.regularizers.rule import Rule

__all__ = ["Regularization", "build", "check", "clip_norm", "decay_groups", "replaces_decay", "settings"]

INSTEAD = {"elastic": ("l1", "l2")}
"""Words that hold others."""


@dataclass(frozen=True)
class Regularization:
    """What `build` made of the words: what it put on the network, and what is to be done at every step.

    It keeps no network and no state: the same one serves copies of the network, and there is nothing to save. All
    draws come from torch's global generator.

    Attributes:
        changes: a line for each word, saying what it did or does.
        settings: of the recipe, which words set that act in neither the network nor the step (as `settings` has them).
    """

    changes: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @torch.no_grad()
    def regularize(self, net: nn.Module) -> None:
        """Add to the gradients, in place: after backward, before they are clipped and the step is made."""
        for rule in self.rules:
            if rule.regularize is not None:
                rule.regularize(net)

    @torch.no_grad()
    def constrain(self, net: nn.Module, lr: float) -> None:
        """Move the weights, in place, after a step of the rate `lr`."""
        for rule in self.rules:
            if rule.constrain is not None:
                rule.constrain(net, lr)

    def penalty(self, net: nn.Module) -> Tensor:
        """The sum of the penalties, to be looked at, with its graph; it is not to be added to the loss as well.

        >>> net = nn.Linear(2, 1); _ = nn.init.constant_(net.weight, -3.0)
        >>> build("elastic:l1=0.5:l2=1", net).penalty(net).item()
        12.0
        """
        parts = [rule.penalty(net) for rule in self.rules if rule.penalty is not None]
        return torch.stack(parts).sum() if parts else torch.zeros(())


def build(words: str | Iterable[str], net: nn.Module) -> Regularization:
    """Put the words on a network, in place, and give what is to be done at every step.

    Before or after weights are loaded, the optimiser is made, the network is moved to a device; but before it is
    compiled. Layers of a word's kind that the network has already are set to what the word says, and none are added
    (but where the word says where), so that words may be built again on the same network.

    Args:
        words: `l2:5e-4,dropout:0.5`, or a sequence of words.

    Raises:
        UserError: as `check`, or the network has nothing that the word is about; it may have been changed by the
            words before.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> build("drop_connect:0.5,label_smoothing:0.1", net).changes
    ('drop_connect: 0.5 of the connections of 0; masks of 0.1 kB an example',
    'label_smoothing: sets label_smoothing 0.1')
    >>> list(net.state_dict())
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    check(words)
    parsed = [parse(text) for text in split(words)]
    rules = tuple(_rule(word) for word in parsed)
    changes = tuple(f"{word.name}: {rule.put(net)}" for word, rule in zip(parsed, rules, strict=True))
    return Regularization(changes, rules, settings(words))


def check(words: str | Iterable[str], *, optimizer: str | None = None) -> None:
    """Refuse unknown words, settings, values and combinations before anything is built.

    Args:
        optimizer: the name of the one they will be used with; none is not asked about.

    Raises:
        UserError: one of them; a word given twice; one beside another that holds it; a word that changes gradients or
            weights beside an optimiser that searches the loss.

    >>> check("dropout:0.5,droput:0.2")
    Traceback (most recent call last):
    engram.errors.UserError: regularizer 'droput' is not known
    ...
    >>> check("l2:1e-4,elastic")
    Traceback (most recent call last):
    engram.errors.UserError: regularizers elastic and l2: the one holds the other
      next: elastic alone, which has l1 and l2 as its settings
    """
    parsed = [parse(text) for text in split(words)]
    names = [word.name for word in parsed]
    for word in parsed:
        _rule(word)
        if names.count(word.name) > 1:
            raise UserError(f"regularizer {word.name!r} is given twice", then="one of them")
    for whole, parts in INSTEAD.items():
        for part in parts:
            if whole in names and part in names:
                then = f"{whole} alone, which has {' and '.join(parts)} as its settings"
                raise UserError(f"regularizers {whole} and {part}: the one holds the other", then=then)
    if optimizer is not None:
        _check_optimizer(names, optimizer)


def settings(words: str | Iterable[str]) -> dict[str, Any]:
    """What the words set elsewhere in a recipe, by dotted names; `augment` has words to be added to those there.

    >>> settings("l2:1e-4,label_smoothing:0.1,mixup:0.2,early_stopping:5")
    {'training.label_smoothing': 0.1, 'augment': ('mixup:0.2',), 'training.patience': 5}
    """
    return {key: value for text in split(words) for key, value in _rule(parse(text)).settings.items()}


def replaces_decay(words: str | Iterable[str]) -> list[str]:
    """The words among these that are the same pull as an optimiser's own weight decay, and add up with it.

    >>> replaces_decay("dropout:0.5,l2:1e-4")
    ['l2']
    """
    names = [parse(text).name for text in split(words)]
    return [name for name in names if registry.find("regularizer", name).facts.get("replaces_decay", False)]


def _check_optimizer(names: list[str], optimizer: str) -> None:
    facts = registry.find("optimizer", optimizer).facts
    if not (facts.get("closure") and facts.get("full_batch")):
        return
    for name in names:
        if registry.find("regularizer", name).facts.get("acts") in ("gradient", "weights"):
            raise UserError(
                f"regularizer {name} does not go with {optimizer}, which searches the loss and would not see it there",
                then=f"--optimizer.weight_decay, which {optimizer} knows, or another optimizer",
            )


def _rule(word: Word) -> Rule:
    entry = registry.find("regularizer", word.name)
    known = list(inspect.signature(entry.build).parameters)
    then = f"engram show regularizers {word.name}"
    given = bind(word, known, then=then)
    try:
        return entry.build(**given)
    except TypeError as error:  # a setting that the word cannot do without
        raise UserError(f"{word.text!r}: {error}", then=then) from None
