"""Review along the forgetting curve: an example is visited the more likely, the more likely it has been forgotten.

The memory model says how much of what was known of an example at its last visit is left now, R = left(delay, strength,
difficulty). What was known is its average grade m. Predicted recall relaxes from m towards what the network
knows of any example, mu, and never above m:

    r = mu' + (m - mu') R,    mu' = min(m, mu)

Its complement 1 - r is the score. A round has an exact quota K = (1 - save) N of visits; the inclusion probabilities
clip(c (1 - r), floor, 1) add up to it, and exactly K examples are drawn. So nothing is ever left out for good: the
longest interval is 1 / floor rounds on average, and a lapse brings an example back at once. The first round visits all
examples, and the last `tail` of all visits is plain shuffling, which re-centres batch normalisation and the classes.

Drawing at random instead of by due date keeps examples that were learned together from coming back together (queues
echo), and asks for no fuzz. The weights are 1 (`exponent` 0); exponent 1 gives (1 / probability), the unbiased estimate
of the mean gradient, for calibrated networks and wrong labels.

`leeches` are examples that are hardly ever recalled while the others are (likely wrong labels): they are visited as
often as the average example and not more. `suspend` goes further where the losses show two groups, one of right and one
of wrong labels (`engram.review.suspects`): suspects are visited at the floor alone, and not in the last phase; one that
is recalled is none any more. It is on where the classes are known, which keep a rare one that is not learned yet from
being suspected; with right labels it never found anything to do. `forgetting=False` takes R = 1 (importance by stale
strength alone), the control that tells what the forgetting is worth. `save="auto"` lets a round visit what is predicted
below `retention`: all examples where nothing is learned yet, few where all is known. Such a round is cut where the last
phase begins; that comes sooner where less than the smallest round would be left before it, or the round is next to
plain shuffling. In a run of more than some six epochs it tries what it costs not to be seen
(`engram.review.absence`), and leaves nothing out where what is left out is lost; `absence=False` does not ask.

With a `window` below 1 each of these rounds is cut into as many, chosen one after another by what is known then; the
floor is cut with them, so that the longest interval stays as long.

Where the data set grows, what has come shares at most half of a round until each of it was seen: it moves the network,
and what was known of the others is known no more; they are visited beside it.

Helps where most examples are known long before the end and validation agrees (training accuracy above 95 %), on a long
tail, and where a mastered data set grows; where little is known, it is close to plain shuffling. Hurts where a network
learns by heart what it does not understand (0.2 to 1.7 points on 10,000 images of CIFAR-10; with `save="auto"`, which
asks what absence costs, not shown), and, where `suspend` is off or finds no two groups, where many labels are wrong.
Figures: docs/review.md.

The shape of strength and decay is FSRS's (Ye et al. 2022, "A Stochastic Shortest Path Algorithm for Optimizing Spaced
Repetition Scheduling", KDD); the idea of scheduling training by a forgetting curve is Amiri et al. 2017, "Repeat before
Forgetting". Randomised inclusion with an exact quota, and relaxing to the population, are ours.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from engram.errors import UserError
from engram.grammar import number, switch
from engram.registry import register
from engram.review import memory as memories
from engram.review import selection
from engram.review.absence import Absence
from engram.review.labels import counted_from_0
from engram.review.ledger import Ledger, Observed
from engram.review.method import Method, Moment, Round, even, whole_passes
from engram.review.suspects import suspects

LEECH_VISITS = 4  # before which no example is called a leech
LEECH_RECALL = 0.3  # average grade below which one is
LEECH_POPULATION = 0.6  # average grade of all above which it says something about the example


class ForgettingCurve(Method):
    """See the module; the settings are those of the registered function."""

    def __init__(
        self,
        *,
        memory: str,
        save: float | str,
        floor: float,
        exponent: float,
        tail: float,
        retention: float,
        forgetting: bool,
        leeches: bool,
        suspend: bool | str,
        classes: bool,
        absence: bool,
        window: float,
    ) -> None:
        self.memory = memories.build(memory)
        self.save, self.floor, self.exponent, self.tail = save, floor, exponent, tail
        self.retention, self.forgetting, self.classes = retention, forgetting, classes
        self.leeches, self.suspend, self.window = leeches, suspend, window
        self.absence = Absence() if absence else None
        self.least_share = 1.0 - AUTO_MOST if save == "auto" else 1.0 - float(save)

    def plan(self, steps_per_pass: int, total_steps: int) -> list[int] | None:
        if self.save == "auto":
            return None
        first = min(steps_per_pass, total_steps)
        last = min(round(self.tail * total_steps), total_steps - first)
        quota = max(1, round(self.window * (1.0 - float(self.save)) * steps_per_pass))
        return [first, *even(total_steps - first - last, quota, steps_per_pass), *whole_passes(steps_per_pass, last)]

    def choose(self, ledger: Ledger, moment: Moment) -> Round:
        suspend = moment.labels is not None if self.suspend == "auto" else self.suspend
        suspended = suspects(ledger, moment.labels) if suspend else torch.zeros_like(ledger.seen)
        if self.absence is not None:
            self.absence.meet(len(ledger))
        if not bool(ledger.seen.any()) or self.ends(ledger, moment):
            return Round(shuffled(~suspended.cpu(), moment))
        recall = torch.where(suspended, 1.0, self.predicted(ledger, moment.clock))
        scores = 1.0 - recall
        if self.leeches:
            leeches = is_leech(ledger) & ~suspended
            others = ~(leeches | suspended)
            scores = torch.where(leeches, scores[others].mean() if bool(others.any()) else 0.0, scores)
        chances = self.chances(scores, self.wanted(recall, ledger, moment), ledger, moment, ~suspended)
        if self.classes and moment.labels is not None:
            quota, floor = round(float(chances.sum())), self.window * self.floor
            chances = with_class_quotas(chances, moment.labels, quota, floor=floor)
        chosen = selection.systematic(chances, moment.rng)
        fitting = steps_before_last_phase(moment, self.tail) * moment.batch_size
        if self.save == "auto" and len(chosen) > fitting:
            if len(chosen) > (1.0 - self.tail) * len(ledger):  # next to plain shuffling, as is what comes after
                return Round(shuffled(~suspended.cpu(), moment))
            chosen = self.cut(chosen, fitting, moment)
        return Round(chosen, None if self.exponent == 0 else selection.weights(chances[chosen], self.exponent))

    def chances(self, scores: Tensor, wanted: int, ledger: Ledger, moment: Moment, trusted: Tensor) -> Tensor:
        """(N,) float64 inclusion probabilities, which add up to the visits of the round.

        Args:
            wanted: visits, where no trial of what absence costs says otherwise.
            trusted: (N,) bool, the examples that are not suspected of a wrong label.
        """
        if self.absence is None:
            return with_new(scores, ledger.seen, wanted, floor=self.window * self.floor)
        self.absence.turn(ledger, moment, trusted, self.tail)
        coming, away = (part.to(scores.device) for part in (self.absence.coming, self.absence.away))
        others = torch.ones_like(ledger.seen)
        others[coming], others[away] = False, False
        if self.absence.by_heart:  # what would be left out would be lost
            wanted = len(coming) + int((others & trusted).sum())
        left = max(0, min(wanted, len(ledger) - len(away)) - len(coming))
        chances = torch.zeros(len(ledger), dtype=torch.float64, device=scores.device)
        chances[coming] = 1.0
        chances[others] = with_new(scores[others], ledger.seen[others], left, floor=self.floor)
        return chances

    def fold(self, observed: Observed, ledger: Ledger) -> None:
        if self.absence is not None:
            self.absence.fold(observed)

    def tell(self) -> dict[str, Any]:
        if self.absence is None:
            return {}
        return {"absence": self.absence.found, "by_heart": self.absence.by_heart}

    def state_dict(self) -> dict[str, Any]:
        return {} if self.absence is None else self.absence.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self.absence is not None:
            self.absence.load_state_dict(state)

    def ends(self, ledger: Ledger, moment: Moment) -> bool:
        """Whether the last phase begins, or with `auto` what is left before it is less than the smallest round."""
        before = steps_before_last_phase(moment, self.tail)
        least = int(self.least_share * len(ledger)) // moment.batch_size
        return before <= 0 or (self.save == "auto" and self.tail > 0 and before < least)

    def predicted(self, ledger: Ledger, clock: float) -> Tensor:
        """(N,) predicted recall now; 0 for examples never visited."""
        seen, known = ledger.seen, ledger.recall.float()
        population = known[seen].mean()
        base = torch.minimum(known, population)
        kept = torch.ones_like(known)
        if self.forgetting and self.memory is not None:
            kept = self.memory.left((clock - ledger.last).clamp_min(0), ledger.strength, ledger.difficulty)
        return torch.where(seen, base + (known - base) * kept, 0.0)

    def wanted(self, recall: Tensor, ledger: Ledger, moment: Moment) -> int:
        """Visits of a round: the quota, or, following saturation, what is below the retention, in whole batches.

        Where fewer are left before the last phase the round is cut, not chosen more narrowly: what `auto` would not
        leave out is not left out for want of room.
        """
        if self.save != "auto":
            return moment.quota
        below = int(((recall < self.retention) | ~ledger.seen).sum())
        least = int((1.0 - AUTO_MOST) * len(ledger))
        steps = -(-max(below, least) // moment.batch_size)
        return min(len(ledger), steps * moment.batch_size)

    def cut(self, chosen: Tensor, number: int, moment: Moment) -> Tensor:
        """So many of a round, which is in random order; those that a trial of absence waits for first."""
        if self.absence is not None:
            asked = torch.isin(chosen, self.absence.coming.to(chosen.device))
            chosen = torch.cat([chosen[asked], chosen[~asked]])
        return moment.shuffle(chosen[:number])


AUTO_MOST = 0.8  # the largest share of the examples that `auto` leaves out of a round


def steps_before_last_phase(moment: Moment, tail: float) -> int:
    """Steps left before the last `tail` of all.

    >>> steps_before_last_phase(Moment(3, 100, 400, 0.6, 0.0, 10, torch.Generator()), 0.1)
    30
    """
    total = moment.left / (1.0 - moment.spent)
    return round((moment.left - tail * total) / moment.batch_size)


def shuffled(kept: Tensor, moment: Moment) -> Tensor:
    """(quota,) these examples in random order; where they are fewer than the quota, again in another.

    >>> moment = Moment(0, 5, 5, 1.0, 0.0, 1, torch.Generator().manual_seed(0), None)
    >>> sorted(shuffled(torch.tensor([True, True, False, False, True]), moment).tolist())[::2]
    [0, 1, 4]
    """
    passes, left = [], moment.quota
    while left > 0:
        order = torch.randperm(len(kept), generator=moment.rng)
        passes.append(order[kept[order]][:left])
        left -= len(passes[-1])
    return torch.cat(passes)


def is_leech(ledger: Ledger) -> Tensor:
    """(N,) whether an example is hardly ever recalled though visited often, while most others are."""
    known = ledger.recall.float()
    seen = ledger.seen
    if not bool(seen.any()) or float(known[seen].mean()) <= LEECH_POPULATION:
        return torch.zeros_like(seen)
    return (ledger.visits >= LEECH_VISITS) & (known < LEECH_RECALL) & (ledger.streak == 0)


def with_new(scores: Tensor, seen: Tensor, quota: int, *, floor: float) -> Tensor:
    """Inclusion probabilities; examples that have come since share at most half of the quota, all alike.

    What is new moves the network, and what was known of the others is known no more: while it is learned, as many of
    the others are visited beside it.

    >>> seen = torch.tensor([True, True, True, True, False, False, False, False])
    >>> with_new(torch.tensor([0.9, 0.9, 0.9, 0.9, 1.0, 1.0, 1.0, 1.0]), seen, 4, floor=0.1)[4:].sum().item()
    2.0
    """
    new = int((~seen).sum())
    if new == 0:
        return selection.inclusion(scores, quota, floor=floor)
    new = min(new, max(quota // 2, quota - int(seen.sum())))
    chances = torch.full_like(scores, new / int((~seen).sum()), dtype=torch.float64)
    chances[seen] = selection.inclusion(scores[seen], quota - new, floor=floor)
    return chances


def with_class_quotas(chances: Tensor, labels: Tensor, quota: int, *, floor: float = 0.0) -> Tensor:
    """The probabilities, where no class gets less than half of its proportional share of the quota.

    What the others give for it they give of what they have above the floor, so that nothing starves for a class.

    >>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    >>> chances = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1])
    >>> with_class_quotas(chances.double(), labels, 4)[4:].sum().item()
    1.0
    """
    labels = counted_from_0(labels.to(chances.device))
    counts = torch.bincount(labels).double()
    least = 0.5 * quota * counts / counts.sum()
    result, raised = chances, torch.zeros_like(counts, dtype=torch.bool)
    while True:
        shares = torch.bincount(labels, weights=result, minlength=len(counts))
        below = (shares < least) & ~raised
        if not bool(below.any()) or bool((raised | below).all()):
            return result
        raised |= below  # what these take of the others may bring another below
        result = chances.clone()
        for one in raised.nonzero().flatten().tolist():
            inside = labels == one
            result[inside] = resized(chances[inside], float(least[one]), floor=floor)
        others = ~raised[labels]
        left = quota - float(result[~others].sum())
        result[others] = resized(chances[others], left, floor=floor)


def resized(chances: Tensor, total: float, *, floor: float) -> Tensor:
    """The probabilities brought to another sum, in proportion to what each has above the floor.

    None goes below the floor, or below what it was where that was less; where the sum is too small for that, the floor
    gives way. What could not come at all still cannot, unless the others are too few for the sum.

    >>> [round(chance, 2) for chance in resized(torch.tensor([0.1, 0.3, 0.5]).double(), 0.6, floor=0.1).tolist()]
    [0.1, 0.2, 0.3]
    """
    result = torch.zeros_like(chances)
    able = chances > 0
    if int(able.sum()) < total:
        able = torch.ones_like(able)
    kept = chances[able].clamp_max(floor)
    if float(kept.sum()) > total:
        result[able] = kept * (total / float(kept.sum()))
    elif floor < 1:
        above, room = chances[able] - kept, 1.0 - floor
        result[able] = kept + room * selection.inclusion_of_sum(above / room, (total - float(kept.sum())) / room)
    else:
        result[able] = selection.inclusion_of_sum(chances[able], total)
    return result


@register("review", paper="Amiri et al. 2017; FSRS, Ye et al. 2022", year=2026)
def forgetting_curve(
    memory: str = "fsrs",
    save: float | str = 0.5,
    floor: float = 0.1,
    exponent: float = 0.0,
    tail: float = 0.1,
    retention: float = 0.9,
    forgetting: bool = True,
    leeches: bool = True,
    suspend: bool | str = "auto",
    classes: bool = False,
    absence: bool | str = "auto",
    window: float = 1.0,
) -> Method:
    """An example is visited the more likely, the more likely it has been forgotten.

    Args:
        memory: the memory model, see `engram show memories`.
        save: share of the examples that a round leaves out, or auto.
        floor: the smallest chance of a visit in a round; 1 / floor rounds is the longest interval on average.
        exponent: 0 weighs all visits alike, 1 by the inverse of their probability; the mean is always 1.
        tail: share of all visits, at the end, that is plain shuffling.
        retention: predicted recall at which an example is due; decides what auto leaves out.
        forgetting: False predicts by strength alone.
        leeches: hold back examples that are hardly ever recalled while most are.
        suspend: leave out examples whose labels look wrong, where the losses show two groups; auto does where classes
            are known, since without them a rare one that is not learned yet may look so.
        classes: give no class less than half of its share; what the others give for it stays above the floor.
        absence: try what absence costs, and leave nothing out where it does; auto does with save auto, whose rounds may
            be of any size.
        window: part of that round which is chosen at once; smaller ones follow what is learned sooner.
    """
    name = "forgetting_curve"
    share = isinstance(save, int | float) and not isinstance(save, bool) and 0 <= save < 1
    if save != "auto" and not share:
        raise UserError(f"{name}: save cannot be {save!r}", allowed="auto, or a number from 0 up to 1, without 1")
    floor, tail = number(name, "floor", floor, 0, 1), number(name, "tail", tail, 0, 1)
    exponent = number(name, "exponent", exponent, 0, 1)
    window = number(name, "window", window, 0, 1, above=True)
    retention = number(name, "retention", retention, 0, 1, above=True, below=True)
    switches = {"forgetting": forgetting, "leeches": leeches, "classes": classes}
    for setting, value in switches.items():
        switch(name, setting, value)
    switch(name, "suspend", suspend, "auto")
    switch(name, "absence", absence, "auto")
    if absence is True and save != "auto":
        raise UserError(
            f"absence needs rounds that may be of any size, and with save {save} they are planned",
            allowed="absence with save auto",
            then="--review.save auto",
        )
    if window < 1 and save == "auto":
        raise UserError(
            "window cuts rounds that are planned, and with save auto they are of any size",
            allowed="window with a fixed save",
            then="--review.save 0.5",
        )
    return ForgettingCurve(
        memory=memory,
        save=save,
        floor=floor,
        exponent=exponent,
        tail=tail,
        retention=retention,
        forgetting=forgetting,
        leeches=leeches,
        suspend=suspend,
        classes=classes,
        absence=save == "auto" if absence == "auto" else bool(absence),
        window=window,
    )
