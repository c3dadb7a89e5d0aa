"""Start from weights that someone else has trained: a file, or torchvision's official ones.

Files are only ever read as tensors: safetensors, or torch's own format with its pickle confined to tensors
(`weights_only`), so that a file that carries code is refused before any of it runs. A network is changed only when
every weight fits; a head for other classes is the exception, and keeps its own fresh weights.
"""

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engram import registry
from engram.data.download import PATIENCE, Progress, Remote, cache_folder, fetch
from engram.errors import UserError, nearest
from engram.layers.auxiliary import PREFIX
from engram.tensors import read as tensors_of

HOME = "https://download.pytorch.org/models/"
DIGESTS = {
    "resnet18-f37072fd.pth": "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    "resnet34-b627a593.pth": "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
    "resnet50-0676ba61.pth": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    "resnet101-63fe2227.pth": "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    "resnet152-394f9c45.pth": "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
}
"""SHA-256 of torchvision's IMAGENET1K_V1 files, where more of it is known than the eight digits in the file's name."""


@dataclass(frozen=True)
class Loaded:
    """What was taken over: from where, how many tensors, and which layers kept their fresh weights."""

    source: str
    tensors: int
    fresh: tuple[str, ...] = ()

    def __str__(self) -> str:
        fresh = dict.fromkeys("auxiliary heads" if name.startswith(PREFIX) else name for name in self.fresh)
        kept = f"; fresh: {', '.join(fresh)}" if fresh else ""
        return f"{self.tensors} tensors from {self.source}{kept}"


def load(net: nn.Module, weights: str | Path, name: str, *, progress: Progress | None = None) -> Loaded:
    """Replace the weights of `net`.

    Args:
        weights: a file of tensors by name (Engram's, torchvision's of the same architecture, or any with the network's
            own names), or the word `torchvision` for its official ones, downloaded once and checked against
            their digest.
        name: the network's registered name.

    Raises:
        UserError: no such file, damaged, more than tensors in it, of another network; or the download failed. `net` is
            as it was.
    """
    path = download(name, progress=progress) if weights == "torchvision" else Path(weights)
    tensors = tensors_of(path)
    if not set(tensors) <= set(net.state_dict()):
        tensors = renamed(tensors, registry.find("model", name).facts.get("renamed", ()))
    fresh = _fit(net, tensors, path, name)
    return Loaded(path.name, len(net.state_dict()) - len(fresh), fresh)


def download(name: str, *, progress: Progress | None = None) -> Path:
    """torchvision's official file for a network, in the user's cache.

    Raises:
        UserError: there is none for that network; or it cannot be fetched, with where to put it by hand.
    """
    file, sha256 = official(name)
    folder = cache_folder() / "weights"
    size = (folder / file).stat().st_size if (folder / file).is_file() else _size(HOME + file, folder / file)
    return fetch(Remote(file, (HOME,), sha256, size), folder, progress)


def official(name: str) -> tuple[str, str]:
    """The file in which torchvision publishes a network's weights, and the SHA-256 it begins with.

    Raises:
        UserError: torchvision has none.

    >>> official("resnet18")[0]
    'resnet18-f37072fd.pth'
    """
    file = registry.find("model", name).facts.get("weights")
    if file is None:
        known = [other for other in registry.names("model") if "weights" in registry.find("model", other).facts]
        raise UserError(
            f"torchvision has no weights for {name!r}", allowed=", ".join(known), nearest=nearest(name, known)
        )
    return file, DIGESTS.get(file, file.rpartition("-")[2].removesuffix(".pth"))


Renaming = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns and what to put in their place, in order: from the names in someone else's file to ours."""


def renamed(tensors: Mapping[str, Tensor], names: Renaming) -> dict[str, Tensor]:
    """The same tensors under other names.

    >>> list(renamed({"fc.bias": torch.zeros(1)}, [(r"^fc\\.", "head.")]))
    ['head.bias']
    """
    changed = {}
    for key, tensor in tensors.items():
        for pattern, name in names:
            key = re.sub(pattern, name, key)
        changed[key] = tensor
    return changed


def _fit(net: nn.Module, tensors: dict[str, Tensor], path: Path, name: str) -> tuple[str, ...]:
    """Copy the tensors into the network if all of them belong there; returns the names that stayed fresh."""
    own = net.state_dict()
    counters = {
        key for key in own if key.endswith("num_batches_tracked")
    }  # older files lack them, and nothing needs them
    without_heads = not any(key.startswith(PREFIX) for key in tensors)
    spare = {key for key in own if key.startswith(PREFIX)} if without_heads else set()
    missing = [key for key in own if key not in tensors and key not in counters | spare]
    tensors = {key: tensor for key, tensor in tensors.items() if key in own or not key.startswith(PREFIX)}
    surplus = [key for key in tensors if key not in own]
    reshaped = [key for key in own if key in tensors and tensors[key].shape != own[key].shape]
    last = _head(net)
    heads = {key for key in reshaped if key.rpartition(".")[0] == last or key.startswith(PREFIX)}
    fresh = tuple(key for key in reshaped if key in heads and tensors[key].shape[1:] == own[key].shape[1:])
    reshaped = [key for key in reshaped if key not in fresh]
    fresh += tuple(sorted(spare - counters))
    if missing or surplus or reshaped:
        lines = [f"{path} holds the weights of another network than {name}"]
        if missing:
            lines.append(f"  not in the file: {_some(missing)}")
        if surplus:
            lines.append(f"  not in the network: {_some(surplus)}")
        if reshaped:
            file, network = (_sides(source[reshaped[0]]) for source in (tensors, own))
            lines.append(f"  other shapes: {_some(reshaped)} ({file} in the file, {network} in the network)")
        raise UserError("\n".join(lines), then=f"engram show models {name}")
    with torch.no_grad():
        net.load_state_dict({**own, **{key: tensor for key, tensor in tensors.items() if key not in fresh}})
    return fresh


def _head(net: nn.Module) -> str:
    if isinstance(getattr(net, "head", None), nn.Module):
        return "head"
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else ""


def _some(keys: list[str]) -> str:
    return keys[0] + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")


def _sides(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _size(address: str, target: Path) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=PATIENCE) as answer:
            return int(answer.headers["Content-Length"])
    except (OSError, TypeError, ValueError) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UserError(
            f"{target.name} could not be downloaded: {cause}", then=f"get {address} elsewhere and put it at {target}"
        ) from None
