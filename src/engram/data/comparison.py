"""All examples of a data set side by side: which stand in it twice, in two splits, under two labels, or show nothing.

What is resident is compared whole; of a streamed split a sample at equal distances, and the card says of how many.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engram.data import duplicates, likeness
from engram.data.pool import Pool, ResidentPool

SAMPLE = 20_000  # examples of a streamed split that are compared
BATCH = 512  # examples looked at together
SHOWN = 20  # of any list, names that are kept


@dataclass(frozen=True)
class Duplicates:
    """What was found among the examples that were compared.

    Groups are lists of names. The counts are of examples beyond the first of each group; across splits, of those to
    judge by that an earlier split shows as well.

    Args:
        compared: examples looked at, of `of`; of a streamed split only a sample is.
        exact: groups with the same content in one split.
        near: groups of nearly the same picture in one split.
        across: groups, each name with its split, that stand in more than one split: copies first, then near ones.
        across_near_count: how many of `across_count` are not copies to the last bit.
        conflicting: groups, each name with its class, under different classes: copies first, then near ones.
        conflicting_near_count: how many of `conflicting_count` groups are not copies to the last bit.
    """

    compared: int
    of: int
    exact_count: int = 0
    near_count: int = 0
    across_count: int = 0
    across_near_count: int = 0
    conflicting_count: int = 0
    conflicting_near_count: int = 0
    exact: list[list[str]] = field(default_factory=list)
    near: list[list[str]] = field(default_factory=list)
    across: list[list[str]] = field(default_factory=list)
    conflicting: list[list[str]] = field(default_factory=list)


class _Compared:
    """The examples that are compared, numbered through all splits: everything resident, a sample of what streams."""

    def __init__(self, pools: dict[str, Pool]) -> None:
        self.pools, self.splits = pools, list(pools)
        chosen = [_spread(len(pool), None if isinstance(pool, ResidentPool) else SAMPLE) for pool in pools.values()]
        self.split = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        self.row = np.concatenate(chosen)
        labels = [pool.labels.cpu().numpy()[rows] for pool, rows in zip(pools.values(), chosen, strict=True)]
        self.label = np.concatenate(labels)

    def batches(self, numbers: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """(numbers, x) of a few hundred at a time; `numbers` ascending."""
        for place, pool in enumerate(self.pools.values()):
            here = numbers[self.split[numbers] == place]
            parts = [here[start : start + BATCH] for start in range(0, len(here), BATCH)]
            indices = [torch.from_numpy(self.row[part]) for part in parts]
            for part, (x, _) in zip(parts, pool.batches(indices), strict=True):
                yield part, x

    def thumbnails(self, numbers: NDArray[np.int64]) -> Tensor:
        return torch.cat([likeness.thumbnails(x) for _, x in self.batches(numbers)])

    def name(self, number: int, prefix: str = "") -> str:
        name = self.pools[self.splits[self.split[number]]].name(int(self.row[number]))
        return f"{prefix}: {name}" if prefix else name


def compare(pools: dict[str, Pool], classes: Sequence[str]) -> tuple[list[str], Duplicates]:
    """(names of examples of one single value, duplicates) in the pools of a data set.

    Args:
        pools: by split, training first: an example of a later split that stands in an earlier one is the leak.
    """
    compared = _Compared(pools)
    keys: list[bytes] = []
    hashes: list[NDArray[np.uint64]] = []
    flat: list[NDArray[np.int64]] = []
    for numbers, x in compared.batches(np.arange(len(compared.row))):
        keys += duplicates.digests([x])
        suspects = torch.ones(len(x), dtype=torch.bool)
        if _has_likeness(x):
            thumbnail = likeness.thumbnails(x)
            hashes.append(likeness.hashes(thumbnail))
            # most are cleared by the thumbnail, which is at hand
            suspects = (thumbnail.flatten(1).amax(1) - thumbnail.flatten(1).amin(1) < 1e-3).cpu()
        picked = torch.nonzero(suspects)[:, 0]
        values = x[picked.to(x.device)].flatten(2)
        flat.append(numbers[picked[(values == values[..., :1]).flatten(1).all(1).cpu()].numpy()])
    constant = np.concatenate(flat)
    groups = duplicates.groups_of(keys)
    alike = _alike(compared, np.concatenate(hashes), groups, constant) if hashes else []
    near = [group for group in alike if len({keys[number] for number in group}) > 1]
    return [compared.name(number) for number in constant], _told(compared, groups, near, classes)


def _told(compared: _Compared, copies: list[list[int]], near: list[list[int]], classes: Sequence[str]) -> Duplicates:
    """The groups by what they mean for a result, and by name."""
    split, label = compared.split, compared.label
    leaks, near_leaks = ([group for group in groups if np.ptp(split[group])] for groups in (copies, near))
    clashes, near_clashes = ([group for group in groups if np.ptp(label[group])] for groups in (copies, near))
    exact, alike = ([group for group in groups if not np.ptp(split[group])] for groups in (copies, near))
    return Duplicates(
        compared=len(split),
        of=sum(len(pool) for pool in compared.pools.values()),
        exact_count=sum(len(group) - 1 for group in exact),
        near_count=sum(len(group) - 1 for group in alike),
        across_count=len(_leaked(split, leaks + near_leaks)),
        across_near_count=len(_leaked(split, leaks + near_leaks) - _leaked(split, leaks)),
        conflicting_count=len(clashes) + len(near_clashes),
        conflicting_near_count=len(near_clashes),
        exact=[[compared.name(one) for one in group[:SHOWN]] for group in exact[:SHOWN]],
        near=[[compared.name(one) for one in group[:SHOWN]] for group in alike[:SHOWN]],
        across=[
            [compared.name(one, compared.splits[split[one]]) for one in _varied(group, split)[:SHOWN]]
            for group in (leaks + near_leaks)[:SHOWN]
        ],
        conflicting=[
            [compared.name(one, classes[label[one]]) for one in _varied(group, label)[:SHOWN]]
            for group in (clashes + near_clashes)[:SHOWN]
        ],
    )


def _leaked(split: NDArray[np.int64], groups: list[list[int]]) -> set[int]:
    """Members of groups that stand in a later split than the group's first: train, validation, test in this order."""
    return {one for group in groups for one in group if split[one] > split[group].min()}


def _varied(group: list[int], kind: NDArray[np.int64]) -> list[int]:
    """The group with one of another kind than its first moved to the second place, so that a few names show both."""
    other = next(one for one in group if kind[one] != kind[group[0]])
    return [group[0], other, *(one for one in group[1:] if one != other)]


def _spread(count: int, most: int | None) -> NDArray[np.int64]:
    """All of `count` indices, or at most so many at equal distances."""
    if most is None or count <= most:
        return np.arange(count)
    return np.arange(most) * count // most


def _has_likeness(x: Tensor) -> bool:
    return x.dtype == torch.uint8 and x.ndim == 4 and likeness.is_large_enough(x.shape[2:])


def _alike(
    compared: _Compared, hashes: NDArray[np.uint64], groups: list[list[int]], constant: NDArray[np.int64]
) -> list[list[int]]:
    """Groups of nearly the same picture: one of each group of copies is compared, and its copies go with it."""
    copies = {group[0]: group for group in groups}
    left_out = [*constant.tolist(), *(number for group in groups for number in group[1:])]
    numbers = np.setdiff1d(np.arange(len(hashes)), np.array(left_out, np.int64))
    pairs = duplicates.near(hashes[numbers], lambda asked: compared.thumbnails(numbers[asked]))
    linked = duplicates.linked([(int(numbers[i]), int(numbers[j])) for i, j, _ in pairs])
    return [sorted(one for number in group for one in copies.get(number, [number])) for group in linked]
