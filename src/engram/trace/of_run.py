"""The flow through a trained network that looks at an image."""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from engram.errors import UserError, unknown
from engram.trace.flow import Flow, flow, shown
from engram.trace.numbers import short


def of_run(run: str | Path, image: str | Path, *, target: str = "") -> Flow:
    """The flow through a trained network that looks at an image file; auxiliary heads that it was trained with speak.

    Args:
        run: a run's folder, or a weights file that Engram has written.
        target: the class whose loss is taken; by default the one that the network takes the image for.

    Raises:
        UserError: no weights there, no such class, or an image that cannot be read.
    """
    from engram.training.judge import weights_of
    from engram.training.predict import Predictor

    predictor = Predictor(run)
    known = predictor.description
    if target and target not in known.classes:
        raise unknown("class", target, known.classes)
    view = predictor.views(read_image(image, known.stored_shape), torch.float32)[0]
    with torch.inference_mode():
        shares = predictor.net(view).softmax(1)[0]
    best = int(shares.argmax())
    chosen = known.classes.index(target) if target else best
    add_heads(predictor.net, weights_of(run), known.shape)
    found = flow(predictor.net, view, torch.tensor([chosen]))
    mean, std = torch.tensor(known.mean), torch.tensor(known.std)
    found.image = shown(view[0] * std.view(-1, 1, 1) + mean.view(-1, 1, 1), scaled=False)
    found.title = f"the gradient's way through {known.model}, {Path(image).name}"
    found.facts = {
        "network": known.model,
        "image": Path(image).name,
        "taken for": f"{known.classes[best]}, {100 * float(shares[best]):.1f} %",
        "gradient of": f"the loss of {known.classes[chosen]}, {short(found.loss)}",
    }
    return found


def read_image(image: str | Path, shape: tuple[int, ...]) -> Tensor:
    """An image file, cut to (1, C, H, W), uint8.

    Args:
        shape: (C, H, W).

    Raises:
        UserError: it cannot be read.
    """
    from engram.data import images
    from engram.data.examples import Unreadable

    channels, *sides = shape
    try:
        pixels = images.to_channels(images.read_image(Path(image), at_least=max(sides)), channels)
    except (Unreadable, OSError) as error:
        raise UserError(f"{image} cannot be read as an image: {error}") from None
    return torch.from_numpy(np.ascontiguousarray(images.fit(pixels, tuple(sides))))[None]


def add_heads(net: nn.Module, path: Path, shape: tuple[int, ...]) -> None:
    """Put the auxiliary heads on a network that its weights file and the recipe of its run tell of, in place.

    Args:
        path: the weights file; without a recipe two folders above it, the network stays as it is.
        shape: (C, *S) of one input.
    """
    from engram import recipe as recipes
    from engram.layers.auxiliary import PREFIX, with_auxiliary_heads

    said = path.parent.parent / "recipe.toml"
    with safe_open(path, framework="pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys() if name.startswith(f"{PREFIX}.")}  # noqa: SIM118
    if not held or not said.is_file() or any(name.startswith(PREFIX) for name, _ in net.named_children()):
        return
    asked = recipes.load(said).auxiliary
    with_auxiliary_heads(net, asked.at, shape=shape, weight=asked.weight, head=asked.head)
    net.load_state_dict(held, strict=False)
