"""Weights as safetensors that know what they are: the file alone is enough to build the network and to use it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from engram import atomic, models
from engram.errors import UserError
from engram.layers.auxiliary import PREFIX
from engram.text.vocabulary import Vocabulary, from_dict

KEY = "engram"  # the metadata entry


@dataclass(frozen=True)
class Description:
    """What has to be known beside the weights: the network and how its inputs are made."""

    model: str
    settings: dict[str, Any]
    classes: tuple[str, ...]
    shape: tuple[int, ...]  # (C, *S) that the network sees
    stored_shape: tuple[int, ...]  # (C, *S) from which the centre is cut
    mean: tuple[float, ...]  # per channel; of pictures on the scale 0..1, else in the data's own units
    std: tuple[float, ...]
    views: tuple[str, ...] = ()
    data: str = ""  # where it was trained, for a person
    task: str = "classify"
    vocabulary: dict[str, Any] | None = None  # of the tasks with words, as `Vocabulary.to_dict` gives it

    def build(self) -> nn.Module:
        """The network, with first weights of its own.

        Raises:
            UserError: a network or a task that this version of Engram does not have.
        """
        if self.task in ("classify", "label"):
            known = len(self.classes)
            return models.build(self.model, shape=self.shape, num_classes=known, settings=self.settings)
        words = len(self.words())
        if self.task == "write":
            return models.build_writer(self.model, vocabulary=words, settings=self.settings)
        return models.build_captioner(self.model, vocabulary=words, shape=self.shape, settings=self.settings)

    def words(self) -> Vocabulary:
        """The tokens of a network that reads or writes.

        Raises:
            UserError: it knows none.
        """
        if self.vocabulary is None:
            raise UserError(f"a network of task {self.task} knows no words", allowed="task write or caption")
        return from_dict(self.vocabulary)


def save(net: nn.Module, description: Description, path: Path) -> None:
    """Write the weights and buffers with their description, in one step.

    Raises:
        OSError: it cannot be written; the file before stays as it was.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    atomic.write(path, to_bytes(tensors, metadata={KEY: json.dumps(asdict(description))}))


def describe(path: Path) -> Description:
    """What the file says it holds.

    Raises:
        UserError: no such file, damaged, or not written by Engram.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError:
        raise UserError(f"there are no weights {path}", then="engram train makes some") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from None
    if KEY not in metadata:
        raise UserError(f"{path} does not say what network it belongs to", allowed="weights that Engram has written")
    try:
        content = json.loads(metadata[KEY])
        for name in ("classes", "shape", "stored_shape", "mean", "std", "views"):
            content[name] = tuple(content[name])
        return Description(**content)
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} has a description that this version of Engram cannot read") from None


def load(path: Path) -> tuple[nn.Module, Description]:
    """The network with its weights, in evaluation mode on the CPU, and its description.

    Raises:
        UserError: as for `describe`; or the weights are of another network.
    """
    description = describe(path)
    net = description.build()
    load_into(net, path)
    return net.eval(), description


def load_into(net: nn.Module, path: Path) -> None:
    """Replace the weights of `net` by those in the file; heads that only training had are passed over.

    Raises:
        UserError: the names or shapes are not those of this network; `net` is as it was.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from None
    own = net.state_dict()
    tensors = {name: tensor for name, tensor in tensors.items() if name in own or not name.startswith(PREFIX)}
    differing = sorted(set(own) ^ set(tensors)) or [name for name in own if own[name].shape != tensors[name].shape]
    if differing:
        raise UserError(
            f"{path} holds the weights of another network: {differing[0]} differs ({len(differing)} in all)"
        )
    with torch.no_grad():
        net.load_state_dict(tensors)
