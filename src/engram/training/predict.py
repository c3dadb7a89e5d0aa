"""A trained network for one image at a time: read, fit, cut, normalise, ask, and put names to the answer."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engram import augment
from engram.data import images
from engram.errors import UserError
from engram.training import weights
from engram.training.judge import weights_of


class Predictor:
    """A network with everything it needs to be asked. On the CPU in float32: one image is no load.

    Args:
        run: a run's folder (its best weights are taken), or a weights file that Engram has written.

    Raises:
        UserError: no weights there, damaged, or a network that does not take images.
    """

    def __init__(self, run: str | Path) -> None:
        file = weights_of(run)
        task = weights.describe(file).task
        if task != "classify":
            verb = task if task in ("write", "caption") else "evaluate"
            raise UserError(f"{run} has learned to {task}, not to classify images", then=f"engram {verb} {run}")
        self.net, self.description = weights.load(file)
        shape = self.description.shape
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise UserError(
                f"{run} takes inputs of shape {shape}, which are no images",
                then=f"engram evaluate {run} --data FILE.npz",
            )
        self.views = augment.views(
            self.description.views,
            size=shape[1:],
            mean=torch.tensor(self.description.mean),
            std=torch.tensor(self.description.std),
        )

    def __call__(self, image: str | Path | NDArray[np.uint8]) -> list[tuple[str, float]]:
        """Classes with their probabilities, the likeliest first.

        Args:
            image: a file, or a decoded image (C, H, W) uint8.

        Raises:
            Unreadable: the file cannot be decoded.
        """
        channels, *sides = self.description.stored_shape
        pixels = image if isinstance(image, np.ndarray) else images.read_image(image, at_least=max(sides))
        pixels = images.fit(images.to_channels(pixels, channels), tuple(sides))
        x = torch.from_numpy(np.ascontiguousarray(pixels))[None].to(memory_format=torch.channels_last)
        with torch.inference_mode():
            views = self.views(x, torch.float32)
            shares = torch.stack([self.net(view).softmax(dim=1)[0] for view in views]).mean(0)
        order = shares.argsort(descending=True)
        return [(self.description.classes[index], float(shares[index])) for index in order.tolist()]
