"""What a diagnosis may read: numbers of one moment, and the history of such moments. Frozen; no tensors, no network.

A moment is made at three rates: every step has `loss` and `lr`; every few steps come `weights` (norms of each
parameter, its gradient and its update); now and then, on a probe batch that stays the same, `layers` (activations and
the gradient with respect to them), `probe`, and what single diagnoses measure for themselves (`own`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Weights:
    """One parameter: L2 norms over all its elements, of the training batch. None: not measured, or no gradient came."""

    name: str  # as in named_parameters: layer1.0.conv1.weight
    kind: str  # class of the module that holds it: Conv2d
    shape: tuple[int, ...]
    trainable: bool  # requires_grad
    optimized: bool  # an optimiser holds it
    norm: float
    gradient: float | None = None
    update: float | None = None  # of the change that the last step made

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ratio(self) -> float | None:
        """Update over weight, norm by norm (the same as rms by rms); None for one that is all zero."""
        return None if self.update is None or not self.norm else self.update / self.norm


@dataclass(frozen=True)
class Layer:
    """The output of one call of a module or activation function, over the probe batch.

    Batch norm uses the batch's statistics as in training, dropout is off.
    """

    name: str  # of the module: layer1.0.relu; `layer1.0:relu` is a function called in layer1.0; a second call has #2
    kind: str  # class of the module, or name of the function: Conv2d, ReLU, relu, tanh
    depth: int  # 0 is called first
    mean: float
    std: float
    largest: float  # of absolute values
    zeros: float  # share of elements exactly 0
    gradient: float | None  # mean over samples of the L2 norm of ∂(sample's loss)/∂(its output); None: no gradient came
    units: int  # channels
    dead: int | None = None  # of rectifiers (ReLU and its like): units that are 0 for every sample and place probed
    saturated: float | None = None  # of tanh and sigmoid: share of elements close to their ends
    probed: int = 0  # samples over which `dead` was counted

    @property
    def finite(self) -> bool:
        """Whether no element was infinite or not a number."""
        return math.isfinite(self.mean) and math.isfinite(self.std)

    @property
    def dead_share(self) -> float | None:
        """Dead units of all units."""
        return None if self.dead is None else self.dead / max(self.units, 1)


@dataclass(frozen=True)
class Probe:
    """The whole network on the probe batch."""

    loss: float  # with the batch's statistics, dropout off
    loss_eval: float  # as evaluation has it
    accuracy: float | None = None  # as evaluation has it; None where outputs are no scores of classes
    predicted: tuple[float, ...] = ()  # share of the predictions each class got
    labelled: tuple[float, ...] = ()  # share of the labels each class has, among the examples of these predictions
    given: tuple[float, ...] = ()  # share of the labels each class has, among all examples of the probe
    output_mean: float = 0.0
    output_std: float = 0.0


@dataclass(frozen=True)
class Figures:
    """What a pass was measured to have: mean loss and accuracy on the training batches and on the validation split."""

    epoch: float
    train_loss: float
    train_accuracy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True)
class Moment:
    """Everything measured after one step; what this step's turn was not is empty or None."""

    step: int
    loss: float | None = None  # of the training batch
    lr: float | None = None
    gradient: float | None = None  # norm of the whole gradient
    weights: Mapping[str, Weights] = field(default_factory=dict)
    layers: tuple[Layer, ...] = ()  # in the order in which they are called
    probe: Probe | None = None
    figures: Figures | None = None
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by diagnosis: what its `measure` returned


@dataclass(frozen=True)
class Setup:
    """What stays as it is. None: not known, as in a loop that is not ours."""

    num_classes: int | None = None
    total_steps: int | None = None
    steps_per_pass: int | None = None
    examples: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None  # class name
    lr: float | None = None  # the highest there will be
    weight_decay: float | None = None
    entropy: float | None = None  # of the class labels, nats: the loss of who knows the shares and nothing else
    sequences: bool | None = None  # whether every place of a sequence is foreseen, as of a text, and not a class each
    data: Mapping[str, Any] = field(default_factory=dict)  # facts of the data set, by name

    @property
    def chance(self) -> float | None:
        """Loss of who guesses every class alike: ln K."""
        return None if self.num_classes is None else math.log(self.num_classes)


@dataclass(frozen=True)
class History:
    """All moments so far, oldest first; what every diagnosis is handed."""

    moments: tuple[Moment, ...]
    setup: Setup = field(default_factory=Setup)

    @property
    def now(self) -> Moment:
        """The last moment."""
        return self.moments[-1]

    @property
    def losses(self) -> list[tuple[int, float]]:
        """(step, training loss) of every step that has one."""
        return [(one.step, one.loss) for one in self.moments if one.loss is not None]

    def weighed(self, last: int | None = None) -> tuple[Moment, ...]:
        """The moments at which weights were measured, the last so many of them."""
        return _tail([one for one in self.moments if one.weights], last)

    def probed(self, last: int | None = None) -> tuple[Moment, ...]:
        """The moments at which layers were measured, the last so many of them."""
        return _tail([one for one in self.moments if one.layers], last)

    def judged(self, last: int | None = None) -> tuple[Moment, ...]:
        """The moments that end a pass, the last so many of them."""
        return _tail([one for one in self.moments if one.figures], last)

    def own(self, diagnosis: str) -> Mapping[str, Any] | None:
        """What the diagnosis measured for itself, the last time."""
        return next((one.own[diagnosis] for one in reversed(self.moments) if diagnosis in one.own), None)

    def progress(self, step: int | None = None) -> float | None:
        """Share of the run that is done, 0 to 1."""
        step = self.now.step if step is None else step
        return step / self.setup.total_steps if self.setup.total_steps else None


def persists(moments: tuple[Moment, ...], sick: Callable[[Moment], bool], *, times: int = 3, of: int = 5) -> bool:
    """Whether `times` of the last `of` moments are sick, the last one among them: noise seldom is.

    >>> moments = tuple(Moment(step, loss=float(step)) for step in range(6))
    >>> persists(moments, lambda one: one.loss > 2), persists(moments, lambda one: one.loss > 3)
    (True, False)
    """
    found = [sick(one) for one in moments[-of:]]
    return bool(found) and found[-1] and sum(found) >= times


def typical_ratio(moment: Moment) -> float | None:
    """Median over matrices of update : weight, near 1e-3 in many healthy runs; None where it was not measured."""
    found = [one.ratio for one in moment.weights.values() if len(one.shape) > 1 and one.ratio is not None]
    return median(found) if found else None


def _tail(moments: list[Moment], last: int | None) -> tuple[Moment, ...]:
    return tuple(moments if last is None else moments[-last:])
