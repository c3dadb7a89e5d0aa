"""What is true of a run, found without the clinic's help: exact counts, float64, numeric differences, whole data.

Three kinds of oracle decide whether a run has a disease:

    exact        a fact of the network, measured here over the whole training set with code of its own
    statistical  DeepCrime's test against the matched control, the same body trained well: Welch's p < 0.05 over seeds
                 and Cohen's d at least 0.5 (Humbatova, Jahangirova and Tonella 2021, DeepCrime, section 3)
    cure         taking the disease away, or doing what the finding says, brings back 80 % of what was lost

A run that was made sick and whose oracle says no counts among the negatives.
"""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from bodies import RESIDUAL, Attentive, ConvBlock, K, Reader
from digits import Pictures
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]
GRADIENT_EXAMPLES = 64
CAP = 10.0  # losses beyond, and those that are none, count as this much


def doubled(net: nn.Module, *, training: bool = True) -> nn.Module:
    """A float64 copy; in training mode without dropout, as batch norm then takes the batch's statistics."""
    net = copy.deepcopy(net).double().train(training)
    for module in net.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    return net


def gradient_ratio(net: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> float | None:
    """Mean norm of a sample's gradient at the first hidden layer's output over that at the last; None of under 3."""
    net = doubled(net)
    outputs: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        output.retain_grad()
        outputs.append(output)

    weighted = [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    handles = [one.register_forward_hook(keep) for one in weighted if any(p.requires_grad for p in net.parameters())]
    value = loss(net(x[:GRADIENT_EXAMPLES].double().requires_grad_()), y[:GRADIENT_EXAMPLES]).sum()
    if not torch.isfinite(value):
        return None
    value.backward()
    for handle in handles:
        handle.remove()
    norms = [one.grad.flatten(1).norm(dim=1).mean().item() for one in outputs[:-1] if one.grad is not None]
    return None if len(norms) < 3 or max(norms) < 1e-12 or not norms[-1] else norms[0] / norms[-1]


@dataclass
class Before:
    """What is to be known of a run's beginning."""

    weights: dict[str, Tensor]
    ratios: list[float | None] = field(default_factory=list)
    loss: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, net: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> "Before":
        """Look at a network before its first step."""
        made = cls({name: one.detach().clone() for name, one in net.named_parameters()})
        made.look_again(net, x, y, loss)
        with torch.no_grad():
            made.loss = _finite(loss(doubled(net)(x.double()), y).mean().item())
            copied = copy.deepcopy(net).eval()
            made.facts = _activations(copied, x) | _attention(copied, x)
        made.facts |= _through_time(net, x, y)
        return made

    def look_again(self, net: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> None:
        """Take the gradient's ratio once more, an eighth of the run on."""
        self.ratios.append(gradient_ratio(net, x, y, loss))


def measure(
    net: nn.Module, pictures: Pictures, loss: Loss, before: Before, seen: list[tuple[float, float]]
) -> dict[str, Any]:
    """Everything exact that is asked of a trained network; each number stands for one disease's oracle."""
    x, y = pictures.x, pictures.y
    finite = all(bool(torch.isfinite(one).all()) for one in net.parameters()) and math.isfinite(seen[-1][0])
    losses = [_finite(value) for value, _ in seen]
    found: dict[str, Any] = {
        "finite": finite,
        "start_loss": before.loss,
        "mean_loss": sum(losses) / len(losses),
        "last_loss": sum(losses[-10:]) / len(losses[-10:]),
        "ratios": before.ratios,
        "start": before.facts,
        "still": _still(net, before),
    }
    net = copy.deepcopy(net).eval()
    with torch.no_grad():
        scores, held = net(x), net(pictures.held_x)
        found["accuracy"] = _right(scores, y)
        found["validation_accuracy"] = _right(held, pictures.held_y)
        found["validation_loss"] = _finite(F.cross_entropy(held, pictures.held_y).item())
        found["train_loss"] = _finite(F.cross_entropy(scores, y).item())
        recalls = [_right(held[pictures.held_y == k], pictures.held_y[pictures.held_y == k]) for k in range(K)]
        found["worst_recall"] = min(recalls)
        shares = torch.bincount(scores.argmax(1), minlength=K) / len(y)
        found["favourite"] = shares.max().item()
        found["favourite_given"] = (y == shares.argmax()).float().mean().item()
        if not finite:
            return found
        found |= _activations(net, x)
        found["copies"] = _copies(net)
        shuffled = [net(x[torch.randperm(len(x), generator=torch.Generator().manual_seed(one))]) for one in range(3)]
        gained = sum(F.cross_entropy(one, y).item() for one in shuffled) / 3 - F.cross_entropy(scores, y).item()
        found["informed"] = gained / math.log(K)
        found["mixed"] = _mixed(net, x)
        found |= _averages(net, x, y)
        found |= _useless(net, x, y)
        found |= _attention(net, x)
    found |= _through_time(net, x, y)
    return found


def _finite(value: float) -> float:
    return min(value, CAP) if math.isfinite(value) else CAP


def _right(scores: Tensor, y: Tensor) -> float:
    return (scores.argmax(1) == y).float().mean().item() if len(y) else 1.0


def _still(net: nn.Module, before: Before) -> float:
    """Share of the trainable weights that stand in tensors no step has changed by a bit."""
    trainable = {name: one for name, one in net.named_parameters() if one.requires_grad}
    still = sum(one.numel() for name, one in trainable.items() if torch.equal(one, before.weights[name]))
    return still / max(1, sum(one.numel() for one in net.parameters()))


@contextmanager
def _heard(net: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[list[tuple[nn.Module, Tensor, Tensor]]]:
    heard: list[tuple[nn.Module, Tensor, Tensor]] = []
    handles = [
        one.register_forward_hook(lambda module, args, output: heard.append((module, args[0], output)))
        for one in net.modules()
        if isinstance(one, kinds)
    ]
    yield heard
    for handle in handles:
        handle.remove()


def _activations(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Worst layer's share of units silent on every training example; of values at their ends; of one place's wins."""
    found = {"dead": 0.0, "saturated": 0.0}
    with _heard(net, (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.MaxPool2d)) as heard:
        net(x)
    last = len(heard) - 1
    for place, (module, given, output) in enumerate(heard):
        if isinstance(module, nn.ReLU):
            axes = [axis for axis in range(output.ndim) if axis != (1 if output.ndim != 3 else 2)]
            silent = (output <= 0).all(axes[0]) if len(axes) == 1 else (output.amax(axes) <= 0)
            if len(silent) >= 8:
                found["dead"] = max(found["dead"], silent.float().mean().item())
        elif isinstance(module, nn.Tanh):
            found["saturated"] = max(found["saturated"], (output.abs() > 0.97).float().mean().item())
        elif isinstance(module, nn.Sigmoid) and (place < last or len(heard) == 1):
            found["saturated"] = max(found["saturated"], ((output - 0.5).abs() > 0.48).float().mean().item())
        elif isinstance(module, nn.MaxPool2d):
            windows = given.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)  # (B, C, H, W, 4)
            wins = torch.bincount(windows.argmax(-1).flatten(), minlength=4) / windows[..., 0].numel()
            found["one_place"] = max(found.get("one_place", 0.0), wins.max().item())
    return found


def _copies(net: nn.Module) -> float:
    """Largest share of a hidden matrix's rows that another row equals to four digits, of rows that are not zero."""
    most = 0.0
    for layer in [one for one in net.modules() if isinstance(one, nn.Linear | nn.Conv2d)][:-1]:
        rows = layer.weight.detach().double().flatten(1)
        lengths = rows.norm(dim=1)
        apart = torch.cdist(rows, rows) + torch.eye(len(rows)) * 1e9
        alike = (
            (apart.amin(1) <= 1e-4 * lengths.max()) if lengths.max() > 0 else torch.ones(len(rows), dtype=torch.bool)
        )
        most = max(most, alike.double().mean().item())
    return most


def _mixed(net: nn.Module, x: Tensor) -> bool:
    """Whether changing one example in eval mode changes another's scores."""
    net = doubled(net, training=False)
    some = x[:8].double()
    other = some.clone()
    other[0] = other[0].flip(-1) + 0.5
    return bool((net(some)[1:] - net(other)[1:]).abs().max() > 1e-9)


def _averages(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Loss and accuracy with batch norm's averages taken anew over the whole training set."""
    norms = [one for one in net.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return {}
    net = copy.deepcopy(net)
    for one in net.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.reset_running_stats()
            one.momentum = None
            one.train()
    for part in x.split(300):
        net(part)
    net.eval()
    scores = net(x)
    return {"renewed_loss": _finite(F.cross_entropy(scores, y).item()), "renewed_accuracy": _right(scores, y)}


def _useless(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Share of residual branches that might as well add the same to every example.

    Replaced by their mean, they change what an example costs by less than 0.002 of guessing's loss, on average and
    whatever the sign. (At the first look the change of the mean loss was taken, in which gains and losses cancel.)
    """
    blocks = [one for one in net.modules() if isinstance(one, RESIDUAL)]
    if not blocks:
        return {}
    losses = F.cross_entropy(net(x), y, reduction="none")
    useless = 0
    for block in blocks:
        last = block.norm2 if isinstance(block, ConvBlock) else block.second
        handle = last.register_forward_hook(lambda module, args, output: output.mean(0, keepdim=True).expand_as(output))
        changes = F.cross_entropy(net(x), y, reduction="none") - losses
        useless += changes.abs().mean().item() < 0.002 * math.log(K)
        handle.remove()
    return {"useless": useless / len(blocks)}


def _attention(net: nn.Module, x: Tensor) -> dict[str, float]:
    """Relative entropy of each head's map, the mean over the training set: share of heads under 0.1 and over 0.98."""
    if not isinstance(net, Attentive):
        return {}
    heads: list[float] = []
    with _heard(net, (nn.Linear,)) as heard:
        net(x)
    for module, _, output in heard:
        if any(module is one for one in net.qkv):
            q, k, _ = output.double().unflatten(2, (3, net.heads, -1)).permute(2, 0, 3, 1, 4)
            shares = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
            entropy = -(shares * shares.clamp_min(1e-300).log()).sum(-1) / math.log(shares.shape[-1])
            heads += entropy.mean((0, 2)).tolist()
    return {
        "collapsed_heads": sum(one < 0.1 for one in heads) / len(heads),
        "even_heads": sum(one > 0.98 for one in heads) / len(heads),
    }


def _through_time(net: nn.Module, x: Tensor, y: Tensor) -> dict[str, float]:
    """Of a network that reads pieces: gradient at the first over the last, and how many pieces back it is 1/1000."""
    if not isinstance(net, Reader):
        return {}
    leaf = x[:GRADIENT_EXAMPLES].double().requires_grad_()
    F.cross_entropy(doubled(net)(leaf), y[:GRADIENT_EXAMPLES]).backward()
    if leaf.grad is None:
        return {}
    norms = leaf.grad.flatten(1).unflatten(1, (-1, net.piece)).norm(dim=2).mean(0)
    last = norms[-1].item()
    if not last:
        return {}
    reach = next((back for back, one in enumerate(reversed(norms[:-1].tolist())) if one < 1e-3 * last), len(norms) - 1)
    return {"time_ratio": norms[0].item() / last, "horizon": reach / len(norms)}


def harm_of_going_on(held: list[Tensor]) -> dict[str, float]:
    """What the passes after the best one cost on validation, the best chosen on one half and judged on the other.

    Returns:
        `harm`: mean loss at the end over that at the best pass; `harm_z`: how many standard errors, paired by example,
        it lies above. Nothing of fewer than three passes.
    """
    if len(held) < 3 or not all(bool(torch.isfinite(one).all()) for one in held):
        return {}
    choosing, judging = [one[::2] for one in held], [one[1::2].double() for one in held]
    best = min(range(len(held)), key=lambda place: choosing[place].mean().item())
    worse = judging[-1] - judging[best]
    error = worse.std().item() / len(worse) ** 0.5
    return {
        "harm": judging[-1].mean().item() / max(judging[best].mean().item(), 1e-6),
        "harm_z": worse.mean().item() / error if error else 0.0,
    }


def gradient_error(net: nn.Module, x: Tensor, y: Tensor, loss: Loss) -> float:
    """Largest relative error of autograd against central differences along random directions of all weights."""
    net = doubled(net, training=False)
    x, y = x[:32].double(), y[:32]
    parameters = [one for one in net.parameters() if one.requires_grad]
    found = torch.autograd.grad(loss(net(x), y).mean(), parameters, allow_unused=True)
    rng, worst = torch.Generator().manual_seed(0), 0.0
    for _ in range(5):
        ways = [torch.randn(one.shape, generator=rng, dtype=torch.float64) for one in parameters]
        analytic = sum((g * v).sum().item() for g, v in zip(found, ways, strict=True) if g is not None)
        values = []
        with torch.no_grad():
            for sign in (1e-6, -2e-6):
                for one, v in zip(parameters, ways, strict=True):
                    one.add_(v, alpha=sign)
                values.append(loss(net(x), y).mean().item())
            for one, v in zip(parameters, ways, strict=True):
                one.add_(v, alpha=1e-6)
        numeric = (values[0] - values[1]) / 2e-6
        worst = max(worst, abs(analytic - numeric) / max(abs(analytic), abs(numeric), 1e-9))
    return worst
