"""Attention over the places of a picture: where to look for the next word, said by what was written so far.

The idea: a picture is kept as L annotations a_1 .. a_L, one vector of D values for each place of a convolution's map,
and not as one vector for all of it. Before each word a small network asks every place how much it matters now:

    e_i = w · tanh(W_a a_i + W_h h + b)       a_i: annotation of place i, h: state after the words so far
    α   = softmax(e)                          (L,), sums to 1
    z   = what the decoder gets to see of the picture

Soft attention takes the mean, z = Σ_i α_i a_i: everything is smooth, and the gradient goes through α. Hard attention
looks at one place, drawn with the probabilities α: z = a_s, s ~ α. No gradient comes back through a draw; that of the
expected loss is estimated with the score function, Williams' REINFORCE, from `log_draw` = log α_s (see
`engram.tasks.caption`). It costs less to look at one place and says more about why; it is slower to learn and needs a
baseline. With L = 1 both are no attention at all.

Draws come from torch's own generator, as dropout's do: α_i / E_i is largest, with E_i exponential, at i with
probability α_i. While judging hard attention looks at the likeliest place: the decoder has learned from single places,
and what the map of a word shows is then what was used. (`judged="expected"` takes the mean of all instead, the paper's
deterministic approximation, section 4.2; the authors' program has both.)

With `gate` the decoder says how much of the picture it needs for the next word, z = β Σ_i α_i a_i with the scalar
β = σ(w_β · h + b_β), section 4.2.1: of `left of`, the words before say enough.

Helps: with more than one thing in a picture; and its maps can be looked at. Hurts: it costs L times a small network
for each word. That a place has a large α says where z came from, not that the word was decided there.

The paper's settings: L = 196 places of 14 x 14 with D = 512 (VGG, fourth convolution before pooling); for hard
attention, half of the examples take the mean while training (`expected=0.5`, end of section 4.1). Where we differ:
the score has no bias after w, since the softmax takes it away.

Xu, Ba, Kiros, Cho, Courville, Salakhutdinov, Zemel, Bengio 2015, Show, attend and tell, arXiv:1502.03044, sections
3.1.2 and 4; Bahdanau, Cho, Bengio 2015, arXiv:1409.0473, section 3.1 and appendix A.1.2; Williams 1992, Machine
Learning 8, 229-256.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from engram.errors import UserError
from engram.grammar import choice, number

JUDGED = ("likeliest", "expected")


class Look(NamedTuple):
    """What was seen, and where. B examples, L places."""

    context: Tensor  # (B, D) z
    attention: Tensor  # (B, L) α
    log_draw: Tensor | None = None  # (B,) log α of the drawn place; 0 where nothing was drawn
    entropy: Tensor | None = None  # (B,) nats, of α


class SoftAttention(nn.Module):
    """Sees the mean of all places, weighted by how much each matters.

    Args:
        annotation_size: D, values of a place.
        state_size: H, values of the state that asks.
        attention_size: units of the network that answers.
        gate: let the state say how much of the picture it needs.

    Raises:
        UserError: a size below 1.

    >>> attention = SoftAttention(8, 16, 4)
    >>> annotations = torch.randn(2, 9, 8)
    >>> look = attention(annotations, attention.keys(annotations), torch.randn(2, 16))
    >>> look.context.shape, look.attention.shape, bool(torch.allclose(look.attention.sum(1), torch.ones(2)))
    (torch.Size([2, 8]), torch.Size([2, 9]), True)
    """

    def __init__(self, annotation_size: int, state_size: int, attention_size: int, *, gate: bool = False) -> None:
        super().__init__()
        sizes = {"annotation_size": annotation_size, "state_size": state_size, "attention_size": attention_size}
        for name, value in sizes.items():
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name} cannot be {value}", allowed="whole numbers from 1 up")
        self.of_place = nn.Linear(annotation_size, attention_size)  # W_a, b
        self.of_state = nn.Linear(state_size, attention_size, bias=False)  # W_h
        self.score = nn.Linear(attention_size, 1, bias=False)  # w
        self.gate = nn.Linear(state_size, 1) if gate else None

    def keys(self, annotations: Tensor) -> Tensor:
        """W_a a_i + b of every place, (B, L, D) to (B, L, attention_size): the same for all words of a sentence."""
        return self.of_place(annotations)

    def forward(self, annotations: Tensor, keys: Tensor, state: Tensor, expected: Tensor | None = None) -> Look:
        """One look.

        Args:
            annotations: (B, L, D).
            keys: what `keys` gives for them.
            state: (B, H).
            expected: (B,) truth values, of hard attention: who sees the mean although places are drawn.
        """
        energies = self.score(torch.tanh(keys + self.of_state(state)[:, None]))[..., 0]  # (B, L)
        log_attention = energies.log_softmax(-1)
        look = self.look(annotations, log_attention, expected)
        if self.gate is None:
            return look
        return look._replace(context=self.gate(state).sigmoid() * look.context)

    def look(self, annotations: Tensor, log_attention: Tensor, expected: Tensor | None) -> Look:
        """What is seen when the places have these log-probabilities, (B, L)."""
        attention = log_attention.exp()
        return Look(_mean(annotations, attention), attention)


class HardAttention(SoftAttention):
    """Sees one place: drawn while training, the likeliest while judging.

    Args: see `SoftAttention`, and
        expected: share of the examples that see the mean of all places while training. `who_expects` draws them.
        judged: what is seen while judging, the `likeliest` place or the `expected` mean.

    Raises:
        UserError: a size below 1, a share outside 0 to 1, another word.

    >>> attention = HardAttention(8, 16, 4)
    >>> annotations = torch.randn(2, 9, 8)
    >>> context, at, log_draw, _ = attention(annotations, attention.keys(annotations), torch.randn(2, 16))
    >>> drawn = (annotations == context[:, None]).all(2)  # (B, L): the one place that was seen
    >>> torch.allclose(at[drawn].log(), log_draw)
    True
    """

    def __init__(
        self,
        annotation_size: int,
        state_size: int,
        attention_size: int,
        *,
        gate: bool = False,
        expected: float = 0.5,
        judged: str = "likeliest",
    ) -> None:
        super().__init__(annotation_size, state_size, attention_size, gate=gate)
        self.expected = number("hard attention", "expected", expected, 0, 1)
        choice("hard attention", "judged", judged, JUDGED)
        self.judged = judged

    draws_while_training = True

    def who_expects(self, examples: int, device: torch.device) -> Tensor:
        """(B,) who sees the mean throughout this sentence: by chance while training, by `judged` while not."""
        if not self.training:
            return torch.full((examples,), self.judged == "expected", device=device)
        return torch.rand(examples, device=device) < self.expected

    def look(self, annotations: Tensor, log_attention: Tensor, expected: Tensor | None) -> Look:
        """What is seen when the places have these log-probabilities, (B, L)."""
        attention = log_attention.exp()
        places = draw(log_attention) if self.training else log_attention.argmax(-1)  # (B,)
        context = annotations[torch.arange(len(places), device=places.device), places]
        log_draw = log_attention.gather(1, places[:, None])[:, 0]
        if expected is not None:
            context = torch.where(expected[:, None], _mean(annotations, attention), context)
            log_draw = torch.where(expected, 0, log_draw)
        # a place that is never looked at has no share in the entropy, and must not make it 0 * -inf
        entropy = -(attention * log_attention.clamp_min(torch.finfo(log_attention.dtype).min)).sum(-1)
        return Look(context, attention, log_draw, entropy)


def draw(log_probabilities: Tensor) -> Tensor:
    """(B, K) log-probabilities to (B,) one index each, drawn with them from torch's own generator.

    Unlike torch.multinomial it does not stop on what is not a number: a loop that diverges says so itself.

    >>> draw(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]))
    tensor([0, 1])
    """
    race = torch.empty_like(log_probabilities.detach()).exponential_()
    return (log_probabilities.detach() - race.log()).argmax(-1)


def _mean(annotations: Tensor, attention: Tensor) -> Tensor:
    return (attention[:, None] @ annotations)[:, 0]  # (B, D)
