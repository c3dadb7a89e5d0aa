"""Memory to train one image with each network, for their list: following a step takes up to seconds a network.

What was found stands in a file beside this one, with the parameters and multiply-adds of the network it was found for;
one that is not in it, or is no longer that network, is followed when it is asked for. A test holds the file to what is
found afresh. After a new network: python -m engram.cli.network_memory
"""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path

from engram.registry import Entry

FILE = "network_memory.json"


def training_memory(entry: Entry) -> int | None:
    """Bytes at the fullest moment of a step with one image of its published size, float32, SGD with momentum.

    None for a network of one's own that doesn't say which input it takes.

    >>> from engram.registry import find
    >>> round(training_memory(find("model", "resnet20")) / 2**20, 1)
    4.2
    """
    if "input" not in entry.facts:
        return None
    held = _found().get(entry.name)
    return held[2] if held and held[:2] == _identity(entry) else follow(entry)


def follow(entry: Entry) -> int:
    """The same, found afresh."""
    import torch

    from engram import accounting, models

    shape = tuple(entry.facts["input"])
    with torch.device("meta"):
        net = models.build(entry.name, shape=shape, num_classes=entry.facts.get("num_classes", 10))
    return accounting.memory(net, shape).total(1)


def _identity(entry: Entry) -> list[int | None]:
    return [entry.facts.get("parameters"), entry.facts.get("macs")]


@cache
def _found() -> dict[str, list[int]]:
    return json.loads(files("engram.cli").joinpath(FILE).read_text(encoding="utf-8"))


def write() -> None:
    """Bring the file up to date with the registry."""
    from engram import registry

    entries = [registry.find("model", name) for name in registry.names("model")]
    lines = [
        json.dumps(entry.name) + ": " + json.dumps([*_identity(entry), training_memory(entry)]) for entry in entries
    ]
    text = "{\n" + ",\n".join(f"  {line}" for line in lines) + "\n}\n"
    (Path(__file__).parent / FILE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
