"""The state of a review, saved and put back: what must fit, and what stays where it does not.

A state is plain: tensors, numbers and text. It fits where the settings are those it was begun with; what earlier
versions did not tell is not asked of them. What cannot be put back leaves the review as it was.
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from engram.errors import UserError
from engram.review.calibration import Link
from engram.review.epochs import Epochs
from engram.review.ledger import Ledger

if TYPE_CHECKING:
    from engram.review.reviewer import Reviewer


def save(reviewer: "Reviewer") -> dict[str, Any]:
    """Everything, also in the middle of a round."""
    pending = None
    if reviewer.pending:
        observed = reviewer.observed()
        pending = {
            "indices": observed.indices,
            "losses": observed.losses,
            "grades": observed.grades,
            "lengths": torch.tensor([len(row[0]) for row in reviewer.pending]),
            "clocks": torch.tensor([row[3] for row in reviewer.pending], dtype=torch.float64),
            "batches": torch.tensor([row[4] for row in reviewer.pending]),
        }
    memory = reviewer.method.memory
    return {
        "settings": settings(reviewer),
        "begun_with": reviewer.begun_with,
        "ledger": reviewer.ledger.state_dict(),
        "method": dict(reviewer.method.state_dict()),
        "memory": {} if memory is None else dict(memory.state_dict()),
        "epochs": reviewer.epochs,
        "total_steps": reviewer.total_steps,
        "planned": reviewer.planned,
        "batch_size": reviewer.batch_size,
        "round": reviewer.round,
        "steps": reviewer.steps,
        "position": reviewer.position,
        "clock": reviewer.clock,
        "highest_lr": reviewer.highest_lr,
        "order": reviewer.order.to(torch.int32),
        "weights": reviewer.weights,
        "rng": reviewer.rng.get_state(),
        "pending": pending,
        "history": [dict(row) for row in reviewer.history],
        "link": reviewer.link.state_dict(),
        "seen": reviewer.seen.state_dict(),
        "tally": reviewer.tally.clone(),
    }


def settings(reviewer: "Reviewer") -> dict[str, Any]:
    """What must be the same for a state to fit."""
    memory = reviewer.method.memory
    return {
        "examples": len(reviewer),
        "method": type(reviewer.method).__name__,
        "batch_size": reviewer.asked_batch,
        "seed": reviewer.seed,
        "drop_last": reviewer.drop_last,
        "permuted": reviewer.permutation is not None,
        "clock": reviewer.kind_of_clock,
        "measure": reviewer.measure,
        "memory": None if memory is None else memory.name,
        "built": {name: _told(value) for name, value in reviewer.method.built.items()},
    }


SAID_LATER = ("clock", "measure", "memory", "built")
"""Settings that states of earlier versions do not tell."""


def _told(setting: Any) -> str:
    """A setting as text that is the same for 1 and 1.0."""
    number = isinstance(setting, (int, float)) and not isinstance(setting, bool)
    return repr(float(setting) if number else setting)


def check(reviewer: "Reviewer", state: Mapping[str, Any], grown: bool) -> None:
    """Refuse the state of another review.

    Args:
        grown: it may be of fewer examples.
    """
    saved, now = dict(state.get("settings", {})), settings(reviewer)
    if saved.get("batch_size") == saved.get("examples", 0) < now["batch_size"]:  # as earlier versions had it
        saved["batch_size"] = now["batch_size"]
    pairs = [(name, saved.get(name), value) for name, value in now.items() if name != "built"]
    pairs = [(name, *map(repr, two)) for name, *two in pairs if not (two[0] is None and name in SAID_LATER)]
    if "built" in saved:
        pairs += [(name, str(saved["built"].get(name)), value) for name, value in now["built"].items()]
    more = grown and 0 < saved.get("examples", 0) < now["examples"]
    for name, was, value in pairs:
        if was != value and not (more and name == "examples"):
            raise UserError(
                f"this is the state of another review: its {name} is {was}, not {value}",
                then="go on with the settings it was begun with",
            )


def load(reviewer: "Reviewer", state: Mapping[str, Any]) -> None:
    """Put a state back that `check` found to fit; where it is not whole the review stays as it was."""
    kept = dict(vars(reviewer))
    memory = reviewer.method.memory
    parts = [reviewer.method] if memory is None else [reviewer.method, memory]
    states = [copy.deepcopy(dict(part.state_dict())) for part in parts]
    try:
        _replace(reviewer, state)
    except Exception as error:
        vars(reviewer).update(kept)
        for part, own in zip(parts, states, strict=True):
            part.load_state_dict(own)
        if isinstance(error, KeyError):
            raise UserError(f"this is no whole state of a review: it has no {error.args[0]!r}") from None
        raise


def _replace(reviewer: "Reviewer", state: Mapping[str, Any]) -> None:
    """What is replaced is replaced whole, and not changed in place, so that it can be put back."""
    now, before = len(reviewer), int(state["settings"]["examples"])
    if len(state["order"]) and not 0 <= int(state["order"].min()) <= int(state["order"].max()) < before:
        raise UserError(f"this is no whole state of a review: its round has examples that are not 0 to {before - 1:,}")
    ledger, link, rng, seen = Ledger(before, reviewer.ledger.device), Link(), torch.Generator(), Epochs(before)
    ledger.load_state_dict(state["ledger"])
    link.load_state_dict(state["link"])
    rng.set_state(state["rng"].cpu())
    seen.load_state_dict(state.get("seen", {}))
    reviewer.ledger, reviewer.link, reviewer.rng, reviewer.seen = ledger, link, rng, seen
    reviewer.begun_with = int(state.get("begun_with", before))
    if reviewer.permutation is not None:
        reviewer.permutation = reviewer.exchanged(before)
    reviewer.method.load_state_dict(state["method"])
    if reviewer.method.memory is not None:
        reviewer.method.memory.load_state_dict(state["memory"])
    if state["epochs"] == reviewer.epochs:  # otherwise the run was made longer or shorter, and is planned anew
        reviewer.total_steps, reviewer.planned = int(state["total_steps"]), state["planned"]
    reviewer.batch_size = int(state.get("batch_size", min(reviewer.asked_batch, before)))
    reviewer.round, reviewer.steps = int(state["round"]), int(state["steps"])
    reviewer.position = int(state["position"])
    reviewer.clock, reviewer.highest_lr = float(state["clock"]), float(state["highest_lr"])
    reviewer.order = state["order"].to("cpu", torch.int64)
    reviewer.weights = None if state["weights"] is None else state["weights"].cpu()
    reviewer.history = [dict(row) for row in state["history"]]
    reviewer.tally = state["tally"].cpu().clone()
    reviewer.pending = []
    if (pending := state["pending"]) is not None:
        lengths = pending["lengths"].tolist()
        visits = zip(
            pending["indices"].split(lengths),
            pending["losses"].split(lengths),
            pending["grades"].split(lengths),
            pending["clocks"].tolist(),
            pending["batches"].tolist(),
            strict=True,
        )
        reviewer.pending = list(visits)
    if before < now:
        reviewer.grow(now, reviewer.labels)
