"""What arms have in common, in words: how much each got, and whether they begin alike, checked, not only intended."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engram.report.words import count, listed
from engram.study.budget import PAID
from engram.study.plan import Plan

Rows = Sequence[Mapping[str, Any]]


def equality(plan: Plan, rows: Rows) -> str:
    """What is equal between arms, and what was really taken."""
    taken = {unit: _means(plan, rows, unit) for unit in ("visits", "steps", "work", "seconds")}
    longer = f"{_spread(taken['seconds']):.0%}"
    if plan.equal == "seconds":
        return (
            "Arms were given the same expected time: a pilot timed each arm's steps, and set its epochs. The longest "
            f"mean time was {longer} above the shortest."
        )
    time = f" Mean times differ by up to {longer}." if taken["seconds"] else ""
    if plan.equal in ("visits", "steps", "work"):
        what = "work" if plan.equal == "work" else f"number of {plan.equal}"
        if not _alike(plan, rows, [arm.name for arm in plan.arms]):
            return (
                f"The plan gave every arm the same {what}, but they did not make it: "
                f"{_amounts(taken[plan.equal], plan.equal)}, and a difference may be one of the budget.{time}"
            )
        if plan.equal == "work":
            made = "; ".join(_amounts(taken[unit], unit) for unit in ("visits", "steps") if taken[unit])
            return f"Every arm was given the same work: {PAID}{f' ({made})' if made else ''}.{time}"
        same = [unit for unit in ("visits", "steps") if unit == plan.equal or _same(taken[unit].values())]
        return f"Every arm was given the same number of {listed(same)}.{time}"
    low, high = min(taken["visits"].values(), default=0), max(taken["visits"].values(), default=0)
    if low == high:
        return "Nothing was said to be equal; every arm in fact made the same number of visits."
    return (
        f"Arms were not given the same: from {count(low)} to {count(high)} visits of training examples, "
        "and a difference may be one of the budget."
    )


def caveats(plan: Plan, rows: Rows, one: str, other: str) -> str:
    """What a difference between two arms has to be read with, as sentences; nothing where nothing is to be said."""
    told = []
    if not judged_alike(plan, rows, one, other):
        told.append(
            f"They were judged on different {plan.measure.split} examples, so that this is no comparison of the two."
        )
    unit = "steps" if plan.equal == "steps" else "visits"
    means = _means(plan, rows, unit)
    found = {name: means[name] for name in (one, other) if name in means}
    if plan.equal != "seconds" and len(found) == 2 and not _same(found.values()):
        made = _amounts(found, unit)
        if plan.equal == "work" and _alike(plan, rows, (one, other)):
            told.append(f"This is at the same work, not at the same number of visits: {made}.")
        else:
            told.append(
                f"They did not make the same number of {unit}: {made}, and the difference may be one of the budget."
            )
    return " ".join(told)


def judged_alike(plan: Plan, rows: Rows, one: str, other: str) -> bool:
    """Whether two arms are judged on the same examples, by what their runs recorded, else by their settings."""
    first, second = (_recorded(rows, name, "judged_on") for name in (one, other))
    both = first.keys() & second.keys()
    if both:
        return all(first[seed] == second[seed] for seed in both)
    return _deciding(plan, one, plan.measure.split) == _deciding(plan, other, plan.measure.split)


def _deciding(plan: Plan, arm: str, split: str) -> tuple[object, ...]:
    """The settings that decide which examples a split has."""
    recipe = plan.recipe(plan.arm(arm), 0)
    drawn = (recipe.data.validation, recipe.data.limit) if split != "test" else ()
    return (recipe.data.path, recipe.text.test, *drawn)


def _alike(plan: Plan, rows: Rows, names: Sequence[str]) -> bool:
    """Whether these arms took as much of what the plan made equal; work is equal to the nearest step."""
    means = _means(plan, rows, str(plan.equal))
    found = [means[name] for name in names if name in means]
    if plan.equal != "work" or not found:
        return _same(found)
    step = max(row["work"] / row["steps"] for row in rows if row.get("work") and row.get("steps"))
    return max(found) - min(found) <= step


def _amounts(means: Mapping[str, float], unit: str) -> str:
    """What arms took on average.

    >>> _amounts({"a": 1280, "b": 1920}, "visits")
    'a made 1,280 visits and b 1,920'
    """
    verb, what = ("did", "visits' work") if unit == "work" else ("made", unit)
    first, *others = ((name, count(amount)) for name, amount in means.items())
    return listed([f"{first[0]} {verb} {first[1]} {what}", *(f"{name} {amount}" for name, amount in others)])


def _same(amounts: Iterable[float]) -> bool:
    """Whether amounts are printed alike."""
    return len({count(amount) for amount in amounts}) < 2


def sharing(plan: Plan, rows: Rows) -> str:
    """Which arms begin with the same weights, by what their runs recorded, and which see the same split and order."""
    names = [arm.name for arm in plan.arms]
    recipes = {arm.name: plan.recipe(arm, 0) for arm in plan.arms}

    def same_data(one: str, other: str) -> bool:
        return _deciding(plan, one, "train") == _deciding(plan, other, "train")

    def judged(one: str, other: str) -> bool:
        return judged_alike(plan, rows, one, other)

    def same_order(one: str, other: str) -> bool:
        shuffled = all(recipes[name].review.name == "shuffle" for name in (one, other))  # others follow what is learnt
        return same_data(one, other) and shuffled

    weights = _groups(names, lambda one, other: shares_weights(plan, rows, one, other))
    return " ".join(
        [
            _told("begin with the same weights at every seed", weights),
            _told("are trained on the same examples", _groups(names, same_data)),
            _told("are judged on the same examples", _groups(names, judged)),
            _told("see them in the same order", _groups(names, same_order)),
        ]
    )


def shares_weights(plan: Plan, rows: Rows, one: str, other: str) -> bool:
    """Whether two arms began with equal weights at every seed that both have begun; the model sections must agree."""
    first, second = (_recorded(rows, name, "initial") for name in (one, other))
    both = first.keys() & second.keys()
    same_model = plan.recipe(plan.arm(one), 0).model == plan.recipe(plan.arm(other), 0).model
    return same_model and bool(both) and all(first[seed] == second[seed] for seed in both)


def _recorded(rows: Rows, arm: str, what: str) -> dict[int, str]:
    return {row["seed"]: row[what] for row in rows if row["arm"] == arm and row.get(what)}


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
