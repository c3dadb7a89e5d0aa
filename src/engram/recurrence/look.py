"""A look inside a network that writes, into its run's folder: what its cells follow, how far back its gradient reaches.

Into `probes/`, for the page and for whoever wants the numbers:

    cells.npz     bits, meaningful, learned (F, layers, H); gate (G,), shut, open (G, layers, H); values (K, P), the
                  shown cells along the passage: above and below their own middle, 127 as far as they mostly go
    cells.json    what these are: the features, the counts, the shown cells, the passage piece by piece
    time.npz      a moment of training a row: step (M,), state (S,), last and mean (M, S, layers, T), gate (G,), largest
                  (M, layers, G), steps (M, layers, N); see `past_gradient` and `spectrum`

How much is read follows the size of the network, so that a look at three layers of 512 units takes some five seconds on
one core; the same network and text give the same files. Learned is what a cell knows at least twice as much of as any
cell of the same layers untrained, with weights drawn as `char_lstm` and its sisters draw them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram import atomic
from engram.errors import UserError
from engram.layers.recurrent import LSTM
from engram.models.char_rnn import CharRNN
from engram.recurrence import spectrum
from engram.recurrence.cells import SHIFTS, Cells, beyond, follow, most
from engram.recurrence.past_gradient import past_gradient
from engram.recurrence.reading import WARM_UP, Reading, Spelled, at_steps, read, spell
from engram.recurrence.text_features import features
from engram.text.vocabulary import Vocabulary

WORK = 4_000_000
"""Steps times cells that are read."""
MOST, LEAST = 12_000, 2_000
"""Steps that are read at most, and at least."""
PASSAGE = 420
DRAWS, FEW = 4, 640
"""How often new weights are drawn, where there are no more cells; once where there are, since many vary less."""
SHOWN = 8
"""Cells that are coloured, at most; one that follows nothing comes on top."""
READABLE = 0.5
"""Share of a feature's entropy from which a cell shows it to the eye."""
BACK, SAMPLES = 100, 4
"""Steps that the gradient is followed back, in how many stretches of the text."""


def look(net: CharRNN, vocabulary: Vocabulary, text: str, folder: Path, *, step: int = 0) -> dict[str, Any]:
    """Write all three files; returns what `cells.json` holds.

    Args:
        text: one that the network was not trained on; its end is read, as much as the network's size allows.
        folder: of the run; `probes/` in it is made.
        step: of training, for the moment in `time.npz`.

    Raises:
        UserError: the text is too short, or the vocabulary lacks some of it, or the network is not one of `char_rnn`.
        OSError: the files cannot be written.

    >>> import tempfile
    >>> from engram.models.char_rnn import char_gru
    >>> from engram.text.vocabulary import Characters
    >>> text = "ANNA:\\nYes, but not now.\\n\\n" * 40
    >>> letters = Characters.of(text)
    >>> folder = Path(tempfile.mkdtemp())
    >>> look(char_gru(len(letters), hidden_size=4), letters, text, folder)["cells"]
    8
    >>> sorted(path.name for path in (folder / "probes").iterdir())
    ['cells.json', 'cells.npz', 'time.npz']
    """
    spelled = _end_of(net, vocabulary, text)
    told = look_at_cells(net, spelled, folder, step=step)
    look_back(net, spelled, folder, step=step)
    return told


def look_at_cells(net: CharRNN, spelled: Spelled, folder: Path, *, step: int = 0) -> dict[str, Any]:
    """Write `cells.npz` and `cells.json`; see `look`."""
    was_training = net.training
    net.eval()
    device = net.head.weight.device
    tokens = torch.tensor(spelled.tokens, device=device)
    reading = read(net, tokens)
    units = reading.cells[0].size
    places = reading.places
    given = at_steps(spelled, features(spelled.text), places)
    told = {name: side for name, side in given.items() if (side != side[0]).any()}  # of what is read, not of all
    if not told:
        raise UserError("this text is the same everywhere: there is nothing that a cell could follow")
    found = follow(reading.cells.reshape(-1, units), told)
    draws = DRAWS if units <= FEW else 1
    controls = (read(untrained(net, seed), tokens).cells for seed in range(draws))
    best = np.max([most(cells.reshape(-1, units), told) for cells in controls], axis=0)  # (F,)
    learned = beyond(found, best)
    net.train(was_training)
    width = net.recurrent.hidden_size
    best_of = _best(found)
    shown = _shown(best_of, learned)
    quiet = _follows_nothing(found)
    values = reading.cells.reshape(-1, units)

    def cell(f: int, u: int) -> dict[str, Any]:
        name = found.names[f]
        return {
            "layer": u // width,
            "unit": u % width,
            "feature": name,
            "bits": float(found.bits[f, u]),
            "share": float(found.bits[f, u] / found.entropy[f]),
            "sign": float(found.sign[f, u]),
            "learned": bool(learned[f, u]),
            "profile": profile(values[:, u], told[name]),
        }

    start, stop = _passage(reading, told, [found.names[f] for f, _ in shown])
    shape = (-1, *reading.cells.shape[1:])
    gates = list(reading.gates.shut)
    columns = [u for _, u in shown] + ([] if quiet is None else [quiet])
    arrays = {
        "bits": found.bits.reshape(shape).astype(np.float32),
        "meaningful": found.meaningful.reshape(shape),
        "learned": learned.reshape(shape),
        "gate": np.array(gates, dtype="U1"),
        "shut": np.array([reading.gates.shut[name] for name in gates], np.float32).reshape(shape),
        "open": np.array([reading.gates.open[name] for name in gates], np.float32).reshape(shape),
        "values": np.rint(127 * around_middle(values[:, columns])[start:stop].T).astype(np.int8),
    }
    content = {
        "step": step,
        "kind": type(net.recurrent).__name__,
        "layers": net.recurrent.num_layers,
        "units": width,
        "read": len(places),
        "alarms": found.alarms,
        "shifts": SHIFTS,
        "draws": draws,
        "cells": units,
        "meaningful": int(found.meaningful.any(0).sum()),
        "learned": int(learned.any(0).sum()),
        "readable": int((found.bits >= READABLE * found.entropy[:, None]).any(0).sum()),
        "features": [
            _feature(found, learned, best, f) | {"best": cell(f, best_of[f]) if f in best_of else None}
            for f in range(len(found.names))
        ],
        "shown": [cell(f, u) for f, u in shown]
        + ([] if quiet is None else [{"layer": quiet // width, "unit": quiet % width, "feature": None}]),
        "passage": [spelled.pieces[place] for place in places[start:stop]],
    }
    _write(folder, "cells.npz", arrays)
    atomic.write(folder / "probes" / "cells.json", json.dumps(content, ensure_ascii=False))
    return content


def look_back(net: CharRNN, spelled: Spelled, folder: Path, *, step: int = 0) -> None:
    """Write a moment into `time.npz`, after those that are there of earlier steps; see `look`."""
    was_training = net.training
    net.eval()
    stack = net.recurrent
    tokens = torch.tensor(spelled.tokens, device=net.head.weight.device)
    x, y = stretches(tokens, min(BACK, len(tokens) // 2), SAMPLES)
    past = past_gradient(net, x, y)
    with torch.no_grad():
        inputs = net.inputs(x[:, : 1 + x.shape[1] // 2])  # states that have seen half as much will do
        inside = stack.gates(inputs)
    largest = spectrum.of_matrices(stack)
    lasting = _jacobians(net, inputs, inside)
    net.train(was_training)
    names = list(past.last)
    now = {
        "step": np.array([step]),
        "state": np.array(names, dtype="U1"),
        "last": np.stack([past.last[name] for name in names]).astype(np.float32)[None],
        "mean": np.stack([past.mean[name] for name in names]).astype(np.float32)[None],
        "gate": np.array(largest.gates, dtype="U1"),
        "largest": largest.values.astype(np.float32)[None],
        "steps": lasting.astype(np.float32)[None],
    }
    _write(folder, "time.npz", _joined(_earlier(folder / "probes" / "time.npz"), now, step))


def untrained(net: CharRNN, seed: int = 0) -> CharRNN:
    """The same layers with new weights, whatever torch's own generator stands at.

    >>> from engram.models.char_rnn import char_lstm
    >>> torch.equal(untrained(char_lstm(5)).head.weight, untrained(char_lstm(5)).head.weight)
    True
    """
    stack = net.recurrent
    more: dict[str, Any] = {"forget_bias": 1.0} if isinstance(stack, LSTM) else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = type(stack)(
            stack.input_size,
            stack.hidden_size,
            stack.num_layers,
            orthogonal=True,
            layer_norm=len(stack.norms) > 0,
            **more,
        )
        size = None if net.embedding is None else net.embedding.embedding_dim
        return CharRNN(net.vocabulary, fresh, embedding=size).to(net.head.weight).eval()


def stretches(tokens: Tensor, length: int, count: int) -> tuple[Tensor, Tensor]:
    """So many stretches of a text, evenly apart, and the token that follows each of theirs; (count, length) each.

    >>> [part.tolist() for part in stretches(torch.arange(9), 3, 2)]
    [[[0, 1, 2], [5, 6, 7]], [[1, 2, 3], [6, 7, 8]]]
    """
    starts = torch.linspace(0, len(tokens) - length - 1, count).long().tolist()
    rows = torch.stack([tokens[start : start + length + 1] for start in starts])
    return rows[:, :-1], rows[:, 1:]


def _end_of(net: CharRNN, vocabulary: Vocabulary, text: str) -> Spelled:
    """The end of the text, as much of it as suits the network's size."""
    if not isinstance(net, CharRNN):
        raise UserError(
            f"a {type(net).__name__} has no cells to look at", allowed="a network that writes: char_lstm ..."
        )
    units = net.recurrent.hidden_size * net.recurrent.num_layers
    count = min(max(WORK // units, LEAST), MOST)
    # a word takes several characters and a character at most four bytes; what is too much is cut off by steps
    spelled = spell(vocabulary, text[-count * (12 if vocabulary.unit == "word" else 1) :])
    extra = len(spelled.tokens) - count
    if extra > 0:
        spelled = Spelled(spelled.text, spelled.tokens[extra:], spelled.pieces[extra:], spelled.ends[extra:])
    if len(spelled.tokens) < 4 * WARM_UP:
        raise UserError(
            f"a text of {len(spelled.tokens)} steps is too short to look at", allowed=f"{4 * WARM_UP} or more"
        )
    return spelled


def _best(found: Cells) -> dict[int, int]:
    """For each feature that is followed, the cell that knows most of it; what they know of theirs falls."""
    best: dict[int, int] = {}
    for feature, unit in found.ranking():
        best.setdefault(feature, unit)
    return best


def _shown(best: dict[int, int], learned: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Features and cells to colour, a cell once; those that have learned theirs first."""
    ordered = sorted(best.items(), key=lambda one: not learned[one])
    once = {unit: (feature, unit) for feature, unit in reversed(ordered)}
    return [one for one in ordered if once[one[1]] == one][:SHOWN]


def _follows_nothing(found: Cells) -> int | None:
    """One of the cells that follow nothing, the middle one by what it knows of anything."""
    quiet = np.flatnonzero(~found.meaningful.any(0))
    if not quiet.size:
        return None
    known = (found.bits / found.entropy[:, None]).max(0)[quiet]
    return int(quiet[np.argsort(known, kind="stable")[len(quiet) // 2]])


def _passage(reading: Reading, told: dict[str, NDArray[np.int64]], names: Sequence[str]) -> tuple[int, int]:
    """The stretch of a row in which most of the shown features change; the last such one."""
    row, length = reading.row, min(reading.row, PASSAGE)
    stops = range(row, len(reading.places) + 1, row)

    def changing(stop: int) -> int:
        parts = [told[name][stop - length : stop] for name in names]
        return sum(bool((part != part[0]).any()) for part in parts)

    stop = max(stops, key=lambda stop: (changing(stop), stop))
    return stop - length, stop


def _feature(found: Cells, learned: NDArray[np.bool_], best: NDArray[np.float64], f: int) -> dict[str, Any]:
    return {
        "name": found.names[f],
        "entropy": float(found.entropy[f]),
        "threshold": float(found.threshold[f]),
        "untrained": float(best[f]),
        "largest": float(found.measured[f].max()),
        "meaningful": int(found.meaningful[f].sum()),
        "learned": int(learned[f].sum()),
    }


def around_middle(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, K) above and below each column's median, where 1 is as far as 98 in 100 of its values go at most.

    A cell that is always near -1 but inside names is then coloured in names alone.

    >>> around_middle(np.array([[-1.0], [-1.0], [-1.0], [0.0]])).ravel().tolist()
    [0.0, 0.0, 0.0, 1.0]
    """
    away = values - np.median(values, axis=0)
    far = np.quantile(np.abs(away), 0.98, axis=0)
    return np.clip(away / np.where(far > 0, far, np.inf), -1.0, 1.0)


def profile(values: NDArray[np.floating], feature: NDArray[np.int64], most: int = 12) -> list[list[float]]:
    """The feature's values, in groups where there are many, and the mean of a cell at each: what it does, in numbers.

    >>> profile(np.array([0.1, 0.3, -0.5]), np.array([0, 0, 1]))
    [[0.0, 0.2], [1.0, -0.5]]
    """
    distinct = np.unique(feature)
    groups = np.array_split(distinct, min(len(distinct), most))
    pairs = ((group, values[(feature >= group[0]) & (feature <= group[-1])]) for group in groups)
    return [[float(group.mean()), round(float(part.mean()), 6)] for group, part in pairs]


def _jacobians(net: CharRNN, inputs: Tensor, inside: dict[str, Tensor], count: int = 16) -> NDArray[np.float64]:
    """(layers, N) largest singular values of a step, at states of the second half of the stretches."""
    stack = net.recurrent
    steps = inputs.shape[1]
    at = torch.linspace(steps // 2, steps - 2, count // SAMPLES).long()
    found = []
    for layer in range(stack.num_layers):
        x = inputs if layer == 0 else inside["h"][layer - 1]  # (B, T, D)
        state = tuple(inside[name][layer][:, at].flatten(0, 1) for name in stack.states)  # (N, H)
        found.append(spectrum.of_steps(stack, layer, x[:, at + 1].flatten(0, 1), state))
    return np.stack(found)


def _earlier(path: Path) -> dict[str, NDArray[Any]]:
    """What the file holds; nothing where there is none, or one that cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError):
        return {}


def _joined(earlier: dict[str, NDArray[Any]], now: dict[str, NDArray[Any]], step: int) -> dict[str, NDArray[Any]]:
    """The moments before this step, and this one; of another network's form, only this one."""
    same = set(earlier) == set(now) and all(
        np.array_equal(earlier[name], now[name])
        if name in ("state", "gate")
        else earlier[name].shape[1:] == now[name].shape[1:]
        for name in now
    )
    if not same:
        return now
    kept = earlier["step"] < step
    return {
        name: value if name in ("state", "gate") else np.concatenate((earlier[name][kept], value))
        for name, value in now.items()
    }


def _write(folder: Path, name: str, arrays: dict[str, NDArray[Any]]) -> None:
    (folder / "probes").mkdir(parents=True, exist_ok=True)
    atomic.write(folder / "probes" / name, lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
