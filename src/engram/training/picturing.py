"""What a run keeps of itself for its page beside numbers: its path through the weights, and what it sees in pictures.

While it trains, some thirty snapshots of its weights (`landscape.Trajectory`); when it has ended, the loss over the
plane of that path (`probes/surface.npz`), and filters, activations and saliency (`inside`). Nothing here changes the
network, and nothing that fails here costs a run more than these pictures.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engram import recipe as recipes
from engram.clinic.probe_data import spread
from engram.clinic.subject import cross_entropy
from engram.errors import UserError
from engram.landscape import surface
from engram.landscape.trajectory import Trajectory
from engram.training import inside
from engram.training.assemble import assemble
from engram.training.assembled import Assembled, Progress, silent
from engram.training.run import RunFolder

Say = Callable[[dict[str, Any]], None]

MEMORY = 128_000_000
"""Bytes of snapshots: they are written with every saved state."""

SHARE, LEAST_SECONDS = 0.03, 5.0
"""Of the time that training took, what the surface may take; a short run has this long."""

EXAMPLES = 512

PATH = "state/trajectory.safetensors"


class Picturing:
    """The pictures of one run, from its first step, or its last saved state, to its end."""

    def __init__(self, assembled: Assembled, folder: RunFolder, say: Say) -> None:
        self.assembled, self.folder, self.say = assembled, folder, say
        self.trajectory: Trajectory | None = None
        self.filters: inside.Filters | None = None

    def open(self, *, resumed: bool) -> None:
        """Take the first snapshot, or take up those of before."""
        if self.assembled.recipe.training.clinic == "none":
            return
        self._safely(lambda: self._begin(resumed=resumed))

    def step(self, step: int) -> None:
        """An update was made: is it the turn of a snapshot?"""
        trajectory = self.trajectory
        if trajectory is not None and trajectory.due(step):
            self._safely(lambda: trajectory.keep(step))

    def save(self) -> None:
        """Write the snapshots, before the state: what is read back is cut at its step."""
        if self.trajectory is not None and not self.trajectory.refusal:
            self.trajectory.save(self.folder.path / PATH)

    def close(self, *, seconds: float) -> None:
        """Make the pictures of a run that has ended.

        Args:
            seconds: how long training took.
        """
        if self.trajectory is None:
            return
        self._safely(self._inside)
        self._safely(lambda: self._surface(max(LEAST_SECONDS, SHARE * seconds)))

    def _begin(self, *, resumed: bool) -> None:
        state = self.assembled.state
        self.trajectory = Trajectory(state.net, state.reviewer.total_steps, memory=MEMORY)
        if not resumed:
            self.filters = inside.first_filters(state.net)
        elif (self.folder.path / PATH).is_file():
            self.trajectory.load(self.folder.path / PATH, until=state.step)
            self.filters = self._first_filters(self.trajectory)
        if self.trajectory.due(state.step):
            self.trajectory.keep(state.step)

    def _first_filters(self, trajectory: Trajectory) -> inside.Filters | None:
        """Those before the first update, out of the snapshots."""
        if trajectory.steps[:1] != [0]:
            return None
        net = copy.deepcopy(self.assembled.state.net)
        floating = [one for one in net.parameters() if one.is_floating_point()]
        nn.utils.vector_to_parameters(trajectory.weights(0).to(floating[0].device), floating)
        return inside.first_filters(net)

    def _inside(self) -> None:
        prepared = self.assembled.prepared
        with self.assembled.state.judged_net() as net:
            notes = inside.write(
                self.folder.path,
                net,
                start=self.filters,
                pool=prepared.train if prepared.validation is None else prepared.validation,
                views=self.assembled.views,
                machine=self.assembled.machine,
                classes=prepared.classes,
            )
        for note in notes:
            self.say({"event": "notice", "text": note})

    def _surface(self, seconds: float) -> None:
        if self.trajectory is not None and not self.trajectory.refusal:
            self.trajectory.keep(self.assembled.state.step)
            measure_surface(self.assembled, self.trajectory, self.folder.path, seconds=seconds)

    def _safely(self, do: Callable[[], None]) -> None:
        """Whatever fails here is said, and costs the pictures alone."""
        try:
            do()
        except OSError:
            raise  # a full disk is the run's affair
        except Exception as error:
            said = error.given if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.say({"event": "notice", "text": f"some pictures of the report could not be made: {said}"})


def measure_surface(assembled: Assembled, trajectory: Trajectory, folder: Path, *, seconds: float) -> str:
    """Write `probes/surface.npz`, on training examples as the network sees them; why not, or nothing."""
    pool = assembled.prepared.train
    stored, y = next(iter(pool.batches([spread(len(pool), EXAMPLES)])))
    x = assembled.views(stored, torch.float32)[0]
    where = folder / "probes" / "surface.npz"
    return surface.write(where, assembled.state.net, trajectory, x, y, loss=cross_entropy, seconds=seconds)


def surface_afterwards(path: Path, *, seconds: float, progress: Progress = silent) -> None:
    """Measure the loss surface of a run that has ended, from the snapshots that it kept.

    Args:
        seconds: what it may take: more of them make a finer grid, of more examples.

    Raises:
        UserError: no run, no snapshots, snapshots of another network, or no surface to be had of them.
    """
    if not (path / "recipe.toml").is_file():
        raise UserError(f"{path} is not a run folder: it holds no recipe.toml", then="ls runs/")
    if not (path / PATH).is_file():
        raise UserError(f"{path} has kept no snapshots of its weights", then="engram train without --clinic none does")
    assembled = assemble(recipes.load(path / "recipe.toml"), progress, resuming=True)
    trajectory = Trajectory(assembled.state.net, assembled.state.reviewer.total_steps, memory=MEMORY)
    trajectory.load(path / PATH)
    why_not = measure_surface(assembled, trajectory, path, seconds=seconds)
    if why_not:
        raise UserError(f"no loss surface of {path}: {why_not}", then="--surface SECONDS gives it more time")
