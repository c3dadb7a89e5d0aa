"""Learning to write: a recipe with everything built from it, and what such a run tells of itself."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engram import accounting, atomic, initializers, models, registry, regularizers
from engram.augment.compose import Batch
from engram.data.text_pool import IGNORED, TextPool
from engram.data.texts import SHORTEST, Texts, open_texts, split_off
from engram.decision import Decision
from engram.errors import UserError
from engram.models.char_rnn import CharRNN
from engram.recipe import Recipe
from engram.recurrence.look import look, look_back
from engram.recurrence.reading import spell
from engram.tasks import write as task
from engram.tasks.write import Write
from engram.text.chunks import Chunks
from engram.text.likelihood import Likelihood
from engram.text.vocabulary import UNKNOWN, Bytes, Characters, Vocabulary, Words
from engram.text.writing import write
from engram.training import device
from engram.training.assembled import Assembled, Progress, Say, parts_of, set_up, silent
from engram.training.device import Machine
from engram.training.events import Epoch
from engram.training.fingerprint import Fingerprint, of_texts
from engram.training.run import RunFolder
from engram.training.settle import build_reviewer, check_names, laid_out, own_removed, refuse_of_pictures, suited
from engram.training.weights import Description, load_into

JUDGED_ROWS, JUDGED_ROW = 64, 1000
"""Rows in which a split is judged, at most, and tokens of each, at least: every row begins without a memory."""

JUDGED_CHUNK = 256  # the state is carried, so that the length changes nothing but the speed
LOOKED_BACK = 2000  # characters on which a gradient is followed back
SAMPLE, TEMPERATURE = 400, 0.8  # tokens written after a pass, and how


@dataclass(frozen=True)
class PreparedText:
    """A text in tokens, split and cut into chunks.

    Args:
        characters: of each split.
    """

    train: TextPool
    validation: TextPool | None
    test: TextPool | None
    vocabulary: Vocabulary
    characters: Mapping[str, int]
    unreadable: tuple[Any, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.train.shape


class Writing(Assembled):
    """A run that learns to go on with a text."""

    unit = "tokens"
    pictured = False
    next_command = "engram write {}"
    work_of = "a token"

    @property
    def units(self) -> int:  # type: ignore[override]
        return self.prepared.train.chunks.stride

    def describe_data(self, folder: RunFolder, say: Say) -> None:
        """How long the text is, and what it is made of."""
        prepared, chunks = self.prepared, self.prepared.train.chunks
        pools = {"train": prepared.train, "validation": prepared.validation, "test": prepared.test}
        card = {
            "task": "write",
            "source": self.source.path,
            "kind": self.source.kind,
            "splits": {name: prepared.characters[name] for name, pool in pools.items() if pool is not None},
            "unit": prepared.vocabulary.unit,
            "vocabulary": len(prepared.vocabulary),
            "tokens": len(chunks.tokens),
            "rows": chunks.rows,
            "chunk": chunks.length,
            "overlap": chunks.overlap,
            "left_over": chunks.left_over,
            "notes": list(self.source.notes),
        }
        folder.write_json("card.json", card)
        for note in self.source.notes:
            say({"event": "notice", "text": note})

    def describe_network(self, folder: RunFolder) -> None:
        """Parameters and multiply-adds a token; what it takes beside is for the report of images."""

    def memory(self) -> accounting.Memory:
        """By chunk."""
        return accounting.memory(self.state.net, self.prepared.shape, slots=self.optimizer_slots(), dtype=torch.int64)

    def judge(self, net: nn.Module, path: Path, split: str, pool: TextPool) -> dict[str, Any]:
        """See `Assembled`."""
        of = split.removeprefix("final_")
        share = self.prepared.characters[of] / len(pool.chunks.tokens)
        found = told(measure(net, pool, self.machine), share)
        (path / "evaluation").mkdir(exist_ok=True)
        atomic.write(path / "evaluation" / f"{split}.json", json.dumps(found))
        return found

    def after_pass(self, folder: RunFolder, event: Epoch) -> None:
        """A sample of what it writes now, in `samples.json`; after passes 1, 2, 4, 8 ... how far it looks back."""
        file = folder.path / "samples.json"
        try:
            samples = [one for one in json.loads(file.read_text(encoding="utf-8")) if one["step"] < event.step]
        except (OSError, ValueError, TypeError, KeyError):
            samples = []
        with self.state.judged_net() as net:
            samples.append(sample(net, self.prepared.vocabulary, event, seed=self.recipe.seed))
            if event.epoch & (event.epoch - 1) == 0:
                self._look_back(net, folder, event.step)
        folder.write_json("samples.json", samples)

    def _look_back(self, net: nn.Module, folder: RunFolder, step: int) -> None:
        """Another moment of `probes/time.npz`."""
        if self.recipe.training.clinic == "none" or not isinstance(net, CharRNN):
            return
        text = self._unseen()[-LOOKED_BACK:]
        with contextlib.suppress(UserError):  # too short, or with what the vocabulary lacks; said after the run
            look_back(net, spell(self.prepared.vocabulary, text), folder.path, step=step)

    def _unseen(self) -> str:
        """A text that it does not learn from, where there is one."""
        return self.source.test or self.source.validation or self.source.train

    def after_run(self, folder: RunFolder, net: nn.Module) -> None:
        """What its cells follow and how far it looks back: `probes/cells.npz`, `probes/time.npz`."""
        if self.recipe.training.clinic == "none" or not isinstance(net, CharRNN):
            return
        try:
            look(net, self.prepared.vocabulary, self._unseen(), folder.path, step=self.state.step)
        except UserError as error:  # a text too short, or with what the vocabulary lacks
            folder.append({"event": "notice", "text": f"the cells were not looked at: {error.given}"})

    def fingerprint(self) -> Fingerprint:
        """See `Assembled`."""
        texts = {name: getattr(self.source, name) for name in ("train", "validation", "test")}
        return {name: {"content": of_texts([text])} for name, text in texts.items() if text is not None}

    def told_data(self) -> str:
        prepared = self.prepared
        told = f"{sum(prepared.characters.values()):,} characters, {len(prepared.vocabulary)} different {self.words}"
        return f"chunks of {prepared.train.chunks.length} {self.words}; {told}"

    def told_best(self, figures: Mapping[str, float]) -> str:
        return f"{figures['loss']:.4f} nats a {self.prepared.vocabulary.unit}"

    @property
    def words(self) -> str:
        """What tokens are, in words."""
        return f"{self.prepared.vocabulary.unit}s"

    def told_result(self, evaluations: Mapping[str, Mapping[str, Any]]) -> str:
        shown = [
            f"{split} {one['nats_per_character']:.4f} nats ({one['bits_per_character']:.4f} bits) a character"
            for split, one in evaluations.items()
        ]
        return ", ".join(shown)


def assemble_writing(recipe: Recipe, progress: Progress = silent, *, resuming: bool = False) -> Writing:
    """Build a run that writes, in the order in which mistakes are cheapest to find.

    Raises:
        UserError: something in the recipe cannot be had.
    """
    full_batch = registry.find("optimizer", recipe.optimizer.name).facts.get("full_batch", False)
    recipe, decisions = suited(recipe, full_batch=full_batch)
    check_names(recipe)
    refuse_of_pictures(recipe)
    if full_batch and recipe.text.chunk:
        raise UserError(f"{recipe.optimizer.name} takes the whole text at once", then="--text.chunk 0")
    recipe, more = laid_out(recipe)
    decisions += more
    target, _ = device.find_device(recipe.device.name)
    texts = split_off(open_texts(recipe.data.path), validation=recipe.data.validation, test=recipe.text.test)
    if recipe.data.limit is not None:
        texts = replace(texts, train=texts.train[: recipe.data.limit])
    vocabulary = vocabulary_of(texts, recipe)
    prepared = prepare_text(texts, vocabulary, recipe, target)
    torch.manual_seed(recipe.seed)
    net = models.build_writer(recipe.model.name, vocabulary=len(vocabulary), settings=recipe.model.settings)
    if not resuming:
        decisions += first_weights(net, recipe)
    account = accounting.account(net, (1,), dtype=torch.int64)
    regularization = regularizers.build(recipe.regularizer, net)
    decisions += [Decision("regularizer", line, "asked for") for line in regularization.changes]
    # a chunk's mean loss says how hard its text is more than whether it is known: chunks are held against each other
    reviewer = build_reviewer(recipe, prepared.train, prepared.train.chunks.rows, measure="relative")
    machine, state = set_up(net, recipe, reviewer, dimensions=1)

    def validate(judged: nn.Module) -> dict[str, float] | None:
        if prepared.validation is None:
            return None
        found = measure(judged, prepared.validation, machine)
        return {"loss": found.likelihood.nats_per_token, "accuracy": found.right / found.likelihood.tokens}

    parts = parts_of(
        recipe,
        regularization,
        machine,
        pool=prepared.train,
        augment=as_it_is,
        task=Write(prepared.train.chunks.stride, prepared.train.chunks.rows, recipe.training.label_smoothing),
        validate=validate,
    )
    description = Description(
        model=recipe.model.name,
        settings=dict(recipe.model.settings),
        classes=(),
        shape=prepared.shape,
        stored_shape=prepared.shape,
        mean=(),
        std=(),
        data=str(Path(recipe.data.path).name),
        task="write",
        vocabulary=vocabulary.to_dict(),
    )
    decisions += machine.decisions
    return Writing(recipe, texts, prepared, machine, parts, state, seen, description, account, decisions)


def as_it_is(x: Tensor, rng: torch.Generator, dtype: torch.dtype = torch.float32) -> Batch:
    """Tokens are not changed on their way into the network."""
    return Batch(x)


def seen(x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Tokens as the network sees them: as they are."""
    return [x]


def vocabulary_of(texts: Texts, recipe: Recipe) -> Vocabulary:
    """What the training text is made of; with `<unknown>` where other splits hold more, or rare words are left out."""
    unit, least = recipe.text.unit, recipe.text.least or 1
    if unit == "byte":
        return Bytes()
    if unit == "word":
        return Words.of(texts.train, at_least=least, style="text", special=(UNKNOWN,))
    known = set(texts.train)
    more = set((texts.validation or "") + (texts.test or "")) - known
    return Characters.of(texts.train, special=(UNKNOWN,) if more else ())


def prepare_text(texts: Texts, vocabulary: Vocabulary, recipe: Recipe, target: torch.device) -> PreparedText:
    """The splits in tokens, cut as the recipe says.

    Raises:
        UserError: a text too short for its rows.
    """
    pools: dict[str, TextPool | None] = {}
    characters: dict[str, int] = {}
    for split in ("train", "validation", "test"):
        text = getattr(texts, split)
        characters[split] = len(text or "")
        if not text:
            pools[split] = None
            continue
        tokens = torch.tensor(vocabulary.encode(text), dtype=torch.int64)
        if len(tokens) < SHORTEST:
            raise UserError(
                f"{texts.path} is too short: nothing follows the first token of its {split} split",
                allowed=f"{SHORTEST} tokens or more",
                then="a longer text, or other shares: --data.validation 0.1 --text.test 0",
            )
        if split == "train":
            rows = min(recipe.training.batch_size, len(tokens) - 1)
            columns = (len(tokens) - 1) // rows
            chunk = min(recipe.text.chunk or columns, max(1, columns))
            pools[split] = TextPool(
                Chunks(tokens, rows=rows, length=chunk, overlap=min(recipe.text.overlap, chunk - 1)), target
            )
        else:
            pools[split] = to_judge(tokens, target)
    train = pools["train"]
    assert train is not None
    return PreparedText(train, pools["validation"], pools["test"], vocabulary, characters)


def to_judge(tokens: Tensor, target: torch.device) -> TextPool:
    """A text in few rows, as it is judged."""
    rows = max(1, min(JUDGED_ROWS, len(tokens) // JUDGED_ROW))
    return TextPool(Chunks(tokens, rows=rows, length=JUDGED_CHUNK), target)


def first_weights(net: nn.Module, recipe: Recipe) -> list[Decision]:
    """Give the network the weights that the recipe begins with, in place.

    Raises:
        UserError: weights of another network, or an initializer that measures pictures.
    """
    if recipe.weights is not None:
        load_into(net, Path(recipe.weights))
        return [Decision("weights", recipe.weights, "asked for")]
    words = own_removed(recipe.initializer)
    if initializers.needs_batch(words):
        raise UserError(f"initializer {','.join(words)} measures pictures", then="--initializer own")
    return [Decision("initializer", line, "asked for") for line in initializers.apply(net, words, batch=None)]


@dataclass(frozen=True)
class Read:
    """What reading a split through gave: its likelihood, and how many tokens had the largest score."""

    likelihood: Likelihood
    right: int


@torch.inference_mode()
def measure(net: nn.Module, pool: TextPool, machine: Machine) -> Read:
    """Read a split in its rows, the state carried from chunk to chunk, and foresee every token of it once."""
    net.eval()
    chunks, state = pool.chunks, None
    total, right, tokens = torch.zeros((), dtype=torch.float64, device=pool.device), 0, 0
    for x, y in pool.batches(torch.arange(len(pool)).split(chunks.rows)):
        with machine.autocast():
            scores, state = net(x, state)
        counted = y != IGNORED
        # rows end together: the last chunk is as long as any row of it
        total += task.losses(scores, y).double().mul(counted.sum(1)).sum()
        right += int((scores.argmax(2) == y).sum())
        tokens += int(counted.sum())
    return Read(Likelihood(float(total), tokens, tokens), right)


def told(found: Read, characters: float) -> dict[str, Any]:
    """The figures of a split, for people and for `evaluation/`.

    Args:
        characters: that a token of the split stands for, on average; its first token is not foreseen, nor are the few
            that are left over at its end.
    """
    likelihood = found.likelihood
    whole = Likelihood(likelihood.total, likelihood.tokens, max(1, round(likelihood.tokens * characters)))
    return {
        "task": "write",
        "examples": likelihood.tokens,
        "characters": whole.characters,
        "loss": likelihood.nats_per_token,
        "accuracy": found.right / likelihood.tokens,
        "nats_per_character": whole.nats_per_character,
        "bits_per_character": whole.bits_per_character,
        "perplexity": likelihood.perplexity,
    }


def sample(net: nn.Module, vocabulary: Vocabulary, event: Epoch, *, seed: int) -> dict[str, Any]:
    """What the network writes after a pass, with a generator of its own, so that training draws as without it."""
    where = next(net.parameters()).device
    rng = torch.Generator(device=where).manual_seed(seed + event.step)
    text = "".join(write(net, vocabulary, length=SAMPLE, rng=rng, temperature=TEMPERATURE))
    return {"step": event.step, "epoch": event.epoch, "prompt": "", "temperature": TEMPERATURE, "text": text}
