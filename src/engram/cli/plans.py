"""`--plan`: the complete recipe, what it costs, and every choice with its reason; nothing is trained."""

import json as jsonlib

from engram import recipe as recipes
from engram.recipe import Recipe


def show(recipe: Recipe, *, json: bool = False) -> int:
    """Assemble the recipe, time a few steps on a copy of the network, and print what would happen."""
    from engram.cli.console import clock
    from engram.training.assemble import assemble
    from engram.training.assembled import environment

    assembled = assemble(recipe)
    for decision in (assembled.calibrate_threads("the fastest of those timed"), assembled.calibrate_precision()):
        if decision is not None:
            assembled.decisions.append(decision)
    seconds = min(assembled.step_seconds.values()) if assembled.step_seconds else assembled.time_step()
    parts, reviewer = assembled.parts, assembled.state.reviewer
    micro_batch = -(-reviewer.batch_size // parts.accumulate)
    needed = assembled.memory().total(micro_batch) + assembled.prepared.train.nbytes
    facts = {
        "parameters": assembled.account.parameters,
        "macs": assembled.account.macs,
        "memory_bytes": needed,
        "steps": reviewer.total_steps,
        "step_seconds": seconds,
        "seconds": seconds * reviewer.total_steps,
    }
    if json:
        print(jsonlib.dumps({"recipe": recipes.dumps(recipe), "costs": facts, **environment(assembled)}))
        return 0
    print(recipes.dumps(recipe))
    print(f"parameters    {facts['parameters']:,}")
    print(f"multiply-adds {facts['macs']:,} {assembled.work_of}")
    print(
        f"memory        about {needed / 2**30:.2f} GiB: the data, the weights, and what a batch of {micro_batch} takes"
    )
    print(f"steps         {reviewer.total_steps:,}, {reviewer.steps_per_pass:,} an epoch")
    print(
        f"time          about {clock(facts['seconds'])}, from {1000 * seconds:.0f} ms a step; evaluation not counted\n"
    )
    for one in assembled.decisions:
        print(f"{one.setting} = {one.value}: {one.reason}")
    return 0
