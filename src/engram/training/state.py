"""Saving everything a run needs to go on exactly where it was, and reading it back without trusting the file.

One file, `state/last.pt`, written in one step. It is read with torch's restricted unpickler: tensors, numbers and
text come back, code never runs.
"""

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from engram import atomic
from engram.errors import UserError
from engram.training.draws import global_generators, restore_global_generators
from engram.training.loop import State

VERSION = 3


def save(state: State, path: Path, **more: Any) -> None:
    """Write the state, with `more` plain values beside it (threads, seconds so far).

    Raises:
        OSError: it cannot be written; the file before stays as it was.
    """
    content = {
        "version": VERSION,
        "net": state.net.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "average": None if state.average is None else state.average.state_dict(),
        "reviewer": state.reviewer.state_dict(),
        "rng": state.rng.get_state(),
        "global_rng": global_generators(state.totals.device),
        "step": state.step,
        "judged": state.judged,
        "best": state.best,
        "stopped": state.stopped,
        "totals": state.totals,
        "carried": state.carried,
        "more": more,
    }
    atomic.write(path, lambda file: torch.save(content, file))


def restore(
    state: State, path: Path, *, check: Callable[[Mapping[str, Any]], None] = lambda more: None
) -> dict[str, Any]:
    """Put a saved state back into `state` in place; returns the plain values that were saved beside it.

    Args:
        check: told those values before anything is changed; what it raises is raised.

    Raises:
        UserError: the file is missing, cut, of another network, of a newer version, or holds code.
    """
    content = read(path, state.totals.device)
    check(content.get("more") or {})
    try:
        rates = [group.get("initial_lr", group["lr"]) for group in state.optimizer.param_groups]
        state.net.load_state_dict(content["net"])
        state.optimizer.load_state_dict(content["optimizer"])
        for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
            group["initial_lr"] = rate  # the recipe's, which may have been changed for what is left
        if state.average is not None:
            state.average.load_state_dict(content["average"])
        state.reviewer.load_state_dict(content["reviewer"])
        state.rng.set_state(content["rng"].cpu())
        restore_global_generators(content["global_rng"], state.totals.device)
        state.step, state.judged = int(content["step"]), int(content["judged"])
        state.best, state.stopped = content["best"], bool(content["stopped"])
        state.totals.copy_(content["totals"])
        state.carried = content.get("carried")  # states of before there was such a thing go on too
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(
            f"{path} is not a state of this network: {first}", then="resume it with its own recipe"
        ) from None
    return dict(content["more"])


def read(path: Path, device: torch.device) -> dict[str, Any]:
    """The saved state as plain data.

    Raises:
        UserError: as for `restore`.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of old formats; what is in them is checked here
            content = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise UserError(f"there is no saved state {path}", then="engram train starts a new run") from None
    except pickle.UnpicklingError:
        raise UserError(
            f"{path} holds more than tensors and numbers, which could be code; it was not run",
            then="use a state that Engram has written",
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError):
        raise UserError(
            f"{path} is damaged or cut short", then="engram evaluate still works with the weights in weights/"
        ) from None
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise UserError(f"{path} is not a state that this version of Engram has written")
    return content


def first_not_finite(state: State) -> str | None:
    """The name of the first parameter that holds an infinity or a NaN, or None: such weights are never saved."""
    for name, parameter in state.net.named_parameters():
        if not torch.isfinite(parameter).all().item():
            return name
    return None
