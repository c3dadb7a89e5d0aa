"""Pre-flight diagnoses on networks whose sickness is known by how they were made, and on unusual healthy ones."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import engram
from engram import recipe as recipes
from engram import registry
from engram.clinic.clinic import Clinic
from engram.clinic.diagnoses.wrong_gradient import has_own_functions
from engram.clinic.finding import Finding
from engram.clinic.probe import run_probe

K, WIDTH, FEATURES = 10, 64, 20


def data(count: int = 256) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return torch.randn(count, FEATURES, generator=rng), torch.arange(count) % K


def mlp(depth: int, activation: type[nn.Module] = nn.ReLU, he: float | None = None) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for place in range(depth - 1):
        layers += [nn.Linear(FEATURES if place == 0 else WIDTH, WIDTH), activation()]
    net = nn.Sequential(*layers, nn.Linear(WIDTH, K))
    for module in net.modules() if he is not None else ():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
            module.weight.data *= he
    return net


def filled(net: nn.Module, value: float) -> nn.Module:
    for parameter in net.parameters():
        nn.init.constant_(parameter, value)
    return net


class Block(nn.Module):
    """A residual branch that begins at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.last(torch.relu(self.first(x)))


def zero_residual() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, WIDTH), Block(), Block(), Block(), nn.Linear(WIDTH, K))


def zero_head() -> nn.Module:
    net = mlp(3)
    return nn.Sequential(*net[:-1], filled(nn.Linear(WIDTH, K), 0.0))


def frozen_body() -> nn.Module:
    net = mlp(3)
    net[0].requires_grad_(False)
    return net


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.head = nn.LSTM(4, 32, batch_first=True), nn.Linear(32, K)

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(x.unflatten(1, (5, 4)))
        return self.head(output[:, -1])


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.norm = nn.Linear(4, 32), nn.LayerNorm(32)
        self.attention, self.head = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, K)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x.unflatten(1, (5, 4))))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head(x.mean(1))


def normalised() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for place in range(8):
        layers += [nn.Linear(FEATURES if place == 0 else WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(WIDTH, K))


class Tied(nn.Module):
    """One layer, three times."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.again, self.head = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, K)
        nn.init.orthogonal_(self.again.weight, math.sqrt(2))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        for _ in range(3):
            x = F.relu(self.again(x))
        return self.head(x)


HEALTHY: dict[str, Callable[[], nn.Module]] = {
    "two layers": lambda: mlp(2),
    "He": lambda: mlp(6, he=1.0),
    "tanh": lambda: mlp(4, nn.Tanh),
    "one layer": lambda: nn.Sequential(nn.Linear(FEATURES, K)),
    "zero residual branches": zero_residual,
    "zero last layer": zero_head,
    "batch norm, dropout, in place": normalised,
    "recurrent": Recurrent,
    "attention": Attentive,
    "shared weights": Tied,
    "frozen body": frozen_body,
}


@pytest.mark.parametrize("name", HEALTHY)
def test_unusual_healthy_networks_are_left_alone(name: str) -> None:
    net = HEALTHY[name]()
    findings = engram.examine(net, data(), torch.optim.SGD(net.parameters(), lr=0.1))
    told = [(one.diagnosis, one.severity, one.says) for one in findings if one.severity != "information"]
    assert told == []
    assert [one.diagnosis for one in findings] == (["unused_parameters"] if name == "frozen body" else [])


class Mixing(nn.Module):
    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.how = mlp(2), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.net(x))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient  # the factor is forgotten


class RightlyDoubled(torch.autograd.Function):
    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return 2 * gradient


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(context: object, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> Tensor:
        return gradient


class Between(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head, self.function = nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, K), function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.function(self.first(x))))


class Aside(nn.Module):
    """A layer that is never called, and one whose result is detached."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.never, self.detached = (nn.Linear(FEATURES, WIDTH) for _ in range(3))
        self.head = nn.Linear(WIDTH, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x) + self.detached(x).detach()))


def killed() -> nn.Module:
    net = mlp(3)
    nn.init.constant_(net[2].bias, -30.0)
    return net


SICK: list[tuple[str, str, Callable[[], nn.Module]]] = [
    ("loss_at_start", "critical", lambda: mlp(6, he=3.0)),
    ("scale_at_start", "critical", lambda: mlp(10, he=0.5)),
    ("scale_at_start", "critical", lambda: mlp(10, he=2.0)),
    ("symmetric_weights", "critical", lambda: filled(mlp(3), 0.01)),
    ("symmetric_weights", "critical", lambda: filled(mlp(3), 0.0)),
    ("cannot_overfit_one_batch", "critical", killed),
    ("ignores_input", "critical", killed),
    ("ignores_input", "critical", lambda: mlp(10, nn.Sigmoid)),
    ("softmax_twice", "critical", lambda: nn.Sequential(mlp(2), nn.Softmax(1))),
    ("softmax_twice", "critical", lambda: nn.Sequential(mlp(2), nn.Sigmoid())),
    ("mixed_samples", "critical", lambda: Mixing(lambda x: x - x.mean(0))),
    ("mixed_samples", "critical", lambda: Mixing(lambda x: x.t().reshape(x.shape))),
    ("mixed_samples", "critical", lambda: Mixing(lambda x: x + x.roll(1, 0))),
    ("mixed_samples", "warning", lambda: Mixing(nn.BatchNorm1d(K, track_running_stats=False))),
    ("unused_parameters", "critical", Aside),
    ("unused_parameters", "critical", killed),
    ("wrong_gradient", "critical", lambda: Between(Doubled.apply)),
    ("wrong_gradient", "information", lambda: Between(Rounded.apply)),
]


def only(findings: list[Finding], diagnosis: str) -> Finding | None:
    return next((one for one in findings if one.diagnosis == diagnosis), None)


@pytest.mark.parametrize(("diagnosis", "severity", "build"), SICK, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(SICK)])
def test_sick_networks_are_found(diagnosis: str, severity: str, build: Callable[[], nn.Module]) -> None:
    found = only(engram.examine(build(), data()), diagnosis)
    assert found is not None
    assert found.severity == severity
    assert all((found.says, found.means, found.remedy.says, found.refuted_by, found.seen))
    assert recipes.build(found.remedy.change) is not None  # the change is one that a recipe takes


def test_the_loss_at_the_start_is_measured_against_chance() -> None:
    net = mlp(6, he=3.0)
    x, y = data()
    found = only(engram.examine(net, (x, y), level="quick"), "loss_at_start")
    assert found is not None
    assert found.seen["chance"] == pytest.approx(math.log(K))
    assert found.seen["loss"] > 3 * math.log(K)


def test_a_network_that_was_trained_before_is_information() -> None:
    net, (x, y) = mlp(3), data()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert {one.severity for one in engram.examine(net, (x, y), level="quick")} == {"information"}
    clinic = Clinic(net, probe=(x, y), level="quick")
    assert clinic.examine(trained=True) == []


def test_a_loss_that_is_divided_by_something_is_found() -> None:
    findings = engram.examine(mlp(2), data(), loss=lambda output, y: F.cross_entropy(output, y) / 4, level="quick")
    found = only(findings, "loss_at_start")
    assert found is not None
    assert found.severity == "critical"


def test_rare_classes_with_a_bias_that_says_so_are_no_wrong_start() -> None:
    x, _ = data()
    y = (torch.arange(len(x)) % 20 == 0).long()
    net = mlp(2)
    with torch.no_grad():
        net[-1].weight *= 0.01
        net[-1].bias.fill_(-20.0)
        net[-1].bias[:2] = torch.tensor([0.95, 0.05]).log()
    assert only(engram.examine(net, (x, y), level="quick"), "loss_at_start") is None


def test_symmetry_is_of_weights_and_gradient_together() -> None:
    found = only(engram.examine(filled(mlp(3), 0.01), data(), level="quick"), "symmetric_weights")
    assert found is not None
    assert found.where == ("0.weight", "2.weight")  # the last layer's units have gradients of their own


def test_units_beside_one_that_has_blown_up_are_no_copies() -> None:
    """A rate of 20 leaves rows of any length, and no gradient: next to the longest all others look alike."""
    net = mlp(3)
    with torch.no_grad():
        net[0].weight[0] = 1e9  # type: ignore[index]
        net[0].bias.fill_(-1e12)  # type: ignore[union-attr]
    found = engram.examine(net, data(), level="quick")
    assert only(found, "symmetric_weights") is None
    assert only(found, "unused_parameters") is not None  # that no gradient comes is said all the same
    with torch.no_grad():
        net[0].weight[1:] = net[0].weight[1].clone()  # type: ignore[index]
    copied = only(engram.examine(net, data(), level="quick"), "symmetric_weights")
    assert copied is not None
    assert copied.where == ("0.weight",)


def test_large_finite_numbers_are_not_called_infinite() -> None:
    """Their squares overflow in float32: 2e25 is a number, and 1e39 is none."""
    net = mlp(3)
    with torch.no_grad():
        net[0].weight *= 1e25  # type: ignore[operator]
        net[2].weight *= 1e-25  # type: ignore[operator]
    assert only(engram.examine(net, data(), level="quick"), "not_finite") is None
    with torch.no_grad():
        net[0].weight *= 1e15  # type: ignore[operator]
    found = only(engram.examine(net, data(), level="quick"), "not_finite")
    assert found is not None
    assert found.seen["cause"] == "drawn"


@pytest.mark.parametrize("scale", [1e25, 1.0, 1e-25])
def test_moments_of_a_layer_are_those_of_float64_at_any_scale(scale: float) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(FEATURES, 8), nn.Linear(8, K))
    with torch.no_grad():
        for parameter in net[0].parameters():
            parameter *= scale
        net[1].weight /= scale  # type: ignore[operator]
    x, y = data(64)
    layer = run_probe(net, x, y, num_classes=K).layers[0]
    values = net[0](x).detach().double()
    assert layer.mean == pytest.approx(values.mean().item(), rel=1e-4)
    assert layer.std == pytest.approx(values.std(correction=0).item(), rel=1e-5)
    leaf = net[0](x).detach().requires_grad_()
    F.cross_entropy(net[1](leaf), y, reduction="sum").backward()
    assert leaf.grad is not None
    assert layer.gradient == pytest.approx(leaf.grad.double().norm(dim=1).mean().item(), rel=1e-4)


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (lambda x: x, None),
        (lambda x: x + 1.0, "information"),  # as of pictures scaled to 0..1, half off centre
        (lambda x: 20 * x, "warning"),
        (lambda x: 0.01 * x, "warning"),
        (lambda x: x + 10, "warning"),
        (lambda x: (x > 1).float(), None),
        (lambda x: torch.where(x > 2.5, math.nan, x), "critical"),
    ],
)
def test_input_scale(change: Callable[[Tensor], Tensor], severity: str | None) -> None:
    x, y = data()
    found = only(engram.examine(mlp(2), (change(x), y), level="quick"), "input_scale")
    assert (None if found is None else found.severity) == severity


def test_pictures_scaled_to_one_and_inputs_that_are_normalised_first_are_facts() -> None:
    rng = torch.Generator().manual_seed(0)
    pictures = (0.47 + 0.25 * torch.randn(64, 3, 8, 8, generator=rng)).clamp(0, 1)
    y = torch.arange(64) % K
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, K))
    found = only(engram.examine(net, (pictures, y), level="quick"), "input_scale")
    assert found is not None
    assert found.severity == "information"
    raw = (255 * pictures).to(torch.uint8)
    assert only(engram.examine(net, (raw, y), level="quick"), "input_scale").severity == "warning"
    first = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(192, K))
    assert only(engram.examine(first, (raw, y), level="quick"), "input_scale").severity == "information"


def test_inputs_that_are_all_alike_are_found_and_the_loss_they_end_at_is_told() -> None:
    findings = engram.examine(mlp(3), (torch.ones(100, FEATURES), torch.arange(100) % K))
    found = only(findings, "ignores_input")
    assert found is not None
    assert found.seen["inputs_alike"]
    assert "2.303" in found.means
    overfit = only(findings, "cannot_overfit_one_batch")
    assert overfit is not None
    assert "ignores_input" in overfit.consequence_of


def test_the_floor_of_a_second_softmax_is_exact() -> None:
    found = only(engram.examine(nn.Sequential(mlp(2), nn.Softmax(1)), data(), level="quick"), "softmax_twice")
    assert found is not None
    perfect = F.one_hot(torch.arange(K), K).float()
    assert found.seen["floor"] == pytest.approx(F.cross_entropy(perfect, torch.arange(K)).item(), rel=1e-5)
    assert found.seen["floor"] == pytest.approx(1.4612, abs=1e-4)


@pytest.mark.parametrize(
    ("end", "loss"),
    [
        (nn.LogSoftmax(1), F.cross_entropy),  # its softmax gives the probabilities back
        (nn.Softmax(1), lambda output, y: F.nll_loss((output + 1e-9).log(), y)),
    ],
)
def test_probabilities_that_the_loss_wants_are_no_second_softmax(end: nn.Module, loss: Callable[..., Tensor]) -> None:
    assert only(engram.examine(nn.Sequential(mlp(2), end), data(), loss=loss, level="quick"), "softmax_twice") is None


def test_which_samples_are_mixed_is_the_matrix_by_the_chain_rule() -> None:
    clinic = Clinic(Mixing(lambda x: x + x.roll(1, 0)), probe=data(), level="quick")
    clinic.examine()
    matrix = torch.tensor(clinic.history.own("mixed_samples")["matrix"])
    wanted = torch.eye(8, dtype=torch.bool) | torch.eye(8, dtype=torch.bool).roll(1, 0)
    assert torch.equal(matrix > 0, wanted)


def test_parameters_that_no_step_changes_are_named() -> None:
    net = Aside()
    optimizer = torch.optim.SGD([*net.first.parameters()], lr=0.1)
    net.first.bias.requires_grad_(False)
    found = [one for one in engram.examine(net, data(), optimizer) if one.diagnosis == "unused_parameters"]
    by_kind = {one.seen["kind"]: set(one.where) for one in found}
    aside = {"never.weight", "never.bias", "detached.weight", "detached.bias"}
    assert by_kind["unused"] == aside
    assert by_kind["left_out"] == aside | {"head.weight", "head.bias"}
    assert by_kind["frozen"] == {"first.bias"}


def test_heads_that_only_training_has_are_used() -> None:
    assert only(engram.examine(_with_heads(), data(), level="quick"), "unused_parameters") is None


def _with_heads() -> nn.Module:
    from engram.layers.auxiliary import Scores

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.head, self.auxiliary = (
                nn.Linear(FEATURES, WIDTH), nn.Linear(WIDTH, K), nn.Linear(WIDTH, K),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor | Scores:
            x = torch.relu(self.first(x))
            return Scores(self.head(x), (self.auxiliary(x),), 0.3) if self.training else self.head(x)

    return Heads()


def test_a_wrong_backward_is_told_from_a_right_one() -> None:
    assert only(engram.examine(Between(RightlyDoubled.apply), data()), "wrong_gradient") is None
    found = only(engram.examine(Between(Doubled.apply), data()), "wrong_gradient")
    assert found is not None
    assert set(found.where) == {"first.weight", "first.bias"}  # before the fault, and not after it
    assert found.seen["error"] == pytest.approx(0.5, abs=1e-3)  # half of what it should be


def test_only_functions_written_in_python_are_checked() -> None:
    x = torch.ones(3, requires_grad=True)
    assert has_own_functions(Doubled.apply(x).sin().sum())
    assert not has_own_functions((2 * x).sin().sum())


def test_what_can_be_the_cause_comes_first() -> None:
    findings = engram.examine(mlp(6, he=3.0), data(), level="quick")
    assert [one.diagnosis for one in findings] == ["scale_at_start", "loss_at_start"]
    assert findings[1].consequence_of == ("scale_at_start",)


def test_every_preflight_diagnosis_has_a_sick_network_here() -> None:
    here = {name for name, *_ in SICK} | {"input_scale", "unreadable_examples"}
    homes = [registry.find("diagnosis", name) for name in registry.names("diagnosis")]
    assert here <= {one.name for one in homes if one.facts.get("when") == "before"}
    assert len(here) == 11
