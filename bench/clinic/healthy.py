"""Unusual practice that is well: where false alarms come from.

Each is a body and what is done to it. That a run is well is known by its validation accuracy at the end, at least 0.8;
those cut short on purpose (`SHORT`) are well by what they become. All bodies at their own settings stand beside these.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from bodies import Block, ConvBlock, drawn, lenet, perceptron, resnet, vgg
from digits import CLASSES, Pictures, pictures
from torch import Tensor, nn

LEAST_ACCURACY = 0.8
SHORT = ("the first passes of a long run", "warm-up not yet over")


class SquaredReLU(nn.Module):
    """max(0, x)² (So et al. 2021)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


class Maxout(nn.Module):
    """The larger of two linear maps (Goodfellow et al. 2013)."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, 2 * out)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).unflatten(1, (-1, 2)).amax(2)


class Tied(nn.Module):
    """One layer used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.acts = nn.ModuleList(nn.ReLU() for _ in range(4))
        nn.init.orthogonal_(self.again.weight, math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.acts[0](self.first(x.flatten(1)))
        for act in self.acts[1:]:
            x = act(self.again(x))
        return self.head(x)


class LastStep(nn.Module):
    """An LSTM as torch draws it, over rows of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 48, batch_first=True), nn.Linear(48, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.flatten(1, 2))[0][:, -1])


def zero_branches(net: nn.Module) -> nn.Module:
    """Residual branches that begin at 0."""
    for block in net.modules():
        if isinstance(block, Block):
            nn.init.zeros_(block.second.weight)
            nn.init.zeros_(block.second.bias)
        elif isinstance(block, ConvBlock):
            nn.init.zeros_(block.norm2.weight)
    return net


def small_head(value: float) -> Callable[[nn.Module], nn.Module]:
    """The last layer drawn very small, or at 0."""

    def change(net: nn.Module) -> nn.Module:
        last = [one for one in net.modules() if isinstance(one, nn.Linear)][-1]
        last.weight.data *= value
        nn.init.zeros_(last.bias)
        return net

    return change


def taught(net: nn.Module, steps: int = 120) -> nn.Module:
    """A network that learned the digits upside down before."""
    known = pictures()
    x, y, rng = known.x.flip(2), known.y, torch.Generator().manual_seed(5)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(steps):
        rows = torch.randint(0, len(x), (64,), generator=rng)
        optimizer.zero_grad()
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    return net


def frozen(net: nn.Module) -> nn.Module:
    """Taught before, its first half frozen."""
    net = taught(net)
    layers = [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    for layer in layers[: len(layers) // 2]:
        layer.requires_grad_(False)
    return net


def one_cycle(done: float) -> float:
    """Up for 30 % and down to 0."""
    return done / 0.3 if done < 0.3 else (1 - done) / 0.7


def warm_up(done: float) -> float:
    """Up for the first fifth."""
    return min(1.0, (done + 0.005) / 0.2)


def cosine(done: float) -> float:
    """Half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * done))


def smoothed(scores: Tensor, y: Tensor) -> Tensor:
    """A tenth of every label given to all classes."""
    return F.cross_entropy(scores, y, reduction="none", label_smoothing=0.1)


def focal(scores: Tensor, y: Tensor) -> Tensor:
    """Lin et al. 2017, gamma 2."""
    losses = F.cross_entropy(scores, y, reduction="none")
    return (1 - (-losses).exp()).square() * losses


def mixup(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Zhang et al. 2018: mixtures of pictures and labels, weights of Beta(0.4, 0.4) approximated by a U shape."""
    share = torch.sin(torch.rand(1, generator=rng) * math.pi / 2).square()
    other = torch.randperm(len(x), generator=rng)
    hot = F.one_hot(y, CLASSES).float()
    return share * x + (1 - share) * x[other], share * hot + (1 - share) * hot[other]


def shifted(x: Tensor, y: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Strong augmentation: moved by up to a pixel, a square cut out, noise."""
    move = torch.randint(-1, 2, (2,), generator=rng).tolist()
    x = x.roll(move, (2, 3)).clone()
    row, column = torch.randint(0, 6, (2,), generator=rng).tolist()
    x[:, :, row : row + 3, column : column + 3] = 0.0
    return x + 0.3 * torch.randn(x.shape, generator=rng), y


def quantised(levels: int) -> Callable[[Pictures], Pictures]:
    """Pixels of a few values."""

    def data(given: Pictures) -> Pictures:
        return replace(given, x=(given.x * levels).round() / levels, held_x=(given.held_x * levels).round() / levels)

    return data


def unit_range(given: Pictures) -> Pictures:
    """Pixels from 0 to 1, not standardised."""
    low, high = given.x.min(), given.x.max()
    return replace(given, x=(given.x - low) / (high - low), held_x=(given.held_x - low) / (high - low))


def uneven(given: Pictures) -> Pictures:
    """Five classes with a third of the examples."""
    kept = torch.ones(len(given.y), dtype=torch.bool)
    for k in range(5):
        places = torch.nonzero(given.y == k).flatten()
        kept[places[len(places) // 3 :]] = False
    return replace(given, x=given.x[kept], y=given.y[kept])


def weighed(scores: Tensor, y: Tensor) -> Tensor:
    """Classes weighed against their rarity."""
    return F.cross_entropy(scores, y, reduction="none") * torch.where(y < 5, 2.0, 0.67)


def biasless(net: nn.Module) -> nn.Module:
    """No bias anywhere."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_parameter("bias", None)
    return net


def grouped(width: int) -> nn.Module:
    """Group norm in place of batch norm."""
    return nn.GroupNorm(4, width)


def no_decay(net: nn.Module) -> list[dict[str, Any]]:
    """Decay of matrices alone."""
    matrices = [one for one in net.parameters() if one.ndim > 1]
    return [
        {"params": matrices, "weight_decay": 0.1},
        {"params": [one for one in net.parameters() if one.ndim < 2], "weight_decay": 0.0},
    ]


Settings = dict[str, Any]

HEALTHY: dict[str, tuple[tuple[str, ...], Settings]] = {
    "ReLU with more than half zeros": (("mlp",), {"change": lambda net: _biased(net, -0.4)}),
    "ReLU with more than half zeros, six convolutions": (("vgg",), {"change": lambda net: _biased(net, -0.1)}),
    "residual branches that begin at 0": (("residual_mlp", "resnet"), {"change": zero_branches}),
    "batch norm in twelve layers": (("norm_mlp",), {"build": lambda: perceptron(12, 48, norm=True)}),
    "warm-up": (("vit",), {"schedule": warm_up}),
    "one cycle at twice the rate": (("lenet",), {"schedule": one_cycle, "times_lr": 2.0}),
    "cosine": (("vgg",), {"schedule": cosine}),
    "a rate that falls at 60 %": (("lenet",), {"schedule": lambda done: 1.0 if done < 0.6 else 0.1}),
    "dropout of a half": (("mlp",), {"build": lambda: perceptron(2, 128, drop=0.5)}),
    "dropout of 0.7, wide": (("wide_mlp",), {"build": lambda: perceptron(2, 256, drop=0.7)}),
    "label smoothing": (("lenet",), {"loss": smoothed}),
    "focal loss": (("mlp",), {"loss": focal, "times_lr": 2.0}),
    "fine-tuning, half frozen": (("mlp",), {"change": frozen}),
    "fine-tuning at a tenth": (("lenet",), {"change": taught, "times_lr": 0.3}),
    "LSTM at its defaults": (("gru",), {"build": LastStep}),
    "last layer at a thousandth": (("mlp",), {"change": small_head(1e-3)}),
    "last layer of zeros": (("wide_mlp",), {"change": small_head(0.0)}),
    "ReLU squared": (("mlp",), {"build": lambda: _with(perceptron(2, 64), SquaredReLU), "times_lr": 0.4}),
    "one layer used three times": (("deep_mlp",), {"build": Tied}),
    "batch of 400": (("norm_vgg",), {"batch": 400, "times_lr": 2.0}),
    "batch of 8": (("lenet",), {"batch": 8, "times_lr": 0.2, "steps": 256}),
    "batch of 8 with batch norm": (("norm_mlp",), {"batch": 8, "times_lr": 0.2, "steps": 256}),
    "AdamW with much decay": (("vit",), {"optimizer": "adamw", "lr": 3e-3, "groups": no_decay}),
    "LAMB": (("mlp",), {"optimizer": "lamb", "lr": 0.02}),
    "RMSprop": (("wide_mlp",), {"optimizer": "rmsprop", "lr": 1e-3}),
    "SGD without momentum, three times the rate": (("tanh_lenet",), {"optimizer": "sgd", "lr": 0.3}),
    "L2 of 5e-4": (("norm_vgg",), {"weight_decay": 5e-4}),
    "mixup": (("mlp",), {"batch_of": mixup}),
    "strong augmentation": (("lenet",), {"batch_of": shifted, "steps": 240}),
    "group norm": (("resnet",), {"build": lambda: resnet(grouped)}),
    "GELU": (("lenet",), {"build": lambda: lenet(nn.GELU)}),
    "leaky ReLU": (("deep_mlp",), {"build": lambda: perceptron(8, 48, nn.LeakyReLU)}),
    "SiLU in convolutions": (("vgg",), {"build": lambda: vgg(act=nn.SiLU)}),
    "maxout": (
        ("mlp",),
        {"build": lambda: nn.Sequential(nn.Flatten(), Maxout(64, 48), Maxout(48, 48), nn.Linear(48, 10))},
    ),
    "no bias anywhere": (("norm_vgg",), {"change": biasless}),
    "class weights on uneven classes": (("mlp",), {"data": uneven, "loss": weighed}),
    "the first passes of a long run": (("lenet",), {"total_steps": 4000, "times_lr": 0.5}),
    "warm-up not yet over": (("resnet",), {"total_steps": 1600, "schedule": warm_up}),
    "pixels of three values": (("mlp",), {"data": quantised(1)}),
    "pixels from 0 to 1": (("lenet",), {"data": unit_range}),
    "half of He's scale, twelve layers, batch norm": (
        ("norm_mlp",),
        {"build": lambda: drawn(perceptron(12, 48, norm=True), 0.5)},
    ),
    "twice Xavier's weights in tanh": (("tanh_lenet",), {"change": lambda net: _gained(net, 2.0)}),
    "one linear layer": (("mlp",), {"build": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))}),
    "SELU, self-normalising": (("deep_mlp",), {"build": lambda: _self_normalising(), "times_lr": 0.5}),
    "orthogonal weights": (("vgg",), {"change": lambda net: _orthogonal(net)}),
    "clipped gradients": (("rnn",), {"clip": 0.5}),
    "a long run that is done": (("mlp",), {"steps": 480, "schedule": cosine}),
    "He's rule by what leaves a layer": (("strided", "lenet"), {"change": lambda net: _by_fan_out(net)}),
    "He's weights in the residual branches": (("residual_mlp",), {"change": lambda net: drawn(net)}),
    "fine-tuning at a third": (("leaky_mlp", "silu_mlp"), {"change": taught, "times_lr": 0.3}),
    "a quarter more than He's weights": (("leaky_mlp", "strided"), {"change": lambda net: _gained(net, 1.25)}),
    "weights as torch draws them": (("leaky_mlp", "strided"), {"change": lambda net: _as_torch(net)}),
}

FRESH_HEALTHY: dict[str, tuple[str, ...]] = {
    "He's rule by what leaves a layer": ("elu_strided", "vgg"),
    "fine-tuning at a third": ("mish_mlp",),
    "a quarter more than He's weights": ("slim_mlp",),
    "weights as torch draws them": ("elu_strided",),
}
"""Held-out bodies on which the third look is at the practice that was added for it."""


def _biased(net: nn.Module, value: float) -> nn.Module:
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)][:-1]:
        nn.init.constant_(layer.bias, value)
    return net


def _with(net: nn.Module, act: type[nn.Module]) -> nn.Module:
    for name, child in net.named_children():
        if isinstance(child, nn.ReLU):
            setattr(net, name, act())
    return net


def _gained(net: nn.Module, gain: float) -> nn.Module:
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)][:-1]:
        layer.weight.data *= gain
    return net


def _by_fan_out(net: nn.Module) -> nn.Module:
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)][:-1]:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return net


def _as_torch(net: nn.Module) -> nn.Module:
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)]:
        layer.reset_parameters()
    return net


def _orthogonal(net: nn.Module) -> nn.Module:
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)][:-1]:
        nn.init.orthogonal_(layer.weight, math.sqrt(2))
    return net


def _self_normalising() -> nn.Module:
    net = perceptron(8, 48, nn.SELU)
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear)]:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
    return net
