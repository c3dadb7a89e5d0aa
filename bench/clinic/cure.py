"""Whether doing what a finding says helps: the sick run again with the change of its own remedy, against the control.

    recovered = (sick - cured) / (sick - control)        of the last training losses; from 0.8 on, it was the remedy

Only where a remedy has a change that a recipe can say (a rate, a decay, an initializer, clipping, a schedule); "look at
the data" cannot be carried out by a program.
"""

import gzip
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from bodies import SECOND_LOOK, drawn, half
from digits import Pictures
from diseases import DISEASES
from healthy import one_cycle
from torch import nn
from trial import BODIES, Trial, build, optimizer_of

from engram import registry
from engram.clinic.measured import History

RECOVERED = 0.8
CAP = 10.0


def last_loss(trial: Trial, given: Pictures) -> float:
    """Mean of the last ten training losses of a trial that nobody watches; `CAP` where it broke off."""
    pictures = trial.data(given)
    net = build(trial)
    optimizer, rng = optimizer_of(trial, net), torch.Generator().manual_seed(trial.seed)
    base, clip = [group["lr"] for group in optimizer.param_groups], trial.clip or BODIES[trial.body].clip
    order, losses = torch.empty(0, dtype=torch.long), []
    net.train()
    for step in range(trial.steps):
        if len(order) < trial.batch:
            order = torch.randperm(len(pictures.x), generator=rng)
        rows, order = order[: trial.batch], order[trial.batch :]
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * trial.schedule(step / trial.steps)
        images, labels = trial.batch_of(pictures.x[rows], pictures.y[rows], rng)
        loss = trial.loss(net(images), labels).mean()
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
        losses.append(loss.item())
        if not losses[-1] < 1e6:
            return CAP
    return min(CAP, sum(losses[-10:]) / 10)


def remedied(trial: Trial, change: Mapping[str, Any]) -> Trial | None:
    """The trial with a remedy's change; None where none of it is something that a trial has."""
    made, rule = trial, next(iter(change.get("initializer", ())), None)
    if rule not in (None, "he", "xavier"):
        return None  # of recurrent weights, which `drawn` leaves alone
    if "optimizer.lr" in change:
        made = replace(made, lr=change["optimizer.lr"], times_lr=1.0)
    if "optimizer.weight_decay" in change:
        made = replace(made, weight_decay=change["optimizer.weight_decay"])
    if "clip_norm" in change:
        made = replace(made, clip=change["clip_norm"])
    if change.get("schedule") == "one_cycle":
        made = replace(made, schedule=one_cycle)
    if rule in ("he", "xavier"):
        before = made.change
        made = replace(made, change=lambda net: drawn(before(net), rule=rule))
    return None if made is trial else made


def cures(trials: list[Trial], kept: Path, name: Any, given: Pictures) -> list[dict[str, Any]]:
    """A row a clear disease whose finding has a change: what came back of what was lost.

    Of the calibration half the first seed, of the held-out one the first of the second look.
    """
    rows = []
    for one in trials:
        path = kept / f"{name(one.key)}.pkl.gz"
        first = SECOND_LOOK if half(one.body) == "held-out" else 0
        if one.kind != "sick" or one.dose != "clear" or one.seed != first or not path.exists():
            continue
        with gzip.open(path, "rb") as file:
            history: History = pickle.load(file)
        diagnosis = DISEASES[one.name].diagnosis
        change = _change(diagnosis, history)
        cured = remedied(one, change) if change else None
        if cured is None:
            continue
        control = last_loss(Trial("control", "plain", one.body, one.seed, steps=one.steps), given)
        sick, after = last_loss(one, given), last_loss(cured, given)
        gap = sick - control
        rows.append(
            {"key": one.key, "diagnosis": diagnosis, "change": {k: str(v) for k, v in change.items()}, "sick": sick,
             "cured": after, "control": control, "recovered": (sick - after) / gap if gap > 0.05 else None}
        )  # fmt: skip
    return rows


def _change(diagnosis: str, history: History) -> Mapping[str, Any]:
    """The change of the first finding of a diagnosis, at the moment it was said."""
    build = registry.find("diagnosis", diagnosis).build
    for place, moment in enumerate(history.moments):
        if place and not (moment.weights or moment.layers or moment.figures):
            continue
        for finding in build(History(history.moments[: place + 1], history.setup)):
            if finding.severity != "information":
                return finding.remedy.change
    return {}
