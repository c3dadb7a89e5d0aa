"""Engram trains vision networks, reviews what they forget, and shows why they learn or don't.

    import engram
    run = engram.train(model="resnet20", data="photos/")

Everything is imported when it is first asked for, so that `engram --help` answers without waiting for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors, which run nothing: what each name is, with its arguments
    from engram import attribution as attribution
    from engram import landscape as landscape
    from engram import models as models
    from engram.clinic.clinic import Clinic as Clinic
    from engram.clinic.examine import examine as examine
    from engram.data.open import open_source as open_source
    from engram.errors import UserError as UserError
    from engram.recipe import Recipe as Recipe
    from engram.review.loader import ReviewLoader as ReviewLoader
    from engram.review.sampler import ReviewSampler as ReviewSampler
    from engram.review.stream import ReviewStream as ReviewStream
    from engram.study.study import study as study
    from engram.trace.record import trace as trace
    from engram.training.train import Run as Run
    from engram.training.train import resume as resume
    from engram.training.train import train as train
    from engram.training.weights import load as load

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
