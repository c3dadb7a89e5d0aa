"""The flow through a trained network that looks at an image."""

from pathlib import Path

import numpy as np
import torch

from engram.errors import UserError, unknown
from engram.trace.flow import Flow, flow, shown
from engram.trace.numbers import short


def of_run(run: str | Path, image: str | Path, *, target: str = "") -> Flow:
    """The flow through a trained network that looks at an image file.

    Args:
        run: a run's folder, or a weights file that Engram has written.
        target: the class whose loss is taken; by default the one that the network takes the image for.

    Raises:
        UserError: no weights there, no such class, or an image that cannot be read.
    """
    from engram.data import images
    from engram.data.examples import Unreadable
    from engram.training.predict import Predictor

    predictor = Predictor(run)
    known = predictor.description
    if target and target not in known.classes:
        raise unknown("class", target, known.classes)
    channels, *sides = known.stored_shape
    try:
        pixels = images.to_channels(images.read_image(Path(image), at_least=max(sides)), channels)
    except (Unreadable, OSError) as error:
        raise UserError(f"{image} cannot be read as an image: {error}") from None
    fitted = images.fit(pixels, tuple(sides))
    view = predictor.views(torch.from_numpy(np.ascontiguousarray(fitted))[None], torch.float32)[0]
    with torch.inference_mode():
        shares = predictor.net(view).softmax(1)[0]
    best = int(shares.argmax())
    chosen = known.classes.index(target) if target else best
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
