"""Places in a network where something may be read on its way: what runs, what it gives, where all passes through one.

A network is a graph whose edges are tensors. Where a single tensor carries all of the signal, a cut would part the
scores from the input: between two blocks of a residual network, never inside one, since the shortcut goes around. Such
cuts are found from the steps that automatic differentiation writes down. Going back from the scores, always by the
latest step, the front is the set of tensors that are still to go on from; whenever it is one alone, every path has come
through it.

The depth of a place is the number of layers with weights that have run before it, in the order in which they run.

Nothing is computed: a batch without values passes through the network on torch's meta device, in evaluation mode; where
a network looks at values, on a copy of its weights. The network and the random state are as they were afterwards.

Cuts are the dominators of the graph. Lengauer and Tarjan 1979, A fast algorithm for finding dominators in a flowgraph,
has the general case; here all steps stand in an order already.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engram.errors import UserError, nearest

ROWS = 2  # of the batch that is sent through
MANY = 20  # names that a message lists


@dataclass(frozen=True)
class Place:
    """Where a module gives its output.

    Args:
        order: of modules, by when they ended.
        shape: (B, C, *S), (B, C), or () where it is no tensor.
        layers: with weights that had run by then.
        problem: why nothing can be read here, if so.
    """

    name: str
    order: int
    shape: tuple[int, ...]
    layers: int
    problem: str = ""

    def suits(self, layers: float) -> tuple[float, bool, int]:
        """How well, the larger the better: near that depth, then maps before vectors, then the last of equals."""
        return -abs(self.layers - layers), len(self.shape) > 2, self.order


@dataclass(frozen=True)
class Survey:
    """A network's places.

    Args:
        modules: the names of all.
        by_name: those that ran.
        cuts: those that all of the signal passes, one for each tensor, in their order.
        layers: with weights, that ran in all.
        classes: scores for each input.
    """

    modules: tuple[str, ...]
    by_name: Mapping[str, Place]
    cuts: tuple[Place, ...]
    layers: int
    classes: int

    def find(self, what: str, word: str | float) -> Place:
        """The place that a name or a share of the depth means.

        Args:
            what: would stand there, for the message.

        Raises:
            UserError: nothing can be read there, and why.
        """
        if not isinstance(word, str):
            if not self.cuts:
                raise UserError(f"{what}: this network has no place that all of its signal passes")
            return max(self.cuts, key=lambda place: place.suits(word * self.layers))
        place = self.by_name.get(word)
        if place is not None and not place.problem:
            return place
        close = None
        if word not in self.modules:
            problem, close = "there is no such module", nearest(word, self.modules)
        else:
            problem = place.problem if place is not None else "it does not run by itself"
        raise UserError(f"{what} cannot stand at {word!r}: {problem}", allowed=self.told(), nearest=close)

    def told(self) -> str:
        """The cuts for a person; of many, the best of each depth."""
        names = [place.name for place in self.cuts]
        if len(names) > MANY:
            best = {place.layers: place.name for place in sorted(self.cuts, key=lambda place: place.suits(0)[1:])}
            names = [best[layers] for layers in sorted(best)]
        step = -(-len(names) // MANY)
        listed = "".join(f", {name}" for name in names[:: step or 1])
        return f"a share of the depth such as 0.5{listed}{', and more between' if step > 1 else ''}"


def survey(net: nn.Module, shape: Sequence[int]) -> Survey:
    """Send a batch through the network and see what passes where.

    Args:
        shape: (C, *S) of one input.

    Raises:
        UserError: the network does not give a row of scores for each input.

    >>> net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 5))
    >>> [(place.name, place.layers, place.shape) for place in survey(net, (2, 8)).cuts]
    [('0', 1, (2, 4, 6)), ('1', 1, (2, 4, 6)), ('2', 1, (2, 24))]
    """
    modes = [(module, module.training) for module in net.modules()]
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    net.eval()
    try:
        try:
            return _observe(net, {name: tensor.detach().to("meta") for name, tensor in tensors.items()}, shape)
        except (RuntimeError, NotImplementedError):  # of a network that looks at values
            return _observe(net, {name: tensor.detach().clone() for name, tensor in tensors.items()}, shape)
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class _Call:
    """A module that ended: what it gave, how that came about and which version it was, and the layers run by then."""

    name: str
    output: Any
    step: Any
    version: int
    layers: int


def _observe(net: nn.Module, state: dict[str, Tensor], shape: Sequence[int]) -> Survey:
    weighted = {module for module in net.modules() if any(p.dim() > 1 for p in module.parameters(recurse=False))}
    calls: list[_Call] = []
    layers = 0

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal layers
        layers += module in weighted
        step, version = (_step(output), output._version) if isinstance(output, Tensor) else (None, 0)
        calls.append(_Call(name, output, step, version, layers))

    like = next(tensor for tensor in state.values() if tensor.is_floating_point())
    hooks = [module.register_forward_hook(partial(note, name)) for name, module in net.named_modules() if name]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            # the sum, since a network may overwrite its input, but not a tensor that itself wants a gradient
            x = torch.zeros(ROWS, *shape, dtype=like.dtype, device=like.device, requires_grad=True) + 0
            scores = functional_call(net, state, (x,))
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(scores, Tensor) or scores.dim() != 2 or len(scores) != ROWS or scores.grad_fn is None:
        raise UserError("a network that does not give one row of scores for each input has no places to read at")
    times, passed = Counter(call.name for call in calls), _passed_by_all(scores)
    places, cuts = dict[str, Place](), dict[Any, Place]()
    for order, call in enumerate(calls):
        sides = tuple(call.output.shape) if isinstance(call.output, Tensor) else ()
        place = Place(call.name, order, sides, call.layers, _problem(call, times[call.name], layers))
        places[call.name] = place
        if not place.problem and call.step in passed:
            # several modules hand on the same tensor: the outermost is called as a person would call it
            cuts[call.step] = min(cuts.get(call.step, place), place, key=lambda one: one.name.count("."))
    modules = tuple(name for name, _ in net.named_modules() if name)
    return Survey(modules, places, tuple(sorted(cuts.values(), key=lambda one: one.order)), layers, scores.shape[1])


def _step(tensor: Tensor) -> Any:
    """What made a tensor, and which of the results of that step it is."""
    return tensor.grad_fn, tensor.output_nr


def _problem(call: _Call, times: int, layers: int) -> str:
    if times > 1:
        return f"it runs {times} times"
    if not isinstance(call.output, Tensor) or call.output.dim() < 2 or len(call.output) != ROWS:
        return "it does not give (B, C, ...)"
    if call.step[0] is None:
        return "the input does not reach it"
    if call.output._version != call.version:
        return "what it gives is overwritten afterwards"
    if call.layers in (0, layers):
        return f"no layer with weights comes {'before' if call.layers == 0 else 'after'} it"
    return ""


def _passed_by_all(scores: Tensor) -> set[Any]:
    """The steps of the tensors that every path from the scores back to the input passes."""
    front, found = {_step(scores)}, set[Any]()
    while front:
        if len(front) == 1:
            found |= front
        latest = max((made for made, _ in front), key=lambda made: made._sequence_nr())
        front = {step for step in front if step[0] is not latest}
        front |= {step for step in latest.next_functions if step[0] is not None}
    return found
