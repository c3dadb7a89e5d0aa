"""What several diagnoses of training ask of a history: how far the loss has come, how the gradient fares with depth."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from statistics import mean, median

from engram.clinic.measured import History, Layer, Moment

SHARES = 500
"""Steps in which a network that foresees tokens may know their shares and nothing else: char_lstm, char_gru and
char_rnn at their usual rates stood at the loss of the shares for 60 to 250 steps, and then learned."""

WEIGHTED = ("conv", "linear")
"""Kinds whose outputs are compared with one another through depth: before the nonlinearity, at every depth of a net."""

NOTHING = 1e-12
"""Gradients this small of a sample are those of a loss that is at its end, or of a last layer of zeros."""


def first_loss(history: History, *, of: int = 5) -> float | None:
    """Median of the first finite training losses, in whichever moment they were made.

    >>> first_loss(History((Moment(1, loss=2.5), Moment(2, loss=2.3), Moment(3, loss=9.0))))
    2.5
    """
    found = [loss for _, loss in history.losses[:of] if math.isfinite(loss)]
    return median(found) if found else None


def recent_loss(history: History, *, share: float = 0.1, least: int = 5) -> float | None:
    """Mean training loss over the last tenth of the steps made, at least five; infinite where one of them was.

    >>> recent_loss(History(tuple(Moment(step, loss=1.0 if step < 90 else 0.5) for step in range(100))))
    0.5
    """
    losses = history.losses
    last = [loss for _, loss in losses[-max(least, round(share * len(losses))) :]]
    if not last:
        return None
    return mean(last) if all(map(math.isfinite, last)) else math.inf


def lowest_loss(history: History, *, share: float = 0.1, least: int = 5) -> float | None:
    """Lowest mean training loss over a tenth of the steps made, at least five, before the last tenth; None of too few.

    >>> lowest_loss(History(tuple(Moment(step, loss=abs(step - 40.0)) for step in range(100))))
    2.5
    """
    losses = [loss for _, loss in history.losses]
    window = max(least, round(share * len(losses)))
    earlier = losses[:-window]
    if len(earlier) < window or not all(map(math.isfinite, earlier)):
        return None
    sums = list(accumulate(earlier, initial=0.0))
    return min(sums[place] - sums[place - window] for place in range(window, len(sums))) / window


def guessing(history: History) -> float | None:
    """Loss of who knows how common each class is, and nothing else; where that is not known, of who knows nothing."""
    return history.setup.entropy or history.setup.chance


def foresees_words(history: History) -> bool:
    """Whether the labels are what follows in a text or a sentence, and no classes, be it one for every step.

    >>> from engram.clinic.measured import Setup
    >>> [foresees_words(History((), one)) for one in (Setup(sequences=True), Setup(data={"task": "caption"}), Setup())]
    [True, True, False]
    >>> foresees_words(History((), Setup(sequences=True, data={"task": "label"})))
    False
    """
    task = history.setup.data.get("task")
    return task in ("write", "caption") or (bool(history.setup.sequences) and task != "label")


def may_know_shares_alone(history: History, step: int) -> bool:
    """Whether this is the beginning of learning sequences, where the commonest token is the answer to everything.

    >>> from engram.clinic.measured import Setup
    >>> [may_know_shares_alone(History((), Setup(sequences=one)), 400) for one in (True, False, None)]
    [True, False, False]
    """
    return bool(history.setup.sequences) and step < SHARES


def has_learned(history: History, *, share: float = 0.5) -> bool:
    """Whether the loss is under half of where it began, or of guessing: whatever is seen, it has not stopped the run.

    >>> history = History(tuple(Moment(step, loss=2.0 / (step + 1)) for step in range(9)))
    >>> has_learned(history)
    True
    """
    now = recent_loss(history)
    marks = [one for one in (first_loss(history), guessing(history)) if one is not None]
    return now is not None and bool(marks) and now < share * min(marks)


def is_stalled(history: History, *, least: int = 20, fallen: float = 0.02) -> bool:
    """Whether the second half of the steps has a loss no lower, by 2 %, than the first, and little was learned."""
    losses = [loss for _, loss in history.losses if math.isfinite(loss)]
    if len(losses) < least or has_learned(history):
        return False
    half = len(losses) // 2
    return mean(losses[half:]) > (1 - fallen) * mean(losses[:half])


def is_weighted(layer: Layer) -> bool:
    """Whether it is a convolution or a linear layer.

    >>> is_weighted(Layer("fc", "Linear", 0, 0.0, 1.0, 3.0, 0.0, None, 10))
    True
    """
    return any(word in layer.kind.lower() for word in WEIGHTED)


def hidden(moment: Moment) -> list[Layer]:
    """The layers before the last that a gradient reached."""
    return [one for one in before_last(moment) if one.gradient is not None]


def before_last(moment: Moment) -> list[Layer]:
    """The layers in depth without the network's last: its scale says nothing of depth."""
    last = [one for one in moment.layers if is_weighted(one)][-1:]
    return [one for one in in_depth(moment) if one not in last]


def in_depth(moment: Moment) -> list[Layer]:
    """The weighted layers in the order of their calls.

    Those that are called again and again together, as a cell's are at each word, are left out: their calls are places
    in time, and what a gradient loses there is said by `gradient_through_time`. One layer alone that is used several
    times stays.
    """
    weighted = [one for one in moment.layers if is_weighted(one)]
    calls = Counter(module_of(one) for one in weighted)
    repeated = {name for name, times in calls.items() if times > 1}
    return weighted if len(repeated) < 2 else [one for one in weighted if module_of(one) not in repeated]


def module_of(layer: Layer) -> str:
    """The name of the module, whichever of its calls this is.

    >>> module_of(Layer("decoder.gates#12", "Linear", 0, 0.0, 1.0, 3.0, 0.0, None, 10))
    'decoder.gates'
    """
    return layer.name.partition("#")[0]


def gradient_ends(moment: Moment, *, least: int = 2) -> tuple[float, float] | None:
    """Per-sample gradient norms (first, last) of the hidden layers: medians of their first and last quarter.

    None with fewer layers than `least`, where the loss is at its end, or where a norm is no number.
    """
    layers = hidden(moment)
    norms = [one.gradient for one in layers if one.gradient is not None]
    if len(norms) < least or not all(map(math.isfinite, norms)):
        return None
    quarter = max(1, len(norms) // 4)
    first, last = median(norms[:quarter]), median(norms[-quarter:])
    return None if max(first, last) < NOTHING else (first, last)


def gradient_ratio(moment: Moment, *, least: int = 2) -> float | None:
    """How much of the gradient of the last hidden layers arrives at the first ones; infinite where it begins there."""
    ends = gradient_ends(moment, least=least)
    if ends is None:
        return None
    first, last = ends
    return first / last if last else math.inf


def decades(values: Sequence[float]) -> float:
    """Slope of log10 over the places, by least squares: -1 is a tenth less from each to the next.

    >>> round(decades([1.0, 0.1, 0.01]), 3)
    -1.0
    """
    logs = [math.log10(max(value, 1e-45)) for value in values]
    middle, centre = (len(logs) - 1) / 2, mean(logs)
    spread = sum((place - middle) ** 2 for place in range(len(logs)))
    return sum((place - middle) * (log - centre) for place, log in enumerate(logs)) / spread if spread else 0.0


def matrix_ratio(moment: Moment) -> float | None:
    """Median update : weight of the matrices that moved; frozen ones say nothing about the learning rate."""
    ratios = [one.ratio for one in moment.weights.values() if len(one.shape) > 1 and one.trainable and one.ratio]
    return median(ratios) if ratios else None


def changed_rate(history: History, factor: float) -> dict[str, float]:
    """The recipe change that multiplies the learning rate, where it is known.

    >>> from engram.clinic.measured import Setup
    >>> changed_rate(History((Moment(1),), Setup(lr=0.5)), 0.1)
    {'optimizer.lr': 0.05}
    """
    lr = history.setup.lr or max((one.lr for one in history.moments if one.lr), default=None)
    return {} if lr is None else {"optimizer.lr": float(f"{lr * factor:.3g}")}
