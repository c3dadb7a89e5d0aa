"""Saying what a picture shows: the loss of each caption, and what of it was foreseen.

The cross-entropy of a caption of n words (`<end>` is one of them) is the mean over its words, in nats a word; padding
is no word. That is what is remembered of an example, and a uniform guess makes it ln V. What is minimised may have
more in it:

    objective = cross-entropy + λ/n Σ_i (1 - Σ_t α_ti)²                         doubly stochastic penalty
                - λ_r (log p - b) Σ_t log α_{t s_t} - λ_e mean_t H[α_t]         hard attention

*Doubly stochastic penalty* (Xu et al. 2015, equation 14, which is for a whole caption; all of the loss is over n here):
over a sentence every place shall get as much attention as any other. It helps photographs, where something is
everywhere; where most of the picture is empty it asks for looks at nothing.

*Hard attention* (equations 10 to 13). The places s = s_1 .. s_n of a caption are drawn, and what is minimised is the
mean over draws, E_s[-log p(y | s, a)], with log p the mean over words. Its gradient is

    -E_s[ ∂ log p(y | s, a) + log p(y | s, a) ∂ log p(s | a) ],      log p(s | a) = Σ_t log α_{t s_t}

and one draw is an unbiased estimate of it (Williams' REINFORCE). Subtracting from log p anything that does not depend
on the draw leaves it unbiased, since E_s[∂ log p(s | a)] = 0, and near the mean of log p less noisy:

    b_k = 0.9 b_{k-1} + 0.1 (log p(y | s), the mean over batch k)

It is the network's buffer `baseline`, saved with it, and moves after it was used. It starts at 0. λ_r = 1 is the
gradient of the mean over draws itself. The entropy keeps attention from settling before it has seen much.

*Scheduled sampling* begins with the true words and gives the network its own more and more often (`own_share`).

Xu et al. 2015, arXiv:1502.03044, sections 4.1 and 4.2.1; their program: λ 1, λ_e 0.002. Williams 1992, Machine Learning
8, 229-256. Bengio et al. 2015, arXiv:1506.03099, section 2.4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram.augment.compose import Batch
from engram.grammar import number
from engram.tasks.task import Autocast, Measured

PADDING = 0
"""The first of `engram.text.vocabulary.SPECIAL`."""
BASELINE_KEPT = 0.9
"""Share of the baseline that a step leaves; the paper's."""


class Decoded(Protocol):
    """What the losses need of what a network gave; `engram.models.captioner_network.Decoded` is it."""

    @property
    def scores(self) -> Tensor: ...  # (B, T, V)
    @property
    def attention(self) -> Tensor | None: ...  # (B, T, L)
    @property
    def log_draws(self) -> Tensor | None: ...  # (B, T)
    @property
    def entropies(self) -> Tensor | None: ...  # (B, T)


class Losses(NamedTuple):
    """Of each caption, (B,), nats a word."""

    cross_entropy: Tensor  # what the example is remembered by
    objective: Tensor  # what is minimised


def losses(
    decoded: Decoded,
    y: Tensor,
    *,
    penalty: float = 0.0,
    reinforce: float = 1.0,
    entropy: float = 0.0,
    baseline: Tensor | float = 0.0,
) -> Losses:
    """The loss of each caption, in at least 32 bits whatever the scores come in.

    Args:
        decoded: what the network gave.
        y: (B, T) the words to foresee, `<end>` the last of them and then padding.
        penalty: λ.
        reinforce: λ_r.
        entropy: λ_e.
        baseline: b.

    >>> from types import SimpleNamespace
    >>> decoded = SimpleNamespace(scores=torch.zeros(2, 3, 4), attention=None, log_draws=None, entropies=None)
    >>> losses(decoded, torch.tensor([[3, 3, 2], [3, 2, 0]])).cross_entropy  # ln 4
    tensor([1.3863, 1.3863])
    """
    words = y != PADDING  # (B, T)
    number_of_words = words.sum(1).clamp_min(1)  # (B,)
    scores = decoded.scores.to(torch.promote_types(decoded.scores.dtype, torch.float32))
    by_word = F.cross_entropy(scores.flatten(0, 1), y.flatten(), ignore_index=PADDING, reduction="none")
    cross_entropy = by_word.view_as(y).sum(1) / number_of_words
    objective = cross_entropy
    if penalty and decoded.attention is not None:
        looked = (decoded.attention * words[..., None]).to(scores.dtype).sum(1)  # (B, L)
        objective = objective + penalty * (1 - looked).square().sum(1) / number_of_words
    if decoded.log_draws is not None:
        advantage = -cross_entropy.detach() - baseline  # (B,) log p - b
        objective = objective - reinforce * advantage * (decoded.log_draws * words).sum(1)
    if entropy and decoded.entropies is not None:
        objective = objective - entropy * (decoded.entropies * words).sum(1) / number_of_words
    return Losses(cross_entropy, objective)


def losses_of(net: Any, decoded: Decoded, y: Tensor) -> Losses:
    """`losses` with the weights that the network was built with; while it trains, its baseline moves on.

    Args:
        net: a captioner, or any network with `loss_terms` and a buffer `baseline`; without them, cross-entropy alone.
    """
    terms, baseline = getattr(net, "loss_terms", {}), getattr(net, "baseline", None)
    found = losses(decoded, y, **terms, baseline=0.0 if baseline is None else baseline)
    if baseline is not None and net.training:
        follow(baseline, found.cross_entropy)
    return found


@torch.no_grad()
def follow(baseline: Tensor, cross_entropy: Tensor) -> None:
    """Move the baseline on, in place: b = 0.9 b + 0.1 mean log p.

    >>> baseline = torch.tensor(-2.0)
    >>> follow(baseline, torch.tensor([1.0, 3.0, 5.0]))
    >>> baseline
    tensor(-2.1000)
    """
    baseline.lerp_(-cross_entropy.mean().to(baseline.dtype), 1 - BASELINE_KEPT)


def foreseen(scores: Tensor, y: Tensor) -> Tensor:
    """Share of each caption's words, `<end>` among them, that had the largest score: (B,) float32.

    Args:
        scores: (B, T, V).
        y: (B, T) the words, then padding.

    >>> scores = torch.eye(4)[torch.tensor([[3, 1, 2], [3, 2, 1]])]
    >>> foreseen(scores, torch.tensor([[3, 3, 2], [3, 2, 0]]))
    tensor([0.6667, 1.0000])
    """
    words = y != PADDING
    return ((scores.argmax(2) == y) & words).sum(1) / words.sum(1).clamp_min(1)


def correct(scores: Tensor, y: Tensor) -> Tensor:
    """Whether every word of a caption was foreseen, `<end>` among them: (B,) truth values.

    Args: see `foreseen`.

    >>> scores = torch.eye(4)[torch.tensor([[3, 1, 2], [3, 2, 1]])]
    >>> correct(scores, torch.tensor([[3, 3, 2], [3, 2, 0]]))
    tensor([False,  True])
    """
    return ((scores.argmax(2) == y) | (y == PADDING)).all(1)


def own_share(done: float, *, most: float = 0.25, begins: float = 0.0) -> float:
    """How often the network reads its own words when that share of the training is done: from 0 up evenly to `most`.

    Args:
        done: share of all steps, 0 to 1.
        most: at the end. With 1 it would never see the true words again.
        begins: share of the training before it starts.

    Raises:
        UserError: a share outside 0 to 1.

    >>> own_share(0.0), own_share(0.5, most=0.5, begins=0.25), own_share(1.0)
    (0.0, 0.16666666666666666, 0.25)
    """
    for name, value in (("most", most), ("begins", begins)):
        number("scheduled sampling", name, value, 0, 1)
    return 0.0 if done <= begins else most * min(1.0, (done - begins) / (1 - begins))


@dataclass(frozen=True)
class Caption:
    """Saying what a picture shows, as the loop asks for it.

    Args:
        own: share of the words that are the network's own at the end of training, see `own_share`.
    """

    own: float = 0.0

    def measure(
        self,
        net: nn.Module,
        batch: Batch,
        y: Tensor,
        part: slice,
        *,
        autocast: Autocast,
        indices: Tensor | None = None,
        carried: Any = None,
        done: float = 0.0,
    ) -> Measured:
        """See `Task`. `y`: (B, T) `<start>`, the words, `<end>`, padding; all but the first are foreseen."""
        words = y[part]
        with autocast():
            decoded = net(batch.x[part], words[:, :-1], own=own_share(min(1.0, done), most=self.own))
        found = losses_of(net, decoded, words[:, 1:])
        alone = found.cross_entropy.detach()
        return Measured(found.objective, alone, alone, foreseen(decoded.scores, words[:, 1:]), decoded.scores)

    def join(self, carried: Sequence[Any]) -> None:
        """Nothing goes from one batch to the next."""

    def rank(self, figures: Mapping[str, float]) -> tuple[float, ...]:
        """The loss: a caption may be right in other words."""
        return (-figures["loss"],)


def read(net: nn.Module, x: Tensor, y: Tensor) -> Any:
    """How a captioner is called on pictures and captions, for who examines it: it reads all words but the last."""
    return net(x, y[:, :-1])


def said(decoded: Decoded, y: Tensor) -> tuple[Tensor, Tensor]:
    """The scores (N, V) and true words (N,) of everything that was foreseen, for who examines it.

    >>> from types import SimpleNamespace
    >>> scores, words = said(SimpleNamespace(scores=torch.zeros(1, 3, 5)), torch.tensor([[1, 4, 2, 0]]))
    >>> scores.shape, words
    (torch.Size([2, 5]), tensor([4, 2]))
    """
    words = y[:, 1:].flatten()
    counted = words != PADDING
    return decoded.scores.flatten(0, 1)[counted], words[counted]
