"""Beam search against every sentence there is, greedy search at width 1, and the state that goes with each."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn

from engram.errors import UserError
from engram.text.beam import beam_search, length_penalty, select_rows

VOCABULARY, LONGEST, START, END = 4, 4, 1, 0


class Net(nn.Module):
    """A random recurrent network: what comes next depends on all before it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(VOCABULARY, 5)
        self.net = nn.LSTM(5, 6)
        self.head = nn.Linear(6, VOCABULARY)
        for weight in self.parameters():
            weight.data.normal_(0, 1.2)
        self.double().requires_grad_(False)

    def step(self, tokens, state):
        out, state = self.net(self.embed(tokens)[None], state)
        return self.head(out[0]).log_softmax(1), state

    def sentence(self, tokens):
        """log P of a sentence as it is, read in one go."""
        out, _ = self.net(self.embed(torch.tensor([START, *tokens[:-1]]))[:, None])
        return self.head(out[:, 0]).log_softmax(1)[range(len(tokens)), list(tokens)].sum().item()


def search(net, **settings):
    zeros = torch.zeros(1, 1, 6, dtype=torch.float64)
    settings = {"end": END, "longest": LONGEST, "select": functools.partial(select_rows, axis=1), **settings}
    return beam_search(net.step, START, (zeros, zeros), **settings)


def every_sentence(net, strength):
    """All sentences that end, or are cut at the longest, by falling score."""
    found = []
    for length in range(1, LONGEST + 1):
        for body in itertools.product(range(1, VOCABULARY), repeat=length - 1):
            last = range(VOCABULARY) if length == LONGEST else [END]
            for token in last:
                total = net.sentence((*body, token))
                score = total / ((5 + length) / 6) ** strength
                found.append((score, body if token == END else (*body, token), token == END))
    return sorted(found, key=lambda one: -one[0])


@pytest.mark.parametrize("strength", [0.0, 0.65, 2.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_is_exhaustive_search(seed, strength):
    net = Net(seed)
    width = VOCABULARY ** (LONGEST - 1)
    ours = search(net, width=width, strength=strength)
    theirs = every_sentence(net, strength)[:width]
    assert [(one.tokens, one.ended) for one in ours] == [(tokens, ended) for _, tokens, ended in theirs]
    assert [one.score for one in ours] == pytest.approx([score for score, _, _ in theirs], rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_width_one_is_greedy(seed):
    net = Net(seed)
    tokens, total, token, state = [], 0.0, START, None
    while len(tokens) < 12 and (not tokens or tokens[-1] != END):
        logs, state = net.step(torch.tensor([token]), state)
        token = int(logs.argmax())
        total += float(logs[0, token])
        tokens.append(token)
    (ours,) = search(net, width=1, longest=12)
    assert [*ours.tokens, *([END] if ours.ended else [])] == tokens
    assert ours.log_probability == pytest.approx(total, rel=1e-9)


def test_any_width_gives_true_probabilities_and_never_worse_than_it_says():
    for seed, width in itertools.product(range(8), (2, 3, 5)):
        net = Net(seed)
        found = search(net, width=width, strength=0.65)
        assert len(found) <= width
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            tokens = (*one.tokens, END) if one.ended else one.tokens
            assert one.log_probability == pytest.approx(net.sentence(tokens), rel=1e-9)
            assert one.score == pytest.approx(one.log_probability / length_penalty(len(tokens), 0.65))
            assert one.ended or len(tokens) == LONGEST


def test_a_wider_beam_finds_what_the_likeliest_word_misses():
    table = torch.tensor([[0.0, 0.0, 0.6, 0.4], [0.0, 0.0, 0.6, 0.4], [0.35, 0.25, 0.2, 0.2], [1.0, 0.0, 0.0, 0.0]])
    found = [
        beam_search(lambda tokens, state: (table[tokens].log(), state), 1, None, width=width, end=0, longest=4)[0]
        for width in (1, 2)
    ]
    assert [one.tokens for one in found] == [(2,), (3,)]
    assert [math.exp(one.log_probability) for one in found] == pytest.approx([0.21, 0.4], rel=1e-6)


def test_ended_sentences_take_no_place_from_those_that_go_on_and_enter_by_rank():
    table = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.4, 0.0, 0.35, 0.25], [0.5, 0.0, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])

    def step(tokens, state):
        return table[tokens].log(), state

    found = beam_search(step, 1, None, width=2, end=0, longest=4)
    assert [one.tokens for one in found] == [(), (3,)]  # 0.4; 0.25, though third at the first step; (2,) has 0.175
    table = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.1, 0.0, 0.5, 0.4], [0.76, 0.0, 0.24, 0.0], [0.36, 0.0, 0.0, 0.64]])
    found = beam_search(step, 1, None, width=2, end=0, longest=12)
    assert [one.tokens for one in found] == [(2,), (3, 3)]  # 0.38; 0.092: (3,), of 0.144, came third at its step


def test_the_penalty_prefers_the_longer_of_two_as_likely():
    table = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]]).log()

    def step(tokens, state):
        return table[tokens], state

    assert [one.tokens for one in beam_search(step, 1, None, width=2, end=0, longest=3, strength=1.0)] == [(2,), ()]


def test_it_stops_when_nothing_better_can_come_and_not_before():
    steps = []

    def step(tokens, state):
        steps.append(len(tokens))
        return torch.tensor([[0.9, 0.05, 0.05]]).log().expand(len(tokens), -1), state

    beam_search(step, 1, None, width=2, end=0, longest=50)
    assert len(steps) == 2  # the second end has 0.045, all that goes on less
    steps.clear()
    beam_search(step, 1, None, width=2, end=0, longest=50, strength=5.0)
    assert len(steps) > 2  # a long one could still be forgiven enough


def test_each_sentence_has_the_state_it_was_foreseen_from():
    def step(tokens, state):
        history = torch.cat([state["read"], tokens[:, None]], dim=1)
        chances = torch.tensor([[0.3, 0.1, 0.35, 0.25]]).expand(len(tokens), -1)
        return chances.log(), {"read": history, "name": "kept"}

    found = beam_search(step, 1, {"read": torch.empty(1, 0, dtype=torch.long)}, width=4, end=0, longest=3)
    assert any(one.ended for one in found)
    assert any(not one.ended for one in found)
    for one in found:
        read = [1, *one.tokens] if one.ended else [1, *one.tokens[:-1]]
        assert one.state["read"].tolist() == [read]
        assert one.state["name"] == "kept"


def test_what_must_not_be_taken_never_is():
    table = torch.tensor([[0.0, 1.0]]).log()
    found = beam_search(
        lambda tokens, state: (table.expand(len(tokens), -1), state), 1, None, width=3, end=0, longest=2
    )
    assert [(one.tokens, one.ended) for one in found] == [((1, 1), False)]


@pytest.mark.parametrize("settings", [{"width": 0}, {"longest": 0, "width": 1}, {"strength": -1.0, "width": 1}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match="out of range"):
        search(Net(0), **settings)
