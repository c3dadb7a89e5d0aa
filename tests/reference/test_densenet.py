"""DenseNet against measured layers, torchvision's outputs and a formula; with checkpointing the same to the bit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from engram import accounting, models
from engram.errors import UserError
from engram.models.densenet import Composite, DenseNet, densenet121, densenet_small
from engram.training import pretrained

DATA = Path(__file__).parent / "data"
ARCHITECTURES = json.loads((DATA / "architectures_densenet.json").read_text())["architectures"]
NAMES = [
    pytest.param(name, name.lower().replace("-", "_"), marks=pytest.mark.slow if len(of["layers"]) > 104 else ())
    for name, of in ARCHITECTURES.items()
    if name != "DenseNet-BC-40-12"
]


def measured(net: nn.Module, expected: dict[str, Any]) -> None:
    costs = accounting.account(net, expected["input"])
    assert (costs.parameters, costs.macs, costs.buffers) == tuple(
        expected[key] for key in ("params", "macs", "buffers")
    )
    kinds = ("Conv2d", "Linear", "MaxPool2d", "AvgPool2d")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert ours == [row for row in expected["layers"] if row[0] in kinds]  # the mean over positions is no module here


@pytest.mark.parametrize(("published", "name"), NAMES)
def test_layer_by_layer(published: str, name: str) -> None:
    expected = ARCHITECTURES[published]
    classes = 10 if expected["input"][1] == 32 else 1000
    with torch.device("meta"):
        measured(models.build(name, shape=expected["input"], num_classes=classes), expected)


def test_layer_by_layer_of_one_that_has_no_name() -> None:
    measured(DenseNet((6, 6, 6), 12, 24, num_classes=10, stem="small"), ARCHITECTURES["DenseNet-BC-40-12"])


# torchvision


def draw(key: str, shape: list[int], rng: np.random.Generator) -> NDArray[Any]:
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = rng.standard_normal(shape)
    if key.endswith("running_var"):
        return 0.5 + z**2
    if key.endswith(("running_mean", "bias")):
        return 0.1 * z
    return 1 + 0.1 * z if len(shape) == 1 else z * np.sqrt(2 / np.prod(shape[1:]))


@pytest.mark.parametrize("names", ["torchvision's", "of the official file"])
def test_gives_torchvisions_outputs(names: str, tmp_path: Path) -> None:
    theirs = json.loads((DATA / "torchvision_densenet121.json").read_text())
    rng = np.random.default_rng(0)
    tensors = {key: torch.from_numpy(np.asarray(draw(key, shape, rng))) for key, shape in theirs["names"].items()}
    x = torch.from_numpy(rng.standard_normal((2, 3, 64, 64)))
    if names == "of the official file":  # written before module names could have no dots, and batches were counted
        tensors = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): tensor
            for key, tensor in tensors.items()
            if "num_batches" not in key
        }
        assert "features.denseblock1.denselayer1.norm.1.weight" in tensors
    torch.save(tensors, tmp_path / "official.pth")
    with torch.device("meta"):
        net = densenet121()
    net = net.double().to_empty(device="cpu").eval()
    pretrained.load(net, tmp_path / "official.pth", "densenet121")
    with torch.no_grad():
        scores = net(x)[:, :10]
    torch.testing.assert_close(scores, torch.tensor(theirs["outputs"], dtype=torch.float64), rtol=1e-9, atol=1e-9)


# The networks for small images, and signals and volumes, as formulas on a state dict.

OPERATORS = {
    1: (F.conv1d, F.avg_pool1d),
    2: (F.conv2d, F.avg_pool2d),
    3: (F.conv3d, F.avg_pool3d),
}


def formula(state: dict[str, Tensor], x: Tensor, depths: tuple[int, ...]) -> Tensor:
    convolve, average = OPERATORS[x.dim() - 2]

    def composite(name: str, x: Tensor) -> Tensor:
        x = norm(f"{name}.norm", x).clamp_min(0)
        weight = state[f"{name}.conv.weight"]
        return convolve(x, weight, padding=weight.shape[-1] // 2)

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var, gamma, beta = (
            state[f"{name}.{key}"].view(-1, *[1] * (x.dim() - 2))
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * gamma + beta

    x = convolve(x, state["stem.0.weight"], padding=1)
    for block, depth in enumerate(depths):
        if block > 0:
            x = average(composite(f"transitions.{block - 1}.mix", x), 2)
        for layer in range(depth):
            name, y = f"blocks.{block}.{layer}", x
            if f"{name}.narrow.conv.weight" in state:
                y = composite(f"{name}.narrow", y)
            x = torch.cat([x, composite(f"{name}.grow", y)], 1)
    return norm("norm", x).clamp_min(0).flatten(2).mean(2) @ state["head.weight"].T + state["head.bias"]


def small(*, seed: int = 0, **settings: Any) -> DenseNet:
    """Blocks of 2, 3 and 1 layers, with normalisation as if it had been trained."""
    torch.manual_seed(seed)
    net = DenseNet((2, 3, 1), 4, 6, num_classes=5, stem="small", **settings)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5)
    return net


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_is_its_formula(dimensions: int, bottleneck: bool) -> None:
    net = small(dimensions=dimensions, bottleneck=bottleneck, compression=0.6).double().eval()
    assert net.transitions[0].mix.conv.out_channels == int(0.6 * (6 + 2 * 4))
    x = torch.randn(2, 3, *[8] * dimensions, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(net(x), formula(net.state_dict(), x, (2, 3, 1)))


# Checkpointing


def trained(
    net: nn.Module, *, half: bool = False
) -> tuple[Tensor, dict[str, Tensor | None], dict[str, Tensor], Tensor]:
    """Scores, gradients, buffers and the generator's state after a pass forward and backward."""
    torch.manual_seed(1)
    x = torch.randn(4, 3, 12, 12)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        scores = net.train()(x)
        loss = F.cross_entropy(scores.float(), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    return scores, gradients, dict(net.named_buffers()), torch.get_rng_state()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("drop", [0.0, 0.2])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_checkpointing_changes_nothing_to_the_bit(bottleneck: bool, drop: float, half: bool) -> None:
    plain = trained(small(bottleneck=bottleneck, drop=drop), half=half)
    saving = trained(small(bottleneck=bottleneck, drop=drop, checkpoint=True), half=half)
    assert torch.equal(saving[0], plain[0])
    for one, other in zip(saving[1:3], plain[1:3], strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert torch.equal(one[name], other[name]), name
    assert torch.equal(saving[3], plain[3])  # the same draws, and none more
    counts = [count for name, count in saving[2].items() if name.endswith("num_batches_tracked")]
    assert all(count == 1 for count in counts)


def test_weights_that_are_drawn_anew_in_each_pass_are_drawn_once() -> None:
    class Drawn(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * (torch.rand_like(weight) < 0.5)

    found = []
    for checkpoint in (False, True):
        net = small(checkpoint=checkpoint)
        for module in list(net.modules()):
            if isinstance(module, nn.Conv2d):
                nn.utils.parametrize.register_parametrization(module, "weight", Drawn())
        found.append(trained(net))
    for name, gradient in found[0][1].items():
        assert torch.equal(found[1][1][name], gradient), name


def test_the_mode_of_the_forward_pass_counts_not_that_of_the_backward() -> None:
    x, gradients = torch.randn(4, 3, 8, 8), []
    for checkpoint in (False, True):
        net = small(checkpoint=checkpoint).train()
        loss = net(x).square().sum()
        net.eval()
        loss.backward()
        assert not any(module.training for module in net.modules())
        gradients.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_checkpointing_in_evaluation_and_twice_backward() -> None:
    found = []
    for checkpoint in (False, True):
        net = small(checkpoint=checkpoint).eval()
        loss = net(torch.ones(2, 3, 8, 8)).square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        found.append([p.grad for p in net.parameters()] + list(net.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


class Counted(TorchDispatchMode):
    """How often an operator ran, and which storages it made."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return output

    def alive(self) -> int:
        """Bytes that something still holds."""
        return sum(size for reference, size in self.made.values() if not reference.expired())


def test_no_convolution_is_computed_twice() -> None:
    net = small(checkpoint=True)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in net.modules())
    with Counted() as forward:
        loss = net(torch.ones(2, 3, 8, 8)).sum()
    with Counted() as backward:
        loss.backward()
    assert forward.names.count("convolution") == convolutions
    assert backward.names.count("convolution_backward") == convolutions
    assert backward.names.count("convolution") == 0
    assert backward.names.count("native_batch_norm") == convolutions - 1  # all but the last, which is not in a layer


def saved_bytes(net: nn.Module, x: Tensor) -> int:
    """Of the tensors that autograd asks to be kept, each once, without weights."""
    own = {tensor.untyped_storage()._cdata for tensor in [*net.parameters(), *net.buffers()]}
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = net(x)
    assert scores.requires_grad
    return sum(storage.nbytes() for identity, storage in storages.items() if identity not in own)


def alive_bytes(net: nn.Module, x: Tensor) -> int:
    """What is still held between the forward pass and the backward, whoever holds it."""
    with Counted() as counted:
        scores = net(x)
    assert scores.requires_grad
    return counted.alive()


@pytest.mark.parametrize("measure", [saved_bytes, alive_bytes])
@pytest.mark.parametrize(("bottleneck", "share"), [(False, 0.2), (True, 0.3)])
def test_checkpointing_keeps_less(measure: Callable[[nn.Module, Tensor], int], bottleneck: bool, share: float) -> None:
    """Of 18 layers a fifth is kept, with bottlenecks three tenths; it grows with the depth, not with its square."""
    x, kept = torch.randn(2, 3, 16, 16), {}
    for checkpoint in (False, True):
        for depth in (6, 12):
            net = DenseNet(
                (depth,) * 3, 8, 16, num_classes=5, stem="small", bottleneck=bottleneck, checkpoint=checkpoint
            )
            kept[checkpoint, depth] = measure(net, x)
    assert kept[True, 6] < share * kept[False, 6]
    assert kept[True, 12] < 2.1 * kept[True, 6]
    assert kept[False, 12] > (2.4 if bottleneck else 3) * kept[False, 6]


@pytest.mark.parametrize(
    ("name", "plain", "saving"),
    [pytest.param("densenet_bc_100_12", 35, 6.2, marks=pytest.mark.slow), ("densenet_40_12", 19, 2.3)],
)
def test_memory_is_accounted_as_the_card_says(name: str, plain: float, saving: float) -> None:
    found = []
    for checkpoint in (False, True):
        with torch.device("meta"):
            net = models.build(name, shape=(3, 32, 32), num_classes=10, settings={"checkpoint": checkpoint})
        found.append(accounting.memory(net, (3, 32, 32)).kept_an_example / 1e6)
    assert found == pytest.approx([plain, saving], rel=0.01)


# Parts


def test_dropout_stands_behind_every_convolution_but_the_first() -> None:
    net = small(drop=0.3).train()
    passed: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    made: dict[nn.Module, Tensor] = {}
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda module, x, y: passed.update({module: (x[0], y)}))
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, x, y: made.update({module: y}))
    net(torch.randn(16, 3, 8, 8))
    composites = [module for module in net.modules() if isinstance(module, Composite)]
    assert len(composites) == 2 * 6 + 2
    assert set(made) == {net.stem[0], *(one.conv for one in composites)}
    assert len(passed) == len(composites)
    values = zeros = 0
    for one in composites:
        x, y = passed[one.drop]
        assert x is made[one.conv]
        values, zeros = values + y.numel(), zeros + int((y == 0).sum())
    assert abs(zeros / values - 0.3) < 5 * (0.3 * 0.7 / values) ** 0.5


def test_initial_weights() -> None:
    torch.manual_seed(0)
    for name, p in densenet121(num_classes=10).named_parameters():
        if p.dim() == 4:
            assert abs(p.std().item() / (2 / p[0].numel()) ** 0.5 - 1) < 5 / (2 * p.numel()) ** 0.5, name
        elif p.dim() == 1:
            assert torch.equal(p, torch.full_like(p, float(name.endswith("weight")))), name


@pytest.mark.parametrize(("name", "smallest"), [("densenet_small", 4), ("densenet121", 29)])
def test_the_smallest_is_the_smallest(name: str, smallest: int) -> None:
    with torch.device("meta"):
        net = models.build(name, shape=(3, smallest, smallest), num_classes=5)
        assert net(torch.zeros(2, 3, smallest, smallest)).shape == (2, 5)
        with pytest.raises(RuntimeError, match="too small"):
            net(torch.zeros(2, 3, smallest - 1, smallest - 1))


def test_the_large_networks_take_the_small_stem() -> None:
    with torch.device("meta"):
        net = models.build("densenet121", shape=(3, 8, 8), num_classes=10, settings={"stem": "small"})
    costs = accounting.account(net, (3, 32, 32))
    assert [row.output for row in costs.rows if row.kind == "Conv2d"][:2] == [(64, 32, 32), (128, 32, 32)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"drop": 1.5}, "drop cannot be 1.5"),
        ({"stem": "smal"}, "did you mean: small"),
    ],
)
def test_refuses_what_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refusal:
        densenet_small(**settings)
    assert message in str(refusal.value)


@pytest.mark.parametrize("compression", [0, 1.2, None])
def test_refuses_a_share_to_keep_that_is_none(compression: Any) -> None:
    with pytest.raises(UserError, match="compression cannot be"):
        DenseNet((1, 1), 4, 8, compression=compression)
