"""A trained captioner for one picture at a time: read, fit, normalise, ask, and where it looked."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engram import augment
from engram.data import images
from engram.errors import UserError
from engram.text.describe import Description, describe
from engram.training import weights
from engram.training.judge import weights_of


class Describer:
    """A captioner with everything it needs to be asked. On the CPU in float32: one picture is no load.

    Args:
        run: a run's folder (its best weights are taken), or a weights file that Engram has written.

    Raises:
        UserError: no weights there, damaged, or of a network that does not caption.
    """

    def __init__(self, run: str | Path) -> None:
        file = weights_of(run)
        known = weights.describe(file)
        if known.task != "caption":
            verb = {"classify": "predict", "write": "write"}.get(known.task, "evaluate")
            raise UserError(f"{run} has learned to {known.task}, not to caption", then=f"engram {verb} {run}")
        self.net, self.description = weights.load(file)
        self.words = self.description.words()
        self.views = augment.views(
            (),
            size=self.description.shape[1:],
            mean=torch.tensor(self.description.mean),
            std=torch.tensor(self.description.std),
        )

    def pixels(self, image: str | Path | NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture as the network's data were stored: (C, H, W).

        Raises:
            Unreadable: the file cannot be decoded.
        """
        channels, *sides = self.description.stored_shape
        found = image if isinstance(image, np.ndarray) else images.read_image(image, at_least=max(sides))
        return images.fit(images.to_channels(found, channels), tuple(sides))

    def __call__(self, pixels: NDArray[np.uint8], *, width: int = 3, longest: int = 20) -> Description:
        """The sentence for a picture that `pixels` gave, and where the network looked for each word.

        Args:
            width: of the beam search; 1 is greedy.
            longest: words, at which the sentence is cut.
        """
        x = torch.from_numpy(np.ascontiguousarray(pixels))[None].to(memory_format=torch.channels_last)
        view = self.views(x, torch.float32)[0]
        return describe(self.net, view, self.words, width=width, longest=longest)[0]
