"""Beam search: the most probable sentences, where taking the likeliest word each time may miss them.

The K best beginnings are kept; each is continued by every token, and the K best of all the results are kept again.
A beginning that takes the end token is finished. Log-probabilities only fall, so longer sentences have smaller ones;
the length penalty makes up for it:

    score(Y) = log P(Y) / lp(Y),    lp(Y) = (5 + |Y|)^a / (5 + 1)^a          (Wu et al. 2016, equation 14)

|Y| counts the tokens with the end token. a = 0 is log P itself; 0.6 to 0.7 was best for the paper's translations.
Width 1 is greedy search. With a width of at least V^(longest - 1) nothing is ever dropped, and the result is that of
exhaustive search. Wide beams find more probable sentences, not better ones: captions are best with 2 to 5.

It stops early only when no beginning still going on can come before the finished ones: its log P can no more rise, and
its penalty no more grow than to that of the longest.

Graves 2012, arXiv 1211.3711, section 2.5. Wu et al. 2016, "Google's Neural Machine Translation System",
arXiv 1609.08144, section 7; their coverage penalty is left out: nothing has to be covered here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


@dataclass(frozen=True)
class Hypothesis:
    """A sentence that was found.

    Args:
        tokens: without the start and the end token.
        log_probability: nats, the end token's included.
        score: log_probability over the length penalty.
        ended: whether it took the end token, or was cut at the longest length.
        state: the step's state, one row of it, from which the last token (the end token if it ended) was foreseen.
    """

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool
    state: Any


def length_penalty(length: int, strength: float) -> float:
    """lp of a sentence of `length` tokens, the end token included.

    >>> length_penalty(1, 0.6), round(length_penalty(7, 1.0), 6)
    (1.0, 2.0)
    """
    return ((5 + length) / 6) ** strength


def beam_search(
    step: Step,
    start: int,
    state: Any,
    *,
    width: int,
    end: int,
    longest: int,
    strength: float = 0.0,
    select: Callable[[Any, Tensor], Any] | None = None,
    device: torch.device | str = "cpu",
) -> list[Hypothesis]:
    """The best sentences that a search of this width finds, at most `width`, best score first.

    Args:
        step: from tokens (K,) int64 and a state of K rows to log-probabilities (K, V) of the next token and the next
            state. Tokens that must not be taken have -inf.
        start: the token that comes before the first.
        state: of one row, before the start token.
        width: K, beginnings kept.
        end: the token that ends a sentence.
        longest: tokens, the end token included, at which a sentence is cut and counts as it is.
        strength: a of the length penalty.
        select: chooses rows of a state; `select_rows` without it, which takes the first axis. For the (layers, K, H) of
            torch's recurrent networks, `functools.partial(select_rows, axis=1)`.
        device: where the step takes its tokens.

    Raises:
        UserError: a setting is out of range.

    >>> def step(tokens, state):  # 0 ends; after 1 comes the end, after 2 another 2
    ...     table = torch.tensor([[0.0, 0.6, 0.4], [0.9, 0.05, 0.05], [0.1, 0.0, 0.9]])
    ...     return table[tokens].log(), state
    >>> best, second = beam_search(step, 0, None, width=2, end=0, longest=3)
    >>> best.tokens, round(math.exp(best.log_probability), 6), best.ended
    ((1,), 0.54, True)
    >>> second.tokens, round(math.exp(second.log_probability), 6), second.ended
    ((2, 2, 2), 0.324, False)
    """
    for name, value in (("width", width), ("longest", longest)):
        if value < 1:
            raise UserError(f"{name} {value} is out of range", allowed="1 or more")
    if strength < 0:
        raise UserError(f"length penalty {strength} is out of range", allowed="0 or more; 0.6 to 0.7 is usual")
    select = select or select_rows
    live: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    tokens = torch.tensor([start], device=device)
    done: list[Hypothesis] = []
    for length in range(1, longest + 1):
        log_probabilities, state = step(tokens, state)  # (K, V)
        vocabulary = log_probabilities.shape[1]
        totals = log_probabilities.double() + torch.tensor(
            [[total] for _, total in live], dtype=torch.float64, device=device
        )
        # one end for each beginning at most: of twice as many, `width` go on
        values, places = totals.flatten().topk(min(2 * width, totals.numel()))
        going: list[tuple[int, int, float]] = []
        for rank, (value, place) in enumerate(zip(values.tolist(), places.tolist(), strict=True)):
            row, token = divmod(place, vocabulary)
            if value == -math.inf or len(going) == width:
                break
            if token != end:
                going.append((row, token, value))
            elif rank < width:
                done.append(_finished(live[row][0], value, length, strength, True, select(state, _rows([row], device))))
        if length == longest:
            done.extend(
                _finished((*live[row][0], token), value, length, strength, False, select(state, _rows([row], device)))
                for row, token, value in going
            )
        done = sorted(done, key=lambda one: -one.score)[:width]
        if not going or _is_over(done, going[0][2], width, longest, strength):
            break
        state = select(state, _rows([row for row, _, _ in going], device))
        live = [((*live[row][0], token), value) for row, token, value in going]
        tokens = torch.tensor([token for _, token, _ in going], device=device)
    return done


def select_rows(state: Any, rows: Tensor, axis: int = 0) -> Any:
    """The rows of a tensor, or of all tensors in tuples, lists and dictionaries; anything else stays as it is.

    >>> select_rows((torch.tensor([5, 6, 7]), None), torch.tensor([2, 0]))
    (tensor([7, 5]), None)
    """
    if isinstance(state, Tensor):
        return state.index_select(axis, rows)
    if isinstance(state, (tuple, list)):
        inner = [select_rows(part, rows, axis) for part in state]
        return type(state)(*inner) if hasattr(state, "_fields") else type(state)(inner)
    if isinstance(state, dict):
        return {name: select_rows(part, rows, axis) for name, part in state.items()}
    return state


def _rows(rows: list[int], device: torch.device | str) -> Tensor:
    return torch.tensor(rows, device=device)


def _finished(
    tokens: tuple[int, ...], total: float, length: int, strength: float, ended: bool, state: Any
) -> Hypothesis:
    return Hypothesis(tokens, total, total / length_penalty(length, strength), ended, state)


def _is_over(done: list[Hypothesis], best: float, width: int, longest: int, strength: float) -> bool:
    """Whether nothing that still goes on, of log-probability `best` at most, can come before the last of `done`."""
    return len(done) == width and best / length_penalty(longest, strength) <= done[-1].score
