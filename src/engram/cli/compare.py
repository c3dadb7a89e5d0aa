"""`engram compare`: arms x seeds, paired, with what the differences show and what could have been seen."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from engram.cli import settings as recipe_settings

OWN = ("vary", "arm", "seeds", "equal", "measure", "judged", "baseline", "margin", "target", "jobs", "name")
"""Options of this verb that take a value; every other option names a setting of the base recipe."""


def compare(
    study: Path | None = None,
    /,
    *,
    vary: list[str] | None = None,
    arm: list[str] | None = None,
    seeds: str | None = None,
    equal: str | None = None,
    measure: str | None = None,
    judged: str | None = None,
    baseline: str | None = None,
    margin: float | None = None,
    target: float | None = None,
    jobs: int | None = None,
    name: str | None = None,
    recipe: Path | None = None,
    plan: bool = False,
    json: bool = False,
    settings: Annotated[dict[str, str] | None, Parameter(parse=False)] = None,
) -> int:
    """Compare settings over several seeds, or go on with a study that was begun: engram compare studies/NAME.

    engram compare --vary optimizer=sgd,nesterov,adam --seeds 5 --model mlp --epochs 3

    Parameters
    ----------
    study
        A study's folder, to finish and show it; or a study.toml, to run it again.
    vary
        A setting and its values, optimizer=sgd,adam (values with commas are set apart by semicolons). Of several, every
        combination is an arm.
    arm
        One arm of several settings: "short: epochs=5 optimizer.lr=0.2".
    seeds
        How many seeds every arm is run with (5), or which: 3,7,11.
    equal
        visits, work, steps, seconds or none: what every arm must get as much of. Work is visits, of which a forward
        pass alone is a third. By default it is found out and said.
    measure
        The figure compared: accuracy, loss, ece (calibration error), worst_class or top5 of validation or test
        (validation.accuracy).
    judged
        The final weights, or the best ones on validation (final).
    baseline
        The arm that the others are compared with (the first).
    margin
        A difference too small to matter, fixed beforehand, in units of the measure: 0.002 is 0.2 percentage points.
    target
        A validation accuracy; how soon each arm gets there is reported.
    jobs
        Runs side by side (as many as cores; one on an accelerator).
    name
        Of the folder in studies/; --output names the whole path.
    recipe
        A TOML file with the base recipe.
    plan
        Print the arms, the runs and the estimated time, and stop.
    json
        One JSON object a line instead of text, for machines.
    """
    from engram import recipe as recipes
    from engram.cli import studies
    from engram.study import arms as compared
    from engram.study import plan as plans
    from engram.study import study as studying

    given = settings or {}
    question = {
        "vary": vary, "arm": arm, "seeds": seeds, "equal": equal, "measure": measure, "judged": judged,
        "baseline": baseline, "margin": margin, "target": target, "recipe": recipe,
    }  # fmt: skip
    asked = [option for option, value in question.items() if value is not None]
    sink = studies.JsonSink() if json else studies.ConsoleSink()
    try:
        if study is not None and study.suffix != ".toml":
            if (study / studying.PLAN).is_file():
                _refuse_for_folder(study, [*asked, *(["name"] if name is not None else []), *given])
            if plan:
                return studies.show_plan(plans.load(study / studying.PLAN), jobs, json=json)
            done = studying.go_on(study, jobs=jobs, sinks=[sink])
        else:
            output = given.pop("output", None)
            if study is not None:
                _refuse_for_file(study, [*asked, *given])
                made = plans.load(study)
            else:
                base = recipes.load(recipe) if recipe else None
                arms = compared.parse_arms(arm or [])
                made = studying.prepare(
                    compared.parse_vary(vary or []), arms=arms, seeds=_seeds(seeds or "5"), equal=equal,
                    measure=measure or "validation.accuracy", judged=judged or "final", baseline=baseline,
                    margin=margin, target=target, jobs=jobs, recipe=base, **given,
                )  # fmt: skip
            if plan:
                return studies.show_plan(made, jobs, json=json)
            path = Path(output) if output else studying.default_path(made, name or studying.name_of(made))
            done = studying.begin(made, path, jobs=jobs, sinks=[sink])
    finally:
        sink.close()
    return 1 if all(not result.values for result in done.results) else 0


def split(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """This verb's own words, and the settings of the base recipe.

    >>> split(["compare", "--vary", "optimizer=sgd,adam", "--epochs", "3", "--seeds=2"])
    (['compare', '--vary', 'optimizer=sgd,adam', '--seeds=2'], {'epochs': '3'})
    """
    own: list[str] = []
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        option, equals, _ = word.removeprefix("--").partition("=")
        if word.startswith("--") and option in OWN:
            own.append(word)
            if not equals and queue:
                own.append(queue.pop(0))
        else:
            rest.append(word)
    kept, given = recipe_settings.split(rest)
    return [*kept[:1], *own, *kept[1:]], given


def _refuse_for_folder(study: Path, options: Sequence[str]) -> None:
    """Nothing is asked of a study anew: an option that was taken silently would seem to have had an effect."""
    from engram.errors import UserError

    if options:
        raise UserError(
            f"what {study} compares was fixed when it began; it cannot take {_options(options)}",
            allowed="--jobs, --plan, --json",
            then=f"engram compare {shlex.quote(str(study))} goes on with it; without the folder a new study is begun",
        )


def _refuse_for_file(study: Path, options: Sequence[str]) -> None:
    """A study.toml is a whole study: what it says and what the command says could differ, and only one can hold."""
    from engram.errors import UserError

    if options:
        raise UserError(
            f"{study} says what is compared; beside it the command cannot take {_options(options)}",
            allowed="--output, --name, --jobs, --plan, --json",
            then=f"edit {study}, then engram compare {shlex.quote(str(study))}",
        )


def _options(names: Sequence[str]) -> str:
    from engram.report.words import listed

    return listed([f"--{name}" for name in names])


def _seeds(text: str) -> Any:
    """`5` is how many, `3,7,11` which."""
    from engram.errors import UserError

    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--seeds {text!r} is no number", allowed="5, or which: 3,7,11") from None
    return numbers if "," in text or not numbers else numbers[0]
