"""Examples of a pool as the network sees them: the middle of each picture, normalised, on the device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engram import augment
from engram.data.pool import Pool
from engram.training.device import Machine
from engram.training.evaluate import Views


@dataclass(frozen=True)
class Seen:
    """Where examples come from, and how they are shown to the network.

    Args:
        chosen: indices to choose from; None for all of the pool.
    """

    pool: Pool
    views: Views
    machine: Machine
    classes: tuple[str, ...]
    chosen: tuple[int, ...] | None = None

    def spread(self, count: int) -> list[int]:
        """At most `count` of the examples to choose from, evenly apart."""
        there = self.chosen if self.chosen is not None else range(len(self.pool))
        if len(there) <= count:
            return list(there)
        return [there[place] for place in torch.linspace(0, len(there) - 1, count).round().long().tolist()]

    def take(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) as the network takes it, in float32, and y (B,), both on the device."""
        x, y = next(iter(self.pool.batches([torch.tensor(list(indices), dtype=torch.int64)])))
        x, y = x.to(self.machine.device), y.to(self.machine.device)
        return self.middle()(x, torch.float32)[0], y

    def middle(self) -> Views:
        """The view of the whole or the middle of a picture alone, where evaluation averages over several."""
        if isinstance(self.views, augment.Views):
            return augment.views((), size=self.views.size, mean=self.views.mean, std=self.views.std)
        return self.views

    def pixels(self, x: Tensor) -> Tensor:
        """What the network sees as a picture again: uint8 (B, 1 or 3, H, W); of other channels, their mean.

        Data that is no picture by its form (float) is stretched between its lowest and its highest value.
        """
        if isinstance(self.views, augment.Views):
            mean, std = (one.to(x.device).reshape(-1, 1, 1) for one in (self.views.mean, self.views.std))
            x = x * torch.where(std > 0, std, torch.ones_like(std)) + mean
        if x.shape[1] not in (1, 3):
            x = x.mean(1, keepdim=True)
        if self.pool.dtype != torch.uint8 or not isinstance(self.views, augment.Views):
            low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
            x = (x - low) / torch.where(high > low, high - low, torch.ones_like(high))
        return (255 * x.nan_to_num(0.0).clamp(0, 1)).round().to(torch.uint8)
