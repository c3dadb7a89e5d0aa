"""What a network costs before it is trained: parameters, multiply-adds, output shapes, what a layer sees, and memory.

Nothing is computed: the network runs on torch's meta device, where tensors have a shape and no values. The network
itself, its mode and the random state are as they were afterwards.

    account  the layers of a network in the order in which they run, and the totals
    memory   what training takes, for any batch
    table    both together, as rows for a page or a file
"""

from engram.accounting.budget import Memory, memory
from engram.accounting.counts import Account, Row, account
from engram.accounting.tables import OPTIMIZER_SLOTS, table

__all__ = ["OPTIMIZER_SLOTS", "Account", "Memory", "Row", "account", "memory", "table"]
