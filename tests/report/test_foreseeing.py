"""What a page says of a network that foresees words: the sentence and the figures, measured, not yet, and never."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engram.report import foreseeing, page, run_folder, verdict
from engram.report.run_folder import Evaluation, Run

BEGIN = {"total_steps": 100, "steps_per_epoch": 10, "train_examples": 640, "validation_examples": 40}
WROTE = {
    "task": "write",
    "examples": 1999,
    "loss": 1.5,
    "accuracy": 0.55,
    "nats_per_character": 1.5,
    "bits_per_character": 1.5 / math.log(2),
    "perplexity": math.exp(1.5),
}
SAID = {"task": "caption", "examples": 100, "loss": 0.75, "accuracy": 0.7, "perplexity": math.exp(0.75), "bleu4": 0.256}
THIN = "\u202f"


def epoch(number: int, loss: float | None, *, best: bool) -> dict[str, Any]:
    validation = None if loss is None else {"loss": loss, "accuracy": 0.5}
    row = {"epoch": number, "step": 10 * number, "seconds": 2.0 * number, "train": {"loss": 1.0, "accuracy": 0.5}}
    return {**row, "validation": validation, "best": best}


def make(task: str = "write", end: str | None = "finished", unit: str = "character", **given: Any) -> Run:
    last = {"reason": end, "step": 100, "seconds": 21.0, "message": ""} if end else None
    recipe = {"task": task, "data": {"path": "some/book.txt"}, "text": {"unit": unit}}
    if "evaluations" in given:
        given["evaluations"] = {split: Evaluation(split, one) for split, one in given["evaluations"].items()}
    environment = {"model": {"name": "char_lstm"}}
    return Run(Path("runs/a"), **{"begin": BEGIN, "end": last, "environment": environment, "recipe": recipe, **given})


def test_the_sentence_of_a_writer() -> None:
    run = make(evaluations={"validation": WROTE, "test": {**WROTE, "loss": 9.0}})
    assert verdict.sentence(run) == (
        "After 10 epochs (21 s), char_lstm foresees each character of the validation text of book.txt with 1.5 nats, "
        "as unsure as among 4.48 equally likely ones."
    )
    assert "each word of the validation text" in verdict.sentence(make(unit="word", evaluations={"validation": WROTE}))


def test_the_sentence_of_a_captioner() -> None:
    scored = {"test": {**SAID, "cider": 1.234}}
    assert verdict.sentence(make("caption", unit="word", evaluations=scored)) == (
        "After 10 epochs (21 s), char_lstm foresees each word of the test captions of book.txt with 0.75 nats, as "
        "unsure as among 2.12 equally likely ones; its own sentences reach BLEU-4 25.6 and CIDEr 1.23."
    )
    alone = verdict.sentence(make("caption", unit="word", evaluations={"test": SAID}))
    assert alone.endswith("its own sentences reach BLEU-4 25.6.")


def test_the_best_pass_counts_where_nothing_was_evaluated() -> None:
    epochs = (epoch(1, 2.0, best=True), epoch(2, 1.25, best=True), epoch(3, 1.5, best=False))
    assert "with 1.25 nats, as unsure as among 3.49" in verdict.sentence(make(epochs=epochs))
    assert foreseeing.figures_of(make(epochs=epochs)) == ({"loss": 1.25, "accuracy": 0.5}, "validation")
    none_better = (epoch(1, 2.0, best=False), epoch(2, 1.75, best=False))
    assert foreseeing.figures_of(make(epochs=none_better))[0]["loss"] == 1.75  # the last


def test_while_it_trains_an_evaluation_of_before_does_not_count() -> None:
    epochs = (epoch(1, 2.0, best=True), epoch(2, 1.25, best=True))
    run = make(end=None, alive=True, epochs=epochs, evaluations={"validation": WROTE})
    said = verdict.sentence(run)
    assert said.startswith("Training, step 20 of 100")
    assert "So far char_lstm foresees each character of the validation text of book.txt with 1.25 nats" in said
    assert said.count("So far") == 1
    assert {name: value for name, value, _ in foreseeing.tiles(run)} == {"validation loss": "1.25"}


def test_before_anything_is_measured_nothing_is_claimed() -> None:
    assert verdict.sentence(make(end=None, alive=True)) == "Training has begun; no step is done yet."
    steps = tuple({"step": step, "seconds": 1.0 * step, "loss": 3.0} for step in range(1, 21))
    running = make(end=None, alive=True, steps=steps)
    assert verdict.sentence(running).startswith("Training, step 20 of 100")
    assert "So far" not in verdict.sentence(running)
    assert foreseeing.known(running) == ""
    assert foreseeing.tiles(running) == []
    without = make(epochs=(epoch(1, None, best=True),))
    assert verdict.sentence(without).endswith("for 10 epochs (21 s); nothing was measured.")
    assert foreseeing.tiles(without) == []


@pytest.mark.parametrize("loss", [math.nan, math.inf, None, "1.5"])
def test_what_is_no_number_is_no_figure(loss: object) -> None:
    run = make(evaluations={"validation": {**WROTE, "loss": loss}})
    assert verdict.sentence(run).endswith("nothing was measured.")
    assert "validation loss" not in [name for name, *_ in foreseeing.tiles(run)]


def test_a_loss_of_any_size_can_be_told() -> None:
    assert "nats" in foreseeing.known(make(evaluations={"validation": {**WROTE, "loss": 1e6}}))


def test_a_run_that_broke_down_says_so() -> None:
    assert "broke down at step 100" in verdict.sentence(make(end="not_finite", evaluations={"validation": WROTE}))


def test_the_tiles_of_a_writer() -> None:
    assert foreseeing.tiles(make(evaluations={"validation": WROTE})) == [
        ("validation loss", "1.5", "nats a character, of the best weights"),
        ("bits a character", "2.16", "2 to this power: among how many it is unsure"),
        ("perplexity", "4.48", "equally likely ones it is as unsure among"),
    ]
    test = foreseeing.tiles(make(unit="byte", evaluations={"test": WROTE}))
    assert test[0] == ("test loss", "1.5", "nats a byte, of the best weights")


def test_the_tiles_of_a_captioner() -> None:
    found = foreseeing.tiles(make("caption", unit="word", evaluations={"validation": {**SAID, "cider": 1.234}}))
    assert [(name, value) for name, value, _ in found] == [
        ("validation loss", "0.75"), ("perplexity", "2.12"), ("BLEU-4", "25.6"), ("CIDEr", "1.23"),
    ]  # fmt: skip


def test_accuracy_is_no_figure_of_theirs() -> None:
    epochs = tuple(epoch(number, 2.0 - 0.1 * number, best=True) for number in range(1, 11))
    run = make(epochs=epochs, evaluations={"validation": WROTE, "test": {**WROTE, "accuracy": 0.1}})
    assert verdict.result(run) == (None, 0, "validation")
    said = " ".join([verdict.judge(run).sentence, *(one.text for one in verdict.judge(run).remarks)])
    assert "%" not in said.replace(f"{THIN}% over", "")
    assert "guessing" not in said


@pytest.mark.parametrize("task", ["write", "caption"])
@pytest.mark.parametrize("end", ["finished", None])
def test_a_page_is_drawn(tmp_path: Path, make_run: Callable[..., Path], task: str, end: str | None) -> None:
    folder = make_run(tmp_path / "run", end=end, evaluated=False)
    recipe = (folder / "recipe.toml").read_text()
    unit = "word" if task == "caption" else "character"
    (folder / "recipe.toml").write_text(f'task = "{task}"\n{recipe}\n[text]\nunit = "{unit}"\n')
    (folder / "card.json").write_text(json.dumps({"task": task}))
    if end:
        (folder / "evaluation").mkdir(exist_ok=True)
        for split, loss in (("validation", 1.25), ("test", 1.75)):
            figures = {**(WROTE if task == "write" else SAID), "loss": loss}
            (folder / "evaluation" / f"{split}.json").write_text(json.dumps(figures))
    read = run_folder.read(folder, alive=end is None)
    assert (read.task, read.foresees) == (task, True)
    html = page.render(read)
    assert f"nats a {unit}" in html
    assert "could not be read" not in html
    if end:
        assert "1.25 nats, as unsure as among 3.49" in html
        assert "1.75" in html  # the test split, told apart
