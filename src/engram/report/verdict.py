"""What a run came to, in plain words: one sentence, and the remarks that a careful reader would add.

No HTML here, so that the console, the lab and the page say the same.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from engram.report import foreseeing
from engram.report.run_folder import SPLITS, Evaluation, Run, finite, text
from engram.report.words import about, count, duration, interval, listed, number, percent, plural

Tone = Literal["good", "note", "warning", "bad"]

ENOUGH_EPOCHS = 5
"""Epochs below which nothing is said about the trend."""
STILL_FALLING = 0.02
"""Share by which the validation loss must have fallen over the last quarter to count as still improving, and"""
LEAST = 0.005
"""by how much it must have: less, in nats an example, is nothing to wait for."""
RISEN = 0.1
"""Share by which the validation loss must have risen above its minimum to count as over-fitting."""
CLOSE, GAP = 0.02, 0.05
"""Differences of training and validation accuracy: up to the first they agree, beyond the second it is worth advice;
neither counts below twice its standard error."""

STATES: dict[str, tuple[str, Tone]] = {
    "training": ("Training", "note"),
    "silent": ("No news", "warning"),
    "finished": ("Finished", "good"),
    "early_stopping": ("Stopped early", "good"),
    "interrupted": ("Interrupted", "warning"),
    "not_finite": ("Loss not finite", "bad"),
    "no_space": ("No space left", "bad"),
}


@dataclass(frozen=True)
class Remark:
    """One sentence or two, and how much it should worry the reader."""

    tone: Tone
    text: str


@dataclass(frozen=True)
class Verdict:
    """The state in a word or two, the sentence, and the remarks."""

    state: str
    tone: Tone
    sentence: str
    remarks: tuple[Remark, ...]


MOST = 4
"""Findings that a sentence names."""


def judge(run: Run) -> Verdict:
    """The verdict on a run, finished or not.

    >>> from pathlib import Path
    >>> judge(Run(Path("a"), alive=True, begin={"total_steps": 80})).sentence
    'Training has begun; no step is done yet.'
    """
    remarks = (*ending(run), *found(run), *trend(run), *gap(run), *harder(run), *weakest(run))
    return Verdict(*state(run), sentence(run), remarks)


def found(run: Run) -> Iterator[Remark]:
    """What the clinic found, in a sentence; the page has a section on it."""
    titles = [
        text(one["diagnosis"].replace("_", " ")) for one in run.findings if one["severity"] in ("critical", "warning")
    ]
    if not titles:
        return
    if len(titles) > MOST:
        titles = [*titles[: MOST - 1], f"{len(titles) - MOST + 1} more"]
    critical = sum(one["severity"] == "critical" for one in run.findings)
    tone: Tone = "bad" if critical else "warning"
    told = f"{critical} critical" if critical else "none of it critical"
    yield Remark(tone, f"The clinic found {listed(titles)}, {told}: see what was found, below.")


def state(run: Run) -> tuple[str, Tone]:
    """How it stands in a word or two, and how good that is."""
    return STATES.get(run.state, (text(run.state).replace("_", " "), "warning"))


def sentence(run: Run) -> str:
    """Result, on what, how long, and what guessing would give."""
    if run.foresees:
        return _foreseen(run)
    accuracy, examples, split = result(run)
    size = f"{count(examples)} " if examples else ""
    known = f"{percent(accuracy)} of the {size}{split} examples of {run.data}"
    if run.state == "training":
        return _progress(run, known if accuracy is not None else "")
    if run.step == 0:
        return f"{run.model} on {run.data} did not get to its first step."
    if run.state == "not_finite":
        broke = f"Training of {run.model} broke down at step {count(run.step)}: its numbers grew beyond all bounds"
        return f"{broke}; the weights that were kept recognise {known}." if accuracy is not None else f"{broke}."
    if accuracy is None:
        return f"{run.model} was trained on {run.data} for {_length(run)}; no accuracy was measured."
    return f"After {_length(run)}, {run.model} recognises {known}{_guessing(run)}."


def _foreseen(run: Run) -> str:
    """`sentence` of a network that foresees words."""
    known = foreseeing.known(run)
    if run.state == "training" or run.step == 0:
        so_far = f" So far {run.model} foresees {known}." if known and run.step else ""
        return f"{_progress(run, '')}{so_far}"
    if run.state == "not_finite":
        return f"Training of {run.model} broke down at step {count(run.step)}: its numbers grew beyond all bounds."
    if not known:
        return f"{run.model} was trained on {run.data} for {_length(run)}; nothing was measured."
    return f"After {_length(run)}, {run.model} foresees {known}."


def result(run: Run) -> tuple[float | None, int, str]:
    """(accuracy, number of examples, split) of the best weights so far; accuracy None where none was measured.

    Of a network that foresees words there is none: how many it foresees says little, and the loss is its figure.
    """
    if run.foresees:
        return None, 0, "validation"
    for split in () if run.state == "training" else SPLITS:  # an evaluation there is of before it was resumed
        evaluation = run.evaluations.get(split)
        accuracy = finite(evaluation.summary.get("accuracy")) if evaluation else None
        if evaluation and accuracy is not None:
            return accuracy, evaluation.examples, split
    measured = [epoch for epoch in run.epochs if measure(epoch, "validation", "accuracy") is not None]
    if not measured:
        return None, 0, "validation"
    best = next((epoch for epoch in reversed(measured) if epoch.get("best")), measured[-1])
    return measure(best, "validation", "accuracy"), int(run.begin.get("validation_examples") or 0), "validation"


def measure(epoch: Mapping[str, Any], split: str, name: str) -> float | None:
    """A finite number that an epoch event gives for a split, else None."""
    return finite((epoch.get(split) or {}).get(name))


def seconds_left(run: Run) -> float | None:
    """From the pace of the latest third of the steps, so that a slow start does not count; None while not known."""
    timed = [event for event in (*run.steps, *run.epochs) if finite(event.get("seconds")) is not None]
    timed = sorted(timed, key=lambda event: event["seconds"])
    if len(timed) < 2 or not run.total_steps:
        return None
    last = timed[-1]
    earlier = timed[min(2 * len(timed) // 3, len(timed) - 2)]
    steps = int(last.get("step") or 0) - int(earlier.get("step") or 0)
    if steps <= 0:
        return None
    return max(0.0, (last["seconds"] - earlier["seconds"]) / steps * (run.total_steps - run.step))


def _progress(run: Run, known: str) -> str:
    if run.step == 0:
        return "Training has begun; no step is done yet."
    left = seconds_left(run)
    of = f" of {count(run.total_steps)}" if run.total_steps else ""
    time = f", {about(left)} left" if left is not None else ""
    so_far = f" So far {run.model} recognises {known}{_guessing(run)}." if known else ""
    return f"Training, step {count(run.step)}{of}{time}.{so_far}"


def _length(run: Run) -> str:
    passes = run.epoch_of({"step": run.step, "epoch": run.epochs[-1].get("epoch") if run.epochs else None})
    done = plural(round(passes, 1), "epoch") if passes else plural(run.step, "step")
    return f"{done} ({duration(run.seconds)})" if run.seconds is not None else done


def guesses(run: Run) -> tuple[float | None, float | None]:
    """(1/K, share of the most frequent class) on the split that `result` speaks of."""
    evaluation = run.evaluation
    classes = len(run.classes)
    return (1 / classes if classes else None), (evaluation.majority if evaluation else None)


def _guessing(run: Run) -> str:
    chance, majority = guesses(run)
    accuracy, examples, _ = result(run)
    if chance is None:
        return ""
    floor = max(chance, majority or 0.0)
    if accuracy is not None and examples and interval(accuracy, examples)[0] <= floor:
        return f", which is no better than guessing ({percent(floor)})"
    if majority is not None and majority > 1.2 * chance:
        return f"; guessing gives {percent(chance)}, always naming the most frequent class {percent(majority)}"
    return f"; guessing gives {percent(chance)}"


def ending(run: Run) -> Iterator[Remark]:
    """How it ended, and what to do next."""
    end = run.end or {}
    message = text(end.get("message") or "", limit=600).strip()
    folder = shlex.quote(text(run.folder, limit=400))
    where = f"step {count(run.step)}" + (f" of {count(run.total_steps)}" if run.total_steps else "")
    match run.state:
        case "training":
            return
        case "finished":
            yield Remark("good", "It ran to its planned end.")
        case "early_stopping":
            best = f"; the weights of epoch {run.best.get('epoch')} are kept" if run.best else ""
            yield Remark("good", f"It stopped early: {message or 'validation no longer improved'}{best}.")
        case "interrupted":
            yield Remark(
                "warning", f"It was interrupted at {where}; its state is saved. To go on: engram resume {folder}"
            )
        case "not_finite":
            remedy = _remedy(run) if "--" not in message else ""
            told = message or f"the loss was no longer a finite number at {where}; the last good weights are kept"
            yield Remark("bad", f"{_sentence(told)} {remedy}".strip())
        case "no_space":
            told = message or "there was no space left to write to"
            yield Remark("bad", f"{_sentence(told)} Free some, then: engram resume {folder}")
        case "silent":
            yield Remark(
                "warning",
                f"It stopped at {where} without an end, as if its process was killed. "
                f"Nothing saved is lost; to go on: engram resume {folder}",
            )
        case _:
            yield Remark("warning", _sentence(message or f"it ended at {where}"))


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?", ")")) else ".")


def _remedy(run: Run) -> str:
    lr = finite((run.recipe.get("optimizer") or {}).get("lr"))
    lr = lr if lr is not None else max((finite(event.get("lr")) or 0.0 for event in run.steps), default=0.0)
    smaller = f"--optimizer.lr {number(lr / 10)}" if lr else "a --optimizer.lr ten times smaller"
    return f"Try {smaller}, or --clip_norm 1, or --device.precision float32."


def trend(run: Run) -> Iterator[Remark]:
    """Whether the validation loss still falls, has levelled off, or rises again."""
    losses = [loss for epoch in run.epochs if (loss := measure(epoch, "validation", "loss")) is not None]
    if len(losses) < ENOUGH_EPOCHS or run.state == "not_finite":
        return
    window = max(2, len(losses) // 4)
    lowest = min(losses)
    best = losses.index(lowest) + 1
    before, recent = min(losses[:-window]), min(losses[-window:])
    change = f"from {number(before)} to {number(recent)}"
    over = f"over the last {window} epochs"
    if losses[-1] > (1 + RISEN) * lowest and best <= len(losses) - window:
        rise = f"was lowest at epoch {best} ({number(lowest)}) and has risen to {number(losses[-1])} since"
        yield Remark("warning", f"Validation loss {rise}: it is learning the training examples by heart.")
    elif before - recent > max(STILL_FALLING * before, LEAST):
        more = "" if run.state == "training" else " More epochs may well help."
        yield Remark("note", f"Still improving: validation loss fell {change} {over}.{more}")
    else:
        yield Remark("good", f"Levelled off: validation loss changed little {over} ({change}).")


def gap(run: Run) -> Iterator[Remark]:
    """Whether the network does better on the examples it has seen than on those it has not."""
    epoch = run.best or next(iter(run.epochs[::-1]), {})
    if run.foresees:
        return
    train, validation = measure(epoch, "train", "accuracy"), measure(epoch, "validation", "accuracy")
    if train is None or validation is None:
        return
    sizes = [finite(run.begin.get(f"{split}_examples")) for split in ("train", "validation")]
    error = sum(p * (1 - p) / n for p, n in zip((train, validation), sizes, strict=True) if n) ** 0.5
    both = f"{percent(train)} on training, {percent(validation)} on validation examples"
    ahead = train - validation
    if ahead > max(GAP, 2 * error):
        advice = "More data, stronger augmentation or more weight decay narrow such a gap."
        yield Remark("warning", f"Training and validation differ: {both}. {advice}")
    elif ahead > max(CLOSE, 2 * error):
        yield Remark("note", f"Training is a little ahead of validation, as is usual: {both}.")
    elif -ahead > max(CLOSE, 2 * error):
        why = "Augmentation and regularisation make training harder than the test of it, so this is no fault."
        yield Remark("note", f"It does better on new examples than in training: {both}. {why}")
    else:
        yield Remark("good", f"Training and validation agree: {both}.")


def harder(run: Run) -> Iterator[Remark]:
    """Whether the test split is another kind of data than the validation split, by more than chance explains."""
    known = {}
    if run.foresees:
        return
    for split in SPLITS:
        evaluation = run.evaluations.get(split)
        accuracy = finite(evaluation.summary.get("accuracy")) if evaluation else None
        if evaluation is None or accuracy is None:
            return
        known[split] = (accuracy, *interval(accuracy, evaluation.examples))
    (validation, low, high), (test, test_low, test_high) = known["validation"], known["test"]
    both = f"{percent(test)} on test, {percent(validation)} on validation examples"
    if test_high < low:
        yield Remark(
            "warning", f"Test examples are harder than validation examples, by more than chance explains: {both}."
        )
    elif test_low > high:
        yield Remark(
            "note", f"Test examples are easier than validation examples, by more than chance explains: {both}."
        )


def weakest(run: Run) -> Iterator[Remark]:
    """The class it knows least, and what it takes that class for."""
    evaluation = run.evaluation
    rows = [row for row in evaluation.summary.get("per_class") or [] if row.get("examples")] if evaluation else []
    if evaluation is None or len(rows) < 3:
        return
    row = min(rows, key=lambda row: finite(row.get("recall")) or 0.0)
    recall = finite(row.get("recall")) or 0.0
    if recall == 1:
        return
    taken = next((pair for pair in confusions(evaluation) if pair[0] == text(row.get("name"))), None)
    mostly = f", most often taken for “{taken[1]}”" if taken else ""
    found = f"{percent(recall, 0)} of its {plural(int(row['examples']), 'example')} recognised"
    yield Remark("note", f"Hardest class: “{text(row.get('name'))}”, {found}{mostly}.")


def confusions(evaluation: Evaluation) -> list[tuple[str, str, int, float]]:
    """Mistakes by pair, most frequent first: (true class, predicted class, how often, share of the true class)."""
    names = evaluation.classes
    pairs = []
    for truth, row in enumerate(evaluation.summary.get("confusion") or []):
        total = sum(row)
        pairs += [
            (names[truth], names[predicted], int(times), times / total)
            for predicted, times in enumerate(row)
            if times and predicted != truth
        ]
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[3]))
