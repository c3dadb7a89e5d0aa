"""The course's captioner, put together from the rules: a picture begins a sentence, and each word asks for the next.

The idea: one vector of features is the first state of a recurrent network; the network reads the caption a word at a
time and at each step scores all words as the next one:

    h0 = features W_proj + b_proj            x_t = W_embed[word t]            h_t = rnn, lstm or gru step
    scores_t = h_t W_vocab + b_vocab          loss = Σ_t over words that are not <NULL> of softmax loss, over N captions

What goes in is the caption without its last word, what should come out the caption without its first. To describe a new
picture, begin with <START> and feed the best word back until <END>. With V words and T steps a fresh one starts near
T ln V.

It is for following every step and checking one's own solution; `engram.models` has one that trains in earnest. Draws
come from `rng` or NumPy's global generator in the course's order: W_embed / 100, then weights over the root of their
inputs.

Where we differ: a GRU is added to the course's two cells. As in the course a dictionary with V words is trusted to say
V, and words at 0 to V - 1.

Vinyals et al. 2015, Show and tell, arXiv:1411.4555, section 3; Karpathy and Fei-Fei 2015, arXiv:1412.2306, section 3.2;
Stanford CS231n, assignment 3, `CaptioningRNN`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device

from engram.errors import UserError, unknown
from engram.rules.affine import affine_backward, affine_forward
from engram.rules.arrays import Array, zeros
from engram.rules.embedding import word_embedding_backward, word_embedding_forward
from engram.rules.gru import gru_backward, gru_forward, gru_step_forward
from engram.rules.lstm import lstm_backward, lstm_forward, lstm_step_forward
from engram.rules.rnn import rnn_backward, rnn_forward, rnn_step_forward
from engram.rules.temporal import temporal_affine_backward, temporal_affine_forward, temporal_softmax_loss

CELLS: dict[str, tuple[int, Callable[..., Any], Callable[..., Any]]] = {
    "rnn": (1, rnn_forward, rnn_backward),
    "lstm": (4, lstm_forward, lstm_backward),
    "gru": (3, gru_forward, gru_backward),
}


class CaptioningRNN:
    """A recurrent network over words whose first state is a picture.

    Args:
        word_to_idx: numbers of the words, <NULL> among them, and <START> and <END> for `sample`.
        input_dim: D, features of a picture.
        wordvec_dim: W, numbers of a word.
        hidden_dim: H, numbers of a state.
        cell_type: "rnn", "lstm" or "gru".
        rng: draws the weights; NumPy's global generator where left out.
        array: turns each initial weight into another library's array: torch.from_numpy.

    Raises:
        UserError: another cell, or no <NULL>.

    >>> words = {"<NULL>": 0, "<START>": 1, "<END>": 2, "cat": 3}
    >>> net = CaptioningRNN(words, 5, 3, 4, cell_type="lstm", rng=np.random.default_rng(0))
    >>> loss, gradients = net.loss(np.ones((2, 5)), np.array([[1, 3, 2], [1, 2, 0]]))
    >>> round(float(loss), 1), sorted(gradients) == sorted(net.params), net.sample(np.ones((2, 5)), 6).shape
    (1.9, True, (2, 6))
    """

    def __init__(
        self,
        word_to_idx: Mapping[str, int],
        input_dim: int = 512,
        wordvec_dim: int = 128,
        hidden_dim: int = 128,
        cell_type: str = "rnn",
        dtype: Any = np.float32,
        *,
        rng: Any = None,
        array: Callable[[np.ndarray], Array] | None = None,
    ) -> None:
        if cell_type not in CELLS:
            raise unknown("cell_type", cell_type, CELLS)
        if "<NULL>" not in word_to_idx:
            raise UserError("a dictionary without <NULL>, the word that fills up short captions", allowed="one with it")
        self.cell_type, self.word_to_idx = cell_type, dict(word_to_idx)
        gates, words = CELLS[cell_type][0], len(word_to_idx)
        rng, array = rng or np.random, array or np.asarray
        columns = gates * hidden_dim
        sizes = {
            "W_embed": (words, wordvec_dim),
            "W_proj": (input_dim, hidden_dim),
            "b_proj": (hidden_dim,),
            "Wx": (wordvec_dim, columns),
            "Wh": (hidden_dim, columns),
            "b": (columns,),
            "W_vocab": (hidden_dim, words),
            "b_vocab": (words,),
        }
        self.params: dict[str, Array] = {}
        for name, shape in sizes.items():
            value = np.zeros(shape)
            if name.startswith("W"):
                value = rng.standard_normal(shape) / (100 if name == "W_embed" else np.sqrt(shape[0]))
            self.params[name] = array(value.astype(dtype))

    def loss(self, features: Array, captions: Array) -> tuple[Any, dict[str, Array]]:
        """The loss of captions, and gradients by name.

        Args:
            features: (N, D).
            captions: (N, T + 1), whole numbers; the network reads the first T and is asked for the last T.

        Raises:
            UserError: captions of one word, words outside of the dictionary, or features of another size.
        """
        if captions.ndim != 2 or captions.shape[1] < 2:
            raise UserError(f"captions {tuple(captions.shape)}", allowed="(N, T), from two words up")
        p, g, (_, forward, backward) = self.params, {}, CELLS[self.cell_type]
        features = array_namespace(features).astype(features, p["W_proj"].dtype)
        read, asked = captions[:, :-1], captions[:, 1:]  # (N, T), (N, T)
        h0, first = affine_forward(features, p["W_proj"], p["b_proj"])  # (N, H)
        x, embedded = word_embedding_forward(read, p["W_embed"])  # (N, T, W)
        h, walked = forward(x, h0, p["Wx"], p["Wh"], p["b"])  # (N, T, H)
        scores, scored = temporal_affine_forward(h, p["W_vocab"], p["b_vocab"])  # (N, T, V)
        loss, dscores = temporal_softmax_loss(scores, asked, asked != self.word_to_idx["<NULL>"])
        dh, g["W_vocab"], g["b_vocab"] = temporal_affine_backward(dscores, scored)
        dx, dh0, g["Wx"], g["Wh"], g["b"] = backward(dh, walked)
        g["W_embed"] = word_embedding_backward(dx, embedded)
        _, g["W_proj"], g["b_proj"] = affine_backward(dh0, first)
        return loss, g

    def sample(self, features: Array, max_length: int = 30) -> Array:
        """The words that follow, each the best after those before; behind <END> stands <NULL>.

        Args:
            features: (N, D).

        Returns:
            whole numbers (N, max_length).

        Raises:
            UserError: a dictionary without <START>.
        """
        if "<START>" not in self.word_to_idx:
            raise UserError("a dictionary without <START>, the word that a caption begins with", allowed="one with it")
        p, xp = self.params, array_namespace(features)
        features = xp.astype(features, p["W_proj"].dtype)
        h, _ = affine_forward(features, p["W_proj"], p["b_proj"])  # (N, H)
        c = zeros(h, h.shape)
        null, end = self.word_to_idx["<NULL>"], self.word_to_idx.get("<END>", -1)
        word = xp.full((h.shape[0],), self.word_to_idx["<START>"], dtype=xp.int64, device=device(features))
        done, chosen = word == -1, []
        for _ in range(max_length):
            x, _ = word_embedding_forward(word, p["W_embed"])  # (N, W)
            if self.cell_type == "lstm":
                h, c, _ = lstm_step_forward(x, h, c, p["Wx"], p["Wh"], p["b"])
            else:
                step = rnn_step_forward if self.cell_type == "rnn" else gru_step_forward
                h, _ = step(x, h, p["Wx"], p["Wh"], p["b"])
            word = xp.argmax(affine_forward(h, p["W_vocab"], p["b_vocab"])[0], axis=1)  # (N,)
            word = xp.where(done, xp.full_like(word, null), word)
            done = done | (word == end)
            chosen.append(word)
        return xp.stack(chosen, axis=1)
