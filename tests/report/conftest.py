"""Run folders as training leaves them, made without training: real digits, plausible curves, and every way to end."""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "a&b</table>", "x\x00\u202ey", "</script><b>"]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The bundle is kept in the tests' folder, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    return make


@pytest.fixture(scope="session")
def hostile() -> list[str]:
    """Class names that are not meant well."""
    return list(HOSTILE)


def make(
    folder: Path,
    *,
    end: str | None = "finished",
    classes: Sequence[str] | int = 10,
    epochs: int = 12,
    total_epochs: int | None = None,
    evaluated: bool = True,
    lr: float = 0.1,
    seed: int = 0,
) -> Path:
    """A run folder. `end` None: it is still running; `total_epochs`: how many were planned, where not all were done."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    total = total_epochs or epochs
    names = [f"class {number}" for number in range(classes)] if isinstance(classes, int) else list(classes)
    if classes == 10:
        names = [str(digit) for digit in range(10)]
    (folder / "recipe.toml").write_text(recipe(lr, total, str(folder)), encoding="utf-8")
    (folder / "command.txt").write_text(f"engram train --data digits --model resnet20 --epochs {total}\n")
    (folder / "environment.json").write_text(json.dumps(environment()))
    (folder / "card.json").write_text(json.dumps(card(names), ensure_ascii=False), encoding="utf-8")
    (folder / "network.json").write_text(json.dumps(network()))
    events = history(rng, epochs, total, end, lr)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (folder / "pictures").mkdir(exist_ok=True)
    sheet(folder / "pictures" / "samples.png")
    if evaluated and end is not None:
        (folder / "evaluation").mkdir(exist_ok=True)
        evaluation(folder / "evaluation", "validation", names, rng, 360 if len(names) <= 20 else 4000)
        evaluation(folder / "evaluation", "test", names, rng, 500 if len(names) <= 20 else 4000)
    return folder


def network() -> dict:
    """Costs of a convolution and a linear layer, as training writes them."""

    def row(
        layer: str, kind: str, output: list[int], parameters: int, macs: int, sees: int, held: int, kept: int
    ) -> dict:
        costs = {"parameters": parameters, "macs": macs, "receptive_field": [sees, sees], "held": held, "kept": kept}
        return {"layer": layer, "type": kind, "output": output, **costs}

    rows = [
        row("conv", "Conv2d", [8, 6, 6], 80, 2_592, 3, 1_408, 256),
        row("relu", "ReLU", [8, 6, 6], 0, 0, 3, 2_304, 1_152),
        row("head", "Linear", [10], 2_890, 2_880, 8, 1_192, 1_152),
    ]
    total = {"parameters": 2_970, "macs": 5_472, "output": [10], "held": 2_304, "kept": 2_560}
    total |= {"weights": 11_880, "gradients": 11_880}
    step = {"batch": 128, "optimizer": "nesterov", "slots": 1, "bytes": 363_320}
    return {"input": [1, 8, 8], "rows": rows, "total": total, "step": step}


def history(rng: np.random.Generator, epochs: int, total: int, end: str | None, lr: float) -> list[dict]:
    per_epoch, logged = 23, 6
    steps = per_epoch * total
    events: list[dict] = [
        {
            "event": "start",
            "time": 1_790_000_000.0,
            "steps_per_epoch": per_epoch,
            "total_steps": steps,
            "epochs": float(total),
            "train_examples": 1437,
            "validation_examples": 360,
        }
    ]
    best = math.inf
    for epoch in range(1, epochs + 1):
        for part in range(1, logged + 1):
            step = round((epoch - 1 + part / logged) * per_epoch)
            share = step / steps
            level = 0.04 + 2.3 * math.exp(-7 * share)
            if end == "not_finite" and epoch == epochs:
                level = 2.3 * math.exp(1.6 * part)
            rate = lr * (share / 0.25 if share < 0.25 else (1 + math.cos(math.pi * (share - 0.25) / 0.75)) / 2)
            loss = level * math.exp(rng.normal(0, 0.18))
            if end == "not_finite" and epoch == epochs and part == logged:
                loss = math.nan
            events.append(
                {
                    "event": "step",
                    "step": step,
                    "epoch": step / per_epoch,
                    "loss": loss,
                    "lr": rate,
                    "images_per_second": 5200 * math.exp(rng.normal(0, 0.06)),
                    "seconds": 0.56 * step,
                }
            )
        if end == "not_finite" and epoch == epochs:
            break
        share = epoch / total
        validation = 0.13 + 2.2 * math.exp(-6 * share) * math.exp(rng.normal(0, 0.04))
        events.append(
            {
                "event": "epoch",
                "epoch": epoch,
                "step": epoch * per_epoch,
                "seconds": 0.56 * epoch * per_epoch,
                "lr": rate,
                "images_per_second": 5200.0,
                "train": {"loss": level, "accuracy": 1 - 0.9 * math.exp(-5.5 * share)},
                "validation": {"loss": validation, "accuracy": 1 - 0.05 - 0.85 * math.exp(-6 * share)},
                "best": validation < best,
            }
        )
        best = min(best, validation)
    events.insert(
        2, {"event": "threads", "step": 12, "threads": 1, "why": "two were 3.1x slower: the machine is shared"}
    )
    if end is not None:
        messages = {
            "interrupted": "stopped by a signal at step 92; its state is saved",
            "early_stopping": f"no better validation result for 5 epochs after epoch {max(1, epochs - 5)}",
            "not_finite": "the loss became infinite or not a number at step 92; the weights of step 69 are kept. "
            f"Try --optimizer.lr {lr / 10:g} or --clip_norm 1",
        }
        last = events[-1]
        events.append(
            {
                "event": "end",
                "reason": end,
                "step": last["step"],
                "seconds": last["seconds"] + 0.4,
                "message": messages.get(end, ""),
            }
        )
    return events


def evaluation(folder: Path, split: str, names: list[str], rng: np.random.Generator, examples: int) -> None:
    """What a network that knows the digits by their mean image says; with other classes, made-up probabilities."""
    digits = load_digits()
    pick = rng.permutation(len(digits.images))[np.arange(examples) % len(digits.images)]
    images, labels = digits.images[pick], digits.target[pick]
    count = len(names)
    if count == 10:
        means = np.stack([digits.images[digits.target == digit].mean(0) for digit in range(10)])
        logits = -((images[:, None] - means) ** 2).sum((2, 3)) / 90 + rng.normal(0, 0.5, (examples, 10))
    else:
        labels = rng.integers(0, count, examples)
        logits = rng.normal(0, 1, (examples, count))
        logits[np.arange(examples), labels] += 3.8
        logits[np.arange(examples), (labels + 1) % count] += 2.0
    shares = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = (shares / shares.sum(1, keepdims=True)).astype(np.float32)
    summary = summarise(probabilities, labels, names)
    (folder / f"{split}.json").write_text(json.dumps(summary, ensure_ascii=False), encoding="utf-8")
    index = np.array(sorted({row["index"] for row in summary["worst"] + summary["samples"]}), dtype=np.int64)
    pixels = (images[index] * 15.9).astype(np.uint8)[..., None]
    np.savez_compressed(folder / f"{split}_pictures.npz", index=index, pixels=pixels)


def summarise(probabilities: NDArray[np.float32], labels: NDArray[np.int64], names: list[str]) -> dict:
    count, examples = len(names), len(labels)
    predicted, confidence = probabilities.argmax(1), probabilities.max(1)
    truth = probabilities[np.arange(examples), labels]
    confusion = np.zeros((count, count), dtype=int)
    np.add.at(confusion, (labels, predicted), 1)

    def ratio(part: int, whole: int) -> float:
        return float(part / whole) if whole else 0.0

    per_class = []
    for one, name in enumerate(names):
        precision, recall = (ratio(confusion[one, one], confusion.sum(axis)[one]) for axis in (0, 1))
        f1 = ratio(2 * precision * recall, precision + recall)
        row = {"name": name, "examples": int(confusion[one].sum()), "precision": precision, "recall": recall, "f1": f1}
        per_class.append(row)
    bins = []
    for low in np.arange(0, 1, 0.1):
        inside = (confidence > low) & (confidence <= low + 0.1)
        if inside.any():
            right = float((predicted == labels)[inside].mean())
            bins.append({"confidence": float(confidence[inside].mean()), "accuracy": right, "count": int(inside.sum())})

    def rows(indices: Sequence[int]) -> list[dict]:
        return [
            {
                "index": int(one),
                "name": f"{names[labels[one]]}/{one}.png",
                "label": int(labels[one]),
                "predicted": int(predicted[one]),
                "probability": float(truth[one]),
                "confidence": float(confidence[one]),
            }
            for one in indices
        ]

    return {
        "examples": examples,
        "loss": float(-np.log(truth).mean()),
        "accuracy": float((predicted == labels).mean()),
        "top5": None,
        "ece": float(sum(abs(one["confidence"] - one["accuracy"]) * one["count"] for one in bins) / examples),
        "reliability": bins,
        "classes": names,
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "worst": rows(np.argsort(truth)[:24].tolist()),
        "samples": rows(range(24)),
    }


def sheet(path: Path) -> None:
    images = (load_digits().images[:40] * 15.9).astype(np.uint8).reshape(4, 10, 8, 8)
    tiles = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=40)
    Image.fromarray(tiles.transpose(0, 2, 1, 3).reshape(40, 100)).resize((600, 240), 0).save(path)


def environment() -> dict:
    return {
        "engram": "0.1.0",
        "python": "3.11.7",
        "torch": "2.13.0",
        "platform": "Linux",
        "processor": "AMD EPYC 9R14",
        "cores": 2,
        "device": "cpu",
        "choices": [
            {"setting": "device.precision", "value": "bfloat16", "reason": "the processor multiplies it in hardware"},
            {"setting": "device.memory_format", "value": "channels_last", "reason": "convolutions are faster so"},
            {
                "setting": "device.threads",
                "value": "2",
                "reason": "the fastest of those timed (1: 61 ms, 2: 38 ms a step)",
            },
        ],
        "model": {"name": "resnet20", "parameters": 272_474, "macs": 41_000_000, "input": [1, 8, 8]},
        "peak_gflops": 310.5,
        "model_gflop_per_image": 0.0154,
    }


def card(names: list[str]) -> dict:
    counts = [178 - 3 * min(number, 50) for number in range(len(names))]
    return {
        "path": "digits",
        "kind": "handwritten digits of scikit-learn",
        "classes": names,
        "counts": {"train": counts, "validation": [36] * len(names), "test": [50] * len(names)},
        "sizes": {"looked_at": 500, "smallest": [8, 8], "median": [8, 8], "largest": [9, 12], "commonest": []},
        "shape": [1, 8, 8],
        "stored_shape": [1, 9, 9],
        "dtype": "uint8",
        "mean": [0.305],
        "std": [0.376],
        "imbalance": 1.18,
        "effective_classes": 9.98,
        "unreadable": [{"name": f"{names[0]}/7.png", "why": "the file ends in the middle"}],
        "unreadable_count": 1,
        "constant": [f"{names[1]}/blank.png"],
        "constant_count": 1,
        "duplicates": {
            "compared": 2297,
            "exact_count": 0,
            "near_count": 1,
            "across_count": 1,
            "conflicting_count": 0,
            "exact": [],
            "near": [[f"{names[0]}/1.png", f"{names[0]}/2.png"]],
            "across": [[f"train: {names[0]}/3.png", f"test: {names[0]}/4.png"]],
            "conflicting": [],
        },
        "warnings": [
            {
                "text": "1 example stands in more than one split",
                "remedy": "take them out of training, or the result will look better than it is",
            }
        ],
        "notes": ["one example in ten was held out for validation, by seed 0"],
    }


def recipe(lr: float, epochs: int, output: str) -> str:
    return f"""seed = 0
output = {json.dumps(output)}
augment = ["auto"]
views = []

[data]
path = "digits"
validation = 0.1

[model]
name = "resnet20"

[optimizer]
name = "nesterov"
lr = {lr}

[schedule]
name = "one_cycle"

[training]
epochs = {float(epochs)}
batch_size = 64
label_smoothing = 0.1

[device]
name = "auto"
"""
