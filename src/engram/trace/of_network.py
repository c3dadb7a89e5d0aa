"""The flow through a network that is not trained yet: one of the registry, or one in a file of one's own.

What goes in is an image, numbers that a person gives, or random ones of a size that the first layer suggests.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engram import models, registry
from engram.errors import UserError
from engram.trace.expression import value
from engram.trace.flow import Flow, cross_entropy, flow
from engram.trace.graph import Trace
from engram.trace.numbers import short
from engram.trace.of_run import read_image
from engram.trace.record import record
from engram.trace.untouched import untouched

SMALL = 30
"""Operations and tensors of a network that is told one by one."""
CLASSES = 10
"""Of a network that is built for as many as it is told."""
BUILT_FOR = (3, 32, 32)
"""One input, where neither a person nor the registry says more."""
LENGTH = 9
"""Time steps of a made-up sequence."""


def of_network(
    name: str, *, x: str = "", image: str | Path | None = None, target: str = "", seed: int = 0
) -> tuple[Flow, Trace | None]:
    """The flow through a network that is built anew, and the trace of a small one.

    Args:
        name: of the registry, or `mine.py:net`: a function, a class or a network.
        x: a size such as 1x3x32x32, or numbers as an expression takes them.
        target: the number of the class whose loss is taken; by default that of the highest score.
        seed: for the first weights and for random numbers.

    Raises:
        UserError: no such network, one that cannot run on what goes in, an image that cannot be read, no such class.

    >>> found, seen = of_network("lenet5")
    >>> [part.name for part in found.parts][:3], seen["c1.weight"].gradient.shape
    (['', 'c1', 's2'], torch.Size([6, 1, 5, 5]))
    >>> of_network("resnet20")[1] is None
    True
    """
    given = _input(x, seed)
    try:
        with torch.random.fork_rng(devices=[]):  # a file of one's own runs, and may build networks
            entry = registry.find("model", name)
        shape = tuple(given.shape[1:]) if given is not None else tuple(entry.facts.get("input", BUILT_FOR))
        net = models.build(name, shape=shape, num_classes=CLASSES, rng=torch.Generator().manual_seed(seed)).eval()
        batch, output = _first_that_runs(net, given, shape, image, seed)
    except UserError:
        raise
    except Exception as error:  # the code is anybody's, and so is what it raises
        raise _refused(name, error) from error
    scores = output if isinstance(output, Tensor) and output.dim() == 2 and output.shape[1] > 1 else None
    if scores is None and target:
        raise UserError(f"{name} gives no scores of classes, so that there is no class {target}")
    best = None if scores is None else int(scores[0].argmax())
    chosen = None if best is None else _class(target, best, scores.shape[1])  # type: ignore[union-attr]
    y = None if chosen is None else torch.full(batch.shape[:1], chosen)
    loss = None if scores is not None else total
    found = flow(net, batch, y, loss=loss)
    found.title = f"the gradient's way through {name}"
    size = "x".join(map(str, batch.shape))
    found.facts = {
        "network": f"{name}, not trained",
        "input": f"{Path(image).name}, {size}"
        if image
        else f"{'given' if given is not None and _plain(x) else 'random'}, {size}",
        "gradient of": f"the loss of class {chosen}, {short(found.loss)}"
        if y is not None
        else "the sum of what it gives",
    }
    seen = None
    if found.operations <= SMALL:
        run = net if y is None else lambda x: cross_entropy(net(x), y)
        seen, _ = record(run, [batch], names=["x"], net=net)
    return found, seen


def total(output: Any, y: Tensor | None) -> Tensor:
    """The sum of everything that a network gives: what the gradient is of where there are no scores."""
    from torch.utils._pytree import tree_leaves

    parts = [one.sum() for one in tree_leaves(output) if isinstance(one, Tensor) and one.is_floating_point()]
    if not parts:
        raise UserError(f"the network gives a {type(output).__name__} without numbers", allowed="tensors")
    return torch.stack(parts).sum()


def sizes(net: nn.Module) -> Iterator[tuple[int, ...]]:
    """Sizes of one input that the first layer with weights would take, the likeliest first.

    >>> next(sizes(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))), next(sizes(nn.LSTM(5, 3)))
    ((1, 8, 8), (9, 5))
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            yield from ((module.in_channels, side, side) for side in (32, 28, 64, 224))
        elif isinstance(module, nn.Conv1d):
            yield from ((module.in_channels, side) for side in (64, 256, 1024))
        elif isinstance(module, nn.Conv3d):
            yield from ((module.in_channels, side, side, side) for side in (16, 32))
        elif isinstance(module, nn.RNNBase):
            yield (LENGTH, module.input_size)
        elif isinstance(module, nn.Embedding):
            yield (LENGTH,)
        elif isinstance(module, nn.Linear):
            for channels in (1, 3):
                side = round((module.in_features / channels) ** 0.5)
                if channels * side * side == module.in_features and side > 1:
                    yield (channels, side, side)
            yield (module.in_features,)
            yield (LENGTH, module.in_features)
        else:
            continue
        return


def _first_that_runs(
    net: nn.Module, given: Tensor | None, shape: tuple[int, ...], image: str | Path | None, seed: int
) -> tuple[Tensor, Any]:
    """A batch that the network takes, and what it gives for it.

    Raises:
        Exception: what the network raises for the first that was tried.
    """
    like = next((one for one in net.parameters() if one.is_floating_point()), torch.zeros(()))
    first = None
    for size in [shape] if given is not None else dict.fromkeys((*sizes(net), shape)):
        batch = given if given is not None else _batch(net, size, image, seed)
        batch = batch.to(like.dtype) if batch.is_floating_point() else batch
        try:
            with untouched(net), torch.no_grad():
                return batch, net(batch)
        except Exception as error:  # the next size may do
            first = first or error
    raise first or UserError("the network takes no input")


def _batch(net: nn.Module, size: tuple[int, ...], image: str | Path | None, seed: int) -> Tensor:
    if image is not None:
        if len(size) != 3 or size[0] not in (1, 3):
            raise UserError(f"the network takes inputs of {'x'.join(map(str, size))}, which are no images")
        return (read_image(image, size).float() / 255 - 0.5) / 0.25
    rng = torch.Generator().manual_seed(seed)
    words = next((one for one in net.modules() if isinstance(one, nn.Embedding | nn.Linear | nn.RNNBase)), None)
    if isinstance(words, nn.Embedding):
        return torch.randint(words.num_embeddings, (1, *size), generator=rng)
    return torch.randn(1, *size, generator=rng)


def _input(x: str, seed: int) -> Tensor | None:
    """What a person gives: a size, or numbers; with the axis of examples first."""
    if not x:
        return None
    if not _plain(x):
        size = tuple(map(int, x.split("x")))
        if not all(size):
            raise UserError(f"--x {x} holds nothing", allowed="sizes from 1 up, such as 1x3x32x32")
        return torch.randn(size, generator=torch.Generator().manual_seed(seed))
    made = value(x, name="x").float()
    return made[None] if made.dim() < 2 else made


def _plain(x: str) -> bool:
    """Whether it is numbers, and no size."""
    return re.fullmatch(r"\d+(x\d+)+", x) is None


def _class(target: str, best: int, count: int) -> int:
    if not target:
        return best
    number = target.removeprefix("class").strip()
    if not number.isdigit() or int(number) >= count:
        raise UserError(f"there is no class {target!r}", allowed=f"the numbers 0 to {count - 1}")
    return int(number)


def _refused(name: str, error: Exception) -> UserError:
    line = str(error).strip().partition("\n")[0]
    return UserError(
        f"{name} cannot be run: {type(error).__name__}: {line}",
        allowed="--x with the size of its input, such as 1x3x32x32",
        then="the same with --debug shows where",
    )
