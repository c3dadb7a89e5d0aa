"""What is done to a body to make it sick: settings of a `Trial`, by how much."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from bodies import RESIDUAL, Attentive, Reader, perceptron
from digits import Pictures
from torch import Tensor, nn

Settings = dict[str, Any]


def weighted(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """Its layers with matrices, by depth."""
    return [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)]


def three(make: Callable[[Any], Settings], *values: Any) -> tuple[Any, Any, Any]:
    """Settings for three doses."""
    low, clear, gross = values
    return make(low), make(clear), make(gross)


def hidden_gain(gain: float) -> Settings:
    """Every hidden matrix times a gain."""

    def change(net: nn.Module) -> nn.Module:
        for layer in weighted(net)[:-1]:
            layer.weight.data *= gain
        return net

    return {"change": change}


def last_gain(gain: float) -> Settings:
    """The last matrix times a gain."""

    def change(net: nn.Module) -> nn.Module:
        weighted(net)[-1].weight.data *= gain
        return net

    return {"change": change}


def low_biases(value: float) -> Settings:
    """Every hidden bias at a negative value."""

    def change(net: nn.Module) -> nn.Module:
        for layer in weighted(net)[:-1]:
            if layer.bias is not None:
                nn.init.constant_(layer.bias, value)
        return net

    return {"change": change}


def copied(share: float) -> Settings:
    """A share of every hidden layer's units are one unit, forward and backward."""

    def change(net: nn.Module) -> nn.Module:
        layers = weighted(net)
        for layer, after in pairwise(layers):
            count = round(share * layer.weight.shape[0])
            layer.weight.data[:count] = layer.weight.data[:1]
            if layer.bias is not None:
                layer.bias.data[:count] = layer.bias.data[:1]
            columns = after.weight.data.unflatten(1, (layer.weight.shape[0], -1))
            columns[:, :count] = columns[:, :1].clone()
        return net

    return {"change": change}


def scaled(times: float, plus: float = 0.0) -> Settings:
    """Inputs that were not standardised."""

    def data(pictures: Pictures) -> Pictures:
        return replace(pictures, x=times * pictures.x + plus, held_x=times * pictures.held_x + plus)

    return {"data": data}


class Scaled(nn.Module):
    """Scores squashed into -limit to limit."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.act = limit, nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return self.limit * self.act(x)


def ended(*last: Callable[[], nn.Module]) -> Settings:
    """Something after the last layer."""
    return {"change": lambda net: nn.Sequential(net, *(one() for one in last))}


class Mixed(nn.Module):
    """Scores with a share of the next example's."""

    def __init__(self, net: nn.Module, share: float) -> None:
        super().__init__()
        self.net, self.share = net, share

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        return scores + self.share * scores.roll(1, 0)


class Blind(nn.Module):
    """Hands on only so much of what differs from example to example."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        return 1.0 + self.share * x


class Wrong(torch.autograd.Function):
    """Forward the identity; backward a factor too much or too little."""

    @staticmethod
    def forward(context: Any, x: Tensor, factor: float) -> Tensor:
        context.factor = factor
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.factor, None


class Wronged(nn.Module):
    """An activation followed by `Wrong`."""

    def __init__(self, act: nn.Module, factor: float) -> None:
        super().__init__()
        self.act, self.factor = act, factor

    def forward(self, x: Tensor) -> Tensor:
        return Wrong.apply(self.act(x), self.factor)


class LogOf(nn.Module):
    """log(a + eps) of a rectified value, back in the range of an activation."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.act, self.eps = nn.ReLU(), eps

    def forward(self, x: Tensor) -> Tensor:
        return torch.log(self.act(x) + self.eps)


ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU)


def instead(make: Callable[[nn.Module], nn.Module], places: slice = slice(0, 1)) -> Settings:
    """Some activations of the network exchanged."""

    def change(net: nn.Module) -> nn.Module:
        found = [
            (module, name, child)
            for module in net.modules()
            for name, child in module.named_children()
            if isinstance(child, ACTIVATIONS)
        ]
        for module, name, child in found[places]:
            setattr(module, name, make(child))
        return net

    return {"change": change}


def left_out(share: str) -> Settings:
    """Parameters that no optimiser holds: the first biases, the first layer, all but the last."""

    def groups(net: nn.Module) -> list[Tensor]:
        layers = weighted(net)
        gone = {
            "bias": [layers[0].bias],
            "layer": [layers[0].weight, layers[0].bias],
            "body": [one for layer in layers[:-1] for one in (layer.weight, layer.bias)],
        }[share]
        return [one for one in net.parameters() if not any(one is other for other in gone)]

    return {"groups": groups}


class Detached(nn.Module):
    """An activation behind which no gradient comes."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x).detach()


def branch_decay(decay: float) -> Settings:
    """Weight decay on the residual branches alone."""

    def groups(net: nn.Module) -> list[Settings]:
        inside = [one for block in net.modules() if isinstance(block, RESIDUAL) for one in block.parameters()]
        others = [one for one in net.parameters() if not any(one is other for other in inside)]
        return [{"params": inside, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]

    return {"groups": groups}


def slow_averages(momentum: float) -> Settings:
    """Batch norm's averages that trail behind."""

    def change(net: nn.Module) -> nn.Module:
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = momentum
        return net

    return {"change": change}


def flipped(share: float) -> Callable[[Pictures], Pictures]:
    """A share of the training labels exchanged for others."""

    def data(pictures: Pictures) -> Pictures:
        rng = torch.Generator().manual_seed(3)
        chosen = torch.rand(len(pictures.y), generator=rng) < share
        y = pictures.y.clone()
        y[chosen] = (y[chosen] + torch.randint(1, 10, (int(chosen.sum()),), generator=rng)) % 10
        return replace(pictures, y=y, flipped=chosen)

    return data


def few(count: int) -> Callable[[Pictures], Pictures]:
    """The first examples alone."""
    return lambda pictures: replace(pictures, x=pictures.x[:count], y=pictures.y[:count])


def rare(ratio: int) -> Callable[[Pictures], Pictures]:
    """Half of the classes with so many times fewer examples."""

    def data(pictures: Pictures) -> Pictures:
        kept = torch.ones(len(pictures.y), dtype=torch.bool)
        for k in range(5, 10):
            places = torch.nonzero(pictures.y == k).flatten()
            kept[places[max(1, len(places) // ratio) :]] = False
        return replace(pictures, x=pictures.x[kept], y=pictures.y[kept])

    return data


def favouring(times: float) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss that weighs the first class so many times."""

    def loss(scores: Tensor, y: Tensor) -> Tensor:
        by_example = F.cross_entropy(scores, y, reduction="none")
        weights = torch.where(y == 0, times, 1.0)
        return by_example * weights / (1 + (times - 1) / 10)

    return loss


def decayed(at: float, to: float) -> Settings:
    """A rate that falls once."""
    return {"schedule": lambda done: 1.0 if done < at else to}


def waist(width: int) -> Settings:
    """One hidden layer so narrow that little passes."""

    def change(net: nn.Module) -> nn.Module:
        last = weighted(net)[-1]
        narrow = nn.Sequential(nn.Linear(last.in_features, width), nn.Linear(width, last.out_features))
        for module in net.modules():
            for name, child in module.named_children():
                if child is last:
                    setattr(module, name, narrow)
                    return net
        return net

    return {"change": change}


def recurrent_gain(gain: float) -> Settings:
    """The recurrent matrix times a gain."""

    def change(net: nn.Module) -> nn.Module:
        if isinstance(net, Reader):
            net.cell.weight_hh_l0.data *= gain
        return net

    return {"change": change}


def sharp(times: float) -> Settings:
    """Queries and keys so many times as large."""

    def change(net: nn.Module) -> nn.Module:
        for qkv in net.qkv if isinstance(net, Attentive) else ():
            qkv.weight.data[: 2 * qkv.in_features] *= times
        return net

    return {"change": change}


def sigmoids(depth: int) -> Settings:
    """So many layers of sigmoids, with torch's own weights."""
    return {"build": lambda: perceptron(depth, 48, nn.Sigmoid, rule="torch")}


class Times(nn.Module):
    """Multiplies."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x
