"""What to run: frozen, complete, the same from the command line, a TOML file and Python.

A recipe is written to the run folder before anything else, so a run can always be told, repeated and resumed.
The three ways of giving one meet in `build`: `--optimizer.lr 1e-3`, `[optimizer] lr = 1e-3`, `optimizer={"lr": 1e-3}`.
"""

import inspect
import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from engram.errors import UserError, nearest


@dataclass(frozen=True)
class Choice:
    """A registered name with the settings its builder takes; which settings exist, the builder says."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def _about(text: str, default: Any = MISSING, **more: Any) -> Any:
    """A dataclass field with the sentence that help and documentation show."""
    return (
        field(default=default, metadata={"about": text}, **more)
        if default is not MISSING
        else field(metadata={"about": text}, **more)
    )


@dataclass(frozen=True)
class Data:
    """Where the examples come from and in what form the network sees them."""

    path: str = _about(
        "a folder, a file, or one of: digits mnist fashion_mnist cifar10 cifar100; a text; captions or scenes", "digits"
    )
    image_size: int | None = _about(
        "side of the square the network sees, pixels (none: the data's own, or the model's)", None
    )
    stored_size: int | None = _about("side kept in memory, from which crops are cut (none: from image_size)", None)
    validation: float = _about("share of the training split held out when the data brings no validation split", 0.1)
    limit: int | None = _about("use at most so many training examples, drawn by class and seed", None)
    memory: float | None = _about(
        "GiB the resident set may take (none: half of what is free); larger sets stream", None
    )
    workers: int | None = _about("processes that decode a streamed set (none: one a core, at most 8)", None)


@dataclass(frozen=True)
class Text:
    """How sentences become numbers, and a long text chunks; of the tasks that write and caption."""

    unit: str = _about("what is read and written a step: character, byte or word", "character")
    chunk: int = _about("steps that a gradient reaches back; 0 is the whole text, full back-propagation", 64)
    overlap: int = _about("steps at the beginning of a chunk that are read again and not counted again", 0)
    test: float = _about("share of a text's end kept as its test split, where the data brings no splits", 0.05)
    least: int = _about("times a word has to occur to get a number; rarer ones are <unknown> (0: suits the data)", 0)
    longest: int = _about("words of a caption; longer ones are left out and counted", 40)
    own: float = _about("share of a caption's words, at the end of training, that are the network's own draws", 0.0)


@dataclass(frozen=True)
class Training:
    """How long and how the weights are fitted."""

    epochs: float = _about("passes over the training split; 0.5 is half a pass", 10.0)
    batch_size: int = _about("examples a step", 128)
    accumulate: int = _about("micro-batches a step is split into, to save memory", 1)
    label_smoothing: float = _about("share of the target spread evenly over the classes", 0.0)
    clip_norm: float | None = _about("largest norm of the whole gradient (none: not clipped)", None)
    clip_value: float | None = _about("largest value of any one gradient (none: not clipped)", None)
    average: float | None = _about("decay of an exponential moving average of the weights, used for evaluation", None)
    patience: int | None = _about(
        "epochs without a better validation result before stopping (none: run to the end)", None
    )
    save_every: float = _about("seconds between saved states inside an epoch", 60.0)
    clinic: str = _about("how closely faults are looked for: auto, none, quick, standard or full", "auto")


@dataclass(frozen=True)
class Auxiliary:
    """Heads on the way to the last one, which only training has: their losses join the main one."""

    at: tuple[str, ...] = _about("where heads stand: shares of the depth such as 0.33,0.66, or names of modules", ())
    weight: float = _about("of each head's loss beside the main one", 0.3)
    head: str = _about("small (the mean over positions and a linear layer) or googlenet", "small")


@dataclass(frozen=True)
class Device:
    """What it runs on. `auto` is decided by what the machine has, and `--plan` prints each decision and its reason."""

    name: str = _about("auto, cpu, cuda, cuda:1, mps", "auto")
    precision: str = _about("auto, float32, bfloat16", "auto")
    memory_format: str = _about("auto, channels_last, contiguous", "auto")
    threads: str = _about("auto (timed at the start) or a number", "auto")
    allocator: str = _about("auto (keep freed memory; fewer page faults) or system", "auto")
    compile: str = _about("auto (off on the CPU), on, off", "auto")


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on."""

    task: str = _about(
        "classify, write (a text goes on), caption (a sentence for a picture) or label (every step)", "classify"
    )
    seed: int = _about("decides the initial weights, the split, the order and every augmentation", 0)
    output: str = _about("the run folder (empty: runs/<date>-<model>-<data>)", "")
    augment: tuple[str, ...] = _about("words such as crop:4,flip; auto suits the data, none switches it off", ("auto",))
    views: tuple[str, ...] = _about("test-time averaging: words such as flip, ten_crop or dense", ())
    initializer: tuple[str, ...] = _about("initial weights by words such as he or orthogonal,zero_gamma", ("own",))
    regularizer: tuple[str, ...] = _about("what keeps from over-fitting, by words such as l1:1e-5,dropout:0.5", ())
    weights: str | None = _about("initial weights: a file, or torchvision for its official ones (none: by seed)", None)
    data: Data = field(default_factory=Data)
    text: Text = field(default_factory=Text)
    model: Choice = field(default_factory=lambda: Choice("resnet20"))
    optimizer: Choice = field(default_factory=lambda: Choice("nesterov"))
    schedule: Choice = field(default_factory=lambda: Choice("auto"))
    review: Choice = field(default_factory=lambda: Choice("shuffle"))
    auxiliary: Auxiliary = field(default_factory=Auxiliary)
    training: Training = field(default_factory=Training)
    device: Device = field(default_factory=Device)


def of_task(task: str) -> Recipe:
    """What a task's recipe is where nothing else is said.

    Raises:
        UserError: there is no such task.

    >>> of_task("write").model.name, of_task("classify") == Recipe()
    ('char_lstm', True)
    """
    if task not in TASKS:
        raise UserError(f"there is no task {task!r}", allowed=", ".join(TASKS), nearest=nearest(task, TASKS))
    return TASKS[task]


TASKS = {
    "classify": Recipe(),
    "write": Recipe(
        task="write",
        augment=(),
        data=Data(path="", validation=0.05),
        model=Choice("char_lstm"),
        optimizer=Choice("adam", {"lr": 2e-3}),
        review=Choice("in_order"),
        training=Training(batch_size=64, clip_norm=5.0),
    ),
    "caption": Recipe(
        task="caption",
        augment=(),
        data=Data(path="scenes"),
        text=Text(unit="word"),
        model=Choice("captioner_soft_attention"),
        optimizer=Choice("adam", {"lr": 1e-3}),
        training=Training(batch_size=64, clip_norm=5.0),
    ),
    "label": Recipe(
        task="label",
        augment=(),
        data=Data(path=""),
        model=Choice("lstm", {"read": "every"}),
        optimizer=Choice("adam", {"lr": 2e-3}),
        training=Training(batch_size=64, clip_norm=5.0),
    ),
}
"""A recipe for each task, over which settings are laid."""

KIND_OF_TASK = {"classify": "model", "write": "writer", "caption": "captioner", "label": "model"}
"""The registry's kind of a task's networks."""

LISTS = {"model": "models (writers, captioners)"}
"""How help names the lists of a section where one word does not do."""

KEYS_OF_CHOICE = {
    "data": "path",
    "text": "unit",
    "auxiliary": "at",
    "device": "name",
    "model": "name",
    "optimizer": "name",
    "schedule": "name",
    "review": "name",
}
"""`--model resnet20` means `--model.name resnet20`: the one word a section is named by."""


LISTED = "engram train --help lists them"


def build(
    settings: Mapping[str, Any],
    base: Recipe | None = None,
    *,
    where: str = "recipe",
    own: Iterable[str] = (),
    then: str = LISTED,
) -> Recipe:
    """A recipe from nested or dotted settings laid over `base`; settings of `training` may stand at the top.

    Text is read as the setting's type (`"1e-3"` as a float), so flags and TOML come the same way.

    Args:
        where: who was given them, for messages.
        own: words beside them that were taken as options: a mistyped one comes here as a setting, and is told of those.
        then: what lists the settings and the options.

    Raises:
        UserError: an unknown setting, with the nearest one; a value of the wrong type; a value out of range.

    >>> build({"model": "mlp", "optimizer.lr": "1e-3", "epochs": 3}).optimizer.settings["lr"]
    0.001
    """
    asked = settings.get("task", base.task if base else "classify")
    recipe = base if base is not None and base.task == asked else of_task(str(asked))
    if base is not None and base not in (recipe, Recipe()):
        raise UserError(f"{where}: task {asked} cannot be laid over a recipe of task {base.task}", then="a new recipe")
    unknown = partial(_unknown_setting, where=where, own=tuple(own), then=then)
    for section, changes in _sections(settings, where, unknown).items():
        if not section:
            recipe = _overlay(recipe, changes, where, "", unknown)
            continue
        part = getattr(recipe, section)
        if isinstance(part, Choice):
            part = _choose(part, changes, f"{where}: {section}")
        else:
            part = _overlay(part, changes, where, f"{section}.", unknown)
        recipe = replace(recipe, **{section: part})
    _check(recipe)
    return recipe


def refuse_unknown(
    settings: Mapping[str, Any], *, where: str = "recipe", own: Iterable[str] = (), then: str = LISTED
) -> None:
    """Refuse a setting that no recipe has, whatever its value and whatever it is laid over; see `build`.

    Raises:
        UserError: an unknown setting, with the nearest setting or option.
    """
    unknown = partial(_unknown_setting, where=where, own=tuple(own), then=then)
    for section, changes in _sections(settings, where, unknown).items():
        part = getattr(Recipe(), section) if section else Recipe()
        known = changes if isinstance(part, Choice) else [item.name for item in fields(part)]
        for key in changes:
            if key not in known:
                raise unknown(f"{section}.{key}")


def options_of(function: Callable[..., Any]) -> list[str]:
    """The words that a function takes by name, beside the settings of a recipe.

    >>> options_of(build)
    ['settings', 'base', 'where', 'own', 'then']
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, one in inspect.signature(function).parameters.items() if one.kind in named]


def load(path: str | Path, base: Recipe | None = None) -> Recipe:
    """The recipe in a TOML file, complete or only the settings that differ from `base`.

    Raises:
        UserError: no such file, no TOML, an unknown setting, a wrong type; the file is named.
    """
    try:
        settings = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"there is no recipe file {path}", then="engram train --plan prints one to start from"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a TOML file: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return build(settings, base, where=str(path))


def dumps(recipe: Recipe) -> str:
    """The whole recipe as TOML that `load` reads back to an equal recipe; settings that are none are left out."""
    top: list[str] = []
    sections: list[str] = []
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        if isinstance(value, Choice):
            rows = {"name": value.name, **value.settings}
        elif is_dataclass(value):
            rows = {one.name: getattr(value, one.name) for one in fields(value)}
        else:
            top += _lines({item.name: value})
            continue
        sections += ["", f"[{item.name}]", *_lines(rows)]
    return "\n".join([*top, *sections]) + "\n"


def options(task: str = "classify") -> list[tuple[str, str, str]]:
    """Every setting as (dotted name, sentence, a task's default), in the order of the recipe: what help prints."""
    rows: list[tuple[str, str, str]] = []
    recipe = of_task(task)
    for item in fields(recipe):
        value = getattr(recipe, item.name)
        if isinstance(value, Choice):
            lists = LISTS.get(item.name, f"{item.name}s")
            about = f"engram show {lists} lists them; --{item.name}.SETTING for its own"
            rows.append((item.name, about, value.name))
        elif is_dataclass(value):
            prefix = "" if item.name == "training" else f"{item.name}."
            rows += [
                (f"{prefix}{one.name}", one.metadata["about"], _shown(getattr(value, one.name)))
                for one in fields(value)
            ]
        else:
            rows.append((item.name, item.metadata["about"], _shown(value)))
    return rows


def _sections(
    settings: Mapping[str, Any], where: str, unknown: Callable[[str], UserError]
) -> dict[str, dict[str, Any]]:
    """Settings grouped by section; the group of the recipe's own fields is named ''."""
    own = {item.name for item in fields(Recipe)}
    training = {item.name for item in fields(Training)}
    grouped: dict[str, dict[str, Any]] = {}
    for word, value in settings.items():
        section, _, rest = word.replace("-", "_").partition(".")
        if section in training and not rest:
            grouped.setdefault("training", {})[section] = value
        elif section not in own:
            raise unknown(word)
        elif section in KEYS_OF_CHOICE or section == "training":
            group = grouped.setdefault(section, {})
            if isinstance(value, Choice):
                group |= {"name": value.name, **value.settings}
            elif isinstance(value, Mapping) and not rest:
                group |= {key.replace("-", "_"): one for key, one in value.items()}
            elif rest:
                group[rest] = value
            elif section == "training":
                raise UserError(f"{where}: training is a section of settings, not {value!r}", then="--epochs 20")
            else:
                group[KEYS_OF_CHOICE[section]] = value
        elif rest:
            raise unknown(word)
        else:
            grouped.setdefault("", {})[section] = value
    return grouped


def _unknown_setting(word: str, *, where: str, own: tuple[str, ...], then: str) -> UserError:
    known = [name for name, _, _ in options()]
    sections = [item.name for item in fields(Recipe)]
    tails = {name.rpartition(".")[2]: name for name in known}
    near = nearest(word, [*own, *known, *sections]) or tails.get(nearest(word.rpartition(".")[2], tails) or "")
    return UserError(f"{where}: there is no setting {word!r}", nearest=near, then=then)


def _choose(part: Choice, changes: Mapping[str, Any], where: str) -> Choice:
    name = changes.get("name", part.name)
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: a name is a word, not {name!r}")
    kept = part.settings if name == part.name else {}  # another builder has other settings
    given = {key: _literal(value) for key, value in changes.items() if key != "name"}
    return Choice(name, {**kept, **given})


def _overlay(
    part: Any, changes: Mapping[str, Any], where: str, prefix: str, unknown: Callable[[str], UserError]
) -> Any:
    types = get_type_hints(type(part))
    for key, value in changes.items():
        if key not in types:
            raise unknown(prefix + key)
        part = replace(part, **{key: _convert(value, types[key], f"{where}: {prefix}{key}")})
    return part


def _convert(value: Any, kind: Any, name: str) -> Any:
    """The value as the annotated type; text is parsed, a wrong type is an error that says what was wanted."""
    allowed = get_args(kind) if get_origin(kind) in (UnionType, Union) else (kind,)
    if type(None) in allowed and (value is None or value == "none"):
        return None
    wanted = next(one for one in allowed if one is not type(None))
    if get_origin(wanted) is tuple:
        words = value.replace(" ", "").split(",") if isinstance(value, str) else value
        words = [str(word) if type(word) in (int, float) else word for word in words] if _is_list(words) else words
        if not _is_list(words) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{name} is a list of words, not {value!r}")
        return tuple(word for word in words if word and word != "none")
    try:
        if wanted is str and isinstance(value, str | int | Path):
            return str(value)
        if wanted is int and not isinstance(value, bool) and (isinstance(value, str) or value == int(value)):
            return int(value)
        if wanted is float and not isinstance(value, bool):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    described = {int: "a whole number", float: "a number", str: "text"}[wanted]
    raise UserError(f"{name} is {described}, not {value!r}")


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _literal(value: Any) -> Any:
    """Text of a free setting as a number, a truth value, none or a comma list; anything else stays text."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    if "," in value:
        return tuple(_literal(part) for part in value.split(",") if part)
    if value in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[value]
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _check(recipe: Recipe) -> None:
    training, data = recipe.training, recipe.data
    rules = [
        ("epochs", training.epochs, 0 < training.epochs < math.inf, "more than 0, and finite"),
        ("batch_size", training.batch_size, training.batch_size >= 1, "1 or more"),
        ("accumulate", training.accumulate, 1 <= training.accumulate <= training.batch_size, "from 1 to batch_size"),
        ("label_smoothing", training.label_smoothing, 0 <= training.label_smoothing < 1, "from 0 up to 1"),
        ("clip_norm", training.clip_norm, training.clip_norm is None or training.clip_norm > 0, "more than 0, or none"),
        (
            "clip_value",
            training.clip_value,
            training.clip_value is None or training.clip_value > 0,
            "more than 0, or none",
        ),
        ("text.chunk", recipe.text.chunk, recipe.text.chunk >= 0, "1 or more, or 0 for the whole text"),
        (
            "text.overlap",
            recipe.text.overlap,
            0 <= recipe.text.overlap < max(1, recipe.text.chunk),
            "from 0 up to text.chunk",
        ),
        ("text.test", recipe.text.test, 0 <= recipe.text.test < 1, "from 0 up to 1"),
        ("text.least", recipe.text.least, recipe.text.least >= 0, "0 or more"),
        ("text.own", recipe.text.own, 0 <= recipe.text.own <= 1, "from 0 to 1"),
        ("text.longest", recipe.text.longest, recipe.text.longest >= 1, "1 or more"),
        ("average", training.average, training.average is None or 0 < training.average < 1, "between 0 and 1, or none"),
        ("patience", training.patience, training.patience is None or training.patience >= 1, "1 or more, or none"),
        ("auxiliary.weight", recipe.auxiliary.weight, recipe.auxiliary.weight >= 0, "0 or more"),
        ("save_every", training.save_every, training.save_every >= 0, "0 or more seconds"),
        ("data.validation", data.validation, 0 <= data.validation < 1, "from 0 up to 1"),
        ("data.image_size", data.image_size, data.image_size is None or data.image_size >= 1, "1 or more pixels"),
        ("data.stored_size", data.stored_size, data.stored_size is None or data.stored_size >= 1, "1 or more pixels"),
        ("data.limit", data.limit, data.limit is None or data.limit >= 1, "1 or more"),
        ("data.memory", data.memory, data.memory is None or data.memory >= 0, "0 or more GiB"),
        ("data.workers", data.workers, data.workers is None or data.workers >= 0, "0 or more"),
        ("seed", recipe.seed, 0 <= recipe.seed < 2**63, "from 0 to 2^63 - 1"),
    ]
    for name, value, holds, allowed in rules:
        if not holds:
            raise UserError(f"{name} cannot be {value}", allowed=allowed)
    words = [
        ("text.unit", recipe.text.unit, ("character", "byte", "word")),
        ("clinic", training.clinic, ("auto", "none", "quick", "standard", "full")),
        ("device.precision", recipe.device.precision, ("auto", "float32", "bfloat16")),
        ("device.memory_format", recipe.device.memory_format, ("auto", "channels_last", "contiguous")),
        ("device.allocator", recipe.device.allocator, ("auto", "system")),
        ("device.compile", recipe.device.compile, ("auto", "on", "off")),
    ]
    for name, value, allowed in words:
        if value not in allowed:
            raise UserError(f"{name} cannot be {value!r}", allowed=", ".join(allowed), nearest=nearest(value, allowed))
    if recipe.device.threads != "auto" and not (recipe.device.threads.isdigit() and int(recipe.device.threads) >= 1):
        raise UserError(f"device.threads cannot be {recipe.device.threads!r}", allowed="auto, or 1 or more")


def _lines(rows: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in rows.items() if value is not None]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, int | float):
        return repr(value)  # inf and nan are spelled the same in TOML
    return json.dumps(str(value), ensure_ascii=False)  # a JSON string is a TOML basic string


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return ",".join(value) if isinstance(value, tuple) else str(value)
