"""Parameters, multiply-adds, output shapes, what each layer sees of the input, and what is in memory while it runs.

A multiply-add (MAC) is one product and its addition, inside convolutions, linear layers and other matrix products, for
one input; papers that print "FLOPs" usually mean this. Normalisation, activations and pooling are not counted, as in
those papers. Training costs about three forward passes: 6 floating-point operations a MAC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engram.accounting.recorder import Call, Recorder, Shape, first_tensor, forward, some_input, without_values


@dataclass(frozen=True)
class Row:
    """One layer as it ran: its place in the network, its type, the shape it gave for one input, and its costs.

    `receptive_field` is how much of the input one of its values sees, by axis; empty for data without axes. `held` is
    the most bytes in use at once while it runs, for one input that is only evaluated, weights not counted.
    """

    name: str
    kind: str
    output: Shape
    parameters: int
    macs: int
    receptive_field: Shape = ()
    held: int = 0


@dataclass(frozen=True)
class Account:
    """A network's layers in the order in which they ran, and the totals."""

    input: Shape
    output: Shape
    rows: tuple[Row, ...]
    parameters: int
    trainable: int
    buffers: int
    macs: int
    held: int


def account(net: nn.Module, shape: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Account:
    """Count what a network takes for one input, as it would be evaluated.

    Args:
        shape: of one input, (C, *S).
        dtype: of the input; integers for networks that read symbols.

    Raises:
        Exception: whatever `net` raises for an input of that shape.

    >>> costs = account(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)), (3, 8, 8))
    >>> costs.parameters, costs.macs, costs.rows[0].output, costs.rows[0].receptive_field
    (3114, 10656, (8, 6, 6), (3, 3))
    """

    def once(state: dict[str, Tensor]) -> tuple[Recorder, Shape]:
        recorder = Recorder(net, 1)
        with recorder.watching(state), torch.no_grad():
            x = some_input(state, (1, *shape), dtype)
            recorder.views.begin(x)
            output = first_tensor(forward(net, state, x))
        return recorder, () if output is None else tuple(output.shape[1:])

    recorder, output = without_values(net, once, training=False)
    parameters = list(net.parameters())
    return Account(
        input=tuple(shape),
        output=output,
        rows=_rows(net, recorder.calls),
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        buffers=sum(buffer.numel() for buffer in net.buffers()),
        macs=recorder.macs,
        held=max((fixed + example for fixed, example in recorder.moments), default=0),
    )


def _rows(net: nn.Module, calls: Sequence[Call]) -> tuple[Row, ...]:
    """The calls of layers: modules without parts, and those that compute with weights of their own.

    A module that never ran by itself, because its parent computes with its weights, comes last and without shape.
    """
    rows: list[Row] = []
    counted: set[nn.Parameter] = set()
    for call in calls:
        own = [p for p in call.module.parameters(recurse=False) if p not in counted]
        counted.update(own)
        if call.macs or own or not any(call.module.children()):
            kind, count = type(call.module).__name__, sum(p.numel() for p in own)
            rows.append(Row(call.name or kind, kind, call.output, count, call.macs, call.field, call.held))
    for name, module in net.named_modules():
        own = [p for p in module.parameters(recurse=False) if p not in counted]
        counted.update(own)
        if own:
            rows.append(Row(name, type(module).__name__, (), sum(p.numel() for p in own), 0))
    return tuple(rows)
