"""The trace: what every operation gave on the way forward, what came back to it, and by which rule.

    import engram
    print(engram.trace(lambda x, y, z, w: (x * y + torch.maximum(z, w)) * 2, 3, -4, 2, -1))

    multiply (2)      -20   gradient 1    swaps: each side gets the gradient times the other
    └─ add            -10   gradient 2    hands the gradient on to both as it is
       ├─ multiply    -12   gradient 2    swaps: each side gets the gradient times the other
       │  ├─ x          3   gradient -8
       │  └─ y         -4   gradient 6
       └─ maximum       2   gradient 2    routes all of it to the winner, z
          ├─ z          2   gradient 2
          └─ w         -1   gradient 0

One idea a file:

    record.py      runs a function once and sees it all               recorder.py    writes down every operation
    graph.py       nodes, edges and their numbers                     rules.py       the local rules in words
    settings.py    what an operation was called with                  numbers.py     numbers in four digits
    expression.py  "max_pool2d(x, 2)" as a function                   operations.py  what it may call
    tree.py        the terminal's picture                             picture.py     the same as SVG
    layout.py      where its boxes stand                              pixels.py      a tensor as a small picture
    flow.py        a whole network: what enters and leaves            lengths.py     how long a gradient is
    branches.py    which way it came, and what is joined              time_steps.py  how far back through time
    routing.py     who received it in a pooling                       page.py        all of it as one page
    of_run.py      a trained network that looks at an image           of_network.py  one that is not trained yet
    untouched.py   afterwards it is as it was

The package can be called: `engram.trace(...)` is `engram.trace.record.trace(...)`.
"""

import sys
from importlib import import_module
from typing import Any

from engram.called import CalledPackage

CALLED = "engram.trace.record:trace"
_HOMES = {
    "Trace": "engram.trace.graph",
    "Node": "engram.trace.graph",
    "Edge": "engram.trace.graph",
    "trace": "engram.trace.record",
    "trace_text": "engram.trace.expression",
    "flow": "engram.trace.flow",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'engram.trace' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


sys.modules[__name__].__class__ = CalledPackage
