"""The published rules of four tools, each with its source's own defaults, on the same runs.

SageMaker Debugger's built-in rules (developer guide; its rule code is closed, so that these follow the documents),
AutoTrainer (Zhang et al. 2021, ICSE), TheDeepChecker (Braiek and Khomh 2022, arXiv:2204.00694) and UMLAUT (Schoop et
al. 2021, CHI). None runs on PyTorch today, so their rules are written anew from their tables. Where a default is one of
cost and not of judgement, it is more often here: SageMaker saves tensors every 500 steps and would see one in a run of
160; here every rule sees every tenth step. TheDeepChecker's thousand steps on one batch are left out.

A rule stands for the diagnoses named beside it in `SPEAKS_OF`: it counts as found where any of them is true.
"""

import math
from itertools import pairwise
from typing import Any

import torch
from bodies import K
from digits import Pictures
from recorded import EVERY, Record
from torch import nn

Said = list[tuple[str, int]]

SPEAKS_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "SageMaker Debugger": {
        "VanishingGradient": ("vanishing_gradient",),
        "ExplodingTensor": ("not_finite",),
        "DeadRelu": ("dead_relus",),
        "SaturatedActivation": ("saturation",),
        "PoorWeightInitialization": ("scale_at_start", "symmetric_weights"),
        "WeightUpdateRatio": ("lr_too_high", "lr_too_low"),
        "AllZero": ("dead_relus", "unused_parameters", "symmetric_weights"),
        "UnchangedTensor": ("unused_parameters",),
        "LossNotDecreasing": ("lr_too_high", "lr_too_low", "lr_decayed_early", "underfitting"),
        "Overfit": ("overfitting",),
        "Overtraining": ("overfitting",),
        "ClassImbalance": ("class_imbalance",),
        "Confusion": ("class_collapse",),
        "CheckInputImages": ("input_scale",),
    },
    "AutoTrainer": {
        "vanish": ("vanishing_gradient",),
        "explode": ("exploding_gradient", "not_finite"),
        "dying": ("dead_relus",),
        "oscillating": ("lr_too_high",),
        "slow": ("lr_too_low", "lr_decayed_early", "underfitting"),
        "abnormal output": ("scale_at_start", "input_scale"),
    },
    "TheDeepChecker": {
        "input range": ("input_scale",),
        "unbalanced labels": ("class_imbalance",),
        "constant weights": ("symmetric_weights",),
        "loss at start": ("loss_at_start",),
        "zeroed input": ("ignores_input",),
        "instance independence": ("mixed_samples",),
        "gradient check": ("wrong_gradient",),
        "dead activations": ("dead_relus",),
        "saturated activations": ("saturation",),
        "activation range": ("scale_at_start",),
        "diverging weights": ("lr_too_high", "exploding_gradient"),
        "vanishing gradient": ("vanishing_gradient",),
        "exploding gradient": ("exploding_gradient", "not_finite"),
        "update too small": ("lr_too_low",),
        "update too large": ("lr_too_high",),
        "slow loss": ("lr_too_low", "lr_decayed_early", "underfitting"),
        "diverging loss": ("lr_too_high", "not_finite"),
        "fluctuating loss": ("lr_too_high",),
        "train and eval": ("train_eval_mismatch",),
    },
    "UMLAUT": {
        "input range": ("input_scale",),
        "not finite": ("not_finite",),
        "high rate": ("lr_too_high",),
        "low rate": ("lr_too_low",),
        "over-fitting": ("overfitting",),
        "suspicious accuracy": ("split_leak",),
        "dropout over half": ("underfitting",),
    },
}


def said(record: Record, net: nn.Module, pictures: Pictures, measured: dict[str, Any]) -> dict[str, list[list[Any]]]:
    """By tool: [rule, first step at which it spoke] of every rule that did."""
    told = {
        "SageMaker Debugger": sagemaker(record, net),
        "AutoTrainer": autotrainer(record),
        "TheDeepChecker": deepchecker(record, net, measured),
        "UMLAUT": umlaut(record, net),
    }
    first: dict[str, list[list[Any]]] = {}
    for tool, rules in told.items():
        earliest: dict[str, int] = {}
        for rule, step in rules:
            earliest[rule] = min(step, earliest.get(rule, step))
        first[tool] = [[rule, step] for rule, step in earliest.items()]
    return first


def sagemaker(record: Record, net: nn.Module) -> Said:
    """The built-in rules with their defaults."""
    said: Said = []
    still: dict[str, int] = {}
    for one in record.seen:
        rows = one.matrices.values()
        if any(row["gradient"] < 1e-7 for row in rows):
            said.append(("VanishingGradient", one.step))
        if any(not math.isfinite(row["norm"]) or not math.isfinite(row["weight"]) for row in rows):
            said.append(("ExplodingTensor", one.step))
        if any(act.get("inactive", 0) > 0.5 for act in one.activations):
            said.append(("DeadRelu", one.step))
        if any(act.get("outside", 0) > 0.5 for act in one.activations):
            said.append(("SaturatedActivation", one.step))
        if any(row["update"] > 10 or row["update"] < 1e-8 for row in rows):
            said.append(("WeightUpdateRatio", one.step))
        if any(row["zeros"] == 1 or (row["small"] == 1 and row["weight"] == 0) for row in rows):
            said.append(("AllZero", one.step))
        for name, row in one.matrices.items():
            still[name] = 0 if row["changed"] else still.get(name, 0) + 1
        if any(count >= 3 for count in still.values()):
            said.append(("UnchangedTensor", one.step))
    if any(not math.isfinite(value) for value in record.losses):
        said.append(("ExplodingTensor", len(record.losses)))
    falls = [value < earlier for earlier, value in zip(record.losses[:5], record.losses[1:6], strict=False)]
    if record.seen and not any(falls):
        rows = record.seen[0].matrices.values()
        variances = [row["variance"] for row in rows]
        if max(variances) > 10 * min(variances) or any(row["spread"] < 0.001 for row in rows):
            said.append(("PoorWeightInitialization", 10))
    for step in range(10, len(record.losses), EVERY):
        if not record.losses[step] < 0.999 * record.losses[step - 10]:
            said.append(("LossNotDecreasing", step + 1))
    each = max(1, len(record.losses) // max(1, len(record.passes)))
    best = math.inf
    waited = 0
    for number, (train, _, held, _) in enumerate(record.passes, 1):
        if train > 0 and (held - train) / train > 0.1:
            said.append(("Overfit", number * each))
        waited = 0 if held < best - 0.1 else waited + 1
        best = min(best, held)
        if waited >= 10:
            said.append(("Overtraining", number * each))
    said += _classes(record, net)
    if abs(record.pictures.x.mean().item()) > 0.2:
        said.append(("CheckInputImages", 0))
    return said


def _classes(record: Record, net: nn.Module) -> Said:
    said: Said = []
    counts = torch.bincount(record.pictures.y, minlength=K).float()
    if counts.max() > 10 * counts[counts > 0].min():
        said.append(("ClassImbalance", 0))
    y = record.pictures.held_y
    net.eval()
    with torch.no_grad():
        guesses = net(record.pictures.held_x).argmax(1)
    table = torch.zeros(K, K)
    table.index_put_((y, guesses), torch.ones(len(y)), accumulate=True)
    table = table / table.sum(0).clamp_min(1)  # of what was answered k, the share that is k
    if table.diagonal().min() < 0.9 or (table - torch.diag(table.diagonal())).max() > 0.1:
        said.append(("Confusion", len(record.losses)))
    return said


def autotrainer(record: Record) -> Said:
    """Its rules after 30 % of the passes, every third; only of a run under 0.6 or not improving."""
    said: Said = []
    if any(not math.isfinite(value) or value >= 1e3 for value in record.losses):
        said.append(("explode", len(record.losses)))
    count, each = len(record.passes), max(1, len(record.losses) // max(1, len(record.passes)))
    accuracies = [row[1] for row in record.passes]
    for number in range(max(1, math.ceil(0.3 * count)), count + 1, 3):
        step, past = number * each, accuracies[:number]
        if past[-1] >= 0.6 and (len(past) < 2 or past[-1] > past[-2]):
            continue
        seen = [one for one in record.seen if one.step <= step]
        if not seen:
            continue
        now = seen[-1]
        norms = [row["norm"] for row in now.matrices.values()]
        ratio = norms[0] / norms[-1] if norms[-1] else math.inf
        if ratio < 1e-3 and norms[0] < 1e-4:
            said.append(("vanish", step))
        if ratio > 70 or not all(map(math.isfinite, norms)):
            said.append(("explode", step))
        sizes = [row["zeros"] for row in now.matrices.values()]
        if any(act["kind"] == "ReLU" for act in now.activations) and sum(sizes) / len(sizes) >= 0.7:
            said.append(("dying", step))
        swings = [abs(b - a) >= 0.03 for a, b in pairwise(past) if b < a]
        if past and sum(swings) >= 0.2 * len(past):
            said.append(("oscillating", step))
        if len(past) > 1 and max(b - a for a, b in pairwise(past)) < 0.01:
            said.append(("slow", step))
        if any(act["mean"] >= 10 for act in now.activations):
            said.append(("abnormal output", step))
    return said


def deepchecker(record: Record, net: nn.Module, measured: dict[str, Any]) -> Said:
    """Its checks before, while and after fitting."""
    from scipy.stats import mannwhitneyu

    said: Said = []
    x, y = record.pictures.x, record.pictures.y
    low, high, mean, std = x.min().item(), x.max().item(), x.mean().item(), x.std().item()
    ranged = any(abs(low - one) < 1e-3 for one in (0, -1)) and abs(high - 1) < 1e-3
    if not ranged and not (abs(mean) < 0.05 and abs(std - 1) < 0.05):
        said.append(("input range", 0))
    shares = torch.bincount(y, minlength=K) / len(y)
    if torch.special.entr(shares).sum().item() / math.log(K) < 0.5:
        said.append(("unbalanced labels", 0))
    if record.seen and any(row["variance"] < 1e-12 for row in record.seen[0].matrices.values()):
        said.append(("constant weights", 0))
    if not abs(record.start_loss - math.log(K)) < math.log(K):
        said.append(("loss at start", 0))
    if measured.get("mixed"):
        said.append(("instance independence", 0))
    if measured.get("gradient_error", 0.0) > 0.01:
        said.append(("gradient check", 0))
    for one in record.seen:
        rows = one.matrices.values()
        if any(act.get("dead", 0) > 0.5 for act in one.activations):
            said.append(("dead activations", one.step))
        if any(act.get("rho", 0) > 0.5 for act in one.activations):
            said.append(("saturated activations", one.step))
        hidden = [act for act in one.activations if act["kind"] not in ("Linear", "Conv2d")]
        if any(not 0.5 <= act["std"] <= 2 for act in hidden):
            said.append(("activation range", one.step))
        if any(row["small"] > 0.95 or row["negative"] > 0.95 or row["weight"] > 1e8 for row in rows):
            said.append(("diverging weights", one.step))
        if any(row["gradient"] < 1e-6 for row in rows):
            said.append(("vanishing gradient", one.step))
        if any(not row["gradient"] <= 1e6 for row in rows):
            said.append(("exploding gradient", one.step))
        logs = [math.log10(max(row["mean_update"], 1e-30)) for row in rows if math.isfinite(row["mean_update"])]
        if any(value < -4 for value in logs):
            said.append(("update too small", one.step))
        if any(value > -1 for value in logs):
            said.append(("update too large", one.step))
    for name in record.seen[0].matrices if record.seen else ():
        for key, up, down in (
            ("gradient", "exploding gradient", "vanishing gradient"),
            ("weight", "diverging weights", ""),
        ):
            values = [one.matrices[name][key] for one in record.seen if name in one.matrices]
            for rule, is_run in ((up, lambda a, b: b > 2 * a), (down, lambda a, b: b < 0.5 * a)):
                run = 0
                for place, (a, b) in enumerate(pairwise(values)):
                    run = run + 1 if is_run(a, b) else 0
                    if rule and run >= 5:
                        said.append((rule, record.seen[place + 1].step))
    said += _losses(record)
    if record.passes:
        net.eval()
        with torch.no_grad():
            real = record.loss(net(x), y)
            zero = record.loss(net(torch.zeros_like(x)), y)
        if bool(real.isfinite().all()) and mannwhitneyu(real.numpy(), zero.numpy()).pvalue > 0.05:
            said.append(("zeroed input", len(record.losses)))
    if "renewed_loss" in measured and measured["renewed_loss"] > 0:
        other = abs(measured["train_loss"] - measured["renewed_loss"]) / measured["renewed_loss"]
        if other > 0.5:
            said.append(("train and eval", len(record.losses)))
    return said


def _losses(record: Record) -> Said:
    said: Said = []
    losses = record.losses[::EVERY]
    for place in range(5, len(losses)):
        window = losses[place - 5 : place + 1]
        if window[-1] > 0.95 * window[0]:
            said.append(("slow loss", place * EVERY))
        if all(b > 2 * a for a, b in pairwise(window)):
            said.append(("diverging loss", place * EVERY))
    for end in range(50, len(record.losses), EVERY):
        steps = [b - a for a, b in pairwise(record.losses[end - 50 : end])]
        if sum(a * b < 0 for a, b in pairwise(steps)) > 25:
            said.append(("fluctuating loss", end))
    return said


def umlaut(record: Record, net: nn.Module) -> Said:
    """Its checks before training and after every pass."""
    said: Said = []
    if record.pictures.x.min() < -1 or record.pictures.x.max() > 1:
        said.append(("input range", 0))
    if max(record.rates) > 0.01:
        said.append(("high rate", 0))
    if max(record.rates) < 1e-7:
        said.append(("low rate", 0))
    if any(not math.isfinite(value) for value in record.losses):
        said.append(("not finite", len(record.losses)))
    if any(isinstance(one, nn.Dropout | nn.Dropout2d) and one.p > 0.5 for one in net.modules()):
        said.append(("dropout over half", 0))
    each = max(1, len(record.losses) // max(1, len(record.passes)))
    for number, (before, now) in enumerate(pairwise(record.passes), 2):
        if now[2] > before[2] and now[0] <= before[0]:
            said.append(("over-fitting", number * each))
        if number > 3 and (now[3] > 0.95 or now[3] > now[1] + 0.05):
            said.append(("suspicious accuracy", number * each))
    return said
