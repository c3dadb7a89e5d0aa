"""A network's costs as rows of plain values: for `engram show`, for the report, for a file."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from engram.accounting.budget import Memory, memory
from engram.accounting.counts import account

OPTIMIZER_SLOTS = {"sgd": 0, "momentum": 1, "adam": 2}
"""Values that an optimiser keeps a weight."""


def table(
    net: nn.Module, shape: Sequence[int], *, batches: Sequence[int] = (1, 128), dtype: torch.dtype = torch.float32
) -> dict[str, Any]:
    """What each layer takes and gives for one input, and the totals; JSON can hold all of it.

    Args:
        shape: of one input, (C, *S).
        batches: sizes of the batches for which the memory of a training step is wanted.

    Returns:
        `input` (C, *S); `rows` in the order in which layers run, each with `layer`, `type`, `output` (empty where a
        layer never runs by itself), `parameters`, `macs`, `receptive_field` (by axis), `held` (bytes in use while it
        runs in evaluation) and `kept` (bytes that training keeps for its backward pass). A block that
        keeps values beside those of its layers stands after them, without shape; layers that only training has,
        auxiliary heads, come last. `total` has `parameters`, `trainable`, `macs`, `output`,
        `held` (the largest), `kept` (the sum), bytes of `weights`, `gradients` and `optimizer` (by name), and
        `training`: for each batch its size, `batch`, and by optimiser the bytes at the fullest moment of a step.

    >>> costs = table(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 10)), (3, 8, 8))
    >>> costs["rows"][0]["output"], costs["rows"][0]["kept"], costs["total"]["optimizer"]["adam"]
    ([8, 6, 6], 768, 24912)
    """
    costs, needs = account(net, shape, dtype=dtype), memory(net, shape, slots=0, dtype=dtype)
    kept: dict[str, list[int]] = defaultdict(list)
    for name, _, size in needs.kept:
        kept[name].append(size)
    rows = [
        {
            "layer": row.name,
            "type": row.kind,
            "output": list(row.output),
            "parameters": row.parameters,
            "macs": row.macs,
            "receptive_field": list(row.receptive_field),
            "held": row.held,
            "kept": kept[row.name].pop(0) if kept[row.name] else 0,
        }
        for row in costs.rows
    ]
    for row in _only_in_training(needs, kept):
        inner = [at for at, other in enumerate(rows) if other["layer"].startswith(f"{row['layer']}.")]
        rows.insert(inner[-1] + 1 if inner else len(rows), row)
    return {
        "input": list(costs.input),
        "rows": rows,
        "total": {
            "parameters": costs.parameters,
            "trainable": costs.trainable,
            "macs": costs.macs,
            "output": list(costs.output),
            "held": costs.held,
            "kept": needs.kept_an_example,
            "weights": needs.weights,
            "gradients": needs.gradients,
            "optimizer": {name: slots * needs.gradients for name, slots in OPTIMIZER_SLOTS.items()},
            "training": [
                {
                    "batch": batch,
                    **{
                        name: replace(needs, optimizer=slots * needs.gradients).total(batch)
                        for name, slots in OPTIMIZER_SLOTS.items()
                    },
                }
                for batch in batches
            ],
        },
    }


def _only_in_training(needs: Memory, left: dict[str, list[int]]) -> list[dict[str, Any]]:
    """What training keeps in layers that an evaluation does not run, and in modules that only hand on."""
    kinds = {name: kind for name, kind, _ in needs.kept}
    return [
        {
            "layer": name,
            "type": kinds[name],
            "output": [],
            "parameters": 0,
            "macs": 0,
            "receptive_field": [],
            "held": 0,
            "kept": size,
        }
        for name, sizes in left.items()
        for size in sizes
        if size
    ]
