"""Sentences found: greedy beside a beam of one, a beam beside every sentence there is, and the map of each word."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from engram.errors import UserError
from engram.models.captioner import (
    captioner_hard_attention,
    captioner_lstm,
    captioner_rnn,
    captioner_soft_attention,
)
from engram.models.captioner_network import Captioner
from engram.text.beam import beam_search
from engram.text.describe import describe
from engram.text.vocabulary import END, PADDING, START, Words

BUILDERS = {
    "rnn": captioner_rnn,
    "lstm": captioner_lstm,
    "soft": captioner_soft_attention,
    "hard": captioner_hard_attention,
}
builders = pytest.mark.parametrize("kind", BUILDERS)
WORDS = Words.of(["a b c", "a b", "a"])  # 4 to 6
SHAPE = (1, 4, 6)


def build(kind: str) -> Captioner:
    """With scores far enough apart that sentences differ, and an end that comes now and then."""
    torch.manual_seed(2)
    net = BUILDERS[kind](len(WORDS), shape=SHAPE, embedding_size=5, hidden_size=6, encoder_halvings=1).double()
    torch.nn.init.normal_(net.decoder.head.weight, std=2.0)
    torch.nn.init.normal_(net.embedding.weight, std=2.0)
    return net


def pictures(number: int = 5) -> Tensor:
    """Loud enough that they, and not the words before alone, decide."""
    return 30 * torch.randn(number, *SHAPE, generator=torch.Generator().manual_seed(0)).double()


@torch.no_grad()
def log_probabilities(net: Captioner, image: Tensor, sentences: list[list[int]]) -> list[float]:
    """Of sentences for one picture, from the scores of all their words at once."""
    longest = max(map(len, sentences))
    said = torch.tensor([[*one, *[0] * (longest - len(one))] for one in sentences])
    read = torch.cat([torch.ones(len(said), 1, dtype=torch.long), said[:, :-1]], 1)
    lengths = torch.tensor(list(map(len, sentences)))
    logs = net.eval()(image.expand(len(said), *SHAPE), read, lengths).scores.log_softmax(2)
    by_word = logs.gather(2, said[..., None])[..., 0]
    return (by_word * (torch.arange(longest) < lengths[:, None])).sum(1).tolist()


@builders
def test_greedy_is_a_beam_of_one(kind: str) -> None:
    net = build(kind)
    together = describe(net, pictures(), WORDS, longest=6)
    net.eval()
    for image, said in zip(pictures(), together, strict=True):

        def step(tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
            scores, state, _ = net.step(tokens, state)
            logs = scores.log_softmax(1)
            logs[:, [WORDS.index[PADDING], WORDS.index[START]]] = -torch.inf
            return logs, state

        with torch.no_grad():
            (best,) = beam_search(step, 1, net.begin(image[None]), width=1, end=WORDS.index[END], longest=6)
        assert said.words == tuple(WORDS.tokens[token] for token in best.tokens)
        assert said.log_probability == pytest.approx(best.log_probability)
        assert said.ended == best.ended
    assert len({said.sentence for said in together}) > 1


@builders
def test_a_wide_beam_finds_the_most_probable_of_all_sentences(kind: str) -> None:
    net = build(kind)
    found = describe(net, pictures(3), WORDS, width=64, longest=3)
    written = [3, 4, 5, 6]
    for image, said in zip(pictures(3), found, strict=True):
        sentences = [[*some, 2] for n in range(3) for some in itertools.product(written, repeat=n)]
        sentences += [list(some) for some in itertools.product(written, repeat=3)]
        known = log_probabilities(net, image, sentences)
        best = sentences[known.index(max(known))]
        tokens = [WORDS.index[word] for word in said.words] + ([2] if said.ended else [])
        assert tokens == best
        assert said.log_probability == pytest.approx(max(known))


@pytest.mark.parametrize("kind", ["soft", "hard"])
@pytest.mark.parametrize("width", [1, 3])
def test_each_word_has_the_map_it_was_foreseen_from(kind: str, width: int) -> None:
    net = build(kind)
    for image, said in zip(pictures(), describe(net, pictures(), WORDS, width=width, longest=5), strict=True):
        tokens = [WORDS.index[word] for word in said.words]
        with torch.no_grad():
            whole = net.eval()(image[None], torch.tensor([[1, *tokens]]), torch.tensor([len(tokens) + 1]))
        expected = whole.attention[0, : len(tokens)].view(-1, 2, 3).numpy()
        assert said.attention.dtype == np.float32
        np.testing.assert_allclose(said.attention, expected, atol=1e-6)
        np.testing.assert_allclose(said.attention.sum((1, 2)), np.ones(len(tokens)), atol=1e-6)


def test_without_attention_there_is_no_map_and_an_empty_sentence_is_one() -> None:
    net = build("lstm")
    assert describe(net, pictures(1), WORDS)[0].attention is None
    for kind in ("lstm", "soft"):
        net = build(kind)
        net.decoder.head.bias.data[WORDS.index[END]] = 1e3
        (said,) = describe(net, pictures(1), WORDS)
        assert (said.sentence, said.words, said.ended) == ("", (), True)
        assert said.log_probability == pytest.approx(0)
        assert said.attention is None or said.attention.shape == (0, 2, 3)


@pytest.mark.parametrize("width", [1, 2])
def test_padding_and_start_are_never_written_and_unknown_may_be(width: int) -> None:
    net = build("soft")
    net.decoder.head.bias.data[[0, 1]] = 1e3
    assert all(PADDING not in said.words and START not in said.words for said in describe(net, pictures(), WORDS))
    net.decoder.head.bias.data[3] = 2e3
    (said,) = describe(net, pictures(1), WORDS, width=width, longest=2)
    assert said.sentence == "<unknown> <unknown>"
    assert not said.ended


def test_the_network_is_as_it_was() -> None:
    net = build("hard")
    net.train()
    net.encoder.eval()
    before, generator = {name: value.clone() for name, value in net.state_dict().items()}, torch.get_rng_state()
    first = describe(net, pictures(), WORDS)
    assert net.training
    assert not net.encoder.training
    assert torch.equal(generator, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [said.sentence for said in first] == [said.sentence for said in describe(net, pictures(), WORDS)]


def test_a_length_penalty_prefers_longer_sentences() -> None:
    class Kept(NamedTuple):
        words: Tensor

    class Two(torch.nn.Module):
        """The end at once with 0.6, or `a` with 0.4 and surely the end."""

        def begin(self, images: Tensor) -> Kept:
            return Kept(torch.zeros(len(images), 1))

        def step(self, tokens: Tensor, state: Kept) -> tuple[Tensor, Kept, None]:
            scores = torch.full((len(tokens), len(WORDS)), -100.0)
            scores[:, 2] = torch.where(state.words[:, 0] == 0, 0.6, 1.0).log()
            scores[:, 4] = torch.where(state.words[:, 0] == 0, 0.4, 1e-9).log()
            return scores, Kept(state.words + 1), None

    images = torch.zeros(1, *SHAPE)
    assert describe(Two(), images, WORDS, width=2)[0].sentence == ""
    assert describe(Two(), images, WORDS, width=2, strength=4.0)[0].sentence == "a"


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"width": 0}, "width cannot be 0"), ({"longest": 0}, "longest cannot be 0"), ({"strength": -1}, "strength")],
)
def test_settings_that_cannot_be(settings: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        describe(build("soft"), pictures(1), WORDS, **settings)


def test_a_vocabulary_of_another_network() -> None:
    with pytest.raises(UserError, match="a vocabulary of 5 words for a network of 7"):
        describe(build("soft"), pictures(1), Words.of(["a"]))
