"""Runs of task caption, whole, on a few small pictures: what they leave, measure and refuse, and where they begin."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from engram import recipe as recipes
from engram.data.captions.open_captions import open_captions
from engram.data.captions.score_captions import score_captions
from engram.errors import UserError
from engram.models.captioner_network import Captioner
from engram.report import captions_file
from engram.review import export
from engram.tasks.caption import Caption
from engram.text.describe import Description, describe
from engram.text.words import of_sentence
from engram.training import captioning, device, weights
from engram.training.assemble import assemble
from engram.training.judge import judge
from engram.training.tensorboard import scalars
from quiet import DEVICE, PowerCut, resume, rows, train

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "grey": (120, 120, 120)}
SIDE = 16
SPLITS = {"train": 24, "validation": 8, "test": 4}
SETTINGS: dict[str, Any] = {
    "model.hidden_size": 8,
    "model.embedding_size": 6,
    "model.encoder_halvings": 2,
    "batch_size": 12,
    "epochs": 2,
    "text.least": 1,
    "optimizer.lr": 0.01,
}


def pictures(folder: Path, *, side: int = SIDE) -> Path:
    """Squares of a colour on a ground of another, two sentences each, as a table beside them."""
    rng = np.random.default_rng(0)
    lines = ["image,split,caption"]
    folder.mkdir()
    for split, number in SPLITS.items():
        for index in range(number):
            ground, square = rng.choice(list(COLOURS), 2, replace=False)
            image = np.empty((side, side, 3), np.uint8)
            image[:] = COLOURS[ground]
            image[side // 4 : side // 2, side // 4 : side // 2] = COLOURS[square]
            noise = rng.integers(-9, 10, image.shape)
            Image.fromarray((image + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{split}{index}.png")
            lines.append(f"{split}{index}.png,{split},A {square} square on {ground}.")
            lines.append(f'{split}{index}.png,{split},"On {ground}, there is a small {square} square."')
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captioning")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    return pictures(folder / "pictures")


@pytest.fixture(scope="module")
def finished(folder: Path, data: Path) -> Path:
    """A run with soft attention that others look at and leave as it is."""
    return train("caption", data, folder / "run", **SETTINGS).folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Path:
    """A run that has learned to tell colours, a step or two."""
    for name, colour in COLOURS.items():
        (folder / "colours" / name).mkdir(parents=True)
        for index in range(6):
            image = np.full((SIDE, SIDE, 3), colour, np.uint8) // (index + 1)
            Image.fromarray(image.astype(np.uint8)).save(folder / "colours" / name / f"{index}.png")
    settings = {"model": "resnet20", "epochs": 1, "batch_size": 8, "augment": ("none",)}
    return train("classify", folder / "colours", folder / "classifier", **settings).folder


def assembled(data: Path | str, **settings: Any) -> Any:
    given = {"task": "caption", "data": str(data), "device": DEVICE, **SETTINGS, **settings}
    return assemble(recipes.build(given))


def weights_of(run: Path, which: str = "last") -> dict[str, Tensor]:
    return load_file(run / "weights" / f"{which}.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def read_split(data: Path, split: str) -> tuple[Tensor, list[list[str]]]:
    """(n, 3, H, W) pictures of a split, 0 to 1, and their sentences, read without any of ours."""
    said: dict[str, list[str]] = {}
    for line in (data / "captions.csv").read_text().splitlines()[1:]:
        name, own, sentence = line.split(",", 2)
        if own == split:
            said.setdefault(name, []).append(sentence.strip('"'))
    images = [np.asarray(Image.open(data / name)) for name in said]
    return torch.from_numpy(np.stack(images)).movedim(3, 1).float() / 255, list(said.values())


def by_hand(run: Path, data: Path, split: str) -> tuple[float, float, dict[str, float]]:
    """Mean loss of a caption, mean share of its words foreseen, and the scores of what is said of the pictures."""
    net, description = weights.load(run / "weights" / "best.safetensors")
    images, sentences = read_split(data, split)
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    images = (images - mean) / std
    words = description.words()
    nats, shares = [], []
    for image, own in zip(images, sentences, strict=True):
        for sentence in own:
            tokens = torch.tensor([words.enclose(sentence)])
            with torch.no_grad():
                scores = net(image[None], tokens[:, :-1]).scores[0].double()
            nats.append(float(F.cross_entropy(scores, tokens[0, 1:])))
            shares.append(float((scores.argmax(1) == tokens[0, 1:]).double().mean()))
    longest = max(len(words.enclose(sentence)) for own in sentences for sentence in own) + 1
    said = describe(net, images, words, longest=longest)
    return float(np.mean(nats)), float(np.mean(shares)), score_captions([one.sentence for one in said], sentences)


def test_what_a_run_leaves(finished: Path) -> None:
    names = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert names >= {
        "recipe.toml", "environment.json", "card.json", "metrics.jsonl", "review.json", "ledger.parquet",
        "captions.json", "captions.npz", "weights/best.safetensors", "weights/last.safetensors", "state/last.pt",
        "evaluation/validation.json", "evaluation/test.json", "pictures/samples.png",
    }  # fmt: skip
    assert [row["epoch"] for row in rows(finished, "epoch")] == [1, 2]
    assert rows(finished, "end")[0]["reason"] == "finished"
    assert not rows(finished, "notice")
    start = rows(finished, "start")[0]
    assert (start["train_examples"], start["validation_examples"], start["total_steps"]) == (48, 16, 8)
    description = weights.describe(finished / "weights" / "best.safetensors")
    assert (description.task, description.shape) == ("caption", (3, SIDE, SIDE))
    assert description.words().tokens[:4] == ("<padding>", "<start>", "<end>", "<unknown>")
    assert set(description.words().entries) == {*COLOURS, "a", "square", "on", "there", "is", "small"}
    card = json.loads((finished / "card.json").read_text())
    assert card["task"] == "caption"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_figures_are_those_of_each_caption_by_itself(finished: Path, data: Path, split: str) -> None:
    nats, share, scores = by_hand(finished, data, split)
    found = json.loads((finished / "evaluation" / f"{split}.json").read_text())
    assert (found["task"], found["examples"], found["pictures"]) == ("caption", 2 * SPLITS[split], SPLITS[split])
    assert found["scored"] == SPLITS[split]
    assert found["loss"] == pytest.approx(nats, rel=1e-4)
    assert found["accuracy"] == pytest.approx(share, abs=1e-6)
    assert found["perplexity"] == pytest.approx(np.exp(nats), rel=1e-4)
    for name, value in scores.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name
    if split == "validation":
        best = next(row for row in reversed(rows(finished, "epoch")) if row["best"])
        assert best["validation"]["loss"] == pytest.approx(nats, rel=1e-4)
        assert best["validation"]["accuracy"] == pytest.approx(share, abs=1e-6)


def test_each_picture_s_sentence_is_scored_against_its_own_references(data: Path) -> None:
    made = assembled(data, seed=3)
    net, pool, prepared = made.state.net, made.prepared.validation, made.prepared
    with torch.no_grad():  # scores far enough apart that sentences differ
        for name, weight in net.named_parameters():
            if not name.startswith("encoder"):
                weight.mul_(3)
    given = (made.views, made.machine, prepared.vocabulary)
    found = captioning.figures(net, pool, prepared.references["validation"], None, *given)
    images, sentences = read_split(data, "validation")
    mean, std = (torch.tensor(values)[:, None, None] for values in (made.description.mean, made.description.std))
    said = [one.sentence for one in describe(net, (images - mean) / std, prepared.vocabulary, longest=11)]
    assert len(set(said)) > 2
    expected = score_captions(said, sentences)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    other = score_captions(said, sentences[::-1])
    assert any(abs(other[name] - expected[name]) > 1e-3 for name in expected)


def test_the_true_places_of_words_are_those_of_the_scene() -> None:
    scenes = open_captions("scenes:10").train
    assert scenes.places is not None
    picked = [(row, row % 5) for row in range(6)]
    words = [tuple(of_sentence(scenes.sentences[row][own])) for row, own in picked]
    said = [Description(" ".join(one), one, None, 0.0) for one in words]
    shape = (6, max(map(len, words)), 6, 4)
    references = [scenes.sentences[row] for row, _ in picked]
    found = captioning.truth(said, references, [scenes.places[row] for row, _ in picked], shape, (48, 60))
    for maps, (row, own), one in zip(found, picked, words, strict=True):
        for word in range(shape[1]):
            box = scenes.places[row][own][word] if word < len(one) else None
            for down, across in np.ndindex(6, 4):
                x, y = (across + 0.5) * 15, (down + 0.5) * 8  # the cell's middle, in pixels
                inside = box is not None and box[0] <= x < box[2] and box[1] <= y < box[3]
                assert maps[word, down, across] == inside
    assert found.any(axis=(1, 2, 3)).all()


def test_it_learns(finished: Path) -> None:
    first, last = (row["train"]["loss"] for row in rows(finished, "epoch"))
    assert last < first


def test_pictures_with_what_is_said_of_them_can_be_read_back(finished: Path, data: Path) -> None:
    found = captions_file.read(finished / "captions.npz")
    images, sentences = read_split(data, "test")
    number = SPLITS["test"]
    assert len(found["captions"]) == number
    assert np.array_equal(found["images"], (images.movedim(1, 3) * 255).round().numpy().astype(np.uint8))
    assert [one["references"] for one in found["captions"]] == sentences
    net, description = weights.load(finished / "weights" / "best.safetensors")
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    longest = int(found["attention"].shape[1])
    for row, image in enumerate(images):
        (said,) = describe(net, ((image - mean) / std)[None], description.words(), longest=8 + 3)
        assert found["captions"][row]["sentence"] == said.sentence
        assert tuple(found["captions"][row]["words"]) == said.words
        assert said.attention is not None
        maps = found["attention"][row]
        assert maps.shape == (longest, 4, 4)
        np.testing.assert_allclose(maps[: len(said.words)], said.attention, atol=1e-5)
        assert not maps[len(said.words) :].any()
    assert "truth" not in found


@pytest.mark.slow
def test_without_attention_there_are_no_maps(tmp_path: Path, data: Path) -> None:
    run = train("caption", data, tmp_path / "run", **SETTINGS, model="captioner_lstm").folder
    found = captions_file.read(run / "captions.npz")
    assert "attention" not in found
    assert len(found["captions"]) == SPLITS["test"]
    assert "attention" not in json.loads((run / "evaluation" / "test.json").read_text())


@pytest.mark.slow
def test_of_made_scenes_the_true_places_are_known(tmp_path: Path) -> None:
    given = {**SETTINGS, "model.encoder_halvings": 3, "epochs": 8, "text.least": 0}
    run = train("caption", "scenes:60", tmp_path / "run", **given).folder
    found = json.loads((run / "evaluation" / "test.json").read_text())
    assert set(found["attention"]) >= {"words", "mass", "area", "pointed", "pointed_by_chance"}
    read = captions_file.read(run / "captions.npz")
    assert read["truth"].shape == read["attention"].shape
    assert read["truth"].dtype == bool
    for caption, maps in zip(read["captions"], read["truth"], strict=True):
        true = {word for one in caption["references"] for word in one.lower().split()}
        for word, place in zip(caption["words"], maps, strict=False):
            assert not place.any() or word in true  # only of what is there
        assert not maps[len(caption["words"]) :].any()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "breaks"])
@pytest.mark.parametrize("model", ["captioner_soft_attention", "captioner_hard_attention"])
def test_stopped_within_a_pass_and_resumed_it_is_the_same_run(tmp_path: Path, data: Path, model: str, how: str) -> None:
    """With everything that draws at random or carries something from step to step."""
    everything = {
        **SETTINGS, "model": model, "model.drop": 0.3, "text.own": 0.5, "average": 0.9, "accumulate": 2, "epochs": 3,
        "optimizer": "adamw", "augment": ("crop:1",), "save_every": 0, "model.entropy": 0.01,
    }  # fmt: skip
    if model == "captioner_soft_attention":
        del everything["model.entropy"]
    whole = train("caption", data, tmp_path / "whole", **everything).folder
    if how == "stop":
        assert train("caption", data, tmp_path / "cut", stop=6, **everything).reason == "interrupted"
    else:
        with pytest.raises(PowerCut):
            train("caption", data, tmp_path / "cut", breaks=7, **everything)
    saved = torch.load(tmp_path / "cut" / "state" / "last.pt", weights_only=True)
    assert (saved["step"], saved["carried"]) == (6, None)
    resume(tmp_path / "cut")
    for which in ("last", "best"):
        assert same(weights_of(whole, which), weights_of(tmp_path / "cut", which)), which
    if model == "captioner_hard_attention":
        assert float(weights_of(whole)["baseline"]) < -0.5  # it has moved, and is saved
    for name in ("evaluation/test.json", "captions.json"):
        assert (whole / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()


@pytest.mark.slow
def test_accumulated_it_is_the_same_run(tmp_path: Path, data: Path) -> None:
    """Where no normalisation counts the batch."""
    given = {**SETTINGS, "model.frozen": True, "epochs": 1}
    found = [
        weights_of(train("caption", data, tmp_path / str(parts), **given, accumulate=parts).folder) for parts in (1, 4)
    ]
    assert assembled(data, accumulate=4).parts.accumulate == 4
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name], rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
def test_averaged_weights_are_judged_and_kept(tmp_path: Path, data: Path, finished: Path) -> None:
    run = train("caption", data, tmp_path / "run", **SETTINGS, average=0.8).folder
    saved = torch.load(run / "state" / "last.pt", weights_only=True)
    trained = {name for name in saved["net"] if "running" not in name and "tracked" not in name}
    assert all(torch.equal(saved["net"][name], weights_of(finished)[name]) for name in trained)
    assert not same(weights_of(run), weights_of(finished))
    best = next(row for row in reversed(rows(run, "epoch")) if row["best"])
    assert best["validation"]["loss"] == pytest.approx(by_hand(run, data, "validation")[0], rel=1e-4)


@pytest.mark.slow
def test_patience_ends_a_run_that_gets_no_better(tmp_path: Path, data: Path) -> None:
    more = {"optimizer.lr": 1e-12, "epochs": 9, "patience": 1, "model.frozen": True}
    run = train("caption", data, tmp_path / "run", **{**SETTINGS, **more})
    assert run.reason == "early_stopping"
    assert len(rows(run.folder, "epoch")) < 9


@pytest.mark.slow
@pytest.mark.parametrize(("review", "settings"), [("forgetting_curve", {"review.save": 0.4}), ("infobatch", {})])
def test_a_review_of_captions(tmp_path: Path, data: Path, review: str, settings: dict[str, float]) -> None:
    given = {**SETTINGS, "epochs": 4, "review": review, **settings}
    run = train("caption", data, tmp_path / "run", **given).folder
    visits = export.read(run / "ledger.parquet").visits
    assert len(visits) == 48
    assert int(visits.sum()) == 12 * rows(run, "end")[0]["step"]
    remembers = review == "forgetting_curve"
    assert ("due" in pq.read_schema(run / "ledger.parquet").names) == remembers
    if review == "forgetting_curve":
        assert len(set(visits.tolist())) > 1
    assert pq.read_table(run / "ledger.parquet")["name"].to_pylist()[:3] == [
        "train0.png#0",
        "train0.png#1",
        "train1.png#0",
    ]
    made = assembled(data, **given)
    assert made.state.reviewer.measure == "relative"


def test_rows_say_their_rate_in_images(finished: Path) -> None:
    for row in rows(finished, "step"):
        assert row["images_per_second"] > 0
        assert scalars(row)["images_per_second"] == row["images_per_second"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["captioner_soft_attention", "captioner_hard_attention", "captioner_rnn"])
def test_the_clinic_looks_on_and_changes_nothing(tmp_path: Path, data: Path, model: str) -> None:
    given = {**SETTINGS, "model": model, "text.own": 0.5}
    with_it = train("caption", data, tmp_path / "with", **{**given, "clinic": "standard"})
    without = train("caption", data, tmp_path / "without", **given)
    assert [row["text"] for row in rows(with_it.folder, "notice")] == []
    assert same(weights_of(with_it.folder), weights_of(without.folder))
    assert (with_it.folder / "probes" / "clinic.npz").is_file()


@pytest.mark.slow
def test_the_share_of_own_words_grows_while_it_trains_and_judging_has_none(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[bool, list[float]] = {True: [], False: []}
    forward = Captioner.forward

    def kept(net: Captioner, *given: Any, own: float = 0.0, **more: Any) -> Any:
        asked[net.training].append(own)
        return forward(net, *given, own=own, **more)

    monkeypatch.setattr(Captioner, "forward", kept)
    train("caption", data, tmp_path / "run", **SETTINGS, **{"text.own": 0.4})
    assert asked[True] == pytest.approx([0.4 * step / 8 for step in range(8)])
    assert asked[False]
    assert not any(asked[False])
    assert assembled(data).parts.task == Caption(0.0)


@pytest.mark.slow
def test_frozen_weights_from_a_classifier_are_the_encoder_s_and_stay(
    tmp_path: Path, data: Path, classifier: Path
) -> None:
    given = {"model.encoder": "resnet20", "model.encoder_weights": str(classifier), "model.frozen": True}
    theirs = weights_of(classifier, "best")
    described = weights.describe(classifier / "weights" / "best.safetensors")
    settings = {name: value for name, value in SETTINGS.items() if name != "model.encoder_halvings"}
    run = train("caption", data, tmp_path / "run", **settings, **given).folder
    kept = weights_of(run)
    own = {name.removeprefix("encoder.net."): one for name, one in kept.items() if name.startswith("encoder.net.")}
    assert len(own) > 50
    assert all(torch.equal(one, theirs[name]) for name, one in own.items())
    description = weights.describe(run / "weights" / "best.safetensors")
    assert description.mean == pytest.approx(described.mean)
    assert description.std == pytest.approx(described.std)
    assert description.mean != pytest.approx((assembled(data).prepared.mean / 255).tolist(), rel=0.05)
    choices = json.loads((run / "environment.json").read_text())["choices"]
    assert {"setting": "model.encoder_weights", "value": str(classifier), "reason": "asked for"} in choices
    loss = by_hand(run, data, "test")[0]
    assert json.loads((run / "evaluation" / "test.json").read_text())["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.slow
def test_fine_tuned_they_are_where_it_begins(data: Path, classifier: Path) -> None:
    given: dict[str, Any] = {"model.encoder": "resnet20", "model.encoder_halvings": 3}
    weighted = assembled(data, **given, **{"model.encoder_weights": str(classifier / "weights" / "best.safetensors")})
    own = weighted.state.net.encoder.net.state_dict()
    theirs = weights_of(classifier, "best")
    assert all(torch.equal(one, theirs[name]) for name, one in own.items())
    assert all(p.requires_grad for p in weighted.state.net.encoder.parameters())
    fresh = assembled(data, **given)
    assert not torch.equal(fresh.state.net.encoder.net.stem[0].weight, theirs["stem.0.weight"])
    assert fresh.description.mean == pytest.approx((fresh.prepared.mean / 255).tolist(), rel=1e-5)


@pytest.mark.slow
def test_pictures_take_the_size_that_the_encoder_knows(tmp_path: Path, classifier: Path) -> None:
    data = pictures(tmp_path / "pictures", side=20)
    Image.new("RGB", (30, 22)).save(data / "train0.png")  # of several sizes
    given = {"model.encoder": "resnet20", "model.encoder_weights": str(classifier)}
    assert assembled(data, **given).prepared.shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("split", ["validation", "test", "train"])
def test_judged_again_it_is_what_it_was(
    finished: Path, data: Path, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "processor_flags", lambda: frozenset())  # in float32, as it was
    nats, share, scores = by_hand(finished, data, split)
    found, where = judge(finished, split=split)
    assert where == f"{split} of {data}"
    assert found["loss"] == pytest.approx(nats, rel=1e-4)
    assert found["accuracy"] == pytest.approx(share, abs=1e-6)
    assert {name: found[name] for name in scores} == pytest.approx(scores, abs=1e-9)
    if split != "train":
        told = json.loads((finished / "evaluation" / f"{split}.json").read_text())
        assert found.pop("task") == told.pop("task")
        assert found == pytest.approx(told, rel=1e-6)


def test_judged_by_other_captions(tmp_path: Path, finished: Path) -> None:
    other = pictures(tmp_path / "pictures", side=24)
    found, where = judge(finished, data=str(other), split="validation")
    assert where == f"validation of {other}"
    assert (found["examples"], found["pictures"]) == (2 * SPLITS["validation"], SPLITS["validation"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"augment": ("mixup:0.2",)}, "two pictures have no one caption"),
        ({"augment": ("flip",)}, "left would become right"),
        ({"label_smoothing": 0.1}, "label_smoothing is for classes"),
        ({"text.unit": "byte"}, "captions are read by the word, not by the byte"),
        ({"text.longest": 2}, "every training sentence has more than 2 words"),
        ({"text.least": 999}, "no word occurs 999 times"),
        ({"text.own": 1.5}, r"text.own cannot be 1\.5"),
        ({"model": "captioner_soft"}, "captioner 'captioner_soft' is not known"),
        ({"model": "char_lstm"}, "captioner 'char_lstm' is not known"),
        ({"model.shape": 3}, "has no setting 'shape'"),
        ({"initializer": ("lsuv",)}, "measures a classifier"),
        ({"model.encoder_weights": "absent"}, "absent"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    tmp_path: Path, data: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        train("caption", data, tmp_path / "run", **{**SETTINGS, **settings})
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_weights_of_another_network_are_no_encoder_s(data: Path, classifier: Path, finished: Path) -> None:
    with pytest.raises(UserError, match="holds weights of resnet20, and the encoder is conv") as caught:
        assembled(data, **{"model.encoder_weights": str(classifier)})
    assert "--model.encoder resnet20" in str(caught.value)
    with pytest.raises(UserError, match="holds weights of captioner_soft_attention"):
        assembled(data, **{"model.encoder_weights": str(finished), "model.encoder": "resnet20"})


@pytest.mark.slow
def test_sentences_longer_than_the_limit_are_left_out_and_counted(tmp_path: Path, data: Path) -> None:
    run = train("caption", data, tmp_path / "run", **{**SETTINGS, "text.longest": 6, "epochs": 1}).folder
    start = rows(run, "start")[0]
    assert (start["train_examples"], start["validation_examples"]) == (24, 8)
    card = json.loads((run / "card.json").read_text())
    assert "left out of train 24 sentences of more than 6 words: train0.png#1, train1.png#1" in json.dumps(card)
    found = json.loads((run / "evaluation" / "test.json").read_text())
    assert (found["examples"], found["pictures"]) == (4, 4)
    references = [one["references"] for one in json.loads((run / "captions.json").read_text())]
    assert all(len(own) == 2 for own in references)  # they are still what people wrote
