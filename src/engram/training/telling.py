"""What a person is told before the first step and after the last, as (label, text) lines for any console."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from engram.clinic.finding import Finding
from engram.layers.auxiliary import PREFIX, AuxiliaryHeads
from engram.training.assembled import Assembled

Lines = list[tuple[str, str]]


def header(assembled: Assembled, path: Path) -> Lines:
    """The data, the network, how it is fitted, on what, and where to."""
    prepared, recipe, machine = assembled.prepared, assembled.recipe, assembled.machine
    reviewer = assembled.state.reviewer
    splits = [f"{len(prepared.train):,} training"]
    splits += [] if prepared.validation is None else [f"{len(prepared.validation):,} validation"]
    splits += [] if prepared.test is None else [f"{len(prepared.test):,} test"]
    words = next((one.value for one in assembled.decisions if one.setting == "augment"), ",".join(recipe.augment))
    account = assembled.account
    return [
        ("data", f"{recipe.data.path}: {', '.join(splits)} {assembled.told_data()}"),
        (
            "model",
            f"{recipe.model.name}: {account.parameters:,} parameters, "
            f"{account.macs / 1e6:,.1f} M multiply-adds {assembled.work_of}",
        ),
        (
            "optimizer",
            f"{recipe.optimizer.name} at {assembled.state.optimizer.defaults['lr']:g}, {recipe.schedule.name}, "
            f"{reviewer.epochs:g} epochs of {reviewer.steps_per_pass} steps, batch {reviewer.batch_size}",
        ),
        *([] if recipe.review.name == "shuffle" else [("review", _review(assembled))]),
        ("augment", words or "none"),
        *_asked(assembled),
        (
            "device",
            f"{machine.device}, {str(machine.dtype).removeprefix('torch.')}, "
            f"{str(machine.memory_format).removeprefix('torch.')}, {torch.get_num_threads()} threads",
        ),
        ("folder", str(path)),
    ]


def _asked(assembled: Assembled) -> Lines:
    """The words for first weights, over-fitting and heads on the way, where a recipe has any."""
    recipe = assembled.recipe
    lines = []
    if recipe.initializer not in ((), ("own",)) and recipe.weights is None:
        lines.append(("initializer", ",".join(recipe.initializer)))
    if recipe.regularizer:
        lines.append(("regularizer", ",".join(recipe.regularizer)))
    heads = getattr(assembled.state.net, PREFIX, None)
    if recipe.auxiliary.at and isinstance(heads, AuxiliaryHeads):
        places = ", ".join(heads.places)
        lines.append(("auxiliary", f"{recipe.auxiliary.head} heads at {places}, weight {recipe.auxiliary.weight:g}"))
    return lines


def _review(assembled: Assembled) -> str:
    reviewer, choice = assembled.state.reviewer, assembled.recipe.review
    settings = "".join(f" {key}={value}" for key, value in choice.settings.items())
    rounds = f"{reviewer.rounds} rounds" if reviewer.planned is not None else f"at most {reviewer.rounds} rounds"
    return f"{choice.name}{settings}, {rounds}, {reviewer.total_steps:,} steps"


def closing(
    assembled: Assembled,
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    evaluations: Mapping[str, Mapping[str, Any]],
    findings: Sequence[Finding] = (),
    *,
    reason: str,
    message: str,
) -> Lines:
    """How it ended, what came out, how fast it was, and what to do next.

    Args:
        rows: those of metrics.jsonl.
        evaluations: metrics by split.
        findings: of the clinic, to be read from the top.
    """
    lines: Lines = [(reason.replace("_", " "), message)] if message else []
    best = assembled.state.best
    if evaluations:
        lines.append(
            ("result", f"{assembled.told_result(evaluations)} (weights of epoch {best['epoch'] if best else 0})")
        )
    elif best is not None:
        lines.append(("best", f"{assembled.told_best(best)} in epoch {best['epoch']}"))
    per_second = f"{assembled.unit}_per_second"
    rates = [row[per_second] for row in rows if row.get("event") == "epoch" and row.get(per_second)]
    seconds = next((row["seconds"] for row in reversed(rows) if "seconds" in row), 0.0)
    speed = ""
    if rates:
        gflops = median(rates) * 6 * assembled.account.macs / 1e9
        speed = f", {median(rates):,.0f} {assembled.unit}/s, {gflops:,.0f} GFLOP/s"
        if assembled.peak_gflops:
            speed += f" ({100 * gflops / assembled.peak_gflops:.0f} % of this machine's matrix products)"
    lines.append(("time", f"{seconds:,.0f} s{speed}"))
    lines += [] if not findings else [("findings", found(findings))]
    lines += [("folder", str(path)), ("report", str(path / "report.html"))]
    done = reason in ("finished", "early_stopping")
    lines.append(("next", assembled.next_command.format(path) if done else f"engram resume {path}"))
    return lines


def found(findings: Sequence[Finding], most: int = 4) -> str:
    """The findings' names with how bad they are, those to be read first first."""
    told = [f"{one.title} ({one.severity})" for one in findings[:most]]
    return ", ".join(told) + (f" and {len(findings) - most} more" if len(findings) > most else "")
