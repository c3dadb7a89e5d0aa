"""Writing: what is drawn, from where it goes on, and that what cannot be said never is."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from engram.errors import UserError
from engram.models.char_rnn import CharRNN, char_gru, char_lstm, char_rnn
from engram.text.vocabulary import SPECIAL, UNKNOWN, Bytes, Characters, Vocabulary, Words
from engram.text.writing import primer, speller, unsaid, write, write_by_beam

LETTERS = Characters.of("abcd\n")
KINDS = {"rnn": char_rnn, "lstm": char_lstm, "gru": char_gru}
kinds = pytest.mark.parametrize("kind", KINDS)


def net_of(kind: str = "lstm", vocabulary: Vocabulary = LETTERS, **settings: float) -> CharRNN:
    """With scores far enough apart that texts differ."""
    torch.manual_seed(1)
    net = KINDS[kind](len(vocabulary), hidden_size=6, depth=2, **settings)
    with torch.no_grad():
        for weight in net.recurrent.parameters():
            weight.mul_(3)
        net.head.weight.normal_(std=3.0)
    return net


class Says(nn.Module):
    """A network that says these tokens one after the other, whatever it reads; its state is how many it has said."""

    def __init__(self, tokens: list[int], vocabulary: int) -> None:
        super().__init__()
        self.says = nn.Parameter(torch.tensor(tokens, dtype=torch.float32))
        self.vocabulary = vocabulary
        self.read: list[list[int]] = []

    def forward(self, tokens: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        self.read.append(tokens[0].tolist())
        state = torch.zeros(1, len(tokens), 1) if state is None else state
        place = int(state[0, 0, 0])
        scores = torch.full((len(tokens), tokens.shape[1], self.vocabulary), -9.0)
        scores[..., int(self.says[place % len(self.says)])] = 9.0
        return scores, state + 1


def text_of(net: nn.Module, vocabulary: Vocabulary = LETTERS, seed: int | None = None, **settings: object) -> str:
    rng = None if seed is None else torch.Generator().manual_seed(seed)
    return "".join(write(net, vocabulary, rng=rng, **settings))


@kinds
def test_a_seed_decides_the_text_and_nothing_else_does(kind: str) -> None:
    net = net_of(kind)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    texts = [text_of(net, seed=seed, length=60) for seed in (3, 3, 4)]
    assert torch.equal(before, torch.get_rng_state())
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 60
    assert text_of(net, length=30) == text_of(net, seed=0, length=30)  # without a generator, one of seed 0


@kinds
@pytest.mark.parametrize("prompt", ["b", "abba\nd"])
def test_greedy_is_the_likeliest_after_all_that_was_read(kind: str, prompt: str) -> None:
    net = net_of(kind)
    text = text_of(net, prompt=prompt, length=25, greedy=True)
    assert len(set(text)) > 1
    tokens = LETTERS.encode(prompt + text)
    with torch.no_grad():
        scores, _ = net(torch.tensor([tokens]))
    best = scores[0].argmax(1)[len(prompt) - 1 : -1]
    assert best.tolist() == tokens[len(prompt) :]


@kinds
@pytest.mark.parametrize("prompt", ["", "ab"])
def test_a_wide_beam_finds_the_most_probable_of_all_texts(kind: str, prompt: str) -> None:
    net, length = net_of(kind), 3
    before = LETTERS.encode(prompt or "\n")
    with torch.no_grad():
        every = list(itertools.product(range(len(LETTERS)), repeat=length))
        read = torch.tensor([[*before, *one] for one in every])
        logs = net(read)[0].log_softmax(2)[:, len(before) - 1 : -1]
    totals = logs.gather(2, read[:, len(before) :, None])[..., 0].sum(1)
    best = LETTERS.decode(every[int(totals.argmax())])
    found = write_by_beam(net, LETTERS, prompt=prompt, length=length, width=len(LETTERS) ** length)
    assert found == best


@kinds
def test_a_beam_of_one_is_greedy(kind: str) -> None:
    net = net_of(kind)
    greedy = text_of(net, prompt="ab", length=12, greedy=True)
    assert write_by_beam(net, LETTERS, prompt="ab", length=12, width=1) == greedy


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_draws_have_the_probabilities_of_their_temperature(temperature: float) -> None:
    net, number = net_of("rnn"), 1500
    with torch.no_grad():  # scores that never change: each token is a draw of its own
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5]))
    wanted = (net.head.bias.detach().double() / temperature).softmax(0)
    text = text_of(net, seed=0, length=number, temperature=temperature)
    counts = torch.tensor([text.count(letter) for letter in LETTERS.entries])
    error = (wanted * (1 - wanted) / number).sqrt()
    assert ((counts / number - wanted).abs() < 4 * error).all()


def test_top_k_and_top_p_reach_the_draws() -> None:
    net = net_of("rnn")
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25]).log())
    assert set(text_of(net, length=100, top_k=2)) == {LETTERS.entries[2], LETTERS.entries[4]}
    assert set(text_of(net, length=100, top_p=0.6)) == {LETTERS.entries[place] for place in (1, 2, 4)}


@pytest.mark.parametrize("how", ["draws", "greedy", "beam"])
def test_special_tokens_are_never_written(how: str) -> None:
    words = Words.of("to be or not to be\n", style="text", special=SPECIAL)
    net = net_of("lstm", words)
    with torch.no_grad():
        net.head.bias[: len(SPECIAL)] = 50.0  # nothing is likelier
    if how == "beam":
        text = write_by_beam(net, words, prompt="to be", length=9, width=3)
    else:
        text = text_of(net, words, prompt="to be", length=40, greedy=how == "greedy")
    assert text
    assert "<" not in text
    assert set(words.encode(text)) <= set(range(len(SPECIAL), len(words)))
    assert unsaid(words).tolist() == [True] * 4 + [False] * (len(words) - 4)


def test_it_reads_the_prompt_once_and_then_a_token_at_a_time() -> None:
    net = Says(LETTERS.encode("dab"), len(LETTERS))
    assert text_of(net, prompt="abc", length=5, greedy=True) == "dabda"
    assert net.read == [LETTERS.encode("abc"), *([token] for token in LETTERS.encode("dabd"))]


def test_without_a_prompt_it_begins_as_after_a_line() -> None:
    assert primer(LETTERS, "").tolist() == [[LETTERS.index["\n"]]]
    assert primer(LETTERS, "ab").tolist() == [LETTERS.encode("ab")]
    no_lines = Characters.of("ab", special=(UNKNOWN,))
    assert primer(no_lines, "").tolist() == [[1]]  # its first letter, and nothing special


def test_a_prompt_with_unknown_characters_is_refused_before_anything_is_written() -> None:
    net = net_of()
    for begin in (
        lambda: write(net, LETTERS, prompt="Abé", length=5),
        lambda: write_by_beam(net, LETTERS, prompt="Abé", length=5, width=2),
    ):
        with pytest.raises(UserError, match="the vocabulary of 5 characters lacks 'A', 'é'") as caught:
            begin()
        assert "'a' for 'A'" in str(caught.value)


def test_where_unknown_is_known_a_prompt_of_it_is_read() -> None:
    letters = Characters.of("abcd\n", special=(UNKNOWN,))
    assert primer(letters, "aé").tolist() == [[letters.index["a"], 0]]
    text = text_of(net_of("gru", letters), letters, prompt="aé", length=20)
    assert set(text) <= set("abcd\n")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"length": 0}, "length 0"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"top_k": 0}, "top-k 0"),
        ({"top_p": 0.0}, "top-p 0.0"),
        ({"top_p": 1.5}, "top-p 1.5"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(settings: dict[str, float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        write(net_of(), LETTERS, **settings)
    with pytest.raises(UserError, match="width 0"):
        write_by_beam(net_of(), LETTERS, length=3, width=0)


def test_bytes_of_a_character_come_out_together() -> None:
    said = "né€🙂!"
    vocabulary = Bytes()
    net = Says(list(said.encode()), len(vocabulary))
    pieces = list(write(net, vocabulary, prompt="a", length=len(said.encode()), greedy=True))
    assert pieces == ["n", "", "é", "", "", "€", "", "", "", "🙂", "!"]
    assert write_by_beam(net, vocabulary, prompt="a", length=len(said.encode()), width=1) == said
    assert list(write(net, vocabulary, prompt="é", length=2, greedy=True)) == ["n", "\ufffd"]  # half an é
    assert net.read[-2] == list("é".encode())


def test_bytes_that_are_no_utf_8_are_marked() -> None:
    spell = speller(Bytes())
    assert "".join(spell(byte, False) for byte in [65, 0xFF, 66]) == "A\ufffdB"
    special = Bytes(("<padding>",))
    spell = speller(special)
    assert "".join(spell(byte, False) for byte in special.encode("ß")) == "ß"


def test_words_are_spelled_with_their_blanks() -> None:
    words = Words.of("to be, or not\n", style="text", special=(UNKNOWN,))
    net = Says(words.encode("to be, or not\n"), len(words))
    assert list(write(net, words, length=6, greedy=True)) == ["to", " be", ",", " or", " not", "\n"]


def test_dropout_is_off_and_nothing_else_is_left_on() -> None:
    net = net_of(drop=0.5).train()
    pieces = write(net, LETTERS, prompt="a", length=30, greedy=True)
    first = next(pieces)
    assert not torch.is_inference_mode_enabled()  # between two pieces anybody may train
    text = first + "".join(pieces)
    assert text == text_of(net_of().eval(), prompt="a", length=30, greedy=True)
    assert not net.training
    net.train()
    assert write_by_beam(net, LETTERS, prompt="a", length=30, width=1) == text
    assert not math.isnan(float(net(torch.zeros(1, 1, dtype=torch.int64))[0].detach().sum()))
