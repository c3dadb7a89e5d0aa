"""What every program trains: a text, a network that writes, and how both are cut."""

import argparse
from dataclasses import dataclass
from pathlib import Path

ROWS = 50  # sequences in a batch
LENGTH = 50  # tokens in a sequence
LR = 2e-3


@dataclass(frozen=True)
class Model:
    """Recurrent layers, one on the other, and a linear head. `embedding` 0 is one-hot input."""

    hidden_size: int
    depth: int
    embedding: int
    kind: str = "LSTM"

    @property
    def gates(self) -> int:
        """Blocks of rows in each matrix."""
        return {"LSTM": 4, "GRU": 3}[self.kind]

    def parameters(self, vocabulary: int) -> int:
        """Weights and biases with torch's two biases a gate."""
        width = self.embedding or vocabulary
        inputs = [width] + [self.hidden_size] * (self.depth - 1)
        layers = sum(self.gates * self.hidden_size * (one + self.hidden_size + 2) for one in inputs)
        return vocabulary * self.embedding + layers + vocabulary * (self.hidden_size + 1)


MODELS = {
    "2x128-one-hot": Model(128, 2, 0),  # char-rnn's defaults
    "2x128-embedding": Model(128, 2, 128),
    "2x512-one-hot": Model(512, 2, 0),
    "2x512-embedding": Model(512, 2, 512),
    "2x128-one-hot-gru": Model(128, 2, 0, "GRU"),
}


@dataclass(frozen=True)
class Text:
    """Characters as numbers in the order of their code points."""

    codes: list[int]
    vocabulary: int


def read(path: str) -> Text:
    """The file's characters, numbered."""
    text = Path(path).read_text(encoding="utf-8")
    number = {character: index for index, character in enumerate(sorted(set(text)))}
    return Text([number[character] for character in text], len(number))


def arguments() -> argparse.Namespace:
    """The options of every program; `model` is looked up, `text` is read."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", required=True, choices=list(MODELS))
    parser.add_argument("--mode", required=True)
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    chosen.model, chosen.text = MODELS[chosen.model], read(chosen.data)
    return chosen
