"""Do Engram's networks with torchvision's weights give torchvision's outputs?

    python bench/torchvision_equality/compare.py > bench/torchvision_equality/output.txt

For every network whose official weights Engram takes: torchvision's, its normalisation set as if it had been trained,
is saved as torchvision saves it, loaded by `engram.training.pretrained.load`, and both are asked about the same images
in evaluation mode. The numbers are the largest absolute difference of two scores, and the same in units of the scores'
spread, in float32 and in float64; "before" is the relative difference before the weights are loaded, to show that it
can be seen. The last column compares the gradients of the first convolution in training mode, dropout switched off and
auxiliary heads counted, in float64, relative to the largest of them.

The weights are random, since the official files were not at hand: the equality concerns names, shapes and the function
computed, whatever the values are.
Needs torch, torchvision and Engram; exits with 1 if any scores differ by more than 1e-5 of their spread.
"""

import platform
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from engram import accounting, models, registry
from engram.training import pretrained

BOUND = 1e-5
SHAPE = (3, 224, 224)
CALLED = {"googlenet_torchvision": "googlenet", "alexnet_torchvision": "alexnet"}
"""torchvision's name, where Engram's by that name is the paper's network."""


def main() -> int:
    names = [name for name in registry.names("model") if "weights" in registry.find("model", name).facts]
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}, CPU")
    print("2 images of 3x224x224, seed 0; differences of the 1000 scores, absolute and relative to their spread\n")
    columns = ("before", "float32", "relative", "float64", "relative", "gradient")
    print(f"{'network':<22} {'parameters':>11} " + " ".join(f"{column:>9}" for column in columns))
    worst = 0.0
    for name in names:
        x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
        theirs = torchvisions(CALLED.get(name, name))
        settings = {"auxiliary": True} if name.startswith("googlenet") else {}
        ours = models.build(name, shape=SHAPE, num_classes=1000, settings=settings).eval()
        _, before = difference(theirs, ours, x)
        carry_over(theirs, ours, name)
        single, single_relative = difference(theirs, ours, x)
        double, double_relative = difference(theirs.double(), ours.double(), x.double())
        step = gradient(theirs, ours, x.double())
        count = accounting.account(ours, SHAPE, dtype=torch.float64).parameters
        cells = " ".join(f"{value:9.1e}" for value in (before, single, single_relative, double, double_relative, step))
        print(f"{name:<22} {count:>11,} {cells}", flush=True)
        worst = max(worst, single_relative, double_relative, step)
    verdict = "equal" if worst <= BOUND else "NOT EQUAL"
    print(f"\n{len(names)} networks, largest relative difference {worst:.1e}, bound {BOUND:.0e}: {verdict}")
    return int(worst > BOUND)


def torchvisions(name: str) -> nn.Module:
    """torchvision's network with random weights and the running statistics that training would leave."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of slow and of deprecated ways to draw weights that are random anyway
        net = torchvision.models.get_model(name, weights=None)
    if name == "googlenet":
        net.transform_input = True  # the official weights are for images normalised in another way
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = 0.9
    with torch.no_grad():
        net.train()(torch.randn(4, *SHAPE))
    return net.eval()


def carry_over(theirs: nn.Module, ours: nn.Module, name: str) -> None:
    """By a file under torchvision's names, as a person would."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.pth"
        torch.save(theirs.state_dict(), path)
        pretrained.load(ours, path, name)


def difference(theirs: nn.Module, ours: nn.Module, x: Tensor) -> tuple[float, float]:
    with torch.no_grad():
        expected, scores = theirs(x), ours(x)
    largest = (scores - expected).abs().max().item()
    return largest, largest / expected.std().item()


def gradient(theirs: nn.Module, ours: nn.Module, x: Tensor) -> float:
    """The largest difference in the gradient of the first weights, in training mode, relative to the largest value."""
    y = torch.arange(len(x))
    first = []
    for net in (theirs, ours):
        net.train()
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        sum(F.cross_entropy(scores, y) for scores in every(net(x))).backward()
        first.append(next(p.grad for p in net.parameters() if p.ndim == 4 and p.shape[1] == SHAPE[0]))
    expected, found = first
    return ((found - expected).abs().max() / expected.abs().max()).item()


def every(scores: Any) -> list[Tensor]:
    """The last head's scores and those of the heads before it."""
    if isinstance(scores, Tensor):
        return [scores]
    return [part for one in scores if isinstance(one, tuple | Tensor) for part in every(one)]


if __name__ == "__main__":
    sys.exit(main())
