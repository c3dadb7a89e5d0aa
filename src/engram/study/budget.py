"""Who gets how much: what every arm costs, and that arms which are said to get the same do.

    visits    epochs x training examples: how often any example is looked at
    steps     updates of the weights
    seconds   a pilot times each arm's step; its epochs are set so that the expected time is the baseline's
    none      nothing is made equal, and the page says so

A difference between arms of which one saw more is a difference between budgets; so it is refused before the first run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from engram.errors import UserError
from engram.study.arms import Arm
from engram.study.plan import Plan


@dataclass(frozen=True)
class Cost:
    """What one run of an arm takes, known without running it; seconds only after a pilot.

    Args:
        epochs: passes as asked for; `steps` are they in whole steps, 0 where they do not make one.
        initial: what the initial weights are told by: equal for arms that begin alike.
    """

    examples: int
    validation_examples: int
    test_examples: int
    batch_size: int
    steps_per_epoch: int
    epochs: float
    initial: str
    step_seconds: float | None = None
    judge_seconds: float | None = None

    @property
    def steps(self) -> int:
        return round(self.epochs * self.steps_per_epoch)

    @property
    def visits(self) -> float:
        return self.epochs * self.examples

    @property
    def seconds(self) -> float:
        """Expected: the steps, and the validation after every pass."""
        if self.step_seconds is None or self.judge_seconds is None:
            return math.nan
        return self.steps * self.step_seconds + math.ceil(self.epochs) * self.judge_seconds


def settle(plan: Plan, costs: Mapping[str, Cost]) -> Plan:
    """The plan with what is equal decided and checked; at equal seconds, with every arm's epochs.

    Args:
        costs: by arm.

    Raises:
        UserError: arms differ in what is said to be equal; a budget gives no step; a split that is measured is absent.
    """
    for arm in plan.arms:
        _refuse_unmeasurable(plan, arm, costs[arm.name])
    if plan.equal == "seconds":
        return _by_seconds(plan, costs)
    for arm in plan.arms:
        if costs[arm.name].steps < 1:
            raise UserError(
                f"arm {arm.name!r}: {costs[arm.name].epochs:g} epochs are less than one step of "
                f"{costs[arm.name].batch_size} examples",
                then=f"--epochs {1 / costs[arm.name].steps_per_epoch:.2g} or more",
            )
    if plan.equal is None:
        return replace(plan, equal="visits" if _same({arm: one.visits for arm, one in costs.items()}) else "none")
    if plan.equal != "none":
        given = {arm: float(getattr(cost, plan.equal)) for arm, cost in costs.items()}
        if not _same(given):
            shown = ", ".join(f"{arm} {amount:,.0f}" for arm, amount in list(given.items())[:4])
            raise UserError(
                f"arms do not get the same number of {plan.equal}: {shown}{', ...' if len(given) > 4 else ''}",
                then="set epochs and batch_size so that they do, or say --equal none",
            )
    return plan


def with_epochs(cost: Cost, epochs: float) -> Cost:
    """What a run of another length costs."""
    return replace(cost, epochs=epochs)


def seconds(costs: Mapping[str, Cost], plan: Plan) -> float:
    """Expected time of all runs one after the other."""
    return len(plan.seeds) * sum(costs[arm.name].seconds for arm in plan.arms)


def _by_seconds(plan: Plan, costs: Mapping[str, Cost]) -> Plan:
    """Every arm with as many whole steps as fit into the baseline's time."""
    budget = costs[plan.baseline].seconds
    arms = []
    for arm in plan.arms:
        cost = costs[arm.name]
        if {"epochs", "training.epochs"} & set(arm.settings):
            raise UserError(
                f"arm {arm.name!r}: epochs cannot be set at equal seconds: the pilot sets them", then="--equal none"
            )
        if cost.step_seconds is None or cost.judge_seconds is None:
            raise ValueError("seconds are made equal after a pilot")
        pass_seconds = cost.steps_per_epoch * cost.step_seconds + cost.judge_seconds
        steps = int(budget / pass_seconds * cost.steps_per_epoch + 1e-9)
        if steps < 1:
            raise UserError(
                f"arm {arm.name!r}: a step takes {cost.step_seconds:.2g} s, the baseline's whole run {budget:.2g} s",
                then="--epochs with a larger number",
            )
        arms.append(Arm(arm.name, {**arm.settings, "epochs": steps / cost.steps_per_epoch}))
    return replace(plan, arms=tuple(arms))


def _refuse_unmeasurable(plan: Plan, arm: Arm, cost: Cost) -> None:
    there = {"validation": cost.validation_examples, "test": cost.test_examples, "train": cost.examples}
    if not there[plan.measure.split]:
        having = ", ".join(split for split, examples in there.items() if examples and split != "train")
        raise UserError(
            f"arm {arm.name!r}: the data has no {plan.measure.split} split, so there is no {plan.measure.name}",
            allowed=having or None,
            then="--data.validation 0.1 holds some out" if plan.measure.split == "validation" else None,
        )
    if plan.target is not None and not cost.validation_examples:
        raise UserError(f"arm {arm.name!r}: a target is of validation accuracy, and there is no validation split")


def _same(amounts: Mapping[str, float]) -> bool:
    return all(math.isclose(one, next(iter(amounts.values())), rel_tol=1e-9) for one in amounts.values())
