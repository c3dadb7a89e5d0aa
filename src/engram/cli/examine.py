"""`engram examine`: what is wrong with a network, before it is trained or after."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engram.clinic.clinic import Clinic


def examine(what: str, /, *, data: str | None = None, level: str = "standard", json: bool = False) -> int:
    """Examine a network: pre-flight checks before training, or everything that can be said of a run.

    Parameters
    ----------
    what
        A network's name, a function in a file of your own such as mine.py:net, or a run's folder.
    data
        What it is, or will be, trained on; of a run, the data it was trained on.
    level
        quick, standard or full: how much is checked.
    json
        One JSON object a finding instead of text.
    """
    import json as jsonlib

    path = Path(what)
    is_run = path.is_dir() or path.suffix in (".safetensors", ".toml")
    clinic = of_run(path, data, level) if is_run else of_network(what, data, level)
    findings = clinic.findings
    if json:
        for finding in findings:
            print(jsonlib.dumps(finding.to_dict(), ensure_ascii=False))
        return 0
    for finding in findings:
        print(f"{finding}\n")
    worst = sum(finding.severity == "critical" for finding in findings)
    checked = len(clinic.history.now.layers)
    told = "nothing found" if not findings else f"{len(findings)} found, {worst} critical"
    print(f"{what}: {told}; {checked} layers measured on {len(clinic.data.x) if clinic.data else 0} examples")
    return 0


def of_network(name: str, data: str | None, level: str) -> "Clinic":
    """The clinic that has examined an untrained network, as `engram train` would build it.

    Raises:
        UserError: no such network or data, or one does not fit the other.
    """
    from engram import recipe as recipes

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
    from engram.errors import UserError
    from engram.training import weights
    from engram.training.judge import weights_of
    from engram.training.run import RunFolder

    folder = path if path.is_dir() else path.parent.parent
    if not (folder / "recipe.toml").is_file():
        raise UserError(f"{path} is no run's folder: it holds no recipe.toml", then="engram examine runs/NAME")
    recipe = recipes.load(folder / "recipe.toml")
    if data is not None:
        recipe = recipes.build({"data": data}, recipe, where="engram examine")
    net, _ = weights.load(weights_of(path))
    clinic = _admitted(recipe, level, net.train())
    clinic.recall(RunFolder(folder).rows())
    clinic.examine(trained=True)
    clinic.finish()
    return clinic


def _admitted(recipe: object, level: str, net: object = None) -> "Clinic":
    """A clinic for the network that a recipe describes, or for the given one, with probe data as it is trained on."""
    import torch

    from engram.clinic.clinic import LEVELS, Clinic
    from engram.clinic.measured import Setup
    from engram.clinic.probe import UNIT_SAMPLES
    from engram.clinic.probe_data import spread
    from engram.errors import unknown
    from engram.training.assemble import assemble

    if level not in LEVELS:
        raise unknown("level", level, LEVELS)
    assembled = assemble(recipe, resuming=net is not None)  # type: ignore[arg-type]
    pool, state = assembled.prepared.train, assembled.state
    batches = list(pool.batches([spread(len(pool), UNIT_SAMPLES)]))
    x = assembled.views(batches[0][0], torch.float32)[0]
    setup = Setup(
        total_steps=state.reviewer.total_steps,
        steps_per_pass=state.reviewer.steps_per_pass,
        examples=len(pool),
        batch_size=state.reviewer.batch_size,
    )
    examined = state.net if net is None else net.to(x.device)  # type: ignore[attr-defined]
    optimizer = state.optimizer if net is None else None
    return Clinic(examined, optimizer, probe=(x, batches[0][1]), level=level, setup=setup)
