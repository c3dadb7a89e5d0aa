"""What a training run says while it goes on. The loop yields these; console, files and probes read them."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Step:
    """One update of the weights. `loss` stays on the device until somebody reads it."""

    step: int  # updates made so far, this one included
    epoch: float  # passes over the training split so far
    loss: torch.Tensor  # mean over the batch, a scalar
    lr: float
    examples: int
    seconds: float  # from taking the batch to the end of the update


@dataclass(frozen=True)
class Epoch:
    """The end of a pass, with what was measured on the training batches and on the validation split."""

    epoch: int
    step: int
    lr: float
    train: dict[str, float]
    validation: dict[str, float] | None
    best: bool  # whether these weights are the best so far


@dataclass(frozen=True)
class NotFinite:
    """The loss or a weight became infinite or not a number; training stops here, the weights before are kept."""

    step: int
    what: str  # "loss" or the name of the parameter


@dataclass(frozen=True)
class Ended:
    """Nothing more comes. `reason`: finished, early_stopping."""

    step: int
    reason: str


Event = Step | Epoch | NotFinite | Ended


def to_json(event: Event) -> dict[str, Any]:
    """The event as one line of `metrics.jsonl`, without what the writer adds (seconds, rate)."""
    match event:
        case Step():
            return {
                "event": "step",
                "step": event.step,
                "epoch": round(event.epoch, 6),
                "loss": event.loss.item(),
                "lr": event.lr,
            }
        case Epoch():
            return {
                "event": "epoch",
                "epoch": event.epoch,
                "step": event.step,
                "lr": event.lr,
                "train": event.train,
                "validation": event.validation,
                "best": event.best,
            }
        case NotFinite():
            return {"event": "not_finite", "step": event.step, "what": event.what}
        case Ended():
            return {"event": "ended", "step": event.step, "reason": event.reason}
