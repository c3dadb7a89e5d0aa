"""What the course says its convolutional networks reach on CIFAR-10: one out of the rules, four as in its torch pages.

See test_cs231n_thresholds.py for how to run them. The first two are `rules.ThreeLayerConvNet` in NumPy. The next four
are the notebook's networks in torch, with our initial weights and our steps, after one pass over 49 000 pictures: their
convolutions are torch's own, because the rules take five times as long. The last is what a run of ours committed.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from course import CHECKS
from course_pictures import NEED_PICTURES, centred, raw
from course_solver import accuracy, passes, solve
from engram import initializers, optimizers, rules

Scores = Callable[[Tensor], Tensor]


@pytest.mark.slow
@NEED_PICTURES
def test_a_hundred_pictures_can_be_learned_by_heart() -> None:
    """30 batches. Seen after the last: 0.84 to 1.0 over 12 choices of pictures and weights, 0.20 to 0.26 on others.

    From weights of 1e-3, the network's default, and not the notebook's 1e-2, it came to 0.90 and 0.96. The notebook
    keeps the weights that were best on the thousand to choose by, which can be those of an earlier pass, after six to
    nine of which 0.7 is usual. Asked here are the last: the record is about learning by heart.
    """
    record = CHECKS["threshold.convnet3.overfit100"]
    assert record["expected"] == {"train_acc": "about 0.8+ with large train/val gap"}
    assert record["inputs"] == {"n": 100, "epochs": 15, "opt": "adam 1e-3", "batch": 50}
    data, rng = centred(), np.random.default_rng(0)
    X, y = data.X[:100], data.y[:100]
    net = rules.ThreeLayerConvNet(weight_scale=1e-2, rng=rng)
    assert len(list(passes(net, (X, y), rule=rules.adam, rate=1e-3, epochs=15, batch=50, rng=rng))) == 15
    learned = accuracy(net, X, y)
    assert learned >= 0.8
    assert learned - accuracy(net, data.X_val, data.y_val) > 0.4


@pytest.mark.slow
@NEED_PICTURES
def test_one_pass_of_three_layers() -> None:
    """Two and a half minutes in NumPy. Seen: 0.472, on the first 1 000 it trained on, where the course draws them."""
    record = CHECKS["threshold.convnet3.one_epoch"]
    assert record["expected"] == {"train_acc": ">0.40"}
    assert record["inputs"] == {
        "weight_scale": 0.001,
        "hidden": 500,
        "reg": 0.001,
        "opt": "adam 1e-3",
        "batch": 50,
        "epochs": 1,
    }
    data, rng = centred(), np.random.default_rng(0)
    net = rules.ThreeLayerConvNet(weight_scale=1e-3, hidden_dim=500, reg=1e-3, rng=rng)
    choose = (data.X_val, data.y_val)
    solve(net, (data.X, data.y), choose, rule=rules.adam, rate=1e-3, epochs=1, batch=50, rng=rng)
    assert accuracy(net, data.X[:1000], data.y[:1000]) > 0.40


# -- the course's torch notebook


def seen(X: np.ndarray) -> Tensor:
    """As the notebook shows them to a network: each channel less its mean, over its deviation."""
    middle, deviation = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
    return (torch.from_numpy(X).float() / 255 - middle[:, None, None]) / deviation[:, None, None]


def losses(scores: Scores) -> Iterator[Tensor]:
    """One pass in batches of 64, each picture once."""
    data, order = raw(), torch.Generator().manual_seed(0)
    for places in torch.randperm(len(data.X), generator=order).split(64):
        yield F.cross_entropy(scores(seen(data.X[places.numpy()])), torch.from_numpy(data.y[places.numpy()]))


def chosen(scores: Scores) -> float:
    """Accuracy on the thousand to choose by."""
    data = raw()
    with torch.no_grad():
        right = [
            scores(seen(data.X_val[at : at + 250])).argmax(1).numpy() == data.y_val[at : at + 250]
            for at in range(0, 1000, 250)
        ]
    return float(np.concatenate(right).mean())


def descend(scores: Scores, weights: list[Tensor], rate: float) -> float:
    """Train bare tensors by `rules.sgd`."""
    for loss in losses(scores):
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for w, gradient in zip(weights, gradients, strict=True):
                w.copy_(rules.sgd(w, gradient, {"learning_rate": rate})[0])
    return chosen(scores)


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    for loss in losses(net):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return chosen(net)


def drawn(inputs: int, *shape: int, rng: torch.Generator) -> Tensor:
    """He's weights, by hand as in the notebook."""
    return (torch.randn(*shape, generator=rng) * (2 / inputs) ** 0.5).requires_grad_()


def convolutions() -> nn.Sequential:
    """The notebook's network: 32 filters of 5 x 5, 16 of 3 x 3, and scores."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 32 * 32, 10),
    )


@pytest.mark.slow
@NEED_PICTURES
def test_two_bare_layers() -> None:
    """4 000 hidden units, no biases; two minutes. Seen: 0.413."""
    assert CHECKS["threshold.pytorch.barebone.two_layer"]["expected"] == {"val_acc": ">0.40"}
    rng = torch.Generator().manual_seed(0)
    w1, w2 = drawn(3072, 3072, 4000, rng=rng), drawn(4000, 4000, 10, rng=rng)
    assert descend(lambda x: F.relu(x.flatten(1) @ w1) @ w2, [w1, w2], 1e-2) > 0.40


@pytest.mark.slow
@NEED_PICTURES
def test_three_bare_layers() -> None:
    """Seen: 0.453."""
    assert CHECKS["threshold.pytorch.barebone.convnet3"]["expected"] == {"val_acc": ">0.42"}
    rng = torch.Generator().manual_seed(0)
    w1, w2 = drawn(75, 32, 3, 5, 5, rng=rng), drawn(288, 16, 32, 3, 3, rng=rng)
    w3 = drawn(16384, 16384, 10, rng=rng)
    b1, b2, b3 = (torch.zeros(size, requires_grad=True) for size in (32, 16, 10))

    def scores(x: Tensor) -> Tensor:  # (B, 3, 32, 32)
        x = F.relu(F.conv2d(x, w1, b1, padding=2))  # (B, 32, 32, 32)
        x = F.relu(F.conv2d(x, w2, b2, padding=1))  # (B, 16, 32, 32)
        return x.flatten(1) @ w3 + b3  # (B, 10)

    assert descend(scores, [w1, b1, w2, b2, w3, b3], 3e-3) > 0.42


@pytest.mark.slow
@NEED_PICTURES
def test_three_layers_as_a_module() -> None:
    """Seen: 0.464."""
    assert CHECKS["threshold.pytorch.module.convnet3"]["expected"] == {"val_acc": ">0.45"}
    net = convolutions()
    initializers.apply(net, "he", rng=torch.Generator().manual_seed(0))
    assert step(net, optimizers.build("sgd", net, {"lr": 3e-3, "weight_decay": 0.0})) > 0.45


@pytest.mark.slow
@NEED_PICTURES
def test_three_layers_in_a_row_with_nesterov() -> None:
    """With torch's own initial weights, as in the notebook. Seen: 0.564; each of these is sure to 0.016."""
    record = CHECKS["threshold.pytorch.sequential.convnet3"]
    assert record["expected"] == {"val_acc": ">0.55"}
    assert record["inputs"] == {"epochs": 1, "opt": "SGD nesterov 0.9"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = convolutions()
    assert step(net, optimizers.build("nesterov", net, {"lr": 1e-2, "momentum": 0.9, "weight_decay": 0.0})) > 0.55


def test_any_network_in_ten_passes() -> None:
    """Not trained here, for it takes twelve minutes: resnet20's three runs in bench/results, on all 10 000 to test."""
    record = CHECKS["threshold.pytorch.open_ended"]
    assert record["expected"] == {"val_acc": ">=0.70"}
    assert record["inputs"] == {"epochs": 10}
    committed = Path(__file__).parents[2] / "bench" / "results" / "train_resnet20-cifar10.json"
    runs = [run for run in json.loads(committed.read_text())["accuracy"] if run["program"].startswith("Engram")]
    assert {run["seed"] for run in runs} == {0, 1, 2}
    assert all(run["epochs"] <= 10 and run["accuracy"] >= 0.70 for run in runs)
