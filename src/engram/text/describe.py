"""A picture in words: the sentence that a captioning network finds, and where it looked for each word.

Greedy search takes the likeliest word each time, all pictures side by side. With a width above 1 it is beam search
(`engram.text.beam`), one picture after the other: a sentence whose first word was not the likeliest may be the more
probable one. `<padding>` and `<start>` are never written; `<unknown>` may be, since a word that was rare in training
can be what the network means.

Each word comes with the map of attention from which it was foreseen, of L = h w places. A network without attention
has none.

Xu et al. 2015, Show, attend and tell, arXiv:1502.03044, section 5.4 (seeing attention).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import number
from engram.text.beam import beam_search
from engram.text.vocabulary import END, PADDING, START, Vocabulary


@dataclass(frozen=True, eq=False)
class Description:
    """What a network said about a picture.

    Args:
        sentence: all of it.
        words: n of them, one by one.
        attention: (n, h, w), how much each place mattered for each word; rows sum to 1. None without attention.
        log_probability: nats, that of `<end>` included.
        ended: whether it came to an end, or was cut.
    """

    sentence: str
    words: tuple[str, ...]
    attention: NDArray[np.float32] | None
    log_probability: float
    ended: bool = True


class Walk(NamedTuple):
    """What a search carries: the network's state, and the maps so far."""

    state: Any
    maps: Tensor | None = None  # (K, words so far, L)


def describe(
    net: nn.Module,
    images: Tensor,
    vocabulary: Vocabulary,
    *,
    width: int = 1,
    longest: int = 20,
    strength: float = 0.0,
) -> list[Description]:
    """A sentence for each picture.

    Args:
        net: a captioner: `begin(images)` gives a state, `step(tokens, state)` scores, a state and attention.
        images: (B, C, H, W) as the network takes them, on its device.
        vocabulary: of its words, with `<padding>`, `<start>` and `<end>`.
        width: beginnings that are kept; 1 is greedy.
        longest: words, `<end>` counted, at which a sentence is cut.
        strength: of the length penalty, see `engram.text.beam`; 0 for none.

    Raises:
        UserError: a setting is out of range, or the vocabulary is of another network.

    >>> from engram.models.captioner import captioner_soft_attention
    >>> from engram.text.vocabulary import Words
    >>> words = Words.of(["a red square above a three"])
    >>> net = captioner_soft_attention(len(words), shape=(3, 48, 48))
    >>> (said,) = describe(net, torch.zeros(1, 3, 48, 48), words, longest=4)
    >>> said.sentence == " ".join(said.words), said.attention.shape == (len(said.words), 6, 6)
    (True, True)
    """
    for name, value, least in (("width", width, 1), ("longest", longest, 1), ("strength", strength, 0)):
        number("describing", name, value, least, whole=name != "strength")
    if len(vocabulary) != getattr(net, "vocabulary", len(vocabulary)):
        raise UserError(f"a vocabulary of {len(vocabulary)} words for a network of {net.vocabulary}")
    with _judging(net):
        if width == 1:
            return _greedy(net, images, vocabulary, longest)
        return [_best(net, image[None], vocabulary, width, longest, strength) for image in images]


def _greedy(net: Any, images: Tensor, vocabulary: Vocabulary, longest: int) -> list[Description]:
    """All pictures side by side, the likeliest word each time."""
    end = vocabulary.special_index(END)
    tokens = torch.full((len(images),), vocabulary.special_index(START), device=images.device)
    walk = Walk(net.begin(images))
    total = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    going = torch.ones(len(images), dtype=torch.bool, device=images.device)
    said: list[Tensor] = []
    while len(said) < longest and going.any():
        logs, walk = _step(net, vocabulary, tokens, walk)
        best, tokens = logs.max(1)
        tokens = torch.where(going, tokens, end)
        total += torch.where(going, best, 0)
        said.append(tokens)
        going &= tokens != end
    rows = torch.stack(said, 1).tolist()
    maps = [None] * len(rows) if walk.maps is None else list(walk.maps)
    return [
        _description(net, vocabulary, row[: row.index(end)] if end in row else row, one, float(nats), end in row)
        for row, one, nats in zip(rows, maps, total, strict=True)
    ]


def _best(net: Any, image: Tensor, vocabulary: Vocabulary, width: int, longest: int, strength: float) -> Description:
    """One picture (1, C, H, W), the best sentence that a beam finds."""
    best = beam_search(
        lambda tokens, walk: _step(net, vocabulary, tokens, walk),
        vocabulary.special_index(START),
        Walk(net.begin(image)),
        width=width,
        end=vocabulary.special_index(END),
        longest=longest,
        strength=strength,
        device=image.device,
    )[0]
    maps = None if best.state.maps is None else best.state.maps[0]
    return _description(net, vocabulary, list(best.tokens), maps, best.log_probability, best.ended)


def _step(net: Any, vocabulary: Vocabulary, tokens: Tensor, walk: Walk) -> tuple[Tensor, Walk]:
    """Log-probabilities (K, V) of the next word, float64, and the walk with its map added."""
    scores, state, attention = net.step(tokens, walk.state)
    logs = scores.double().log_softmax(1)
    logs[:, [vocabulary.special_index(one) for one in (PADDING, START)]] = -torch.inf
    if attention is None:
        return logs, Walk(state)
    maps = attention[:, None] if walk.maps is None else torch.cat([walk.maps, attention[:, None]], 1)
    return logs, Walk(state, maps)


def _description(
    net: Any, vocabulary: Vocabulary, tokens: list[int], maps: Tensor | None, nats: float, ended: bool
) -> Description:
    words = tuple(vocabulary.tokens[token] for token in tokens)
    if maps is not None:  # the map of <end> and of what came after is nobody's
        maps = maps[: len(words)].float().view(-1, *net.encoder.size)  # (n, h, w)
    attention = None if maps is None else maps.cpu().numpy()
    return Description(vocabulary.decode(tokens), words, attention, nats, ended)


@contextmanager
def _judging(net: nn.Module) -> Iterator[None]:
    """Without gradients and without draws; afterwards every part is in the mode in which it was."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
