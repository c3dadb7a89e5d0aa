"""A study before it is run: everything that it depends on, complete, fixed beforehand, as `study.toml`.

The measure, the baseline and the margin stand in it before the first run, so that nobody can choose them by the result.
"""

import json
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engram import recipe as recipes
from engram.errors import UserError, unknown
from engram.recipe import Recipe
from engram.study import arms as compared
from engram.study import measures
from engram.study.arms import Arm
from engram.study.measures import Measure

EQUAL = ("visits", "work", "steps", "seconds", "none")
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Plan:
    """Arms x seeds, how they are made comparable, and by which figure they are compared.

    Args:
        equal: what every arm gets as much of; None until it is known (`budget.settle`).
        margin: a difference, in units of the measure, too small to matter; None: none was fixed.
        target: of validation accuracy, whose reaching is timed.
        threads: that every run computes with, so that their sums are the same.
    """

    base: Recipe
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    measure: Measure
    judged: str
    equal: str | None
    baseline: str
    threads: int
    margin: float | None = None
    target: float | None = None
    confidence: float = 0.95

    def recipe(self, arm: Arm, seed: int, folder: Path | str = "") -> Recipe:
        """What one run of an arm runs."""
        laid = recipes.build(arm.settings, self.base, where=f"arm {arm.name!r}")
        device = replace(laid.device, threads=str(self.threads))
        return replace(laid, seed=seed, output=str(folder), device=device)

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    def runs(self) -> list[tuple[Arm, int]]:
        """Every run in the order in which they are begun: seed by seed, the arms of a seed in an order of its own.

        A slow hour, a hot processor or a kill then meets all arms alike.
        """
        return [(arm, seed) for seed in self.seeds for arm in random.Random(seed).sample(self.arms, len(self.arms))]

    @property
    def needs_test(self) -> bool:
        return self.measure.split == "test"


def make(
    base: Recipe,
    arms: Sequence[Arm],
    *,
    seeds: int | Sequence[int],
    measure: str,
    judged: str,
    equal: str | None,
    baseline: str | None,
    threads: int,
    margin: float | None,
    target: float | None,
) -> Plan:
    """A plan from what a person gave, refused where it is none.

    Raises:
        UserError: fewer than two arms, two that are the same, an unknown setting, measure or baseline, no seeds, a
            margin or target out of range.
    """
    compared.check(arms)
    if judged not in measures.JUDGED:
        raise unknown("weights", judged, measures.JUDGED)
    if equal is not None and equal not in EQUAL:
        raise unknown("equal", equal, EQUAL)
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise unknown("baseline", baseline, names)
    if margin is not None and not 0 < margin < float("inf"):
        raise UserError(f"a margin of {margin:g} cannot be", allowed="more than 0, in units of the measure")
    if target is not None and not 0 < target <= 1:
        raise UserError(f"a target of {target:g} cannot be", allowed="a validation accuracy: above 0, up to 1")
    plan = Plan(
        base=replace(base, output=""),
        arms=tuple(arms),
        seeds=_seeds(seeds, base.seed),
        measure=measures.parse(measure),
        judged=judged,
        equal=equal,
        baseline=baseline or names[0],
        threads=threads,
        margin=margin,
        target=target,
    )
    _refuse_equal_arms(plan)
    return plan


def dumps(plan: Plan) -> str:
    """The plan as TOML that `load` reads back to an equal plan."""
    rows: dict[str, Any] = {
        "seeds": list(plan.seeds),
        "measure": plan.measure.name,
        "judged": plan.judged,
        "equal": plan.equal,
        "baseline": plan.baseline,
        "margin": plan.margin,
        "target": plan.target,
        "confidence": plan.confidence,
        "threads": plan.threads,
    }
    lines = [f"{key} = {_toml(value)}" for key, value in rows.items() if value is not None]
    for arm in plan.arms:
        settings = ", ".join(f"{json.dumps(key)} = {_toml(value)}" for key, value in arm.settings.items())
        lines += ["", "[[arms]]", f"name = {_toml(arm.name)}", f"settings = {{ {settings} }}"]
    lines += ["", "[base]"]
    for line in recipes.dumps(plan.base).splitlines():
        lines.append(f"[base.{line[1:]}" if line.startswith("[") else line)
    return "\n".join(lines) + "\n"


def load(path: str | Path) -> Plan:
    """The plan in a `study.toml`.

    Raises:
        UserError: no such file, or it is no study.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        arms = [Arm(one["name"], one["settings"]) for one in content["arms"]]
        base = recipes.build(content["base"], where=str(path))
        given: dict[str, Any] = {key: content[key] for key in ("seeds", "measure", "judged", "baseline", "threads")}
        given |= {key: content.get(key) for key in ("equal", "margin", "target")}
        plan = make(base, arms, **given)
        return replace(plan, confidence=content["confidence"])
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", then="ls studies/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not the plan of a study: {type(error).__name__}: {error}") from None


def _seeds(seeds: int | Sequence[int], first: int) -> tuple[int, ...]:
    number = seeds if isinstance(seeds, int) else len(seeds)
    if not 1 <= number <= MOST_SEEDS:  # before they are listed: a number with many digits would fill the memory
        raise UserError(f"{number} seeds cannot be", allowed=f"1 to {MOST_SEEDS:,}; 5 or more show something")
    chosen = tuple(range(first, first + number)) if isinstance(seeds, int) else tuple(seeds)
    wrong = [seed for seed in chosen if not isinstance(seed, int) or seed < 0]
    if wrong:
        raise UserError(f"seeds cannot be {wrong[0]!r}", allowed="whole numbers from 0")
    if len(set(chosen)) < len(chosen):
        raise UserError("a seed is given twice: it would count the same run as two", then="--seeds 5")
    return chosen


def _refuse_equal_arms(plan: Plan) -> None:
    seen: dict[str, str] = {}
    for arm in plan.arms:
        text = recipes.dumps(plan.recipe(arm, 0))
        if text in seen:
            raise UserError(f"arms {seen[text]!r} and {arm.name!r} are the same: their recipes are equal")
        seen[text] = arm.name


def _toml(value: Any) -> str:
    """A plain value; JSON and TOML spell these alike."""
    if value is None:
        return '"none"'
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def differing(recipes_of: Mapping[str, Recipe]) -> dict[str, dict[str, Any]]:
    """Dotted setting -> its value in every arm, of the settings that are not the same in all."""
    from engram.report.sections.recipe import flat

    settings = {name: flat(tomllib.loads(recipes.dumps(recipe))) for name, recipe in recipes_of.items()}
    every = dict.fromkeys(setting for one in settings.values() for setting in one)
    found = {setting: {name: one.get(setting) for name, one in settings.items()} for setting in every}
    return {setting: values for setting, values in found.items() if len({repr(one) for one in values.values()}) > 1}
