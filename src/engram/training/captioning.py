"""Learning to say what a picture shows: a recipe with everything built from it, and what such a run tells of itself."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from engram import accounting, atomic, augment, initializers, models, registry, regularizers
from engram.data import card
from engram.data.captions.attention_score import attention_of_sentences
from engram.data.captions.caption_card import caption_card
from engram.data.captions.caption_pool import CaptionPool
from engram.data.captions.naming_places import names_in, places_of
from engram.data.captions.open_captions import open_captions
from engram.data.captions.prepare_captions import prepare_captions
from engram.data.captions.score_captions import score_captions
from engram.decision import Decision
from engram.errors import UserError
from engram.models.captioner_encoder import take_encoder
from engram.models.captioner_network import Captioner
from engram.recipe import Recipe
from engram.tasks import caption as task
from engram.tasks.caption import Caption
from engram.text.describe import Description as Said
from engram.text.describe import describe
from engram.text.vocabulary import Vocabulary
from engram.training import device, weights
from engram.training.assembled import Assembled, Progress, Say, parts_of, set_up, silent
from engram.training.device import Machine
from engram.training.fingerprint import Fingerprint, of_pool, of_texts
from engram.training.judge import weights_of
from engram.training.run import RunFolder
from engram.training.settle import build_reviewer, check_names, laid_out, own_removed, suited
from engram.training.weights import Description

EVALUATION_BATCH = 256
SAID = 1000
"""Pictures of a split, at most, for which whole sentences are written and scored; every pair counts in the loss."""

SHOWN = 12  # of them on the page


class Captioning(Assembled):
    """A run that learns to say what pictures show."""

    pictured = False
    next_command = "engram caption {} IMAGE"

    def describe_data(self, folder: RunFolder, say: Say) -> None:
        """The card of the captions, and the pictures as the network sees them."""
        made = caption_card(self.prepared)
        folder.write_json("card.json", {"task": "caption", **made})
        for text in (*made["notes"], *made["warnings"][:3]):
            say({"event": "notice", "text": str(text)})
        sheet = card.sheet_as_seen(self.prepared, self.parts.augment, seed=self.recipe.seed)
        if sheet is not None:
            atomic.write(folder.path / "pictures" / "samples.png", sheet)

    def describe_network(self, folder: RunFolder) -> None:
        """Parameters and multiply-adds are in `environment.json`; a table by layers is of networks of images alone."""

    def memory(self) -> accounting.Memory:
        """By caption, with a word each: the recurrent part of it is small beside the encoder's."""
        slots = self.optimizer_slots()
        return accounting.memory(Picturing(self.state.net), self.prepared.shape, slots=slots, dtype=self.machine.dtype)

    def judge(self, net: nn.Module, path: Path, split: str, pool: CaptionPool) -> dict[str, Any]:
        """See `Assembled`."""
        prepared, of = self.prepared, split.removeprefix("final_")
        places = None if prepared.places is None else prepared.places.get(of)
        found = figures(net, pool, prepared.references[of], places, self.views, self.machine, prepared.vocabulary)
        (path / "evaluation").mkdir(exist_ok=True)
        atomic.write(path / "evaluation" / f"{split}.json", json.dumps(found))
        return found

    def after_run(self, folder: RunFolder, net: nn.Module) -> None:
        """A few pictures that nothing was learned from, with what is said of them: `captions.json`, `captions.npz`."""
        net = net.to(self.machine.device)
        splits = {name: getattr(self.prepared, name) for name in ("test", "validation", "train")}
        split, pool = next((name, pool) for name, pool in splits.items() if pool is not None)
        shown = np.linspace(0, len(pool.images) - 1, min(SHOWN, len(pool.images))).astype(np.int64)
        said = say_of(net, pool, shown, self.views, self.machine, self.prepared.vocabulary)
        references = [self.prepared.references[split][index] for index in shown]
        places = None if self.prepared.places is None else self.prepared.places.get(split)
        write_captions(
            folder.path,
            pool.images.pictures(shown.tolist()),
            said,
            references,
            None if places is None else [places[index] for index in shown],
        )

    def examined(self) -> dict[str, Any]:
        """It is called with the words before each, and foresees them all."""
        return {"call": task.read, "outputs": task.said}

    def fingerprint(self) -> Fingerprint:
        """See `Assembled`."""
        found: Fingerprint = {}
        for name, pool in self.prepared.pools().items():
            said = (sentence for picture in self.prepared.references[name] for sentence in picture)
            found[name] = {**of_pool(pool.images), "labels": of_texts(said)}
        return found

    def told_data(self) -> str:
        prepared = self.prepared
        shape = "x".join(str(side) for side in self.description.shape)
        return f"captions of {len(prepared.train.images):,} pictures, {shape}, {len(prepared.vocabulary)} words"

    def told_result(self, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
        shown = [
            f"{split} {one['loss']:.4f} nats a word, BLEU-4 {100 * one['bleu4']:.1f}"
            + (f", CIDEr {one['cider']:.2f}" if "cider" in one else "")
            for split, one in evaluations.items()
        ]
        return "; ".join(shown)

    def told_best(self, figures: Mapping[str, float]) -> str:
        return f"{figures['loss']:.4f} nats a word"


def assemble_captioning(recipe: Recipe, progress: Progress = silent, *, resuming: bool = False) -> Captioning:
    """Build a run that captions, in the order in which mistakes are cheapest to find.

    Raises:
        UserError: something in the recipe cannot be had.
    """
    full_batch = registry.find("optimizer", recipe.optimizer.name).facts.get("full_batch", False)
    recipe, decisions = suited(recipe, full_batch=full_batch)
    check_names(recipe)
    refuse_what_captions_lack(recipe)
    recipe, more = laid_out(recipe)
    decisions += more
    target, _ = device.find_device(recipe.device.name)
    source = open_captions(recipe.data.path)
    encoder = encoder_described(recipe)
    prepared = prepare_captions(
        source,
        recipe.data,
        seed=recipe.seed,
        device=target,
        least=recipe.text.least,
        longest=recipe.text.longest,
        model_shape=None if encoder is None else encoder.shape,
        progress=lambda done, total: progress("reading", done, total),
    )
    decisions += prepared.decisions
    torch.manual_seed(recipe.seed)
    vocabulary = prepared.vocabulary
    net = models.build_captioner(
        recipe.model.name, vocabulary=len(vocabulary), shape=prepared.shape, settings=recipe.model.settings
    )
    size = prepared.shape[1:]
    mean, std = (torch.as_tensor(values, dtype=torch.float32) / 255.0 for values in (prepared.mean, prepared.std))
    if encoder is not None and len(encoder.mean) == len(mean):  # the pictures as its weights are used to them
        mean, std = torch.tensor(encoder.mean), torch.tensor(encoder.std)
    views = augment.views((), size=size, mean=mean, std=std)
    if not resuming:
        decisions += first_weights(net, recipe)
    account = accounting.account(Picturing(net), prepared.shape)
    regularization = regularizers.build(recipe.regularizer, net)
    decisions += [Decision("regularizer", line, "asked for") for line in regularization.changes]
    batch_size = len(prepared.train) if full_batch else min(recipe.training.batch_size, len(prepared.train))
    # the same is said in several ways, and no network can know in which: captions are held against each other
    reviewer = build_reviewer(recipe, prepared.train, batch_size, measure="relative")
    machine, state = set_up(net, recipe, reviewer, dimensions=2)

    def validate(judged: nn.Module) -> dict[str, float] | None:
        return None if prepared.validation is None else measure(judged, prepared.validation, views, machine)

    parts = parts_of(
        recipe,
        regularization,
        machine,
        pool=prepared.train,
        augment=augment.compose(recipe.augment, size=size, mean=mean, std=std),
        task=Caption(recipe.text.own),
        validate=validate,
    )
    description = Description(
        model=recipe.model.name,
        settings=dict(recipe.model.settings),
        classes=(),
        shape=tuple(prepared.shape),
        stored_shape=tuple(prepared.stored_shape),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        data=str(Path(recipe.data.path).name),
        task="caption",
        vocabulary=vocabulary.to_dict(),
    )
    decisions += machine.decisions
    return Captioning(recipe, source, prepared, machine, parts, state, views, description, account, decisions)


def refuse_what_captions_lack(recipe: Recipe) -> None:
    """Refuse settings that captioning has no use for.

    Raises:
        UserError: one of them is given.
    """
    if recipe.training.label_smoothing:
        raise UserError("label_smoothing is for classes, not for captions", then="--label_smoothing 0")
    mixing = [word for word in recipe.augment if word.startswith(("mixup", "flip"))]
    if mixing:
        why = "two pictures have no one caption" if mixing[0].startswith("mixup") else "left would become right"
        raise UserError(f"augment {mixing[0]} does not go with captions: {why}", then="--augment crop:4")
    if recipe.text.unit != "word":
        raise UserError(f"captions are read by the word, not by the {recipe.text.unit}", then="--text.unit word")


def encoder_described(recipe: Recipe) -> Description | None:
    """What the weights that the encoder begins with say of themselves; None where it begins with none.

    Raises:
        UserError: no such weights, or of another classifier than the encoder's.
    """
    path = recipe.model.settings.get("encoder_weights")
    if path is None:
        return None
    described = weights.describe(weights_of(str(path)))
    asked = recipe.model.settings.get("encoder", "conv")
    if described.model != asked:
        raise UserError(
            f"{path} holds weights of {described.model}, and the encoder is {asked}",
            then=f"--model.encoder {described.model}",
        )
    return described


def first_weights(net: nn.Module, recipe: Recipe) -> list[Decision]:
    """Give the network the weights that the recipe begins with, in place.

    Raises:
        UserError: weights of another network, or an initializer that measures pictures.
    """
    decisions = []
    if recipe.weights is not None:
        weights.load_into(net, weights_of(recipe.weights))
        decisions.append(Decision("weights", recipe.weights, "asked for"))
    words = own_removed(recipe.initializer)
    if initializers.needs_batch(words):
        raise UserError(f"initializer {','.join(words)} measures a classifier", then="--initializer own")
    decisions += [Decision("initializer", line, "asked for") for line in initializers.apply(net, words, batch=None)]
    path = recipe.model.settings.get("encoder_weights")
    if path is not None and isinstance(net, Captioner):
        take_encoder(net.encoder, load_file(weights_of(str(path))))
        decisions.append(Decision("model.encoder_weights", str(path), "asked for"))
    return decisions


class Picturing(nn.Module):
    """A captioner as it says one word of a picture: what its work is counted by."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, torch.ones(len(x), 1, dtype=torch.int64, device=x.device)).scores


@torch.inference_mode()
def measure(net: nn.Module, pool: CaptionPool, views: Any, machine: Machine) -> dict[str, float]:
    """Mean loss of a caption, nats a word, and the mean share of its words that were foreseen, from the true ones."""
    net.eval()
    total = torch.zeros(2, dtype=torch.float64)
    for x, y in pool.batches(torch.arange(len(pool)).split(EVALUATION_BATCH)):
        with machine.autocast():
            decoded = net(views(x, machine.dtype)[0], y[:, :-1])
        loss = task.losses(decoded, y[:, 1:]).cross_entropy.double().sum()
        right = task.foreseen(decoded.scores, y[:, 1:]).double().sum()
        total += torch.stack([loss, right]).cpu()
    loss, right = (total / len(pool)).tolist()
    return {"loss": loss, "accuracy": right}


def figures(
    net: nn.Module,
    pool: CaptionPool,
    references: Sequence[Sequence[str]],
    places: Sequence[Any] | None,
    views: Any,
    machine: Machine,
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """Everything that is measured of a captioner on a split, for people and for `evaluation/`.

    Args:
        references: for each picture of the pool, what people wrote.
        places: likewise the boxes of the words, where they are known.
    """
    read = measure(net, pool, views, machine)
    number = min(SAID, len(pool.images))
    said = say_of(net, pool, np.arange(number), views, machine, vocabulary)
    found: dict[str, Any] = {
        "task": "caption",
        "examples": len(pool),
        "pictures": len(pool.images),
        **read,
        "perplexity": float(np.exp(read["loss"])),
        "scored": number,
        **score_captions([one.sentence for one in said], references[:number]),
    }
    maps = [one.attention for one in said if one.attention is not None]
    if places is not None and len(maps) == number:
        size = (pool.shape[1], pool.shape[2])
        words = [one.words for one in said]
        found["attention"] = attention_of_sentences(words, maps, references[:number], places[:number], size).means()
    return found


def say_of(
    net: nn.Module, pool: CaptionPool, pictures: NDArray[np.int64], views: Any, machine: Machine, vocabulary: Vocabulary
) -> list[Said]:
    """A sentence for each of some pictures of a pool, by greedy search."""
    said: list[Said] = []
    for x, _ in pool.images.batches(torch.from_numpy(pictures).split(EVALUATION_BATCH)):
        said += describe(net, views(x, torch.float32)[0], vocabulary, longest=int(pool.lengths.max()) + 1)
    return said


def write_captions(
    folder: Path, pictures: NDArray[Any], said: list[Said], references: list[Any], places: list[Any] | None
) -> None:
    """`captions.json` and `captions.npz`, in the form that `engram.report.captions_file` reads.

    Args:
        pictures: (n, C, H, W) uint8.
        places: for each picture the boxes of the words of its references, where they are known.
    """
    arrays: dict[str, Any] = {"images": np.moveaxis(pictures, 1, -1)}
    longest = max(len(one.words) for one in said)
    maps = [one.attention for one in said]
    drawn = [one for one in maps if one is not None]
    if longest and len(drawn) == len(said):
        attention = np.zeros((len(said), longest, *drawn[0].shape[1:]), np.float32)
        for row, one in zip(attention, drawn, strict=True):
            row[: len(one)] = one[:longest]
        arrays["attention"] = attention
        if places is not None:
            arrays["truth"] = truth(said, references, places, attention.shape, pictures.shape[2:])
    atomic.write(folder / "captions.npz", lambda file: np.savez_compressed(file, **arrays))
    rows = [
        {"sentence": one.sentence, "words": list(one.words), "references": list(own)}
        for one, own in zip(said, references, strict=True)
    ]
    atomic.write(folder / "captions.json", json.dumps(rows, ensure_ascii=False))


def truth(
    said: list[Said], references: list[Any], places: list[Any], shape: tuple[int, ...], size: tuple[int, ...]
) -> NDArray[np.bool_]:
    """(n, T, h, w): the cells whose middle lies in the box of what a word names, where the word is true."""
    where = np.zeros(shape, bool)
    down, across = ((np.arange(cells) + 0.5) / cells * side for cells, side in zip(shape[2:], size, strict=True))
    for row, one, own, boxes in zip(where, said, references, places, strict=True):
        for place, box in enumerate(places_of(one.words, names_in(own, boxes))):
            if box is not None:
                x0, y0, x1, y1 = box
                row[place] = np.outer((down >= y0) & (down < y1), (across >= x0) & (across < x1))
    return where
