"""Writing: a network that foresees the next token is fed with what it has just said, from a prompt on.

The network reads the prompt and stands in the state it leaves. From its scores for what comes next one token is chosen
(`engram.text.sampling`), given out, and read as if it had stood in the text. Nothing that was said is ever taken back;
beam search (`engram.text.beam`) keeps several beginnings and gives the most probable text of a length, at once.

With the same generator the same text is written. What the vocabulary cannot say, its special tokens, is never chosen.

Graves 2013, Generating sequences with recurrent neural networks, arXiv:1308.0850, section 2.
"""

import codecs
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Generator, Tensor, nn

from engram.errors import UserError
from engram.text.beam import beam_search, select_rows
from engram.text.sampling import adjust, draw
from engram.text.vocabulary import Bytes, Vocabulary

NO_END = -1  # a text has no token that ends it


def write(
    net: nn.Module,
    vocabulary: Vocabulary,
    *,
    prompt: str = "",
    length: int = 500,
    rng: Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    greedy: bool = False,
) -> Iterator[str]:
    """Go on from a prompt, a piece of text a token; the prompt itself is not repeated.

    Args:
        net: tokens (B, T) and a state in, scores (B, T, V) and the state after out; it is put into evaluation mode.
        prompt: what it goes on from; without one, the beginning of a line.
        length: tokens to write.
        rng: on the network's device; without it, a new one of seed 0.
        temperature, top_k, top_p, greedy: see `engram.text.sampling`.

    Raises:
        UserError: a prompt with what the vocabulary lacks, or a setting out of range; before anything is written.

    >>> from engram.models.char_rnn import char_rnn
    >>> from engram.text.vocabulary import Characters
    >>> letters = Characters.of("ab\\n")
    >>> text = "".join(write(char_rnn(len(letters), hidden_size=4), letters, prompt="ab", length=8))
    >>> len(text), set(text) <= set("ab\\n")
    (8, True)
    """
    if length < 1:
        raise UserError(f"length {length} is out of range", allowed="1 or more")
    device = next(net.parameters()).device
    rng = rng or Generator(device=device).manual_seed(0)
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "greedy": greedy}
    adjust(torch.zeros(1, 1), **settings)  # refuses what is out of range now, and not at the first token
    tokens = primer(vocabulary, prompt)
    return _going_on(net, vocabulary, tokens.to(device), length, lambda scores: draw(adjust(scores, **settings), rng))


@torch.inference_mode()
def _going_on(
    net: nn.Module, vocabulary: Vocabulary, tokens: Tensor, length: int, choose: Callable[[Tensor], Tensor]
) -> Iterator[str]:
    net.eval()
    spell, silent = speller(vocabulary), unsaid(vocabulary).to(tokens.device)
    state = None
    for number in range(1, length + 1):
        scores, state = net(tokens, state)
        chosen = choose(scores[:, -1].float().masked_fill(silent, -math.inf))  # (1,)
        yield spell(int(chosen), number == length)
        tokens = chosen[:, None]


@torch.inference_mode()
def write_by_beam(net: nn.Module, vocabulary: Vocabulary, *, prompt: str = "", length: int, width: int) -> str:
    """The most probable text of a length that a search of a width finds.

    Raises:
        UserError: as for `write`, or a width below 1.
    """
    net.eval()
    device = next(net.parameters()).device
    tokens = primer(vocabulary, prompt).to(device)
    silent = unsaid(vocabulary).to(device)
    state = net(tokens[:, :-1], None)[1] if tokens.shape[1] > 1 else None

    def step(last: Tensor, state: Any) -> tuple[Tensor, Any]:
        scores, state = net(last[:, None], state)
        return scores[:, -1].float().masked_fill(silent, -math.inf).log_softmax(dim=1), state

    found = beam_search(
        step,
        int(tokens[0, -1]),
        state,
        width=width,
        end=NO_END,
        longest=length,
        select=functools.partial(select_rows, axis=1),
        device=device,
    )
    return vocabulary.decode(found[0].tokens)


def primer(vocabulary: Vocabulary, prompt: str) -> Tensor:
    """(1, T) tokens to read before the first is written: those of the prompt, or of a line's end.

    Raises:
        UserError: a prompt with what the vocabulary lacks.
    """
    tokens = vocabulary.encode(prompt)
    if not tokens:
        newline = vocabulary.index.get("\n")
        tokens = [len(vocabulary.special) if newline is None else newline]
    return torch.tensor([tokens])


def unsaid(vocabulary: Vocabulary) -> Tensor:
    """(V,) truth values: the special tokens, which are never written."""
    return torch.arange(len(vocabulary)) < len(vocabulary.special)


def speller(vocabulary: Vocabulary) -> Callable[[int, bool], str]:
    """From one token after another, and whether it is the last, to text; bytes of one character come out together.

    A character that the last token leaves unfinished comes out as U+FFFD.

    >>> spell = speller(Bytes())
    >>> [spell(byte, False) for byte in "é!".encode()]
    ['', 'é', '!']
    """
    if not isinstance(vocabulary, Bytes):
        return lambda token, last: vocabulary.decode([token])
    decoder, first = codecs.getincrementaldecoder("utf-8")(errors="replace"), len(vocabulary.special)
    return lambda token, last: decoder.decode(bytes([token - first]), final=last)
