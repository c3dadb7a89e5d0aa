"""Engram: its own assembly and its own loop, driven by the events that the loop yields.

as it comes   everything `auto`: what `engram train` chooses on this machine
float32       the same in float32, the precision of the other programs' documented form

The task `speed` reads the loop's events and nothing else; files and the live report belong to the task `accuracy`,
which is the whole of `engram.train`, report and evaluation included. The recipe is the other programs': no validation
split is held out, and the weight decay reaches every parameter.
"""

import os
import tempfile

import protocol
import torch
from workloads import BATCH, MOMENTUM, WARMUP, Workload, parquet_folder

import engram
from engram import recipe
from engram.training import loop
from engram.training.assemble import assemble
from engram.training.events import Step


def settings(workload: Workload, data: str, mode: str, threads: int, all_cores: bool) -> dict[str, object]:
    """The workload as a recipe. With all cores the thread count stays Engram's own choice."""
    words = ([f"crop:{workload.crop}"] if workload.crop else []) + (["flip"] if workload.flip else [])
    return {
        "data": {"path": str(parquet_folder(workload, data)), "validation": 0.0},
        "model": {"name": workload.network, **({"stem": "small"} if workload.network == "resnet18" else {})},
        "optimizer": {
            "name": "nesterov",
            "lr": workload.lr,
            "momentum": MOMENTUM,
            "weight_decay": workload.weight_decay,
            "decay_all": True,
        },
        "schedule": {"name": "one_cycle", "warmup": WARMUP},
        "augment": tuple(words),
        "batch_size": BATCH,
        "device": {
            "name": "cpu",
            "threads": "auto" if all_cores else str(threads),
            "precision": "float32" if mode == "float32" else "auto",
        },
    }


def main() -> None:
    chosen = protocol.arguments(["as it comes", "float32"])
    say = protocol.claim_stdout()
    all_cores = chosen.threads > 1 and chosen.threads == len(os.sched_getaffinity(0))
    more = settings(chosen.workload, chosen.data, chosen.mode, chosen.threads, all_cores)
    more |= {"seed": chosen.seed, "epochs": chosen.epochs}
    if chosen.limit:
        more["data.limit"] = chosen.limit
    if chosen.task == "accuracy":
        with tempfile.TemporaryDirectory() as folder:
            watch = protocol.Watch()
            run = engram.train(output=os.path.join(folder, "run"), **more)
            say(watch.row(run.evaluations["test"]["accuracy"]))
        return
    # the run never ends while it is measured, so its schedule is that of a run too long to finish
    assembled = assemble(recipe.build({**more, "epochs": 10_000}))
    counted = assembled.account.parameters
    if counted != chosen.workload.parameters:
        raise SystemExit(f"{chosen.workload.network} has {counted} parameters, not {chosen.workload.parameters}")
    assembled.calibrate_threads("the fastest of those timed")
    assembled.calibrate_precision()
    machine = assembled.machine
    facts = {"engram": engram.__version__, "torch": torch.__version__}
    choices = {"dtype": str(machine.dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
    gate = protocol.Gate(say, {"versions": facts, "choices": choices})
    gate.begin()
    for event in loop.train(assembled.parts, assembled.state):
        if isinstance(event, Step):
            gate.step(event.examples, event.loss.item)


if __name__ == "__main__":
    main()
