"""Networks to be made sick or left well, in two halves: thresholds are set on one and judged on the other.

A body is a network with the optimiser and rate under which it learns the digits: the matched control of everything
that is done to it. No family stands in both halves, so that a threshold that only fits one family's habits shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, K = 8, 10


@dataclass(frozen=True)
class Body:
    """How a network is made, and how it is trained when nothing is wrong."""

    build: Callable[[], nn.Module]
    optimizer: str = "momentum"
    lr: float = 0.05
    clip: float | None = None


def drawn(net: nn.Module, gain: float = 1.0, rule: str = "he") -> nn.Module:
    """The hidden weights drawn by He's or Xavier's rule, times a gain; the last layer is left as torch draws it."""
    weighted = [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    for layer in weighted[:-1]:
        if rule == "he":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.xavier_normal_(layer.weight)
        layer.weight.data *= gain
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return net


def perceptron(
    depth: int, width: int, act: type[nn.Module] = nn.ReLU, *, norm: bool = False, rule: str = "he", drop: float = 0.0
) -> nn.Module:
    """Linear layers between one activation; `rule` torch leaves torch's own weights."""
    layers: list[nn.Module] = [nn.Flatten()]
    for place in range(depth):
        layers += [nn.Linear(width if place else SIDE * SIDE, width), *([nn.BatchNorm1d(width)] if norm else []), act()]
        layers += [nn.Dropout(drop)] if drop else []
    net = nn.Sequential(*layers, nn.Linear(width, K))
    return net if rule == "torch" else drawn(net, rule=rule)


def lenet(act: type[nn.Module] = nn.ReLU, rule: str = "he") -> nn.Module:
    """Two convolutions with max pooling, two linear layers."""
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), act(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), act(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 32), act(), nn.Linear(32, K),
    )  # fmt: skip
    return drawn(net, rule=rule)


def vgg(*, norm: bool = False, act: type[nn.Module] = nn.ReLU, rule: str = "he") -> nn.Module:
    """Six convolutions of 3 x 3, all but the first at 4 x 4 places, with or without batch norm."""
    layers: list[nn.Module] = []
    channels = 1
    for width in (8, 0, 8, 8, 12, 12, 12):
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        norms = [nn.BatchNorm2d(width)] if norm else []
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=not norm), *norms, act()]
        channels = width
    return drawn(
        nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(48, 48), act(), nn.Linear(48, K)), rule=rule
    )


def strided(act: type[nn.Module], widths: tuple[int, ...] = (8, 16, 24, 32)) -> nn.Module:
    """Convolutions of 3 x 3 that halve the places every other time, without pooling; the mean over places."""
    layers: list[nn.Module] = []
    for place, (before, width) in enumerate(pairwise((1, *widths))):
        layers += [nn.Conv2d(before, width, 3, stride=1 + place % 2, padding=1), act()]
    return drawn(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], K)))


class Block(nn.Module):
    """x + F(x), F two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.act, self.second = nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.act(self.first(x)))


class ConvBlock(nn.Module):
    """The residual block of He et al. 2015."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width)
        self.act1 = nn.ReLU()
        self.second, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), norm(width)
        self.act2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(x + self.norm2(self.second(self.act1(self.norm1(self.first(x))))))


class PreBlock(nn.Module):
    """The residual block of He et al. 2016, arXiv:1603.05027: norms and activations before the convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.act1 = nn.BatchNorm2d(width), nn.ReLU()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(width), nn.ReLU()
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.act2(self.norm2(self.first(self.act1(self.norm1(x))))))


RESIDUAL = (Block, ConvBlock, PreBlock)


def residual_mlp(blocks: int = 4, width: int = 32) -> nn.Module:
    """Residual blocks of linear layers, without normalisation."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, width), *(Block(width) for _ in range(blocks)), nn.Linear(width, K)
    )


def resnet(norm: Callable[[int], nn.Module] = nn.BatchNorm2d, blocks: int = 2, width: int = 12) -> nn.Module:
    """Residual blocks of convolutions, the mean over places, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), norm(width), nn.ReLU(), nn.MaxPool2d(2),
        *(ConvBlock(width, norm) for _ in range(blocks)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, K),
    )  # fmt: skip


def pre_resnet(blocks: int = 3, width: int = 12) -> nn.Module:
    """Residual blocks with norms before the convolutions; a shortcut that nothing touches."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.MaxPool2d(2), *(PreBlock(width) for _ in range(blocks)),
        nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, K),
    )  # fmt: skip


class Attentive(nn.Module):
    """Patches of the picture as words, blocks of attention and a small perceptron, their mean."""

    def __init__(
        self, patch: tuple[int, int], blocks: int, width: int = 24, heads: int = 2, act: type[nn.Module] = nn.GELU
    ) -> None:
        super().__init__()
        self.patch, self.heads = patch, heads
        words = (SIDE // patch[0]) * (SIDE // patch[1])
        self.embed = nn.Linear(patch[0] * patch[1], width)
        self.place = nn.Parameter(0.1 * torch.randn(words, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * blocks))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(blocks))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.mix = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), act(), nn.Linear(2 * width, width)) for _ in range(blocks)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, K)

    def forward(self, x: Tensor) -> Tensor:
        high, wide = self.patch
        x = x.unflatten(3, (SIDE // wide, wide)).unflatten(2, (SIDE // high, high))  # (B, 1, h, high, w, wide)
        x = self.embed(x.movedim(3, 4).flatten(4).flatten(1, 3)) + self.place  # (B, T, width)
        for block, qkv in enumerate(self.qkv):
            q, k, v = qkv(self.norms[2 * block](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + self.out[block](heard)
            x = x + self.mix[block](self.norms[2 * block + 1](x))
        return self.head(self.norm(x).mean(1))


class Reader(nn.Module):
    """A recurrent layer that reads the picture in pieces, and scores of its last output."""

    def __init__(self, cell: type[nn.RNNBase], piece: int, width: int = 48, **more: str) -> None:
        super().__init__()
        self.piece, self.cell = piece, cell(piece, width, batch_first=True, **more)
        self.head = nn.Linear(width, K)
        if cell is nn.RNN:
            nn.init.orthogonal_(self.cell.weight_hh_l0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x.flatten(1).unflatten(1, (-1, self.piece)))[0][:, -1])


BODIES: dict[str, Body] = {
    "mlp": Body(lambda: perceptron(2, 64)),
    "deep_mlp": Body(lambda: perceptron(8, 48), lr=0.02),
    "tanh_mlp": Body(lambda: perceptron(4, 64, nn.Tanh, rule="xavier"), lr=0.03),
    "norm_mlp": Body(lambda: perceptron(5, 48, norm=True)),
    "lenet": Body(lenet),
    "residual_mlp": Body(residual_mlp, lr=0.02),
    "rnn": Body(lambda: Reader(nn.RNN, 4), "adam", 3e-3),
    "attention": Body(lambda: Attentive((1, 8), 1), "adam", 5e-3),
    "wide_mlp": Body(lambda: perceptron(3, 128, nn.GELU), "adam", 2e-3),
    "vgg": Body(vgg, lr=0.02),
    "norm_vgg": Body(lambda: vgg(norm=True)),
    "resnet": Body(resnet),
    "sigmoid_mlp": Body(lambda: perceptron(2, 64, nn.Sigmoid, rule="xavier"), "adam", 1e-2),
    "tanh_lenet": Body(lambda: lenet(nn.Tanh, "xavier")),
    "gru": Body(lambda: Reader(nn.GRU, 8), "adam", 5e-3),
    "relu_rnn": Body(lambda: Reader(nn.RNN, 4, nonlinearity="relu"), "adam", 3e-3, clip=1.0),
    "vit": Body(lambda: Attentive((4, 2), 2, act=nn.ReLU), "adam", 6e-3),
    "lstm": Body(lambda: Reader(nn.LSTM, 8), "adam", 5e-3),
    "narrow_resnet": Body(lambda: resnet(blocks=4, width=8)),
    "broad_mlp": Body(lambda: perceptron(2, 256), "adam", 2e-3),
    "pre_resnet": Body(pre_resnet),
    "tanh_vgg": Body(lambda: vgg(act=nn.Tanh, rule="xavier")),
    "leaky_mlp": Body(lambda: perceptron(3, 96, nn.LeakyReLU), "adam", 2e-3),
    "silu_mlp": Body(lambda: perceptron(4, 96, nn.SiLU), "adam", 2e-3),
    "strided": Body(lambda: strided(nn.ReLU), lr=0.03),
    "slim_mlp": Body(lambda: perceptron(5, 80), lr=0.02),
    "mish_mlp": Body(lambda: perceptron(3, 112, nn.Mish), "adam", 2e-3),
    "elu_strided": Body(lambda: strided(nn.ELU, (12, 12, 24, 24, 24)), lr=0.03),
}  # fmt: skip

CALIBRATION = (
    "mlp", "deep_mlp", "tanh_mlp", "norm_mlp", "lenet", "residual_mlp", "rnn", "attention",
    "lstm", "narrow_resnet", "broad_mlp",
    "leaky_mlp", "silu_mlp", "strided",
)  # fmt: skip
HELD_OUT = (
    "wide_mlp", "vgg", "norm_vgg", "resnet", "sigmoid_mlp", "tanh_lenet", "gru", "relu_rnn", "vit",
    "pre_resnet", "tanh_vgg",
    "slim_mlp", "mish_mlp", "elu_strided",
)  # fmt: skip
"""The first line of each was fixed before anything was measured, the second after the first look at the held-out half
and before the second, the last after the second and before the third. Thresholds may be changed by what the calibration
half shows, and by nothing else."""

FOR_THE_THIRD = HELD_OUT[-3:]
"""Bodies that nothing was trained of before the third look."""

SECOND_LOOK, THIRD_LOOK = 10, 20
"""Seeds from here on are of the second and the third look: held-out bodies trained anew after what the look before led
to."""


def look(seed: int) -> int:
    """At which look at the held-out half a seed was taken: 1, 2 or 3."""
    return 1 + (seed >= SECOND_LOOK) + (seed >= THIRD_LOOK)


def half(body: str) -> str:
    """calibration or held-out."""
    return "calibration" if body in CALIBRATION else "held-out"
