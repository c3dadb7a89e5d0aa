"""Likelihoods: padding counts for nothing, parts add up to the whole, and units are what they say."""

import math

import pytest
import torch
import torch.nn.functional as F

from engram.errors import UserError
from engram.text.likelihood import Likelihood, likelihood


def test_parts_of_unequal_length_add_up_to_the_whole_and_padding_is_no_text():
    rng = torch.Generator().manual_seed(0)
    scores = torch.randn(30, 5, generator=rng, dtype=torch.float64)
    y = torch.randint(1, 5, (30,), generator=rng)
    chances = scores.exp() / scores.exp().sum(1, keepdim=True)
    expected = math.exp(-sum(math.log(chances[place, token]) for place, token in enumerate(y.tolist())) / 30)
    losses = F.cross_entropy(scores, y, reduction="none")
    padded, fill = F.pad(losses[10:], (0, 4), value=math.nan), F.pad(y[10:], (0, 4), value=0)
    total = likelihood(losses[:10], y[:10]) + likelihood(padded.view(4, 6), fill.view(4, 6), padding=0)
    assert total.tokens == total.characters == 30
    assert total.perplexity == pytest.approx(expected, rel=1e-12)


def test_a_uniform_guess_has_the_perplexity_of_its_vocabulary():
    total = likelihood(torch.full((7,), math.log(65)), torch.zeros(7, dtype=torch.long))
    assert total.perplexity == pytest.approx(65, rel=1e-6)
    assert total.bits_per_character == pytest.approx(math.log2(65), rel=1e-6)
    assert total.nats_per_character == total.nats_per_token


def test_characters_are_those_that_the_tokens_stand_for():
    lengths = torch.tensor([0, 3, 5])
    total = likelihood(torch.tensor([8.0, 8.0, 1.0]), torch.tensor([1, 2, 0]), padding=0, characters=lengths)
    assert total == Likelihood(total=16.0, tokens=2, characters=8)
    assert (total.nats_per_token, total.nats_per_character) == (8.0, 2.0)
    assert total.bits_per_character == 2 / math.log(2)


def test_a_million_small_losses_are_summed_in_64_bits():
    losses = torch.full((1_000_000,), 0.1)
    assert likelihood(losses, losses.long()).total == pytest.approx(1e6 * losses[0].item(), rel=1e-12)


def test_what_cannot_be_said_is_not():
    assert Likelihood(1e6, 1, 1).perplexity == math.inf
    with pytest.raises(UserError, match="no token was counted"):
        _ = Likelihood().perplexity
    with pytest.raises(ValueError, match="differ in shape"):
        likelihood(torch.zeros(2), torch.zeros(2, 1))
