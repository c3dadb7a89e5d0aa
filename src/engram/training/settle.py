"""What a recipe leaves open or says twice, settled before anything is built; and names that do not exist, refused."""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engram import augment, initializers, models, registry, regularizers
from engram.data.pool import Names, Pool
from engram.decision import Decision
from engram.errors import UserError
from engram.grammar import switch
from engram.layers import auxiliary
from engram.recipe import KIND_OF_TASK, Choice, Recipe
from engram.review import methods
from engram.review.course import COURSE
from engram.review.reviewer import Reviewer


def check_names(recipe: Recipe) -> None:
    """Refuse an unknown model, optimiser, schedule or augmentation before any data is read."""
    methods.build(recipe.review.name, _course(recipe)[1], beside=COURSE)
    for kind, choice in (
        (KIND_OF_TASK[recipe.task], recipe.model),
        ("optimizer", recipe.optimizer),
        ("schedule", recipe.schedule),
    ):
        registry.check_settings(
            registry.find(kind, choice.name),
            choice.settings,
            reserved=(*models.FILLED_IN, "vocabulary", "shape", "parameters"),
        )
    if recipe.training.clip_norm is not None and registry.find("optimizer", recipe.optimizer.name).facts.get("closure"):
        raise UserError(
            f"clip_norm does not go with {recipe.optimizer.name}: its line search needs gradients as they are",
            then="--clip_norm none, or another optimizer",
        )
    initializers.check(own_removed(recipe.initializer))
    regularizers.check(recipe.regularizer, optimizer=recipe.optimizer.name)
    auxiliary.check(recipe.auxiliary.at)
    if recipe.weights is not None and own_removed(recipe.initializer):
        raise UserError(
            f"initializer {','.join(recipe.initializer)} would be lost: all weights come from {recipe.weights}",
            then="give one of --initializer and --weights",
        )
    augment.check([word for word in recipe.augment if word != "auto"])
    augment.check_views(recipe.views)


def laid_out(recipe: Recipe) -> tuple[Recipe, list[Decision]]:
    """The recipe with what the regularizer's words set elsewhere in it, and without a decay that would come twice.

    Raises:
        UserError: a word says otherwise than the setting it stands for.
    """
    decisions = []
    for key, value in regularizers.settings(recipe.regularizer).items():
        if key == "augment":
            recipe = replace(recipe, augment=(*recipe.augment, *value))
            continue
        name = key.removeprefix("training.")
        given = getattr(recipe.training, name)
        if given not in (value, getattr(Recipe().training, name)):
            raise UserError(f"{name} is {given} by its setting and {value} by a regularizer's word", then="one of them")
        recipe = replace(recipe, training=replace(recipe.training, **{name: value}))
    entry = registry.find("optimizer", recipe.optimizer.name)
    decay = inspect.signature(entry.build).parameters.get("weight_decay")
    doubled = regularizers.replaces_decay(recipe.regularizer)
    if doubled and decay is not None and decay.default:
        given = recipe.optimizer.settings.get("weight_decay", 0.0)
        if given:
            raise UserError(
                f"regularizer {doubled[0]} and optimizer.weight_decay {given} are the same pull, and would add up",
                then="one of them",
            )
        settings = {**recipe.optimizer.settings, "weight_decay": 0.0}
        recipe = replace(recipe, optimizer=Choice(recipe.optimizer.name, settings))
        decisions.append(Decision("optimizer.weight_decay", "0", f"{doubled[0]} is the decay"))
    return recipe, decisions


def own_removed(words: Sequence[str]) -> tuple[str, ...]:
    """The initializer's words without `own`, which is the network's own rule and changes nothing."""
    return tuple(word for word in words if word != "own")


def suited(recipe: Recipe, *, full_batch: bool) -> tuple[Recipe, list[Decision]]:
    """The recipe with what `auto` leaves open for its kind of optimiser: the schedule, and float32 for a line search.

    A method that takes all examples at once finds its own step's length, in one function that must be computed alike
    each time: a warm-up shortens steps that were right, and bfloat16 rounds away the differences it goes by.
    """
    decisions = []
    if recipe.schedule.name == "auto":
        kind = "takes all examples at once" if full_batch else "goes by batches"
        name = "constant" if full_batch else "one_cycle"
        recipe = replace(recipe, schedule=Choice(name, recipe.schedule.settings))
        decisions.append(Decision("schedule", name, f"{recipe.optimizer.name} {kind}"))
    if full_batch and recipe.device.precision == "auto":
        recipe = replace(recipe, device=replace(recipe.device, precision="float32"))
        decisions.append(Decision("device.precision", "float32", f"{recipe.optimizer.name} goes by small differences"))
    return recipe, decisions


def build_reviewer(
    recipe: Recipe, pool: Pool, batch_size: int, *, floor: float = 0.0, measure: str = "probability"
) -> Reviewer:
    """Which training examples come when, by the recipe's review method.

    Args:
        floor: nats below which no loss can fall.
        measure: what counts as recall where the recipe does not say it.
    """
    course, settings = _course(recipe)
    course.setdefault("measure", measure)
    method = methods.build(recipe.review.name, settings, beside=COURSE)
    method.meet(Names(pool))
    return Reviewer(
        len(pool),
        method,
        batch_size=batch_size,
        epochs=recipe.training.epochs,
        seed=recipe.seed,
        labels=pool.labels.cpu() if recipe.task == "classify" else None,  # of texts and captions they are no classes
        floor=floor,
        **course,
    )


def _course(recipe: Recipe) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of `review` that are the Reviewer's, and those that are the method's.

    Raises:
        UserError: `permuted` is neither true nor false.
    """
    settings = recipe.review.settings
    course = {key: value for key, value in settings.items() if key in COURSE}
    if "permuted" in course:
        switch("review", "permuted", course["permuted"])
    course |= {key: str(course[key]) for key in ("clock", "measure") if key in course}  # in a recipe `5` is a number
    return course, {key: value for key, value in settings.items() if key not in COURSE}


def refuse_of_pictures(recipe: Recipe) -> None:
    """Refuse settings that only pictures have.

    Raises:
        UserError: one of them is given.
    """
    for name, words in (("augment", recipe.augment), ("views", recipe.views), ("auxiliary.at", recipe.auxiliary.at)):
        given = [word for word in words if word not in ("auto", "none")]
        if given:
            raise UserError(f"{name} {','.join(given)} is for pictures", allowed="none", then=f"--{name} none")
