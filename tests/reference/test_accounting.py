"""The counts against torch's own flop counter and autograd's own memory, on networks of every kind."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engram import models
from engram.accounting import account, memory


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


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "1-D", "functional", "bias", "needs values"])
def test_memory_is_what_autograd_keeps(name: str) -> None:
    """Against a real run: every tensor saved for backward but the network's own, each storage once."""
    make, shape = NETS[name]
    net, kept = make().train(), {}
    weights = {tensor.data_ptr() for tensor in net.state_dict().values()}

    def keep(tensor: Tensor) -> Any:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = net(torch.randn(2, *shape))
    real = sum(storage.nbytes() for pointer, storage in kept.items() if pointer not in weights)
    scores.sum().backward()
    needs = memory(net, shape)
    assert needs.kept_an_example == real // 2
    size = 4 * sum(p.numel() for p in net.parameters())
    assert (needs.weights, needs.gradients, needs.optimizer) == (size, size, size)


def test_memory_by_hand() -> None:
    net = nn.Sequential(nn.Linear(100, 50), nn.Sigmoid(), nn.Linear(50, 10))
    needs = memory(net, (100,), slots=2)
    weights = 4 * (5050 + 510)
    assert needs.total(batch_size=32) == weights * (1 + 1 + 2) + 32 * 4 * (100 + 50)


def test_frozen_weights_need_no_gradient() -> None:
    net = nn.Sequential(nn.Linear(100, 50).requires_grad_(False), nn.ReLU(), nn.Linear(50, 10))
    needs = memory(net, (100,), slots=1)
    assert needs.gradients == needs.optimizer == 4 * 510
    assert needs.kept_an_example == 4 * 50
