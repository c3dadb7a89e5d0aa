"""How well text was foreseen: nats and bits a character, and perplexity, from summed losses.

The losses -log p(token | all before it), in nats, of n tokens that stand for m characters, add up to L:

- nats a character = L / m, bits a character = L / (m log 2): comparable between characters, bytes and words;
- perplexity = exp(L / n): as unsure as among so many equally likely tokens; comparable within one vocabulary only.

Sums and counts are added up and divided once: a mean of the means of batches of unequal length is another number.
Padding is no text and counts for nothing. Graves 2013, arXiv 1308.0850, section 3.1 (bits a character and perplexity);
Mielke 2019, "Can you compare perplexity across different segmentations?".
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engram.errors import UserError


@dataclass(frozen=True)
class Likelihood:
    """Summed loss and what it was summed over. Adds up.

    Args:
        total: nats.
        tokens: how many were foreseen.
        characters: how many these stand for.

    >>> coin = Likelihood(total=10 * math.log(2), tokens=10, characters=10)
    >>> coin.bits_per_character, round(coin.perplexity, 6), coin + coin == Likelihood(coin.total * 2, 20, 20)
    (1.0, 2.0, True)
    """

    total: float = 0.0
    tokens: int = 0
    characters: int = 0

    def __add__(self, other: "Likelihood") -> "Likelihood":
        return Likelihood(self.total + other.total, self.tokens + other.tokens, self.characters + other.characters)

    @property
    def nats_per_token(self) -> float:
        """The mean loss of a token."""
        return self._over(self.tokens, "token")

    @property
    def nats_per_character(self) -> float:
        """The mean loss of a character."""
        return self._over(self.characters, "character")

    @property
    def bits_per_character(self) -> float:
        """The mean loss of a character, in bits."""
        return self.nats_per_character / math.log(2)

    @property
    def perplexity(self) -> float:
        """Infinite where it is too large to be written."""
        try:
            return math.exp(self.nats_per_token)
        except OverflowError:
            return math.inf

    def _over(self, count: int, unit: str) -> float:
        if not count:
            raise UserError(f"no {unit} was counted: the text is empty, or all of it padding")
        return self.total / count


def likelihood(
    losses: Tensor, y: Tensor, *, padding: int | None = None, characters: Tensor | None = None
) -> Likelihood:
    """What one batch adds, summed in 64 bits.

    Args:
        losses: float, any shape, nats.
        y: integers of the same shape, the tokens that were to be foreseen.
        padding: the token that fills up; its losses are left out, whatever they are.
        characters: (V,) integers, how many characters each token stands for; without it, one each.

    >>> likelihood(torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[4, 5, 0]]), padding=0)
    Likelihood(total=3.0, tokens=2, characters=2)
    """
    if losses.shape != y.shape:
        raise ValueError(f"losses {tuple(losses.shape)} and tokens {tuple(y.shape)} differ in shape")
    if padding is not None:
        kept = y != padding
        losses, y = losses[kept], y[kept]
    tokens = y.numel()
    total = float(losses.detach().sum(dtype=torch.float64))
    return Likelihood(total, tokens, tokens if characters is None else int(characters[y].sum()))
