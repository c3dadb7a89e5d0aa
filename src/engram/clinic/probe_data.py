"""The probe's data: some examples out of whatever holds them, always the same ones, as the network takes them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from engram.clinic.probe import UNIT_SAMPLES
from engram.clinic.subject import IGNORED, Call, Loss, Outputs, called, cross_entropy, foreseen
from engram.clinic.untouched import untouched
from engram.errors import UserError

Data = tuple[Any, Any] | Dataset[Any] | DataLoader[Any] | Iterable[Any]
"""(x, y); a dataset with a length and (x, y) at every index; or batches (x, y), as of a loader."""

LEAST = 2
"""Examples below which nothing can be measured."""

SEQUENCES = 64
"""Sequences whose labels tell how often each token is to be foreseen."""


@dataclass(frozen=True)
class Drawn:
    """Examples to measure on.

    Args:
        x: (N, C, *S) inputs on the network's device and in its precision.
        y: (N, ...) labels.
        num_classes: number of scores where the network gives (N, K) scores for whole labels, else None.
        examples: how many there are where these were drawn from; None where it has no length.
        entropy: of the labels drawn, in nats.
        unreadable: what was said of examples that could not be read.
        takes_scores: whether the loss takes (N, K) scores and (N,) labels that are not the network's own output.
    """

    x: Tensor
    y: Tensor
    num_classes: int | None
    examples: int | None
    entropy: float | None
    unreadable: tuple[str, ...] = ()
    takes_scores: bool = True


def draw(
    data: Data,
    net: nn.Module,
    loss: Loss = cross_entropy,
    *,
    call: Call = called,
    outputs: Outputs = foreseen,
    count: int = UNIT_SAMPLES,
) -> Drawn:
    """Up to `count` examples, spread evenly over a data set, or the first ones of batches; no generator moves on.

    Raises:
        UserError: nothing to draw, examples that are no (input, label), inputs of several shapes, a network that
            refuses them, outputs that are no scores of classes though the loss needs them, labels without a score.

    >>> drawn = draw((np.zeros((8, 3), np.float32), np.arange(8) % 2), nn.Linear(3, 2))
    >>> drawn.x.shape, drawn.num_classes, round(drawn.entropy, 4)
    (torch.Size([8, 3]), 2, 0.6931)
    """
    with untouched(net):
        x, y, examples, unreadable = _take(data, count)
    parameter = next(net.parameters())
    x, y = x.to(parameter.device), y.to(parameter.device)
    if x.dtype == torch.uint8 or (x.is_floating_point() and parameter.is_floating_point()):
        x = x.to(parameter.dtype)
    if len(x) != len(y):
        raise UserError(f"{len(x)} inputs and {len(y)} labels do not belong together")
    if len(x) < LEAST:
        raise UserError(f"the probe has {len(x)} examples", allowed=f"{LEAST} or more; a thousand tell dead units")
    scores, labels = _judged(net, x, y, call, outputs)
    num_classes = _classes(scores, labels, y, own=loss is not cross_entropy)
    if num_classes is None:
        return Drawn(x, y, None, examples, None, unreadable)
    entropy = _entropy(y if y.ndim == 1 else labels)
    return Drawn(x, y, num_classes, examples, entropy, unreadable, _takes(loss, scores, labels))


def _take(data: Data, count: int) -> tuple[Tensor, Tensor, int | None, tuple[str, ...]]:
    # in an order of its own: folders give one class after the other, and the first examples are used the most
    if isinstance(data, tuple | list) and len(data) == 2 and all(hasattr(one, "shape") for one in data):
        x, y = (torch.as_tensor(one) for one in data)
        chosen = spread(len(x), count)
        return x[chosen], y[chosen] if len(y) == len(x) else y, len(x), ()
    if isinstance(data, DataLoader) or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        return _first(data, count)
    if isinstance(data, tuple | list) and data and _is_batch(data[0]):
        return _first(data, count)
    if not len(data):  # type: ignore[arg-type]
        raise UserError("the data set is empty")
    pairs: list[tuple[Tensor, Tensor]] = []
    unreadable: list[str] = []
    for index in spread(len(data), count):  # type: ignore[arg-type]
        try:
            pairs.append(_pair(data[int(index)]))  # type: ignore[index]
        except UserError:
            raise
        except Exception as error:  # whatever reading an example may raise
            unreadable.append(f"example {int(index)}: {_line(error)}")
    if not pairs:
        raise UserError(f"no example of the data set can be read; {unreadable[0]}")
    return *_stacked(pairs), len(data), tuple(unreadable)  # type: ignore[arg-type]


def _first(batches: Any, count: int) -> tuple[Tensor, Tensor, int | None, tuple[str, ...]]:
    """The first examples of batches; where a loader fails half-way, what came before."""
    if not isinstance(batches, Iterable):
        raise UserError(
            f"a {type(batches).__name__} gives no examples", allowed="(x, y), a data set, or batches (x, y)"
        )
    taken: list[tuple[Tensor, Tensor]] = []
    unreadable: tuple[str, ...] = ()
    try:
        for batch in _enough(batches, count):
            taken.append(_pair(batch))
    except UserError:
        raise
    except Exception as error:  # whatever reading a batch may raise
        unreadable = (f"batch {len(taken)}: {_line(error)}",)
    if not taken:
        raise UserError(f"no batch can be read; {unreadable[0]}" if unreadable else "there are no batches")
    shapes = {tuple(x.shape[1:]) for x, _ in taken}
    if len(shapes) > 1:
        raise UserError(f"inputs have several shapes: {_some_shapes(shapes)}", then="bring them to one size first")
    held = getattr(batches, "dataset", None)
    examples = len(held) if hasattr(held, "__len__") else None  # type: ignore[arg-type]
    x, y = torch.cat([x for x, _ in taken])[:count], torch.cat([y for _, y in taken])[:count]
    order = _order(len(x)) if len(x) == len(y) else slice(None)
    return x[order], y[order], examples, unreadable


def _enough(batches: Iterable[Any], count: int) -> Iterator[Any]:
    seen = 0
    for batch in islice(batches, count):
        yield batch
        seen += len(batch[0]) if isinstance(batch, tuple | list) and batch else 1
        if seen >= count:
            return


def _is_batch(example: Any) -> bool:
    """Whether it is many inputs with as many labels."""
    pair = isinstance(example, tuple | list) and len(example) == 2 and all(isinstance(one, Tensor) for one in example)
    return pair and example[0].ndim > 1 and example[1].ndim > 0 and len(example[0]) == len(example[1])


def _pair(example: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(example, tuple | list) or len(example) < 2:
        raise UserError(f"an example is a {type(example).__name__}", allowed="(input, label)")
    x, y = example[0], example[1]
    return _tensor(x), torch.as_tensor(y)


def _tensor(x: Any) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if hasattr(x, "getbands"):  # a picture of Pillow, as folders give without a transform
        pixels = np.asarray(x)
        return torch.from_numpy(pixels.copy()).unsqueeze(0) if pixels.ndim == 2 else torch.tensor(pixels).movedim(2, 0)
    try:
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"an input is a {type(x).__name__}", allowed="a tensor, an array or a picture") from None


def _stacked(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    shapes = {tuple(x.shape) for x, _ in pairs}
    if len(shapes) > 1:
        raise UserError(f"inputs have several shapes: {_some_shapes(shapes)}", then="bring them to one size first")
    return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])


def _some_shapes(shapes: set[tuple[int, ...]]) -> str:
    return ", ".join(map(str, sorted(shapes)[:4]))


def _judged(net: nn.Module, x: Tensor, y: Tensor, call: Call, outputs: Outputs) -> tuple[Any, Tensor]:
    """What the network foresees of a few examples, and their labels; of sequences, whose places count, of more."""
    count = LEAST if y.ndim == 1 else SEQUENCES
    try:
        with untouched(net), torch.no_grad():
            return outputs(call(net, x[:count], y[:count]), y[:count])
    except Exception as error:  # the network is anybody's, and so is what it raises
        raise UserError(
            f"the network refuses inputs of shape {tuple(x.shape[1:])}, {str(x.dtype).removeprefix('torch.')}: "
            f"{_line(error)}",
            then="give the probe what the network is trained on",
        ) from None


def _classes(scores: Any, labels: Tensor, y: Tensor, *, own: bool) -> int | None:
    """How many scores there are for whole labels; refuses what the loss, unless it is one's own, cannot take."""
    whole = labels.ndim == 1 and not labels.is_floating_point() and labels.dtype != torch.bool
    are_scores = isinstance(scores, Tensor) and scores.is_floating_point() and scores.ndim == 2 and scores.shape[1] > 1
    if own and not (whole and are_scores):
        return None
    if not are_scores:
        given = f"{tuple(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise UserError(
            f"the network gives {given} for {LEAST if y.ndim == 1 else min(SEQUENCES, len(y))} inputs, which is no "
            "score for each class",
            allowed="(examples, classes) from two classes up, (examples, places, classes) for labels (examples, "
            "places), or a loss of your own",
            then="engram.examine(net, data, loss=lambda output, y: ...)",
        )
    if not whole:
        raise UserError(f"labels are {str(y.dtype).removeprefix('torch.')} {tuple(y.shape)}", allowed="whole, one each")
    labels = y if y.ndim == 1 else labels
    if not len(labels):
        raise UserError(f"none of the labels {tuple(y.shape)} counts", allowed=f"labels from 0 up beside {IGNORED}")
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise UserError(
            f"labels go from {int(labels.min())} to {int(labels.max())}, and the network gives {scores.shape[1]} "
            "scores",
            allowed=f"0 to {scores.shape[1] - 1}",
        )
    return scores.shape[1]


def _takes(loss: Loss, scores: Tensor, labels: Tensor) -> bool:
    """Whether the loss can be asked of scores by themselves: one's own may want what else the network gives."""
    try:
        return torch.as_tensor(loss(scores, labels)).numel() == 1
    except Exception:  # whatever a loss of anybody's may raise
        return False


def _entropy(y: Tensor) -> float:
    counts = torch.bincount(y).tolist()
    return -sum(one / len(y) * math.log(one / len(y)) for one in counts if one)


def spread(total: int, count: int) -> Tensor:
    """At most `count` places of `total`, evenly apart, shuffled the same way every time."""
    evenly = torch.arange(total) if total <= count else torch.linspace(0, total - 1, count).round().long()
    return evenly[_order(len(evenly))]


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
