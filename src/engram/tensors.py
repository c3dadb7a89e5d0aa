"""A file of tensors by name, read as nothing but tensors.

Safetensors, or torch's own format with its pickle confined to tensors (`weights_only`), so that a file that carries
code is refused before any of it runs.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from engram.errors import UserError


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; nothing else in the file is ever run.

    A state dict may lie inside under `state_dict` or `model`, and its names may begin with `module.`.

    Raises:
        UserError: no such file, damaged, or more than tensors in it.
    """
    try:
        with open(path, "rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"  # eight bytes of length, then JSON
        content: Any = load_file(path) if is_safetensors else _load_tensors(path)
    except OSError as error:
        raise UserError(f"weights {path} cannot be read: {error.strerror or error}") from None
    except UnpicklingError as error:
        if refused := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{path} was not opened: it is damaged, or holds more than tensors and asks to run {refused[1]}",
                allowed="a state dict, as torch.save(net.state_dict(), path) writes it, or safetensors",
            ) from None
        raise _damaged(path) from None
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _damaged(path) from None  # torch's reader meets torn bytes in all these ways
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} is no state dict", allowed="tensors by name")
    return {str(key).removeprefix("module."): tensor for key, tensor in content.items()}


def _load_tensors(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Detected pickle protocol")  # what it then cannot read is an error anyway
        return torch.load(path, map_location="cpu", weights_only=True)


def _damaged(path: Path) -> UserError:
    return UserError(f"{path} is damaged, or no file of weights", allowed="safetensors, or a state dict of torch.save")
