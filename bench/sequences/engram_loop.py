"""Engram: the parts that `engram train --task write` is made of, in a loop of their own.

The text in rows, chunk after chunk, the state carried over and detached; the network, the optimiser and the settings of
the process are those that a run chooses by itself. What a run does besides (saving, measuring, the clinic, the report)
is left out, as it is for the others.
"""

import itertools

import torch
import torch.nn.functional as F
from turns import Turns
from workload import LENGTH, LR, ROWS, arguments

import engram
from engram.models.char_rnn import char_gru, char_lstm
from engram.optimizers.adam import adam
from engram.text.chunks import Chunks
from engram.training.allocator import keep_freed_memory


def main() -> None:
    chosen = arguments()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    model, vocabulary = chosen.model, chosen.text.vocabulary
    kind = char_lstm if model.kind == "LSTM" else char_gru
    net = kind(
        vocabulary, hidden_size=model.hidden_size, depth=model.depth, embedding=model.embedding or None, drop=0.0
    )
    parameters = sum(p.numel() for p in net.parameters())
    if parameters != model.parameters(vocabulary):
        raise SystemExit(f"the network has {parameters} parameters")
    optimizer = adam(net.parameters(), lr=LR)
    chunks = Chunks(torch.tensor(chosen.text.codes), rows=ROWS, length=LENGTH)
    turns = Turns(ROWS * LENGTH, {"versions": {"engram": engram.__version__}})
    for _ in itertools.count():
        state = None
        for chunk in chunks:
            if chunk.x.shape[1] < LENGTH:
                continue
            scores, after = net(chunk.x, state)
            state = tuple(one.detach() for one in after) if isinstance(after, tuple) else after.detach()
            loss = F.cross_entropy(scores.flatten(0, 1), chunk.y.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            turns.step(loss.item())


if __name__ == "__main__":
    main()
