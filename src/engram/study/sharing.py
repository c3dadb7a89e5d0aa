"""What arms have in common, in words: how much each got, and whether they begin alike, checked, not only intended."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from engram.report.words import count, listed
from engram.study.plan import Plan

Rows = Sequence[Mapping[str, Any]]


def equality(plan: Plan, rows: Rows) -> str:
    """What is equal between arms, and what was really taken."""
    taken = {unit: _means(plan, rows, unit) for unit in ("visits", "steps", "seconds")}
    spread = {unit: _spread(values) for unit, values in taken.items()}
    if plan.equal == "seconds":
        return (
            "Arms were given the same expected time: a pilot timed each arm's steps, and set its epochs. The longest "
            f"mean time was {spread['seconds']:.0%} above the shortest."
        )
    if plan.equal in ("visits", "steps"):
        same = [unit for unit in ("visits", "steps") if spread[unit] < 1e-9 or unit == plan.equal]
        time = f" Mean times differ by up to {spread['seconds']:.0%}." if taken["seconds"] else ""
        return f"Every arm was given the same number of {listed(same)}.{time}"
    low, high = min(taken["visits"].values(), default=0), max(taken["visits"].values(), default=0)
    if low == high:
        return "Nothing was said to be equal; every arm in fact made the same number of visits."
    return (
        f"Arms were not given the same: from {count(low)} to {count(high)} visits of training examples, "
        "and a difference may be one of the budget."
    )


def sharing(plan: Plan, rows: Rows) -> str:
    """Which arms begin with the same weights, by what their runs recorded, and which see the same split and order."""
    names = [arm.name for arm in plan.arms]
    recipes = {arm.name: plan.recipe(arm, 0) for arm in plan.arms}

    def same_data(one: str, other: str) -> bool:
        return recipes[one].data == recipes[other].data

    def same_order(one: str, other: str) -> bool:
        shuffled = all(recipes[name].review.name == "shuffle" for name in (one, other))  # others follow what is learnt
        return same_data(one, other) and shuffled

    weights = _groups(names, lambda one, other: shares_weights(plan, rows, one, other))
    return " ".join(
        [
            _told("begin with the same weights at every seed", weights),
            _told("are trained and judged on the same examples", _groups(names, same_data)),
            _told("see them in the same order", _groups(names, same_order)),
        ]
    )


def shares_weights(plan: Plan, rows: Rows, one: str, other: str) -> bool:
    """Whether two arms began with equal weights at every seed that both have begun; the model sections must agree."""
    first, second = _initial(rows, one), _initial(rows, other)
    both = first.keys() & second.keys()
    same_model = plan.recipe(plan.arm(one), 0).model == plan.recipe(plan.arm(other), 0).model
    return same_model and bool(both) and all(first[seed] == second[seed] for seed in both)


def _initial(rows: Rows, arm: str) -> dict[int, str]:
    return {row["seed"]: row["initial"] for row in rows if row["arm"] == arm and row.get("initial")}


def _groups(names: Sequence[str], alike: Callable[[str, str], bool]) -> list[list[str]]:
    """The names in groups of those that are alike."""
    found: list[list[str]] = []
    for name in names:
        group = next((one for one in found if alike(one[0], name)), None)
        if group is None:
            found.append([name])
        else:
            group.append(name)
    return found


def _told(what: str, groups: Sequence[Sequence[str]]) -> str:
    """Which arms do something together.

    >>> _told("sing", [["a", "b"], ["c"]]), _told("sing", [["a"], ["b"]])
    ('a and b sing, c does not.', 'No two arms sing.')
    """
    together = [listed(group) for group in groups if len(group) > 1]
    alone = [group[0] for group in groups if len(group) == 1]
    if len(groups) == 1:
        return f"All arms {what}."
    if not together:
        return f"No two arms {what}."
    apart = f", {listed(alone)} {'does' if len(alone) == 1 else 'do'} not" if alone else ""
    return "; ".join(f"{names} {what}" for names in together) + f"{apart}."


def _means(plan: Plan, rows: Rows, unit: str) -> dict[str, float]:
    found = {}
    for arm in plan.arms:
        own = [row[unit] for row in rows if row["arm"] == arm.name and row["status"] == "finished" and row.get(unit)]
        if own:
            found[arm.name] = sum(own) / len(own)
    return found


def _spread(values: Mapping[str, float]) -> float:
    return max(values.values()) / min(values.values()) - 1 if values else 0.0
