"""Who gets how much: what every arm costs, and that arms which are said to get the same do.

    visits    epochs x training examples, where a visit is a forward and a backward pass
    work      visits as they are paid for: a review method that looks before it learns pays a third of a visit for a
              forward pass alone, so that its run makes more steps and more visits of the same epochs
    steps     updates of the weights
    seconds   a pilot times each arm's step; its epochs are set so that the expected time is the baseline's
    none      nothing is made equal, and the page says so

A difference between arms of which one saw more is a difference between budgets; so it is refused before the first run.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engram.errors import UserError
from engram.report.words import listed
from engram.study.arms import Arm
from engram.study.plan import Plan


@dataclass(frozen=True)
class Cost:
    """What one run of an arm takes, known without running it; seconds only after a pilot.

    Args:
        epochs: passes as asked for; `steps` are what they pay for in whole steps, 0 where they do not make one.
        initial: what the initial weights are told by: equal for arms that begin alike.
        charge: what the review method pays for a visit, in visits (`review.method.Method.charge`).
        told_by: what the examples of each split are told by: equal for arms that are judged on the same ones.
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
    charge: float = 1.0
    told_by: Mapping[str, str] = field(default_factory=dict)
    classes: int = 0

    @property
    def steps(self) -> int:
        return round(self.epochs * self.steps_per_epoch / self.charge)

    @property
    def work(self) -> float:
        return self.epochs * self.examples

    @property
    def visits(self) -> float:
        return self.work / self.charge

    @property
    def made(self) -> int:
        """Visits that come of it: whole batches, without the examples of a pass that fill none."""
        return self.steps * self.batch_size

    @property
    def seconds(self) -> float:
        """Expected: the steps, and the validation after as many of them as a pass has."""
        if self.step_seconds is None or self.judge_seconds is None:
            return math.nan
        return self.steps * self.step_seconds + -(-self.steps // self.steps_per_epoch) * self.judge_seconds


def settle(plan: Plan, costs: Mapping[str, Cost]) -> Plan:
    """The plan with what is equal decided and checked; at equal seconds, with every arm's epochs.

    Args:
        costs: by arm.

    Raises:
        UserError: arms differ in what is said to be equal, or in the examples that they are judged on; a budget gives
            no step; a split that is measured is absent.
    """
    for arm in plan.arms:
        _refuse_unmeasurable(plan, arm, costs[arm.name])
        _refuse_other_examples(plan, arm, costs)
    if plan.equal == "seconds":
        return _by_seconds(plan, costs)
    for arm in plan.arms:
        if costs[arm.name].steps < 1:
            raise UserError(
                f"arm {arm.name!r}: {costs[arm.name].epochs:g} epochs are less than one step of "
                f"{costs[arm.name].batch_size} examples",
                then=f"--epochs {costs[arm.name].charge / costs[arm.name].steps_per_epoch:.2g} or more",
            )
    if plan.equal is None:
        equal = next((unit for unit in ("visits", "work") if _same(_amounts(plan, costs, unit))), "none")
        return replace(plan, equal=equal)
    if plan.equal != "none":
        _refuse_unequal(plan, costs)
    return plan


def told(plan: Plan, costs: Mapping[str, Cost]) -> str | None:
    """What is to be known of a plan whose arms make different numbers of visits; None where they make the same.

    Args:
        plan: settled.
    """
    made = {arm.name: costs[arm.name].made for arm in plan.arms}
    if len(set(made.values())) == 1:
        return None
    shown = listed([f"{arm} {visits:,}" for arm, visits in made.items()])
    why = {
        "visits": "Every arm is given the same number of visits, and examples that fill no whole batch are left out",
        "work": f"Every arm is given the same work: {PAID}",
        "steps": "Every arm is given the same number of steps",
        "seconds": "Every arm is given the same expected time",
    }.get(str(plan.equal), "Arms are not given the same, and a difference may be one of the budget")
    return f"{why}. Visits: {shown}."


PAID = "visits, a forward pass alone counted as a third of one"
"""What work is counted in."""


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
        arms.append(Arm(arm.name, {**arm.settings, "epochs": steps * cost.charge / cost.steps_per_epoch}))
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


def _refuse_other_examples(plan: Plan, arm: Arm, costs: Mapping[str, Cost]) -> None:
    """Two figures of different examples differ by the examples too; what is trained on may differ."""
    own, first = costs[arm.name], costs[plan.baseline]
    for split in dict.fromkeys((plan.measure.split, *(["validation"] if plan.target is not None else []))):
        if own.told_by.get(split) == first.told_by.get(split):
            continue
        test = {costs[one.name].told_by.get("test") for one in plan.arms}
        if split != plan.measure.split:
            then = "leave out --target, which is of validation accuracy"
        elif len(test) == 1 and test != {None}:
            then = f"--measure test.{plan.measure.figure}: the test examples are the same"
        else:
            then = "engram train each of them; a study has nothing to say of it"
        raise UserError(
            f"arm {arm.name!r} is judged on other {split} examples than {plan.baseline!r}: "
            f"{_examples(own, split)} against {_examples(first, split)}",
            allowed="arms judged on the same ones, whatever they learn from (data.path, .validation and .limit decide)",
            then=then,
        )


def _examples(cost: Cost, split: str) -> str:
    number = {"train": cost.examples, "validation": cost.validation_examples, "test": cost.test_examples}[split]
    return f"{number:,} of {cost.classes} classes" if cost.classes else f"{number:,}"


def _refuse_unequal(plan: Plan, costs: Mapping[str, Cost]) -> None:
    given = _amounts(plan, costs, str(plan.equal))
    if _same(given):
        return
    shown = ", ".join(f"{arm} {amount:,.0f}" for arm, amount in list(given.items())[:4])
    what = "amount of work" if plan.equal == "work" else f"number of {plan.equal}"
    raise UserError(
        f"arms do not get the same {what}: {shown}{', ...' if len(given) > 4 else ''}",
        allowed=f"--equal work, which they do get: {PAID}" if _same(_amounts(plan, costs, "work")) else None,
        then="set epochs and batch_size so that they do, or say --equal none",
    )


def _amounts(plan: Plan, costs: Mapping[str, Cost], unit: str) -> dict[str, float]:
    return {arm.name: float(getattr(costs[arm.name], unit)) for arm in plan.arms}


def _same(amounts: Mapping[str, float]) -> bool:
    return all(math.isclose(one, next(iter(amounts.values())), rel_tol=1e-9) for one in amounts.values())
