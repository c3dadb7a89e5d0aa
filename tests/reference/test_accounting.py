"""The counts against torch's own flop counter, autograd's own memory and measured memory, on networks of every kind."""

import bisect
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from engram import models, registry
from engram.accounting import account, memory, table
from engram.layers.auxiliary import Scores


class Functional(nn.Module):
    """Computes with its weight outside any layer, and uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 3, 3, 3))
        self.twice = nn.Conv2d(6, 6, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, H, W)
        x = F.conv2d(x, self.weight, padding=1)  # (B, 6, H, W)
        return self.twice(self.twice(x)).mean((2, 3))  # (B, 6)


class NeedsValues(nn.Module):
    """Asks for a value on its way, which a run on shapes alone cannot answer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(0.5))
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:  # (B, 4)
        x = self.norm(x)
        return self.layer(x) if x.sum().item() < 1e9 else x


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lambda: models.build("lenet5", shape=(1, 28, 28), num_classes=10), (1, 28, 28)),
    "resnet20": (lambda: models.build("resnet20", shape=(3, 32, 32), num_classes=10), (3, 32, 32)),
    "resnet50": (lambda: models.build("resnet50", shape=(3, 64, 64), num_classes=10), (3, 64, 64)),
    "1-D": (lambda: models.build("resnet20", shape=(2, 64), num_classes=10), (2, 64)),
    "3-D": (lambda: models.build("resnet20", shape=(1, 8, 8, 8), num_classes=10), (1, 8, 8, 8)),
    "groups": (lambda: nn.Conv2d(8, 12, 3, stride=2, groups=4), (8, 9, 9)),
    "dilated": (lambda: nn.Conv1d(3, 5, 3, dilation=4), (3, 40)),
    "transposed": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, groups=2), (6, 5, 5)),
    "no bias": (lambda: nn.Linear(7, 3, bias=False), (5, 7)),
    "bias": (lambda: nn.Linear(7, 3), (5, 7)),
    "functional": (Functional, (3, 8, 8)),
    "attention": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), (6, 16)),
    "needs values": (NeedsValues, (4,)),
}


@pytest.fixture(params=NETS)
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, tuple[int, ...]]:
    make, shape = NETS[request.param]
    return make(), shape


def test_macs_are_torchs_flops_halved(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    net, shape = case
    costs = account(net, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.nn.attention.sdpa_kernel([MATH]):
        net.train()(torch.zeros(2, *shape))  # training, or attention takes one fused step that neither could look into
    assert 2 * 2 * costs.macs == counter.get_total_flops()
    assert sum(row.macs for row in costs.rows) == costs.macs


MATH = torch.nn.attention.SDPBackend.MATH


def test_parameters_and_buffers(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    net, shape = case
    next(net.parameters()).requires_grad_(False)
    costs = account(net, shape)
    count = sum(p.numel() for p in net.parameters())
    assert costs.parameters == count
    assert costs.trainable == count - next(net.parameters()).numel()
    assert costs.buffers == sum(buffer.numel() for buffer in net.buffers())
    assert sum(row.parameters for row in costs.rows) == count


def test_leaves_everything_as_it_was(case: tuple[nn.Module, tuple[int, ...]]) -> None:
    net, shape = case
    net.train()
    first = next(iter(net.children()), net)
    first.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    identities = [id(p) for p in net.parameters()]
    modes = [module.training for module in net.modules()]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    account(net, shape)
    memory(net, shape)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in net.modules()] == modes
    assert [id(p) for p in net.parameters()] == identities
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_hooks_are_gone_after_a_failure() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(5, 2))
    with pytest.raises(RuntimeError):
        account(net, (3, 8, 8))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert net.training


def test_rows_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 16, 5))
    rows = [(row.name, row.kind, row.output, row.parameters, row.macs) for row in account(net, (3, 4, 4)).rows]
    assert rows == [
        ("0", "Conv2d", (8, 4, 4), 8 * 27 + 8, 16 * 8 * 27),
        ("1", "BatchNorm2d", (8, 4, 4), 16, 0),
        ("2", "Flatten", (128,), 0, 0),
        ("3", "Linear", (5,), 128 * 5 + 5, 128 * 5),
    ]


def test_work_outside_layers_has_a_row_and_a_shared_layer_counts_once() -> None:
    rows = [(row.name, row.output, row.parameters, row.macs) for row in account(Functional(), (3, 8, 8)).rows]
    assert rows == [
        ("Functional", (6,), 162, 64 * 162),
        ("twice", (6, 8, 8), 36, 64 * 36),
        ("twice", (6, 8, 8), 0, 64 * 36),
    ]


def test_symbols_in_place_of_values() -> None:
    net = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 3))
    assert account(net, (6,), dtype=torch.int64).macs == 6 * 8 * 3


def test_a_network_of_several_outputs_shows_the_first() -> None:
    assert account(nn.LSTM(4, 6, batch_first=True), (5, 4)).output == (5, 6)


def saved_by_autograd(net: nn.Module, x: Tensor) -> int:
    """Bytes of every tensor that a real run saves for backward but the network's own, each storage once."""
    kept: dict[int, torch.UntypedStorage] = {}
    weights = {tensor.data_ptr() for tensor in net.state_dict().values()}

    def keep(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = net.train()(x)
    real = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)
    scores.sum().backward()
    return real


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "1-D", "functional", "bias", "needs values"])
def test_memory_is_what_autograd_keeps(name: str) -> None:
    """Of one example more: what a layer keeps whatever the batch, such as the mean of a batch, is no example's."""
    make, shape = NETS[name]
    net = make()
    needs = memory(net, shape)
    assert needs.kept_an_example == saved_by_autograd(net, torch.randn(3, *shape)) - saved_by_autograd(
        net, torch.randn(2, *shape)
    )
    assert needs.kept_an_example == sum(size for _, _, size in needs.kept)
    size = 4 * sum(p.numel() for p in net.parameters())
    assert (needs.weights, needs.gradients, needs.optimizer) == (size, size, size)


MEASURED = ["mlp", "lenet5", "resnet20", "nin_small", "alexnet_small", "vgg_small", "squeezenet_small", "zfnet_small"]


@pytest.mark.parametrize("name", MEASURED)
def test_memory_is_what_a_step_takes(name: str) -> None:
    """Within 5 % of the highest that torch's allocator reaches, work space inside a convolution left out."""
    net, shape = small(name)
    needs = memory(net, shape)
    for batch in (1 if name == "mlp" else 2, 16):
        x = torch.randn(batch, *shape)
        highest = allocated(lambda net=net, x=x: net.train()(x.clone()).sum().backward())
        net.zero_grad()
        assert needs.total(batch) - needs.weights - needs.optimizer == pytest.approx(highest, rel=0.05)


@pytest.mark.parametrize("name", MEASURED)
def test_memory_of_an_evaluation_is_what_it_takes(name: str) -> None:
    net, shape = small(name)
    x = torch.randn(1, *shape)
    net.eval()
    with torch.no_grad():
        highest = allocated(lambda: net(x.clone()))
    assert account(net, shape).held == pytest.approx(highest, rel=0.05)


def small(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    facts = registry.find("model", name).facts
    return models.build(name, shape=facts["input"], num_classes=10), facts["input"]


def allocated(run: Callable[[], Any]) -> int:
    """The most bytes in use at once, as the profiler hears of them; what a convolution hands back is left out."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as heard:
        run()
    events = heard.profiler.kineto_results.events()
    spans = sorted((e.start_ns(), e.start_ns() + e.duration_ns()) for e in events if "aten::convolution" in e.name())

    def when(time: int) -> int:
        within = bisect.bisect_right(spans, (time, 2**63)) - 1
        return spans[within][1] if within >= 0 and time <= spans[within][1] else time

    changes: dict[int, int] = defaultdict(int)
    for event in events:
        if event.name() == "[memory]":
            changes[when(event.start_ns())] += event.nbytes()
    return max(itertools.accumulate(changes[time] for time in sorted(changes)))


def test_activations_of_vgg_16_are_15_million_numbers_and_not_the_course_s_24() -> None:
    """The input, what convolutions, pools and full connections give; with the activations in place, 58 MiB."""
    with torch.device("meta"):
        net = models.build("vgg16", shape=(3, 224, 224), num_classes=1000)
    layers = [row for row in account(net, (3, 224, 224)).rows if row.kind in ("Conv2d", "MaxPool2d", "Linear")]
    numbers = 3 * 224 * 224 + sum(math.prod(row.output) for row in layers)
    assert numbers == 15_237_608
    assert round(4 * numbers / 2**20) == 58


def test_memory_by_hand() -> None:
    net = nn.Sequential(nn.Linear(100, 50), nn.Sigmoid(), nn.Linear(50, 10))
    needs = memory(net, (100,), slots=2)
    first, second, loss = 4 * 5050, 4 * 510, 8
    early = loss + second + 32 * 4 * (100 + 50 + 50 + 50)  # input, the sigmoid's output, and its two gradients
    late = loss + second + first + 32 * 4 * (100 + 50)  # input, and the gradient of what the first layer gave
    assert late > early
    assert needs.total(batch_size=32) == (first + second) * (1 + 2) + late
    assert needs.total(batch_size=1000) == (first + second) * (1 + 2) + loss + second + 4 * 250 * 1000


def test_frozen_weights_need_no_gradient() -> None:
    net = nn.Sequential(nn.Linear(100, 50).requires_grad_(False), nn.ReLU(), nn.Linear(50, 10))
    needs = memory(net, (100,), slots=1)
    assert needs.gradients == needs.optimizer == 4 * 510
    assert needs.kept_an_example == 4 * 50
    assert memory(net.requires_grad_(False), (100,)).kept_an_example == 0


def test_an_evaluation_by_hand() -> None:
    """While a layer runs there are its input and its output; what came before is gone."""
    net = nn.Sequential(nn.Linear(100, 50), nn.Sigmoid(), nn.Linear(50, 10), nn.ReLU(inplace=True))
    assert [row.held for row in account(net, (100,)).rows] == [4 * 150, 4 * 150 + 4 * 50, 4 * 160, 4 * 110]


class WithHead(nn.Module):
    """A head on the way that only training has, and a layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.auxiliary = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), nn.Linear(6, 4)
        self.again = nn.ReLU()

    def forward(self, x: Tensor) -> Any:  # (B, 3, H, W)
        x = self.again(self.again(self.stem(x)) - 1).mean((2, 3))  # (B, 6)
        return Scores(self.head(x), (self.auxiliary(x),), 0.3) if self.training else self.head(x)


def test_a_table_can_be_written_and_adds_up() -> None:
    net = WithHead()
    costs = table(net, (3, 8, 8))
    assert json.loads(json.dumps(costs)) == costs
    rows, total = costs["rows"], costs["total"]
    assert [row["layer"] for row in rows] == ["stem", "again", "again", "head", "auxiliary"]
    for of_all in ("parameters", "macs", "kept"):
        assert sum(row[of_all] for row in rows) == total[of_all], of_all
    assert rows[0]["kept"] == 4 * 3 * 64
    assert rows[1]["kept"] == rows[2]["kept"] == 4 * 6 * 36
    assert max(row["held"] for row in rows) == total["held"]
    assert rows[0]["receptive_field"] == [3, 3]
    size = 4 * total["parameters"]
    assert total["optimizer"] == {"sgd": 0, "momentum": size, "adam": 2 * size}
    needs = memory(net, (3, 8, 8), slots=2)
    assert [one["batch"] for one in total["training"]] == [1, 128]
    assert [one["adam"] for one in total["training"]] == [needs.total(1), needs.total(128)]
    assert [one["sgd"] for one in total["training"]] == [needs.total(1) - 2 * size, needs.total(128) - 2 * size]


def test_what_a_block_keeps_beside_its_layers_stands_after_them():
    rows = table(models.resnet20(), (3, 32, 32))["rows"]
    names = [row["layer"] for row in rows]
    place = names.index("stages.1.0")
    assert names[place - 1].startswith("stages.1.0.")
    assert names[place + 1] == "stages.1.1.conv1"
    assert rows[place]["kept"] == 2 * 4 * 32 * 16 * 16  # two rectified maps
    assert names[-1] == "head"
