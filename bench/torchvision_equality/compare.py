"""Does a ResNet of Engram with torchvision's weights give torchvision's outputs?

    python bench/torchvision_equality/compare.py > bench/torchvision_equality/output.txt

For each of the five official architectures: a torchvision network, its normalisation set as if it had been trained, is
saved as torchvision saves it, loaded by `engram.training.pretrained.load`, and both are asked about the same images in
evaluation mode. The numbers are the largest absolute difference of two scores, and the same in units of the scores'
spread, in float32 and in float64; "before" is the relative difference before the weights are loaded, to show that it
can be seen. The last column compares the gradients of the first convolution in training mode, in float64, relative to
the largest of them.

The weights are random, since the official files were not at hand: the equality concerns names, shapes and the function
computed, whatever the values are.
Needs torch, torchvision and Engram; exits with 1 if any scores differ by more than 1e-5 of their spread.
"""

import platform
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from engram import accounting, models
from engram.training import pretrained

NAMES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
BOUND = 1e-5


def main() -> int:
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, Python {platform.python_version()}, CPU")
    print("2 images of 3x224x224, seed 0; differences of the 1000 scores, absolute and relative to their spread\n")
    columns = ("before", "float32", "relative", "float64", "relative", "gradient")
    print(f"{'network':<10} {'parameters':>11} " + " ".join(f"{column:>9}" for column in columns))
    worst = 0.0
    for name in NAMES:
        x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        theirs, ours = torchvisions(name), models.build(name, shape=(3, 224, 224), num_classes=1000).eval()
        _, before = difference(theirs, ours, x)
        carry_over(theirs, ours, name)
        single, single_relative = difference(theirs, ours, x)
        double, double_relative = difference(theirs.double(), ours.double(), x.double())
        step = gradient(theirs, ours, x.double())
        count = accounting.account(ours, (3, 224, 224), dtype=torch.float64).parameters
        cells = " ".join(f"{value:9.1e}" for value in (before, single, single_relative, double, double_relative, step))
        print(f"{name:<10} {count:>11,} {cells}", flush=True)
        worst = max(worst, single_relative, double_relative, step)
    print(f"\nlargest relative difference {worst:.1e}, bound {BOUND:.0e}: {'equal' if worst <= BOUND else 'NOT EQUAL'}")
    return int(worst > BOUND)


def torchvisions(name: str) -> nn.Module:
    """torchvision's network with random weights and the running statistics that training would leave."""
    torch.manual_seed(0)
    net = torchvision.models.get_model(name, weights=None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.momentum = 0.9
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 224, 224))
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
    for net in (theirs, ours):
        net.train()
        F.cross_entropy(net(x), y).backward()
    expected, found = theirs.conv1.weight.grad, ours.stem[0].weight.grad
    return ((found - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    sys.exit(main())
