"""The clinic measures what it says it does, changes nothing, and survives whatever it is given."""

import json
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import engram
from engram.clinic import probe as probing
from engram.clinic.clinic import KEPT_LOSSES, KEPT_MEASURED, LEVELS, Clinic
from engram.clinic.finding import Finding, Remedy, arranged
from engram.clinic.findings import Findings
from engram.clinic.measured import Figures, History, Layer, Moment, Weights
from engram.clinic.probe import run_probe
from engram.clinic.probe_data import draw
from engram.errors import UserError

CLASSES = 3


class Unusual(nn.Module):
    """Everything that hooks trip over: in-place activations, a shared module, functions, a frozen part, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.frozen = nn.Conv2d(6, 6, 1).requires_grad_(False)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(self.shared(x), inplace=True)
        x = torch.tanh(self.shared(x))
        x = self.dropout(self.frozen(x)).mean((2, 3))
        return self.head(x)


@pytest.fixture
def data() -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(7)
    return torch.randn(48, 1, 8, 8, generator=rng), torch.arange(48) % CLASSES


def unusual() -> nn.Module:
    torch.manual_seed(3)
    return Unusual()


def trained(data: tuple[Tensor, Tensor], level: str | None, steps: int = 12) -> tuple[nn.Module, Tensor]:
    net = unusual()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(5)
    clinic = None if level is None else Clinic(net, optimizer, probe=data, level=level)
    if clinic is not None:
        clinic.examine()
    for _ in range(steps):
        net.train()
        loss = F.cross_entropy(net(data[0]), data[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if clinic is not None:
            clinic.step(loss)
    if clinic is not None:
        clinic.judged(1, 1.0, 0.5, 1.0, 0.5)
        clinic.finish()
        assert clinic.history.probed()
        assert not [one for one in clinic.findings if "could not be measured" in one.says]
    return net, torch.rand(4)


@pytest.mark.parametrize("level", LEVELS)
def test_measuring_changes_nothing(data: tuple[Tensor, Tensor], level: str) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    net, draws = trained(data, None)
    others = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    watched, draws_watched = trained(data, level)
    assert (random.random(), np.random.rand()) == others  # noqa: NPY002
    assert torch.equal(draws, draws_watched)
    for name, value in net.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name
    for one, other in zip(net.parameters(), watched.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)
    assert [m.training for m in net.modules()] == [m.training for m in watched.modules()]
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in watched.modules())


def test_a_frozen_batch_norm_and_partly_evaluating_networks_stay_so(data: tuple[Tensor, Tensor]) -> None:
    net = unusual()
    net.stem[1].eval()
    before = net.stem[1].running_mean.clone()
    run_probe(net, *data, num_classes=CLASSES)
    assert torch.equal(net.stem[1].running_mean, before)
    assert not net.stem[1].training
    assert net.dropout.training


def test_layers_are_measured_as_they_are(data: tuple[Tensor, Tensor]) -> None:
    net = unusual()
    found = run_probe(net, *data, num_classes=CLASSES)
    assert [(one.name, one.kind) for one in found.layers] == [
        ("stem.0", "Conv2d"), ("stem.1", "BatchNorm2d"), ("stem.2", "ReLU"), ("shared", "Conv2d"), ("relu", "relu"),
        ("shared#2", "Conv2d"), ("tanh", "tanh"), ("frozen", "Conv2d"), ("head", "Linear"),
    ]  # fmt: skip
    # the same by hand, each sample's gradient by itself
    net = unusual().double()
    net.dropout.eval()
    x, y = data[0].double(), data[1]
    conv = net.stem[0](x)
    stem = torch.relu(net.stem[1](conv))
    first = net.shared(stem)
    rectified = torch.relu(first)
    second = net.shared(rectified)
    tanh = torch.tanh(second)
    frozen = net.frozen(tanh)
    scores = net.head(frozen.mean((2, 3)))
    outputs = [conv, stem, first, rectified, second, tanh, frozen, scores]
    gradients = torch.autograd.grad(F.cross_entropy(scores, y), outputs)
    layers = [one for one in found.layers if one.kind != "BatchNorm2d"]
    for layer, output, gradient in zip(layers, outputs, gradients, strict=True):
        assert layer.mean == pytest.approx(output.mean().item(), abs=1e-5)
        assert layer.std == pytest.approx(output.std(correction=0).item(), rel=1e-4)
        assert layer.largest == pytest.approx(output.abs().max().item(), rel=1e-5)
        assert layer.zeros == pytest.approx((output[:8] == 0).double().mean().item(), abs=1e-3)
        assert layer.gradient == pytest.approx(len(y) * gradient.flatten(1).norm(dim=1).mean().item(), rel=1e-3)
        assert layer.units == output.shape[1]
    assert layers[5].saturated == pytest.approx((tanh[:8].abs() > 0.97).double().mean().item(), abs=1e-3)
    assert found.probe.loss == pytest.approx(F.cross_entropy(scores, y).item(), rel=1e-5)
    assert found.probe.given == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    net = unusual().eval()
    assert found.probe.loss_eval == pytest.approx(F.cross_entropy(net(data[0]), data[1]).item(), rel=1e-5)
    assert found.probe.accuracy == pytest.approx((net(data[0]).argmax(1) == data[1]).float().mean().item())


def test_gradients_of_parameters_where_they_are_asked_for(data: tuple[Tensor, Tensor]) -> None:
    net = unusual()
    found = run_probe(net, *data, num_classes=CLASSES, parameters=True).gradients
    assert all(one.grad is None for one in net.parameters())
    net.dropout.eval()
    F.cross_entropy(net(data[0]), data[1]).backward()
    wanted = {name: one.grad.norm().item() for name, one in net.named_parameters() if one.grad is not None}
    assert found == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    assert "frozen.weight" not in found


def test_units_are_dead_when_a_thousand_samples_do_not_wake_them() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.linspace(-1, 1, 1024)[torch.randperm(1024)].unsqueeze(1)
    with torch.no_grad():
        net[0].weight.copy_(torch.ones(4, 1))
        # awake always, for the largest tenth, for the one largest input, never
        net[0].bias.copy_(torch.tensor([2.0, -0.8, -0.9990, -5.0]))
    rare = (x > 0.9990).nonzero()[0, 0].item()
    x[[0, rare]] = x[[rare, 0]]
    x = x.flip(0)  # the largest input comes last
    layer = run_probe(net, x, torch.zeros(1024, dtype=torch.long)).layers[1]
    assert (layer.dead, layer.probed) == (1, 1024)
    few = run_probe(net, x[:100], torch.zeros(100, dtype=torch.long)).layers[1]
    assert (few.dead, few.probed) == (2, 100)
    with torch.no_grad():
        net[0].bias.fill_(2.0)
    layer = run_probe(net, x, torch.zeros(1024, dtype=torch.long)).layers[1]
    assert (layer.dead, layer.probed) == (0, probing.GRADIENT_SAMPLES)  # no suspicion, no more samples


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_told_and_raises_nothing(data: tuple[Tensor, Tensor], bad: float) -> None:
    net = unusual()
    with torch.no_grad():
        net.shared.bias[2] = bad
    layers = run_probe(net, *data, num_classes=CLASSES).layers
    assert next(one.name for one in layers if not one.finite) == "shared"
    findings = Clinic(net, probe=data).examine()
    assert all(isinstance(one, Finding) for one in findings)
    json.dumps([one.to_dict() for one in findings], allow_nan=False)


def test_weights_gradients_and_updates_are_those_of_the_step(data: tuple[Tensor, Tensor]) -> None:
    net = unusual()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    clinic = Clinic(net, optimizer, level="full")
    before = {name: one.detach().clone() for name, one in net.named_parameters()}
    for part in range(2):  # accumulated: one step in two parts
        loss = F.cross_entropy(net(data[0][part::2]), data[1][part::2]) / 2
        loss.backward()
        if part == 1:
            optimizer.step()
        clinic.step(loss)
    assert clinic.steps == 1
    (moment,) = clinic.history.weighed()
    for name, one in net.named_parameters():
        seen = moment.weights[name]
        assert seen.norm == pytest.approx(one.norm().item(), rel=1e-5)
        assert seen.trainable == one.requires_grad
        if one.grad is None:
            assert (seen.gradient, seen.update) == (None, 0.0)
        else:
            assert seen.gradient == pytest.approx(one.grad.norm().item(), rel=1e-5)
            assert seen.update == pytest.approx((one.detach() - before[name]).norm().item(), rel=1e-4, abs=1e-9)
    total = math.sqrt(sum(one.grad.square().sum().item() for one in net.parameters() if one.grad is not None))
    assert moment.gradient == pytest.approx(total, rel=1e-5)
    assert moment.loss == pytest.approx(loss.item())
    assert moment.lr == 0.5


def test_parameters_that_no_optimizer_holds_are_marked() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    clinic = Clinic(net, torch.optim.SGD(net[0].parameters(), lr=0.1), level="full")
    net(torch.randn(4, 2)).sum().backward()
    clinic.optimizers[0].step()
    clinic.step(1.0)
    assert [one.optimized for one in clinic.history.now.weights.values()] == [True, True, False, False]


def test_an_optimizer_that_evaluates_the_loss_itself_gives_its_last_gradient() -> None:
    torch.manual_seed(0)
    net = nn.Linear(2, 1, bias=False)
    optimizer = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=1)
    clinic = Clinic(net, optimizer, level="full")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = net(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss

    loss = optimizer.step(closure)
    clinic.step(loss)
    assert clinic.history.now.weights["weight"].gradient == pytest.approx(net.weight.grad.norm().item())
    assert clinic.history.now.weights["weight"].update > 0


def test_quiet_steps_wait_for_no_device_and_measured_ones_once(
    data: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = probing.read
    monkeypatch.setattr(probing, "read", lambda numbers: reads.append(len(numbers)) or read(numbers))
    net = nn.Sequential(nn.Linear(2, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    clinic = Clinic(net, optimizer)
    for step in range(1, 31):
        loss = net(torch.randn(4, 2)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = len(reads)
        clinic.step(loss)
        assert len(reads) - before == (step in (1, 2, 4, 8, 10, 20, 30)), step
    assert [step for step, _ in clinic.history.losses] == list(range(1, 31))


@pytest.mark.parametrize("wrap", ["compile", "in_place", "parallel"])
def test_networks_inside_others_are_found(data: tuple[Tensor, Tensor], wrap: str) -> None:
    net = unusual()
    plain = [one.name for one in run_probe(net, *data, num_classes=CLASSES).layers]
    if wrap == "compile":
        outer = torch.compile(net, backend="eager")
    elif wrap == "parallel":
        outer = nn.DataParallel(net)
    else:
        net.compile(backend="eager")
        outer = net
    clinic = Clinic(outer, torch.optim.SGD(net.parameters(), lr=0.1), probe=data)
    clinic.look()
    assert [one.name for one in clinic.history.now.layers] == plain


def test_mixed_precision_is_measured_in_its_context(data: tuple[Tensor, Tensor]) -> None:
    net = unusual()
    exact = run_probe(net, *data, num_classes=CLASSES)
    rounded = run_probe(net, *data, num_classes=CLASSES, autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    assert rounded.layers[0].gradient == pytest.approx(exact.layers[0].gradient, rel=0.1)
    assert rounded.layers[0].mean != exact.layers[0].mean


def test_recurrent_networks_and_attention_are_measured() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(4, 5, batch_first=True)
            self.attention = nn.MultiheadAttention(5, 1, batch_first=True)
            self.head = nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            x, _ = self.rnn(x)
            x, _ = self.attention(x, x, x)
            return self.head(x.mean(1))

    torch.manual_seed(0)
    found = run_probe(Recurrent(), torch.randn(16, 6, 4), torch.arange(16) % 2, num_classes=2)
    assert [(one.name, one.units) for one in found.layers] == [("rnn", 5), ("attention", 5), ("head", 2)]
    assert all(one.gradient > 0 for one in found.layers)


def test_a_measurement_that_fails_is_a_finding_and_the_loop_goes_on(data: tuple[Tensor, Tensor]) -> None:
    class Refusing(nn.Linear):
        broken = False

        def forward(self, x: Tensor) -> Tensor:
            if self.broken and not self.training:
                raise RuntimeError("the moon is full\nand bright")
            return super().forward(x)

    net = nn.Sequential(nn.Flatten(), Refusing(64, CLASSES))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    clinic = Clinic(net, optimizer, probe=data, level="quick")
    Refusing.broken = True
    told = []
    for _ in range(4):
        loss = F.cross_entropy(net(data[0]), data[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        told += clinic.step(loss)
    failed = [one for one in told if "the moon is full" in one.says]
    assert failed
    assert {one.severity for one in failed} == {"information"}
    assert len({one.diagnosis for one in failed}) == len(failed)  # each once
    assert "bright" not in str(failed[0])
    assert clinic.steps == 4


def test_a_finding_is_told_once_and_again_only_when_it_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    clinic = Clinic(net, optimizer, level="full")
    severities = iter(["warning", "warning", "critical", "warning"])

    class Entry:
        name, facts = "made_up", {"when": "during"}

        def build(self, history: History) -> list[Finding]:
            return [Finding("made_up", next(severities), "", "", Remedy(""), "", 0.5, step=history.now.step)]

    monkeypatch.setattr(clinic, "_entries", lambda when: [Entry()])
    told = []
    for _ in range(4):
        net(torch.randn(4, 2)).sum().backward()
        optimizer.step()
        told.append([one.severity for one in clinic.step(1.0)])
    assert told == [["warning"], [], ["critical"], []]
    assert [(one.severity, one.step) for one in clinic.findings] == [("critical", 3)]


def test_a_long_run_does_not_fill_the_memory() -> None:
    clinic, seen = Clinic(nn.Linear(2, 2)), Weights("weight", "Linear", (2, 2), True, True, 1.0)
    layer = Layer("relu", "ReLU", 0, 0.5, 0.25, 3.0, 0.5, 0.1, units=4)
    for step in range(10_000):
        weights = {"weight": seen} if step % 10 == 0 else {}
        layers = (layer,) if step % 20 == 0 else ()
        figures = Figures(step / 1000, 1.0) if step % 1000 == 0 else None
        clinic._moments.append(Moment(step, loss=1.0, weights=weights, layers=layers, figures=figures))
        clinic._thin()
    kept = clinic._moments
    for of_kind, newest in ((lambda one: not one.weights, KEPT_LOSSES), (lambda one: one.layers, KEPT_MEASURED)):
        steps = [one.step for one in kept if of_kind(one)]
        every = [step for step in range(10_000) if (step % 20 == 0 if newest == KEPT_MEASURED else step % 10)]
        assert newest <= len(steps) <= 2 * newest + 10
        assert steps[-newest:] == every[-newest:]
    assert sum(bool(one.figures) for one in kept) == 10  # what a pass was measured to have is never thinned out
    assert kept[0].step == 0


# findings


def finding(name: str, severity: str, **more: object) -> Finding:
    return Finding(name, severity, "says", "means", Remedy("try", {"optimizer.lr": 0.01}), "wrong", 0.5, **more)


def test_causes_come_before_their_consequences_and_else_the_worst_first() -> None:
    causes = {"a": ["b"], "b": ["c"], "x": ["y"], "y": ["x"]}
    severities = {"i": "information", "c": "critical", "w": "warning", "b": "warning", "a": "information"}
    found = [finding(name, severity) for name, severity in severities.items()]
    order = arranged(found, causes)
    assert [one.diagnosis for one in order] == ["a", "b", "c", "w", "i"]
    assert [one.consequence_of for one in order] == [(), ("a",), ("a", "b"), (), ()]
    both = arranged([finding("x", "warning"), finding("y", "critical")], causes)
    assert [(one.diagnosis, one.consequence_of) for one in both] == [("y", ()), ("x", ())]


def test_a_finding_comes_back_from_what_was_written() -> None:
    one = finding("lr_too_high", "critical", step=7, where=("a", "b"), seen={"loss": 2.0, "kind": "x"})
    assert Finding.from_dict(json.loads(json.dumps(one.to_dict()))) == one
    written = finding("a", "warning", seen={"loss": math.nan}).to_dict()
    assert json.loads(json.dumps(written, allow_nan=False))["seen"]["loss"] == "nan"
    assert one.remedy.options == "--optimizer.lr 0.01"
    assert Remedy("", {"initializer": ("he", "zero_gamma"), "data.limit": None}).options == (
        "--initializer he,zero_gamma --data.limit none"
    )
    text = str(one)
    assert text.startswith("critical: lr too high, step 7\n")
    assert "--optimizer.lr 0.01" in text


def test_a_finding_with_an_impossible_severity_or_confidence_is_refused() -> None:
    with pytest.raises(ValueError, match="severity"):
        finding("a", "fatal")
    with pytest.raises(ValueError, match="confidence"):
        Finding("a", "warning", "", "", Remedy(""), "", 1.5)


# what it is given


class Half(Dataset):
    def __init__(self, fails: object = lambda index: index % 2) -> None:
        self.fails = fails

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.fails(index):
            raise OSError(f"file {index} is damaged")
        return torch.randn(2), index % 2


def test_a_data_set_that_fails_half_way_is_a_finding() -> None:
    findings = engram.examine(nn.Linear(2, 2), Half(), level="quick")
    (one,) = [one for one in findings if one.diagnosis == "unreadable_examples"]
    assert one.seen["unreadable"] == 30
    assert "is damaged" in one.says
    loader = DataLoader(Half(lambda index: index > 40), batch_size=10)
    (one,) = [f for f in engram.examine(nn.Linear(2, 2), loader, level="quick") if f.diagnosis == "unreadable_examples"]
    assert "batch 4: file 41 is damaged" in one.says
    with pytest.raises(UserError, match=r"no example of the data set can be read; example .*damaged"):
        engram.examine(nn.Linear(2, 2), Half(lambda index: True))


def test_every_kind_of_data_is_drawn_from_alike(data: tuple[Tensor, Tensor]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    x, y = data
    arrays = draw((x.numpy(), y.numpy()), net)
    dataset = draw(TensorDataset(x, y), net)
    assert torch.equal(arrays.x, dataset.x)
    assert torch.equal(arrays.y, dataset.y)
    assert sorted(arrays.y.tolist()) == sorted(y.tolist())
    state = torch.get_rng_state()
    loader = draw(DataLoader(TensorDataset(x, y), batch_size=5, shuffle=True), net)
    assert torch.equal(torch.get_rng_state(), state)
    assert (len(loader.x), loader.examples, loader.num_classes) == (48, 48, CLASSES)
    batches = draw([(x[:20], y[:20]), (x[20:], y[20:])], net)
    assert len(batches.x) == 48
    ordered = draw((torch.randn(5000, 1, 8, 8), torch.arange(5000) // 2500), net)
    assert len(ordered.x) == 1024
    assert 0.3 < ordered.y[:64].float().mean() < 0.7  # classes that come one after the other are mixed


@pytest.mark.parametrize(
    ("net", "given", "message"),
    [
        (nn.ReLU(), None, "ReLU has no parameters"),
        (lambda x: x, None, "a function is no network"),
        (nn.Conv2d(1, 2, 3), None, r"gives \(2, 2, 6, 6\) for 2 inputs, which is no score for each class"),
        (nn.Linear(3, 2), None, "refuses inputs of shape .*mat1 and mat2"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), None, "labels go from 0 to 2, and the network gives 2 scores"),
        (nn.Linear(2, 2), (torch.randn(4, 2), torch.zeros(3, dtype=torch.long)), "4 inputs and 3 labels"),
        (nn.Linear(2, 2), (torch.randn(4, 2), torch.zeros(4)), "labels are float32"),
        (nn.Linear(2, 2), [torch.randn(2)], "an example is a Tensor"),
        (nn.Linear(2, 2), [(torch.randn(4, 2), torch.zeros(4)), (torch.randn(4, 3), torch.zeros(4))], "several shapes"),
        (nn.Linear(2, 2), [], "empty"),
        (nn.Linear(2, 2), iter(()), "there are no batches"),
        (nn.Linear(2, 2), 7, "a int gives no examples"),
        (nn.Linear(2, 2), (torch.randn(1, 2), torch.zeros(1, dtype=torch.long)), "the probe has 1 example"),
    ],
)
def test_what_cannot_be_examined_is_refused_in_words(
    net: object, given: object, message: str, data: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(UserError, match=message):
        engram.examine(net, data if given is None else given)


def test_unknown_levels_and_optimizers_are_refused() -> None:
    with pytest.raises(UserError, match="level 'quik' is not known"):
        Clinic(nn.Linear(2, 2), level="quik")
    with pytest.raises(UserError, match="a dict is no optimizer"):
        Clinic(nn.Linear(2, 2), [{}])


def test_not_a_number_everywhere_is_a_finding() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    findings = engram.examine(net, (torch.full((32, 4), math.nan), torch.arange(32) % 2))
    assert findings[0].severity == "critical"
    assert "input_scale" in [one.diagnosis for one in findings]
    for parameter in net.parameters():
        nn.init.constant_(parameter, math.nan)
    findings = engram.examine(net, (torch.randn(32, 4), torch.arange(32) % 2))
    assert "critical" in [one.severity for one in findings]


def test_other_tasks_are_measured_with_a_loss_of_their_own() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    x = torch.randn(64, 4)
    clinic = Clinic(net, probe=(x, x.sum(1, keepdim=True)), loss=F.mse_loss)
    assert clinic.examine() == []
    assert clinic.history.now.probe.accuracy is None
    assert clinic.history.now.layers[0].gradient > 0


def test_a_finding_comes_back_from_its_row_whatever_else_the_row_says() -> None:
    one = finding("dead_relus", "critical", seen={"share": 0.5}, where=("relu",), consequence_of=("lr_too_high",))
    assert Finding.from_dict({**one.to_dict(), "of_a_later_version": 1}) == one


def test_findings_print_one_below_the_other_and_are_cards_in_a_notebook() -> None:
    found = Findings([finding("dead_relus", "critical", where=("<script>alert(1)</script>",)), finding("b", "warning")])
    assert str(found) == f"{found[0]}\n\n{found[1]}"
    html = found._repr_html_()
    assert html.count("<div") == 2
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "#c02f2f" in html.split("<div")[1]
    assert (str(Findings()), Findings()._repr_html_()) == ("nothing found", "<p>nothing found</p>")
