"""The clinic that has examined what a person names: a network before its training, or a run that was trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram.errors import UserError

if TYPE_CHECKING:
    from engram.clinic.clinic import Clinic
    from engram.clinic.finding import Finding
    from engram.clinic.measured import Setup
    from engram.recipe import Recipe
    from engram.training.assembled import Assembled


def of_network(name: str, data: str | None, level: str) -> "Clinic":
    """The clinic that has examined an untrained network, as `engram train` would build it.

    Raises:
        UserError: no such network or data, one does not fit the other, or code of one's own that fails.
    """
    from engram import recipe as recipes

    if ".py:" not in name and len(Path(name).parts) > 1:
        raise UserError(f"there is no run folder {name}, and no network of that name", then="ls runs/")
    settings = {"model": name} | ({} if data is None else {"data": data})
    clinic = _admitted(recipes.build(settings, where="engram examine"), level)
    clinic.examine()
    return clinic


def of_run(path: Path, data: str | None, level: str) -> "Clinic":
    """The clinic that has examined the best weights of a run, and what the run wrote while it trained.

    Raises:
        UserError: no run there, or its data are gone.
    """
    from engram import recipe as recipes
    from engram.training.run import RunFolder

    folder = folder_of(path)
    if not (folder / "recipe.toml").is_file():
        raise UserError(f"{path} is no run's folder: it holds no recipe.toml", then="engram examine runs/NAME")
    recipe = recipes.load(folder / "recipe.toml")
    if data is not None:
        recipe = recipes.build({"data": data}, recipe, where="engram examine")
    clinic = _admitted(recipe, level, weights_in=path)
    clinic.recall(RunFolder(folder).rows())
    clinic.examine(trained=True)
    clinic.finish()
    return clinic


def folder_of(path: Path) -> Path:
    """The run that a folder, or a weights file in it, belongs to."""
    return path if path.is_dir() else path.parent.parent


def found_while_training(path: Path) -> list["Finding"]:
    """What the run's `findings.json` says; nothing where it has none, or one that cannot be read."""
    import json

    from engram.clinic.finding import Finding

    try:
        rows = json.loads((folder_of(path) / "findings.json").read_text(encoding="utf-8"))
        return [Finding.from_dict(row) for row in rows]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return []


def together(examined: list["Finding"], earlier: list["Finding"]) -> list["Finding"]:
    """Findings of now and of earlier, a diagnosis once: as it is worse, and as it is now where it is as bad.

    Those of one diagnosis at one time stay together.

    >>> from engram.clinic.finding import Finding, Remedy
    >>> def said(name, severity, step):
    ...     return Finding(name, severity, "", "", Remedy(""), "", 0.5, step=step)
    >>> found = together([said("dead_relus", "warning", 90)],
    ...                  [said("dead_relus", "critical", 10), said("lr_too_high", "warning", 5)])
    >>> [(one.diagnosis, one.severity, one.step) for one in found]
    [('lr_too_high', 'warning', 5), ('dead_relus', 'critical', 10)]
    """
    from engram.clinic.clinic import causes_of
    from engram.clinic.finding import SEVERITIES, arranged

    def worst(findings: list["Finding"]) -> int:
        return min((SEVERITIES.index(one.severity) for one in findings), default=len(SEVERITIES))

    kept: list[Finding] = []
    for name in dict.fromkeys(one.diagnosis for one in (*examined, *earlier)):
        now, then = ([one for one in found if one.diagnosis == name] for found in (examined, earlier))
        kept += then if worst(then) < worst(now) else now
    return arranged(kept, causes_of)


def _admitted(recipe: "Recipe", level: str, weights_in: Path | None = None) -> "Clinic":
    """A clinic for the network that a recipe describes, with the weights of a run where they are given.

    The probe is of the training data, as the network sees it.
    """
    import torch

    from engram.clinic.clinic import LEVELS, Clinic
    from engram.clinic.probe import UNIT_SAMPLES
    from engram.clinic.probe_data import spread
    from engram.errors import unknown
    from engram.training import weights
    from engram.training.assemble import assemble
    from engram.training.judge import weights_of

    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    with _own_code(recipe):
        assembled = assemble(recipe, resuming=weights_in is not None)
    pool, state = assembled.prepared.train, assembled.state
    places = spread(len(pool), UNIT_SAMPLES)
    stored, labels = next(iter(pool.batches([places])))
    x = assembled.views(stored, torch.float32)[0]
    if weights_in is None:
        return Clinic(
            state.net, state.optimizer, probe=(x, labels), level=level, setup=_setup(assembled), **assembled.examined()
        )
    net, _ = weights.load(weights_of(weights_in))
    facts = {"ledger": _ledger(folder_of(weights_in)), "names": [pool.name(index) for index in range(len(pool))]}
    return Clinic(
        net.train().to(x.device),
        probe=(x, labels),
        level=level,
        setup=_setup(assembled),
        **assembled.examined(),
        facts=facts,
    )


def _ledger(folder: Path) -> Any:
    """What the run remembers of every example; None where it has no ledger, or one that cannot be read."""
    from engram.review import export

    try:
        return export.read(folder / "ledger.parquet")
    except UserError:
        return None


def _setup(assembled: "Assembled") -> "Setup":
    from engram.data.card import make_card
    from engram.training.watch import setup_of

    if assembled.recipe.task != "classify":
        return setup_of(assembled, {"task": assembled.recipe.task})
    return setup_of(assembled, make_card(assembled.prepared, assembled.source).to_dict())


@contextmanager
def _own_code(recipe: "Recipe") -> Iterator[None]:
    """What a network or a data source of a person's own raises becomes a message; `--debug` shows where it was."""
    own = [name for name in (recipe.model.name, recipe.data.path) if ".py:" in name]
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the code is anybody's, and so is what it raises
        if not own:
            raise
        line = str(error).strip().partition("\n")[0]
        raise UserError(
            f"{' and '.join(own)} cannot be run on the data: {type(error).__name__}: {line}",
            then="the same with --debug shows where",
        ) from error
