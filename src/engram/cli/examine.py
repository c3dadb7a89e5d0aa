"""`engram examine`: what is wrong with a network, before it is trained or after."""

from pathlib import Path


def examine(
    what: str, /, *, data: str | None = None, level: str = "standard", cells: bool = False, json: bool = False
) -> int:
    """Examine a network: pre-flight checks before training, or everything that can be said of a run.

    Causes come before their consequences, otherwise the worst first. Of a run, what training itself found is told too.

    Parameters
    ----------
    what
        A network's name; mine.py:net, a function, a class or a network in a file of your own; or a run's folder.
    data
        What it is, or will be, trained on; of a run, the data it was trained on.
    level
        quick, standard or full: how much is checked.
    cells
        Of a run that writes: which cell follows what, coloured over the end of its text, or over `--data FILE`.
    json
        One JSON object a finding instead of text.
    """
    import json as jsonlib

    from engram.cli import clinics, findings, printing

    path = Path(what)
    if cells:
        from engram.cli import cells as insides

        return insides.show(path, data, json=json)
    is_run = path.is_dir() or path.suffix in (".safetensors", ".toml")
    clinic = clinics.of_run(path, data, level) if is_run else clinics.of_network(what, data, level)
    found = clinics.together(clinic.findings, clinics.found_while_training(path) if is_run else [])
    if json:
        for finding in found:
            print(jsonlib.dumps(finding.to_dict(), ensure_ascii=False))
        return 0
    findings.show(found, printing.console())
    layers, examples = len(clinic.history.now.layers), len(clinic.data.x) if clinic.data else 0
    print(f"{what}: {findings.counted(found)}; {layers} layers measured on {examples:,} examples, level {level}")
    return 0
