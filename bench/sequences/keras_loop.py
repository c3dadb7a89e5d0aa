"""Keras 3 on its PyTorch backend: a Sequential of its layers, `compile` and `fit` on arrays, as its guides have it.

Nothing is set but that the progress bar is off. It has no fused optimiser; `jit_compile` is off by default on this
backend. Its LSTM has one bias a gate where torch has two. Only the PyTorch backend is measured: no other is installed
beside it.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from turns import Turns
from workload import LENGTH, LR, ROWS, arguments


class AtTurns(keras.callbacks.Callback):
    """Tells every step."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.turns = turns

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.turns.step(float((logs or {})["loss"]))


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    keras.utils.set_random_seed(0)
    model, vocabulary = chosen.model, chosen.text.vocabulary
    if model.embedding:
        first = keras.layers.Embedding(vocabulary, model.embedding)
    else:
        first = keras.layers.Lambda(lambda x: keras.ops.one_hot(x, vocabulary))
    kind = keras.layers.LSTM if model.kind == "LSTM" else keras.layers.GRU
    layers = [kind(model.hidden_size, return_sequences=True) for _ in range(model.depth)]
    net = keras.Sequential([keras.Input((LENGTH,), dtype="int32"), first, *layers, keras.layers.Dense(vocabulary)])
    missing = 4 * model.hidden_size * model.depth if model.kind == "LSTM" else 0  # the second biases that torch has
    parameters = net.count_params() + missing
    if parameters != model.parameters(vocabulary):
        raise SystemExit(f"the network has {parameters} parameters")
    net.compile(optimizer=keras.optimizers.Adam(LR), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    codes = np.array(chosen.text.codes, dtype="int32")
    chunks = (len(codes) - 1) // LENGTH // ROWS * ROWS
    x = codes[: chunks * LENGTH].reshape(chunks, LENGTH)
    y = codes[1 : chunks * LENGTH + 1].reshape(chunks, LENGTH)
    turns = Turns(ROWS * LENGTH, {"versions": {"keras": keras.__version__}})
    net.fit(x, y, batch_size=ROWS, epochs=10**6, verbose=0, callbacks=[AtTurns(turns)])


if __name__ == "__main__":
    main()
