"""Diagnoses while training, on networks that are really trained: made sick at a clear dose, or unusual and healthy."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from engram import recipe, registry
from engram.clinic.clinic import Clinic
from engram.clinic.finding import SEVERITIES, Finding
from engram.clinic.measured import Figures, History, Layer, Moment, Probe, Setup, Weights
from engram.clinic.residuals import additions
from engram.clinic.subject import Subject
from engram.models import build
from engram.review.ledger import Ledger, Observed

Factor = Callable[[float], float]


def diagnose(name: str, history: History) -> list[Finding]:
    return registry.find("diagnosis", name).build(history)


def severities(name: str, history: History) -> list[str]:
    return [one.severity for one in diagnose(name, history)]


@cache
def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's handwritten digits, standardised, shuffled: 1200 to train on, the rest to judge by."""
    bunch = load_digits()
    x = torch.tensor(bunch.images, dtype=torch.float32)[:, None]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return ((x - x.mean()) / x.std())[order], torch.tensor(bunch.target)[order]


def train(
    net: nn.Module,
    optimizer: Optimizer,
    *,
    steps: int = 80,
    x: Tensor | None = None,
    y: Tensor | None = None,
    batch: int = 64,
    factor: Factor | None = None,
    passes: bool = False,
    level: str = "standard",
    measures: Iterable[str] = (),
) -> Clinic:
    """A plain loop with the clinic around it, on the first 1200 digits unless others are given."""
    images, labels = digits()
    x, y = images[:1200] if x is None else x, labels[:1200] if y is None else y
    rng = torch.Generator().manual_seed(0)
    clinic = Clinic(net, optimizer, probe=(x, y), level=level, setup=Setup(total_steps=steps))
    base = [group["lr"] for group in optimizer.param_groups]
    clinic.look()
    order = torch.empty(0, dtype=torch.long)
    seen: list[tuple[float, float]] = []
    each = max(1, len(x) // batch)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(x), generator=rng)
        rows, order = order[:batch], order[batch:]
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * (factor(step / steps) if factor else 1.0)
        net.train()
        scores = net(x[rows])
        loss = F.cross_entropy(scores, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clinic.step(loss)
        seen.append((loss.item(), (scores.argmax(1) == y[rows]).float().mean().item()))
        if not math.isfinite(loss.item()):
            clinic.look()
            break
        if passes and (step + 1) % each == 0:
            losses, right = zip(*seen[-each:], strict=True)
            net.eval()
            with torch.no_grad():
                held = net(images[1200:])
            clinic.judged(
                (step + 1) / each,
                sum(losses) / each,
                sum(right) / each,
                F.cross_entropy(held, labels[1200:]).item(),
                (held.argmax(1) == labels[1200:]).float().mean().item(),
            )
    clinic.finish()
    return clinic


def mlp(
    depth: int, width: int = 64, activation: type[nn.Module] = nn.ReLU, *, weights: str = "he", scale: float = 1.0,
    norm: bool = False, drop: float = 0.0,
) -> nn.Sequential:  # fmt: skip
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for place in range(depth):
        linear = nn.Linear(width if place else 64, width)
        if weights != "torch":
            draw = nn.init.kaiming_normal_ if weights == "he" else nn.init.xavier_normal_
            draw(linear.weight)
            nn.init.zeros_(linear.bias)
        linear.weight.data *= scale
        layers += [linear, *([nn.BatchNorm1d(width)] if norm else []), activation()]
        layers += [nn.Dropout(drop)] if drop else []
    return nn.Sequential(*layers, nn.Linear(width, 10))


def momentum(net: nn.Module, lr: float, **more: Any) -> Optimizer:
    return SGD([one for one in net.parameters() if one.requires_grad], lr=lr, momentum=0.9, **more)


class Residual(nn.Module):
    """x + F(x), or the same written in place after batch norm."""

    def __init__(self, width: int, *, preactivated: bool = False, zero: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width) if preactivated else None
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        if zero:
            nn.init.zeros_(self.second.weight)
            nn.init.zeros_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None:
            return x + self.second(F.relu(self.first(x)))
        out = self.second(F.relu(self.first(self.norm(x)), inplace=True))
        out += x
        return out


def residual(blocks: int = 4, **settings: bool) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 32), *[Residual(32, **settings) for _ in range(blocks)], nn.Linear(32, 10)
    )


def lenet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(True),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


class LogOfZero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(torch.relu(x))


def born_dead() -> nn.Module:
    net = mlp(3)
    for layer in net:
        if isinstance(layer, nn.Linear) and layer.out_features != 10:
            nn.init.constant_(layer.bias, -9.0)
    return net


def with_log() -> nn.Module:
    net = mlp(3)
    net[4] = LogOfZero()
    return net


def slow_norms() -> nn.Module:
    net = mlp(2, norm=True)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.momentum = 0.001
    return net


def run(net: nn.Module, optimizer: Callable[[nn.Module], Optimizer], **more: Any) -> Clinic:
    return train(net, optimizer(net), **more)


def on_branches_alone(net: nn.Module) -> Optimizer:
    inside = {id(one) for block in net if isinstance(block, Residual) for one in block.parameters()}  # type: ignore[union-attr]
    groups = [{"params": [one for one in net.parameters() if id(one) in inside], "weight_decay": 0.3}]
    groups += [{"params": [one for one in net.parameters() if id(one) not in inside], "weight_decay": 0.0}]
    return SGD(groups, lr=0.02, momentum=0.9)


def noisy(share: float) -> Tensor:
    y = digits()[1][:1200].clone()
    flipped = torch.rand(len(y), generator=torch.Generator().manual_seed(1)) < share
    y[flipped] = torch.randint(0, 10, (int(flipped.sum()),), generator=torch.Generator().manual_seed(2))
    return y


def few() -> dict[str, Any]:
    x, y = digits()
    return {"x": x[:60], "y": y[:60], "batch": 30}


def waist() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.ReLU(), nn.Linear(1, 10))


SICK: dict[str, tuple[str, str, Callable[[], Clinic]]] = {
    "ten layers of sigmoid": (
        "vanishing_gradient",
        "critical",
        lambda: run(mlp(10, 32, nn.Sigmoid, weights="torch"), lambda n: SGD(n.parameters(), 0.05), steps=8),
    ),
    "half of Xavier's weights": (
        "vanishing_gradient",
        "warning",
        lambda: run(mlp(10, 32, nn.Tanh, weights="xavier", scale=0.5), lambda n: SGD(n.parameters(), 0.05), steps=8),
    ),
    "twice He's weights": (
        "exploding_gradient",
        "warning",
        lambda: run(mlp(10, 64, scale=2.0), lambda n: SGD(n.parameters(), 1e-6), steps=8),
    ),
    "a logarithm of 0": (
        "not_finite",
        "critical",
        lambda: run(with_log(), lambda n: SGD(n.parameters(), 0.05), steps=4),
    ),
    "a rate of 100": ("not_finite", "critical", lambda: run(mlp(6), lambda n: SGD(n.parameters(), 100.0), steps=20)),
    "biases of -9": ("dead_relus", "critical", lambda: run(born_dead(), lambda n: SGD(n.parameters(), 0.05), steps=8)),
    "five steps at a rate of 5": (
        "dead_relus",
        "critical",
        lambda: run(mlp(3), lambda n: SGD(n.parameters(), 2.0), steps=40, factor=lambda p: 1.0 if p < 0.13 else 1e-3),
    ),
    "tanh at ten times its weights": (
        "saturation",
        "warning",
        lambda: run(mlp(4, 64, nn.Tanh, weights="xavier", scale=10.0), lambda n: SGD(n.parameters(), 0.02), steps=60),
    ),
    "SGD at 1": ("lr_too_high", "critical", lambda: run(mlp(4), lambda n: SGD(n.parameters(), 1.0), steps=40)),
    "Adam at 0.3": ("lr_too_high", "critical", lambda: run(mlp(2), lambda n: Adam(n.parameters(), 0.3), steps=40)),
    "momentum at 0.3": ("lr_too_high", "warning", lambda: run(mlp(2), lambda n: momentum(n, 0.3), steps=120)),
    "SGD at 1e-4": ("lr_too_low", "warning", lambda: run(mlp(2), lambda n: SGD(n.parameters(), 1e-4), steps=32)),
    "Adam at 1e-5": ("lr_too_low", "warning", lambda: run(mlp(6, 32), lambda n: Adam(n.parameters(), 1e-5), steps=32)),
    "a rate taken away at 5 %": (
        "lr_decayed_early",
        "warning",
        lambda: run(mlp(2), lambda n: SGD(n.parameters(), 0.02), steps=300, factor=lambda p: 1.0 if p < 0.08 else 0.02),
    ),
    "60 examples": (
        "overfitting",
        "warning",
        lambda: run(mlp(2, 256), lambda n: Adam(n.parameters(), 1e-3), steps=160, passes=True, **few()),
    ),
    "three in ten labels at random": (
        "overfitting",
        "critical",
        lambda: run(mlp(2, 256), lambda n: Adam(n.parameters(), 2e-3), steps=400, passes=True, y=noisy(0.3)),
    ),
    "a waist of one unit": (
        "underfitting",
        "critical",
        lambda: run(waist(), lambda n: Adam(n.parameters(), 1e-2), steps=160, passes=True),
    ),
    "a decay of 0.5": (
        "regularizer_dominates",
        "critical",
        lambda: run(mlp(2), lambda n: momentum(n, 0.05, weight_decay=0.5), steps=80),
    ),
    "a decay of the branches alone": (
        "residual_identity",
        "warning",
        lambda: run(residual(), on_branches_alone, steps=120),
    ),
    "averages that trail": (
        "train_eval_mismatch",
        "warning",
        lambda: run(slow_norms(), lambda n: momentum(n, 0.05), steps=110, level="full"),
    ),
    "a head that was pushed down": (
        "class_collapse",
        "critical",
        lambda: run(born_dead(), lambda n: SGD(n.parameters(), 0.05), steps=120, level="full"),
    ),
}


@cache
def sick(name: str) -> tuple[str, str, Clinic]:
    diagnosis, severity, make = SICK[name]
    return diagnosis, severity, make()


LONG = {
    "three in ten labels at random",
    "a rate taken away at 5 %",
    "60 examples",
    "a head that was pushed down",
    "averages that trail",
}


def marked(names: Iterable[str], slow: set[str]) -> list[Any]:
    return [pytest.param(one, marks=[pytest.mark.slow] if one in slow else []) for one in names]


@pytest.mark.parametrize("name", marked(SICK, LONG))
def test_a_sick_network_is_found_out(name: str) -> None:
    diagnosis, severity, clinic = sick(name)
    found = [one for one in clinic.findings if one.diagnosis == diagnosis]
    told = [(one.diagnosis, one.severity) for one in clinic.findings]
    assert min((SEVERITIES.index(one.severity) for one in found), default=9) <= SEVERITIES.index(severity), told
    for one in found:
        assert one.seen
        assert min(len(one.says), len(one.means), len(one.remedy.says), len(one.refuted_by)) > 20
        assert all(isinstance(value, int | float | str) for value in one.seen.values())
        recipe.build(one.remedy.change)  # it can be run


def small(name: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return build(name, shape=(1, 8, 8), num_classes=10, settings=settings)


def zero_head() -> nn.Module:
    net = mlp(4)
    nn.init.zeros_(net[-1].weight)  # type: ignore[arg-type]
    return net


def frozen() -> nn.Module:
    net = mlp(3)
    net[1].requires_grad_(False)
    net[3].requires_grad_(False)
    return net


def trained() -> nn.Module:
    net = mlp(2)
    train(net, Adam(net.parameters(), 3e-3), steps=100)
    return net


class Sparse(nn.Module):
    """ReLU of z - 1: few units answer to an image, and each answers to some."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x - 1.0)


def rise_and_fall(p: float) -> float:
    return p / 0.3 if p < 0.3 else (1 - p) / 0.7


HEALTHY: dict[str, Callable[[], Clinic]] = {
    "two layers": lambda: run(mlp(2), lambda n: momentum(n, 0.05), passes=True),
    "six layers": lambda: run(mlp(6), lambda n: momentum(n, 0.02)),
    "three times the best rate": lambda: run(mlp(2), lambda n: SGD(n.parameters(), 0.3)),
    "tanh": lambda: run(mlp(4, 64, nn.Tanh, weights="xavier"), lambda n: momentum(n, 0.05)),
    "one layer of sigmoid": lambda: run(mlp(1, 64, nn.Sigmoid), lambda n: Adam(n.parameters(), 3e-3), steps=120),
    "sparse units": lambda: run(mlp(2, 128, Sparse), lambda n: momentum(n, 0.05), steps=120),
    "batch norm in ten layers, one cycle": lambda: run(
        mlp(10, 32, norm=True), lambda n: momentum(n, 0.1), steps=120, factor=rise_and_fall, level="full"
    ),
    "dropout of a half": lambda: run(mlp(2, 128, drop=0.5), lambda n: Adam(n.parameters(), 2e-3), passes=True),
    "AdamW with much decay": lambda: run(mlp(2), lambda n: AdamW(n.parameters(), 2e-3, weight_decay=0.1), steps=120),
    "a rate that falls at 60 %": lambda: run(
        mlp(2), lambda n: SGD(n.parameters(), 0.05), steps=160, factor=lambda p: 1.0 if p < 0.6 else 0.05
    ),
    "a last layer of zeros": lambda: run(zero_head(), lambda n: momentum(n, 0.05)),
    "frozen layers": lambda: run(frozen(), lambda n: momentum(n, 0.05), steps=120),
    "fine-tuning at 1e-5": lambda: run(trained(), lambda n: SGD(n.parameters(), 1e-5), passes=True),
    "residual blocks": lambda: run(residual(), lambda n: momentum(n, 0.02), steps=60),
    "pre-activation, in place": lambda: run(residual(preactivated=True), lambda n: momentum(n, 0.05), steps=60),
    "branches that begin at 0": lambda: run(residual(zero=True), lambda n: momentum(n, 0.02), steps=60),
    "a small LeNet": lambda: run(lenet(), lambda n: momentum(n, 0.05), steps=120, level="full"),
    "ResNet-20 at its start": lambda: run(small("resnet20"), lambda n: momentum(n, 0.05), steps=8, batch=32),
    "pre-activation ResNet-20": lambda: run(small("preact_resnet_20"), lambda n: momentum(n, 0.05), steps=8, batch=32),
}
COSTLY = {
    "ResNet-20 at its start",
    "pre-activation ResNet-20",
    "batch norm in ten layers, one cycle",
    "a small LeNet",
    "fine-tuning at 1e-5",
    "sparse units",
    "AdamW with much decay",
    "six layers",
}


@pytest.mark.parametrize("name", marked(HEALTHY, COSTLY))
def test_a_healthy_network_is_not_called_lost(name: str) -> None:
    clinic = HEALTHY[name]()
    found = [
        (one.diagnosis, one.severity, one.says)
        for one in clinic.findings
        if one.severity == "critical" and registry.find("diagnosis", one.diagnosis).facts["when"] != "before"
    ]
    assert not found


def test_the_first_bad_layer_is_named() -> None:
    _, _, clinic = sick("a logarithm of 0")
    found = next(one for one in clinic.findings if one.diagnosis == "not_finite")
    assert found.where == ("4",)
    assert found.seen["cause"] == "operation"


def test_the_input_is_not_blamed_by_a_layer_that_could_answer_it_before() -> None:
    """The probe batch stays the same, so that a first layer of finite weights can only have overflowed."""
    bad = Layer("first", "Linear", 0, math.inf, math.inf, math.inf, 0.0, None, 4)
    well = replace(bad, mean=0.0, std=1.0, largest=5e11)
    (found,) = diagnose("not_finite", History((Moment(8, layers=(well,)), Moment(16, layers=(bad,))), Setup(lr=1.0)))
    assert (found.seen["cause"], found.seen["largest_before"]) == ("overflow", 5e11)
    assert found.remedy.change == {"optimizer.lr": 0.1, "clip_norm": 1.0}
    (found,) = diagnose("not_finite", History((Moment(8, layers=(bad,)),)))
    assert found.seen["cause"] == "input"


@cache
def remembered(share: float) -> tuple[Ledger, set[int]]:
    """A ledger of 14 passes over 1200 digits of whose labels some were exchanged, and which ones."""
    x, clean = digits()[0][:1200], digits()[1][:1200]
    y = clean.clone()
    flipped = torch.rand(len(y), generator=torch.Generator().manual_seed(3)) < share
    y[flipped] = (
        y[flipped] + torch.randint(1, 10, (int(flipped.sum()),), generator=torch.Generator().manual_seed(4))
    ) % 10
    net = mlp(1, 32)
    optimizer, ledger = Adam(net.parameters(), 2e-3), Ledger(len(y))
    rng = torch.Generator().manual_seed(0)
    for passed in range(14):
        for batch, rows in enumerate(torch.randperm(len(y), generator=rng).split(64)):
            scores = net(x[rows])
            losses = F.cross_entropy(scores, y[rows], reduction="none")
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            right = (scores.argmax(1) == y[rows]).float()
            clocks, batches = torch.full((len(rows),), float(passed)), torch.full((len(rows),), batch)
            ledger.record(Observed(rows, losses.detach(), right, clocks, batches))
    return ledger, set(torch.nonzero(flipped).flatten().tolist())


def after(name: str, ledger: Ledger) -> History:
    subject = Subject(nn.Linear(1, 2), torch.zeros(2, 1), torch.zeros(2, dtype=torch.long), facts={"ledger": ledger})
    own = registry.find("diagnosis", name).facts["measure"](subject)
    return History((Moment(9, own={} if own is None else {name: own}),))


def test_labels_that_were_exchanged_are_the_first_to_look_at() -> None:
    ledger, flipped = remembered(0.1)
    found = diagnose("label_errors", after("label_errors", ledger))
    assert [one.severity for one in found] == ["information"]  # a list to look at, never a verdict
    history = after("label_errors", ledger)
    own = history.own("label_errors")
    assert own is not None
    assert len(set(own["indices"][:60]) & flipped) >= 54  # nine in ten of the first sixty
    assert 0.7 * len(flipped) < own["count"] < 1.3 * len(flipped)


def test_clean_labels_are_left_alone() -> None:
    ledger, _ = remembered(0.0)
    assert diagnose("label_errors", after("label_errors", ledger)) == []
    assert diagnose("forgetting", after("forgetting", ledger)) == []


def test_forgetting_counts_lapses() -> None:
    ledger = Ledger(100)
    ledger.visits += 9
    ledger.recall += 1
    ledger.lapses[:5] = 3
    assert diagnose("forgetting", after("forgetting", ledger)) == []  # 5 % is not over 5 %
    ledger.lapses[5] = 4
    (found,) = diagnose("forgetting", after("forgetting", ledger))
    assert found.where[0] == "example 5"
    assert found.seen["never_forgotten"] == pytest.approx(0.94)
    assert "labels are wrong" in found.means
    history = after("forgetting", ledger)
    (found,) = diagnose("forgetting", replace(history, setup=replace(history.setup, data={"task": "caption"})))
    assert "labels" not in found.means
    assert found.remedy.change == {"schedule": "one_cycle"}


@pytest.mark.parametrize(
    ("across", "near", "expected"),
    [(0, 0, []), (4, 0, ["information"]), (6, 6, ["warning"]), (51, 0, ["critical"]), (60, 12, ["warning"])],
)
def test_a_leak_is_counted_against_the_examples_to_judge_by(across: int, near: int, expected: list[str]) -> None:
    data = {
        "counts": {"train": [500, 500], "validation": [250, 250], "test": [250, 250]},
        "duplicates": {"across_count": across, "across_near_count": near, "across": [["train: a", "test: b"]]},
    }
    assert severities("split_leak", History((Moment(0),), Setup(data=data))) == expected


def test_imbalance_is_of_the_classes_that_are_there() -> None:
    def of(*counts: int) -> list[str]:
        return severities("class_imbalance", History((Moment(0),), Setup(data={"counts": {"train": list(counts)}})))

    assert of(99, 10, 0) == []
    assert of(100, 10, 0) == ["warning"]


def test_the_branch_is_what_comes_from_the_shortcut() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x) + self.other(x)  # two branches: no shortcut
            y = 0.5 * x
            y += x  # in place, the branch first
            return y + self.one(y)

    torch.manual_seed(0)
    net, x = Both(), torch.randn(6, 4)
    with torch.no_grad(), additions(net) as seen:
        whole = net(x)
    assert torch.equal(whole, net(x))
    assert len(seen.found) == 2
    assert seen.found[0].ratio == pytest.approx(0.5)
    with torch.no_grad(), additions(net, silent=0):
        without = net(x)
    base = net.one(x) + net.other(x)
    base = base + 0.5 * base.mean(0)  # what the branch adds to every example alike is left
    assert torch.allclose(without, base + net.one(base), atol=1e-6)


def test_pooling_of_empty_maps_goes_to_the_first_place() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10))
    x, y = digits()
    measure = registry.find("diagnosis", "pooling_routes").facts["measure"]
    nn.init.zeros_(net[0].bias)  # type: ignore[arg-type]
    fresh = measure(Subject(net, torch.randn(64, 1, 8, 8), y[:64]))["poolings"]["2"]
    assert max(fresh["places"]) < 0.5
    nn.init.constant_(net[0].bias, -99.0)  # type: ignore[arg-type]
    history = History((Moment(1, own={"pooling_routes": measure(Subject(net, x[:64], y[:64]))}),))
    (found,) = diagnose("pooling_routes", history)
    assert found.seen["share"] == 1.0
    assert found.seen["place"] == 1
    assert found.severity == "information"  # behind a ReLU it does no harm


def layers(*norms: float, kind: str = "Linear", **more: Any) -> tuple[Layer, ...]:
    return tuple(
        Layer(f"{place}", kind, place, 0.0, 1.0, 3.0, 0.0, norm, 64, **more) for place, norm in enumerate(norms)
    )


def lasting(moment: Moment, times: int = 3, **setup: Any) -> History:
    return History(tuple(replace(moment, step=step + 1) for step in range(times)), Setup(**setup))


@pytest.mark.parametrize(
    ("first", "vanishing", "exploding"),
    [
        (2e-2, [], []),
        (9e-3, ["warning"], []),
        (9e-5, ["critical"], []),
        (99.0, [], []),
        (101.0, [], ["warning"]),
        (2e4, [], ["critical"]),
    ],
)
def test_gradients_are_judged_by_the_ratio_of_the_ends(
    first: float, vanishing: list[str], exploding: list[str]
) -> None:
    history = lasting(Moment(1, layers=layers(first, 1.0, 1.0, 7.0)))
    assert severities("vanishing_gradient", history) == vanishing
    assert severities("exploding_gradient", history) == exploding
    once = lasting(Moment(1, layers=layers(first, 1.0, 1.0, 7.0)), times=2)
    assert severities("vanishing_gradient", once) + severities("exploding_gradient", once) == []


def test_steps_of_a_cell_are_places_in_time_and_not_in_depth() -> None:
    def judged(*names: str) -> list[str]:
        fading = layers(*(10.0**-place for place in range(9)))
        told = [replace(one, name=name) for one, name in zip(fading, names, strict=True)]
        return severities("exploding_gradient", lasting(Moment(1, layers=tuple(told))))

    encoder = ("conv1", "conv2", "conv3")
    assert judged(*encoder, "gates", "mix", "gates#2", "mix#2", "gates#3", "head") == []
    assert judged(*encoder, "same", "same#2", "same#3", "same#4", "same#5", "head") == ["critical"]  # one layer, tied
    assert judged(*encoder, "fc1", "fc2", "fc3", "fc4", "fc5", "head") == ["critical"]


def test_leaps_of_the_gradient_are_counted() -> None:
    def of(*norms: float) -> list[str]:
        moments = tuple(Moment(step, gradient=norm) for step, norm in enumerate([1.0] * 20 + list(norms)))
        return severities("exploding_gradient", History(moments))

    assert of(11.0, 1.0, 11.0) == []
    assert of(11.0, 1.0, 11.0, 11.0) == ["warning"]
    assert of(9.0, 9.0, 9.0, 9.0) == []


@pytest.mark.parametrize(
    ("dead", "probed", "expected"),
    [
        (6, 1024, []),
        (7, 1024, ["information"]),
        (17, 1024, ["warning"]),
        (33, 1024, ["critical"]),
        (33, 128, ["warning"]),
        (52, 128, ["critical"]),
    ],
)
def test_dead_units_are_counted_against_the_layer(dead: int, probed: int, expected: list[str]) -> None:
    moment = Moment(1, loss=2.3, layers=layers(1.0, kind="ReLU", dead=dead, probed=probed))
    at_first = lasting(moment)
    later = History(tuple(replace(one, step=one.step + 31) for one in at_first.moments))
    assert severities("dead_relus", later) == expected
    waits = expected == ["warning"]  # units that are silent in the first steps may wake
    assert severities("dead_relus", at_first) == (["information"] if waits else expected)


def test_dead_units_of_a_network_that_learned_are_no_end_of_the_run() -> None:
    moments = tuple(
        Moment(step, loss=2.3 / step, layers=layers(1.0, kind="ReLU", dead=60, probed=1024)) for step in range(1, 12)
    )
    assert severities("dead_relus", History(moments)) == ["warning"]


def test_overfitting_is_anchored_at_the_best_pass() -> None:
    def of(*validation: float, train: float = 0.1) -> list[str]:
        rows = [Moment(e, figures=Figures(e, 1.0 - train * e, None, loss)) for e, loss in enumerate(validation)]
        return severities("overfitting", History(tuple(rows)))

    assert of(1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6) == ["warning"]
    assert of(1.0, 0.5, 0.6, 0.6, 0.6, 0.6) == []  # four passes only
    assert of(1.0, 0.5, 0.6, 0.55, 0.6, 0.6, 0.6) == []  # one of them under the limit
    assert of(1.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, train=-0.1) == []  # training got worse too


def test_rates_that_are_too_low_are_judged_between_warm_up_and_decay() -> None:
    def of(update: float, rate: Factor, **setup: Any) -> list[str]:
        moments = tuple(
            Moment(step, 2.3, rate(step), weights={"w": Weights("w", "Linear", (8, 8), True, True, 1.0, 1.0, update)})
            for step in range(0, 60, 5)
        )
        return severities("lr_too_low", History(moments, Setup(num_classes=10, **setup)))

    assert of(1e-4, lambda step: 0.1) == ["warning"]
    assert of(3e-4, lambda step: 0.1) == []
    assert of(1e-4, lambda step: 0.1 * step / 600, lr=0.1) == []  # on its way up
    assert of(0.0, lambda step: 0.1) == []  # nothing moves: not the rate's doing


def test_a_plateau_is_told_while_the_rate_is_at_its_highest() -> None:
    def of(rate: Factor) -> list[str]:
        falling = [2.3 - 0.02 * step for step in range(40)]
        moments = tuple(
            Moment(step, loss, rate(step), weights={"w": Weights("w", "Linear", (8, 8), True, True, 1.0, 1.0, 2e-3)})
            for step, loss in enumerate([*falling, *[1.5] * 30])
        )
        return severities("lr_decayed_early", History(moments, Setup(num_classes=10, total_steps=100)))

    assert of(lambda step: 0.1) == ["information"]
    assert of(lambda step: 0.1 - 0.0001 * max(0, step - 30)) == ["information"]  # by 4 %
    assert of(lambda step: 0.1 - 0.001 * max(0, step - 30)) == []  # what would be advised is under way


def test_answers_are_held_against_the_labels_of_the_examples_that_were_answered() -> None:
    def asked(predicted: float, labelled: float) -> list[str]:
        probe = Probe(0.1, 0.1, 0.98, (predicted, 1 - predicted), (labelled, 1 - labelled), (0.1, 0.9))
        moments = tuple(Moment(step, probe=probe) for step in (50, 75, 100))
        return severities("class_collapse", History(moments, Setup(num_classes=2, total_steps=100)))

    assert asked(0.95, 0.94) == []  # right answers to examples that hold more of the class than the data do
    assert asked(0.95, 0.10) == ["critical"]


def test_eval_mode_is_compared_once_the_averages_have_arrived() -> None:
    def of(train_loss: float, eval_loss: float, first: int = 60) -> list[str]:
        moments = tuple(Moment(first + step, probe=Probe(train_loss, eval_loss)) for step in range(3))
        return severities("train_eval_mismatch", History(moments, Setup(num_classes=10)))

    assert of(0.5, 0.7) == []
    assert of(0.5, 0.8) == ["warning"]
    assert of(0.5, 1.6) == ["critical"]
    assert of(0.5, 1.6, first=10) == []
    assert of(0.001, 0.01) == []  # ten times nearly nothing
    assert of(2.0, 0.9) == ["warning"]


def test_decay_is_weighed_against_the_data() -> None:
    def of(gradient: float, loss: float, norms: tuple[float, float] = (10.0, 4.0)) -> list[str]:
        def at(norm: float) -> dict[str, Weights]:
            return {"w": Weights("w", "Linear", (8, 8), True, True, norm, gradient, 0.1)}

        losses = [2.3] * 5 + [loss] * 6
        moments = tuple(Moment(step, one, 0.1, weights=at(norms[step > 0])) for step, one in enumerate(losses))
        return severities("regularizer_dominates", History(moments, Setup(num_classes=10, weight_decay=0.1)))

    assert of(0.5, 2.3) == []
    assert of(0.3, 2.3) == ["critical"]
    assert of(0.3, 2.3, norms=(10.0, 6.0)) == ["warning"]
    assert of(0.3, 0.5) == ["information"]


class Reader(nn.Module):
    """A recurrent layer over the sequence, and scores of its last output."""

    def __init__(self, cell: nn.RNNBase) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(cell.hidden_size, 4)

    def forward(self, x: Tensor) -> Tensor:
        out = self.cell(x)[0]
        return self.head(out[:, -1] if self.cell.batch_first else out[-1])


def recurrent(gain: float, kind: type[nn.RNNBase] = nn.RNN, *, forget: float = 0.0) -> History:
    torch.manual_seed(0)
    net = Reader(kind(8, 32, batch_first=True))
    if kind is nn.RNN:
        nn.init.orthogonal_(net.cell.weight_hh_l0, gain)  # type: ignore[arg-type]
    elif forget:
        net.cell.bias_hh_l0.data[32:64] = forget  # type: ignore[index,union-attr]
    subject = Subject(net, 0.3 * torch.randn(64, 60, 8), torch.arange(64) % 4, num_classes=4)
    own = registry.find("diagnosis", "gradient_through_time").facts["measure"](subject)
    return History((Moment(1, own={"gradient_through_time": own}),))


def test_the_gradient_through_time_is_that_of_the_recurrence() -> None:
    assert severities("gradient_through_time", recurrent(0.5)) == ["warning"]
    assert severities("gradient_through_time", recurrent(3.0)) == ["critical"]
    assert severities("gradient_through_time", recurrent(1.0, nn.LSTM)) == ["information"]  # as it starts, and learns
    assert severities("gradient_through_time", recurrent(1.0, nn.LSTM, forget=3.0)) == []
    own = recurrent(0.5).own("gradient_through_time")
    assert own is not None
    norms = own["layers"]["cell"]["norms"]
    assert len(norms) == 60
    # the matrix halves the gradient at every step back, and the slope of tanh takes a little more
    assert 0.4 < (norms[-21] / norms[-1]) ** 0.05 < 0.5


class Attending(nn.Module):
    """Attention of torch's own over 16 places, with queries of any size."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size, self.mix, self.head = size, nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.size * x, x, x, need_weights=False)[0].mean(1))


def attending(size: float, step: int) -> History:
    torch.manual_seed(0)
    subject = Subject(Attending(size), torch.randn(16, 16, 32), torch.arange(16) % 4, num_classes=4)
    own = registry.find("diagnosis", "attention_collapse").facts["measure"](subject)
    assert own is not None
    return History((Moment(step, own={"attention_collapse": own}),), Setup(total_steps=100))


def test_attention_is_judged_by_its_entropy() -> None:
    assert severities("attention_collapse", attending(100.0, 90)) == ["warning"]
    assert severities("attention_collapse", attending(1e-3, 90)) == ["warning"]
    assert severities("attention_collapse", attending(1e-3, 10)) == []  # everywhere alike, as it starts
    assert severities("attention_collapse", attending(2.0, 90)) == []
    own = attending(1e-3, 90).own("attention_collapse")
    assert own is not None
    assert [len(heads) for heads in own["heads"]] == [4]
