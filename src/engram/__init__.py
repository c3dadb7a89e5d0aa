"""Engram trains vision networks, reviews what they forget, and shows why they learn or don't.

    import engram
    run = engram.train(model="resnet20", data="photos/")

Everything is imported when it is first asked for, so that `engram --help` answers without waiting for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "train": ("engram.training.train", "train"),
    "resume": ("engram.training.train", "resume"),
    "study": ("engram.study", None),
    "Run": ("engram.training.train", "Run"),
    "Recipe": ("engram.recipe", "Recipe"),
    "UserError": ("engram.errors", "UserError"),
    "load": ("engram.training.weights", "load"),
    "models": ("engram.models", None),
    "ReviewLoader": ("engram.review.loader", "ReviewLoader"),
    "ReviewSampler": ("engram.review.sampler", "ReviewSampler"),
    "ReviewStream": ("engram.review.stream", "ReviewStream"),
    "open_source": ("engram.data.open", "open_source"),
    "trace": ("engram.trace", None),
    "attribution": ("engram.attribution", None),
    "landscape": ("engram.landscape", None),
    "Clinic": ("engram.clinic.clinic", "Clinic"),
    "examine": ("engram.clinic.examine", "examine"),
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'engram' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    found = import_module(module)
    value = found if attribute is None else getattr(found, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
