"""What an arm costs, found by building it and taking a few steps that are thrown away."""

import time
from statistics import median
from typing import Any

from engram.recipe import Recipe
from engram.study import examples
from engram.study.session import fingerprint
from engram.training.assemble import assemble
from engram.training.assembled import Assembled
from engram.training.events import Step
from engram.training.loop import train as events_of

WARM = 3  # steps that are not counted: they choose kernels and fill caches
STEPS = 24
SECONDS = 4.0  # after which no further step is timed


def inspect(recipe: Recipe, *, timed: bool) -> dict[str, Any]:
    """The facts of `budget.Cost`, as plain values.

    Raises:
        UserError: something in the recipe cannot be had.
    """
    assembled = assemble(recipe)
    prepared, reviewer = assembled.prepared, assembled.state.reviewer
    facts: dict[str, Any] = {
        "examples": len(prepared.train),
        "validation_examples": 0 if prepared.validation is None else len(prepared.validation),
        "test_examples": 0 if prepared.test is None else len(prepared.test),
        "batch_size": reviewer.batch_size,
        "steps_per_epoch": reviewer.steps_per_pass,
        "epochs": reviewer.epochs,
        "initial": fingerprint(assembled.state.net),
        "charge": reviewer.method.charge,
        "told_by": examples.fingerprints(assembled),
        "classes": len(getattr(prepared, "classes", ())),
    }
    return {**facts, **time_steps(assembled)} if timed else facts


def time_steps(assembled: Assembled) -> dict[str, float]:
    """Median seconds of a step as the loop takes it, and of one validation. The weights are used up by it."""
    assembled.calibrate_threads("the study's")
    taken: list[float] = []
    deadline = time.perf_counter() + SECONDS
    for event in events_of(assembled.parts, assembled.state):
        if isinstance(event, Step):
            taken.append(event.seconds)
        if len(taken) >= WARM + STEPS or (time.perf_counter() > deadline and len(taken) > WARM):
            break
    begin = time.perf_counter()
    assembled.parts.validate(assembled.state.net)
    return {"step_seconds": median(taken[WARM:] or taken), "judge_seconds": time.perf_counter() - begin}
