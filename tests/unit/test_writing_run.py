"""Runs of task write, whole, on texts of some hundred characters: what they leave, measure, carry and refuse."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file

from engram import recipe as recipes
from engram.data.texts import open_texts, split_off
from engram.errors import UserError
from engram.review import export
from engram.text import words as cut
from engram.training import device, weights, writing
from engram.training.assemble import assemble
from engram.training.judge import judge
from engram.training.tensorboard import scalars
from quiet import DEVICE, PowerCut, resume, rows, train

DRAWN = np.random.default_rng(0).choice(["the cat", "a dog", "an owl", "the hen"], (200, 2))
TEXT = "".join(f"{one} sees {other}.\n" for one, other in DRAWN)  # some 4,000 characters
SETTINGS: dict[str, Any] = {
    "model.hidden_size": 8,
    "model.depth": 1,
    "text.chunk": 16,
    "batch_size": 4,
    "epochs": 2,
    "data.validation": 0.2,
    "text.test": 0.1,
}


@pytest.fixture(autouse=True, scope="module")
def short_samples() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "SAMPLE", 25)
        yield


def text_file(folder: Path, text: str = TEXT[:900]) -> Path:
    (folder / "book.txt").write_bytes(text.encode())
    return folder / "book.txt"


def assembled(path: Path, **settings: Any) -> Any:
    given = {"task": "write", "data": str(path), "device": DEVICE, **SETTINGS, **settings}
    return assemble(recipes.build(given))


def weights_of(run: Path, which: str = "last") -> dict[str, np.ndarray]:
    return load_file(run / "weights" / f"{which}.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def nats_of(run: Path, text: str) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """-log p of each token after the first, float64, read in one go; whether it was the likeliest; and the tokens."""
    net, description = weights.load(run / "weights" / "best.safetensors")
    tokens = description.words().encode(text)
    with torch.no_grad():
        scores = net.double()(torch.tensor([tokens]))[0][0, :-1]
    following = torch.tensor(tokens[1:])
    return F.cross_entropy(scores, following, reduction="none"), scores.argmax(1) == following, tokens


def parts_of(path: Path, **shares: float) -> dict[str, str]:
    given = {"validation": 0.2, "test": 0.1, **shares}
    texts = split_off(open_texts(path), **given)
    return {"train": texts.train, "validation": texts.validation or "", "test": texts.test or ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("writing")


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """A run of the text above, by characters, that others look at and leave as it is."""
    return train("write", text_file(folder), folder / "run", **SETTINGS).folder


def test_what_a_run_leaves(finished: Path) -> None:
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert names >= {
        "recipe.toml", "environment.json", "card.json", "metrics.jsonl", "review.json", "ledger.parquet",
        "samples.json", "weights/best.safetensors", "weights/last.safetensors", "state/last.pt",
        "evaluation/validation.json", "evaluation/test.json",
    }  # fmt: skip
    assert [row["epoch"] for row in rows(finished, "epoch")] == [1, 2]
    assert rows(finished, "end")[0]["reason"] == "finished"
    assert not rows(finished, "notice")
    assert recipes.load(finished / "recipe.toml").task == "write"
    description = weights.describe(finished / "weights" / "best.safetensors")
    assert description.task == "write"
    assert description.words().tokens == tuple(sorted(set(parts_of(finished.parent / "book.txt")["train"])))


def test_the_card_counts_the_text(finished: Path) -> None:
    card = json.loads((finished / "card.json").read_text())
    parts = parts_of(finished.parent / "book.txt")
    assert card["splits"] == {name: len(part) for name, part in parts.items()}
    assert sum(card["splits"].values()) == 900
    assert (card["task"], card["unit"], card["rows"], card["chunk"], card["overlap"]) == (
        "write",
        "character",
        4,
        16,
        0,
    )
    assert card["tokens"] == len(parts["train"])
    assert card["left_over"] == (len(parts["train"]) - 1) % 4
    assert card["vocabulary"] == len(set(parts["train"]))
    start = rows(finished, "start")[0]
    chunks = -(-((len(parts["train"]) - 1) // 4) // 16)
    assert (start["steps_per_epoch"], start["total_steps"], start["train_examples"]) == (chunks, 2 * chunks, 4 * chunks)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_the_split_read_in_one_go(finished: Path, split: str) -> None:
    text = parts_of(finished.parent / "book.txt")[split]
    nats, right, tokens = nats_of(finished, text)
    found = json.loads((finished / "evaluation" / f"{split}.json").read_text())
    assert found["examples"] == len(text) - 1 == len(tokens) - 1
    assert found["loss"] == pytest.approx(float(nats.mean()), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float(right.double().mean()), abs=1e-9)
    assert found["nats_per_character"] == pytest.approx(found["loss"], rel=1e-9)
    assert found["bits_per_character"] == pytest.approx(found["loss"] / math.log(2), rel=1e-9)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]), rel=1e-9)
    best = max(row["epoch"] for row in rows(finished, "epoch") if row["best"])
    if split == "validation":
        said = next(row["validation"] for row in rows(finished, "epoch") if row["epoch"] == best)
        assert said["loss"] == pytest.approx(found["loss"], rel=1e-6)
        assert said["accuracy"] == pytest.approx(found["accuracy"], rel=1e-6)


def test_it_learns(finished: Path) -> None:
    first, last = (row["validation"]["loss"] for row in rows(finished, "epoch"))
    assert last < first < math.log(len(set(TEXT)))


def test_a_sample_is_written_after_every_pass(finished: Path) -> None:
    samples = json.loads((finished / "samples.json").read_text())
    steps = [row["step"] for row in rows(finished, "epoch")]
    assert [one["step"] for one in samples] == steps
    assert [one["epoch"] for one in samples] == [1, 2]
    net, description = weights.load(finished / "weights" / "last.safetensors")
    rng = torch.Generator().manual_seed(0 + steps[-1])
    text = "".join(writing.write(net, description.words(), length=25, rng=rng, temperature=writing.TEMPERATURE))
    assert samples[-1] == {"step": steps[-1], "epoch": 2, "prompt": "", "temperature": 0.8, "text": text}


@pytest.mark.slow
def test_a_sample_costs_training_no_draw(folder: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "SAMPLE", 3)
    other = train("write", folder / "book.txt", folder / "other", **SETTINGS, **{"model.drop": 0.0}).folder
    assert same(weights_of(finished), weights_of(other))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "breaks"])
@pytest.mark.parametrize("after", [3, 17])
def test_stopped_within_a_pass_and_resumed_it_is_the_same_run(tmp_path: Path, how: str, after: int) -> None:
    """With everything that draws at random or carries something from step to step."""
    path = text_file(tmp_path, TEXT[:600])
    everything = {
        **SETTINGS,
        "model.depth": 2,
        "model.drop": 0.3,
        "text.overlap": 4,
        "average": 0.9,
        "accumulate": 2,
        "label_smoothing": 0.1,
        "optimizer": "adamw",
        "clip_norm": 1.0,
        "save_every": 0,
    }
    whole = train("write", path, tmp_path / "whole", **everything).folder
    per_pass = rows(whole, "start")[0]["steps_per_epoch"]
    assert after % per_pass not in (0, 1)  # there is a state to go on from
    if how == "stop":
        cut_off = train("write", path, tmp_path / "cut", stop=after, **everything)
        assert cut_off.reason == "interrupted"
    else:
        with pytest.raises(PowerCut):
            train("write", path, tmp_path / "cut", breaks=after, **everything)
    saved = torch.load(tmp_path / "cut" / "state" / "last.pt", weights_only=True)
    assert saved["step"] == (after if how == "stop" else after - 1)
    assert len(saved["carried"]["indices"]) == 4
    assert saved["carried"]["indices"].tolist() == [4 * (saved["step"] % per_pass) + row for row in range(4)]
    assert [tuple(one.shape) for one in saved["carried"]["state"]] == [(2, 4, 8)] * 2
    assert saved["carried"]["state"][0].abs().sum() > 0
    resume(tmp_path / "cut")
    for which in ("last", "best"):
        assert same(weights_of(whole, which), weights_of(tmp_path / "cut", which)), which
    one, other = (json.loads((run / "samples.json").read_text()) for run in (whole, tmp_path / "cut"))
    assert one == other
    assert [row["validation"] for row in rows(whole, "epoch")] == [
        row["validation"] for row in rows(tmp_path / "cut", "epoch")
    ]
    evaluations = [json.loads((run / "evaluation/test.json").read_text()) for run in (whole, tmp_path / "cut")]
    assert evaluations[0] == evaluations[1]


@pytest.mark.slow
def test_a_pass_that_was_told_and_not_saved_is_told_once(tmp_path: Path) -> None:
    path = text_file(tmp_path, TEXT[:400])
    whole = train("write", path, tmp_path / "whole", **SETTINGS, save_every=0).folder
    with pytest.raises(PowerCut):
        train("write", path, tmp_path / "cut", **SETTINGS, save_every=0, last_pass=1)
    resume(tmp_path / "cut")
    assert [row["epoch"] for row in rows(tmp_path / "cut", "epoch")] == [1, 2]
    assert (whole / "samples.json").read_text() == (tmp_path / "cut" / "samples.json").read_text()
    assert same(weights_of(whole), weights_of(tmp_path / "cut"))


@pytest.mark.slow
def test_the_state_that_is_carried_matters(tmp_path: Path) -> None:
    """Resumed without it, the weights are others: what the test above would miss."""
    path = text_file(tmp_path, TEXT[:600])
    whole = train("write", path, tmp_path / "whole", **{**SETTINGS, "epochs": 1}).folder
    train("write", path, tmp_path / "cut", stop=3, **{**SETTINGS, "epochs": 1})
    file = tmp_path / "cut" / "state" / "last.pt"
    saved = torch.load(file, weights_only=True)
    torch.save({**saved, "carried": None}, file)
    resume(tmp_path / "cut")
    assert not same(weights_of(whole), weights_of(tmp_path / "cut"))


@pytest.mark.parametrize("chunk", [1, 7, 100, 5000])
def test_the_loss_does_not_depend_on_how_a_split_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    path = text_file(tmp_path, TEXT)
    before = assembled(path, **{"data.validation": 0.6})
    monkeypatch.setattr(writing, "JUDGED_CHUNK", chunk)
    after = assembled(path, **{"data.validation": 0.6})
    assert after.prepared.validation.chunks.rows == 2  # each begins without a memory
    one, other = (each.parts.validate(each.state.net) for each in (before, after))
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    assert one["accuracy"] == pytest.approx(other["accuracy"], abs=1e-9)
    text = parts_of(path, validation=0.6)["validation"]
    net, columns = after.state.net, (len(text) - 1) // 2
    tokens = torch.tensor(after.prepared.vocabulary.encode(text))[: 2 * columns + 1]
    with torch.no_grad():
        scores = net(tokens[:-1].view(2, -1))[0].double()
    by_hand = F.cross_entropy(scores.flatten(0, 1), tokens[1:])
    assert other["loss"] == pytest.approx(float(by_hand), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["byte", "word"])
def test_bytes_and_words(tmp_path: Path, unit: str) -> None:
    text = TEXT[:1500].replace("e", "é")
    path = text_file(tmp_path, text)
    run = train("write", path, tmp_path / "run", **SETTINGS, **{"text.unit": unit}).folder
    parts = parts_of(path)
    description = weights.describe(run / "weights" / "best.safetensors")
    vocabulary = description.words()
    assert vocabulary.unit == unit
    pieces = cut.of_text(parts["test"]) if unit == "word" else list(parts["test"].encode())
    nats, _, tokens = nats_of(run, parts["test"])
    found = json.loads((run / "evaluation" / "test.json").read_text())
    assert found["examples"] == len(pieces) - 1 == len(tokens) - 1
    assert found["loss"] == pytest.approx(float(nats.mean()), rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(float(nats.mean())), rel=1e-5)
    # of all characters but those of the first token, which nothing foresees
    characters = len(parts["test"]) - (len(pieces[0]) if unit == "word" else 1)
    assert found["nats_per_character"] == pytest.approx(float(nats.sum()) / characters, rel=0.02)
    assert abs(found["nats_per_character"] / found["loss"] - 1) > 0.03
    samples = json.loads((run / "samples.json").read_text())
    assert len(samples) == 2
    if unit == "word":
        assert vocabulary.special == ("<unknown>",)
        assert "<unknown>" not in samples[-1]["text"]
        assert len(cut.of_text(samples[-1]["text"])) > 15


def test_rare_words_are_unknown(tmp_path: Path) -> None:
    path = text_file(tmp_path, "a b c " * 50 + "rare " + "a b c " * 50)
    made = assembled(path, **{"text.unit": "word", "text.least": 5})
    assert made.prepared.vocabulary.entries == (" b", " c", " a")  # and the first "a" has no blank before it
    everything = assembled(path, **{"text.unit": "word"})
    assert len(everything.prepared.vocabulary) == len(made.prepared.vocabulary) + 2  # " rare", and "a"


def test_characters_that_only_other_splits_hold_are_unknown(tmp_path: Path) -> None:
    path = text_file(tmp_path, TEXT[:400] + "zebra zebra" * 8)
    run = train("write", path, tmp_path / "run", **{**SETTINGS, "epochs": 1}).folder
    words = weights.describe(run / "weights" / "best.safetensors").words()
    assert words.special == ("<unknown>",)
    assert "z" not in words.index
    text = parts_of(path)["test"]
    assert "z" in text
    nats, _, _ = nats_of(run, text)
    found = json.loads((run / "evaluation" / "test.json").read_text())
    assert found["loss"] == pytest.approx(float(nats.mean()), rel=1e-5)


def test_full_back_propagation_is_one_chunk_a_row(tmp_path: Path) -> None:
    made = assembled(text_file(tmp_path), **{"text.chunk": 0})
    assert len(made.prepared.train) == made.prepared.train.chunks.rows == 4
    assert made.state.reviewer.steps_per_pass == 1
    assert made.prepared.train.shape == ((630 - 1) // 4,)


def test_a_batch_is_the_rows(tmp_path: Path) -> None:
    path = text_file(tmp_path)
    made = assembled(path, **{"batch_size": 3, "text.overlap": 6, "data.limit": 301, "label_smoothing": 0.2})
    chunks, task = made.prepared.train.chunks, made.parts.task
    assert (chunks.rows, chunks.length, chunks.overlap, chunks.columns) == (3, 16, 6, 100)
    assert (task.stride, task.rows, task.smoothing) == (10, 3, 0.2)
    assert made.state.reviewer.batch_size == 3
    assert chunks.tokens.tolist() == made.prepared.vocabulary.encode(parts_of(path)["train"][:301])
    many = assembled(path, batch_size=5000)
    assert many.prepared.train.chunks.rows == 629


@pytest.mark.slow
def test_accumulated_it_is_the_same_run(tmp_path: Path, finished: Path) -> None:
    run = train("write", finished.parent / "book.txt", tmp_path / "run", **SETTINGS, accumulate=3).folder
    assert assembled(finished.parent / "book.txt", accumulate=3).parts.accumulate == 3
    one, other = weights_of(finished), weights_of(run)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_averaged_weights_are_judged_and_kept(tmp_path: Path, finished: Path) -> None:
    run = train("write", finished.parent / "book.txt", tmp_path / "run", **SETTINGS, average=0.8).folder
    saved = torch.load(run / "state" / "last.pt", weights_only=True)
    kept = weights_of(run)
    assert same(weights_of(finished), {name: one.numpy() for name, one in saved["net"].items()})
    assert not same(kept, weights_of(finished))
    text = parts_of(finished.parent / "book.txt")["validation"]
    nats, _, _ = nats_of(run, text)
    assert rows(run, "epoch")[-1]["validation"]["loss"] == pytest.approx(float(nats.mean()), rel=1e-5)


@pytest.mark.slow
def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path) -> None:
    more = {"optimizer.lr": 1e-12, "epochs": 9, "patience": 2, "average": 0.99}
    run = train("write", text_file(tmp_path, TEXT[:300]), tmp_path / "run", **{**SETTINGS, **more})
    assert run.reason == "early_stopping"
    assert len(rows(run.folder, "epoch")) < 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("review", "settings"), [("forgetting_curve", {"review.save": 0.4}), ("infobatch", {}), ("shuffle", {})]
)
def test_a_review_of_chunks(tmp_path: Path, review: str, settings: dict[str, float]) -> None:
    path = text_file(tmp_path)
    given = {**SETTINGS, "epochs": 4, "review": review, **settings}
    run = train("write", path, tmp_path / "run", **given).folder
    visits = export.read(run / "ledger.parquet").visits
    assert len(visits) == 40
    assert visits.sum() == 4 * rows(run, "end")[0]["step"]
    assert rows(run, "end")[0]["step"] == 40 or review == "forgetting_curve"
    if review == "forgetting_curve":
        assert len(set(visits.tolist())) > 1  # some come more often than others
    told = json.loads((run / "review.json").read_text())
    assert "tokens" in json.dumps(told)
    assert math.isfinite(rows(run, "epoch")[-1]["validation"]["loss"])


def test_chunks_are_held_against_each_other(tmp_path: Path) -> None:
    path = text_file(tmp_path)
    assert assembled(path).state.reviewer.measure == "relative"
    assert assembled(path, **{"review.measure": "probability"}).state.reviewer.measure == "probability"


def test_rows_say_their_rate_in_tokens(finished: Path) -> None:
    for row in (*rows(finished, "step"), *rows(finished, "epoch")):
        assert row["tokens_per_second"] > 0
        assert "images_per_second" not in row
        assert scalars(row)["tokens_per_second" if row["event"] == "step" else "loss/validation"] > 0


@pytest.mark.parametrize("kind", ["char_lstm", "char_gru"])
@pytest.mark.slow
def test_the_clinic_looks_on_and_changes_nothing(tmp_path: Path, kind: str) -> None:
    path = text_file(tmp_path, TEXT)
    given = {**SETTINGS, "model": kind, "epochs": 1}
    with_it = train("write", path, tmp_path / "with", **{**given, "clinic": "standard"})
    without = train("write", path, tmp_path / "without", **given)
    assert same(weights_of(with_it.folder), weights_of(without.folder))
    assert [row["text"] for row in rows(with_it.folder, "notice")] == []
    assert (with_it.folder / "probes" / "clinic.npz").is_file()
    assert (with_it.folder / "probes" / "cells.npz").is_file()
    assert (with_it.folder / "probes" / "time.npz").is_file()
    assert not (without.folder / "probes" / "cells.npz").is_file()


def test_first_weights_may_come_from_another_run(tmp_path: Path, finished: Path) -> None:
    best = str(finished / "weights" / "best.safetensors")
    made = assembled(finished.parent / "book.txt", weights=best)
    loaded = weights.load(Path(best))[0]
    for own, theirs in zip(made.state.net.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(own, theirs)
    with pytest.raises(UserError, match="another network"):
        assembled(finished.parent / "book.txt", weights=best, **{"model.hidden_size": 9})


def test_the_seed_decides_the_first_weights(tmp_path: Path) -> None:
    path = text_file(tmp_path)
    first: Callable[..., Any] = lambda **more: assembled(path, **more).state.net.head.weight  # noqa: E731
    assert torch.equal(first(), first())
    assert not torch.equal(first(), first(seed=1))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"augment": ("flip",)}, "augment flip is for pictures"),
        ({"views": ("flip",)}, "views flip is for pictures"),
        ({"auxiliary.at": ("0.5",)}, "auxiliary.at 0.5 is for pictures"),
        ({"text.unit": "letter"}, "text.unit cannot be 'letter'"),
        ({"text.overlap": 16}, "text.overlap cannot be 16"),
        ({"text.chunk": -1}, "text.chunk cannot be -1"),
        ({"text.test": 1.0}, r"text.test cannot be 1\.0"),
        ({"model": "char_lstn"}, "writer 'char_lstn' is not known"),
        ({"model": "resnet20"}, "writer 'resnet20' is not known"),
        ({"model.hidden": 3}, "has no setting 'hidden'"),
        ({"model.vocabulary": 3}, "has no setting 'vocabulary'"),
        ({"initializer": ("lsuv",)}, "measures pictures"),
        ({"data.validation": 0.999}, "to train on"),
        ({"data.limit": 1}, "too short"),
        ({"text.unit": "word", "text.least": 5000}, "no word occurs 5000 times"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    path = text_file(tmp_path)
    with pytest.raises(UserError, match=told):
        train("write", path, tmp_path / "run", **{**SETTINGS, **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["validation", "test", "train"])
def test_judged_again_it_is_what_it_was(finished: Path, split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset())  # in float32, as it was
    found, where = judge(finished, split=split)
    assert where == f"{split} of {finished.parent / 'book.txt'}"
    nats, right, tokens = nats_of(finished, parts_of(finished.parent / "book.txt")[split])
    assert found["examples"] == len(tokens) - 1
    assert found["loss"] == pytest.approx(float(nats.mean()), rel=1e-5)
    assert found["accuracy"] == pytest.approx(float(right.double().mean()), abs=1e-9)
    assert found["nats_per_character"] == pytest.approx(found["loss"], rel=1e-9)


def test_judged_by_another_text(tmp_path: Path, finished: Path) -> None:
    text = TEXT[2000:2400]
    found, where = judge(finished, data=str(text_file(tmp_path, text)))
    assert where == f"all of {tmp_path / 'book.txt'}"
    assert found["loss"] == pytest.approx(float(nats_of(finished, text)[0].mean()), rel=0.02)
    text_file(tmp_path, "The zebra sees.")
    with pytest.raises(UserError, match="lacks 'T', 'z', 'b', 'r'"):
        judge(finished, data=str(tmp_path / "book.txt"))
    text_file(tmp_path, "a")
    with pytest.raises(UserError, match="too short"):
        judge(finished, data=str(tmp_path / "book.txt"))


def test_a_text_cannot_change_when_a_run_is_resumed(finished: Path) -> None:
    for settings in ({"text.chunk": 8}, {"task": "caption"}, {"data": "other.txt"}):
        with pytest.raises(UserError):
            resume(finished, **settings)
