"""Which examples make up each batch: a permutation that depends on the seed and the pass alone.

Nothing has to be saved for it, and a resumed run takes the very batches that the killed one would have taken.
"""

import torch
from torch import Tensor


def shuffled(examples: int, *, seed: int, epoch: int) -> Tensor:
    """A permutation of 0..examples-1, int64 on the CPU, the same for the same seed and epoch on every device.

    >>> torch.equal(shuffled(5, seed=1, epoch=0), shuffled(5, seed=1, epoch=0))
    True
    >>> sorted(shuffled(5, seed=1, epoch=1).tolist())
    [0, 1, 2, 3, 4]
    """
    # Mersenne Twister takes any 64 bits; the odd multiplier keeps (seed, epoch) pairs from meeting by accident.
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + epoch) % 2**63)
    return torch.randperm(examples, generator=generator)


def batches(order: Tensor, batch_size: int, *, start: int = 0) -> list[Tensor]:
    """`order` cut into whole batches, from batch number `start` on; a remainder too small for a batch is left out.

    Leaving it out keeps every step alike (the order is another one in the next pass), and keeps batch normalisation
    from seeing a batch of one. A set smaller than a batch is one batch.

    >>> [batch.tolist() for batch in batches(torch.arange(7), 3, start=1)]
    [[3, 4, 5]]
    """
    whole = steps_per_epoch(len(order), batch_size) * min(batch_size, len(order))
    return list(order[:whole].split(batch_size))[start:]


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Whole batches in one pass, at least one."""
    return max(1, examples // batch_size)
