"""FractalNet against measured layers and a formula on its grid; drop-path against its distribution."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import accounting, models
from engram.errors import UserError
from engram.models.fractalnet import FractalNet, everything, fractalnet_20, fractalnet_small, local_drop_path

ARCHITECTURES = json.loads((Path(__file__).parent / "data/architectures_fractalnet.json").read_text())["architectures"]
DEPTHS = {5: 0.3, 10: 0.8, 20: 2.1, 40: 4.8, 80: 10.2, 160: 21.1}
"""The paper's table 3: millions of weights of so many layers, with 100 classes, of one to six columns."""


@pytest.mark.parametrize(
    ("measured", "widths", "columns", "bias"),
    [
        ("FractalNet-20 B5C3 (64..512,512) nobias", (64, 128, 256, 512, 512), 3, False),
        ("FractalNet-20 B5C3 bias", (64, 128, 256, 512, 512), 3, True),
        *[
            (f"FractalNet-40 B5C4 {widths}", widths, 4, False)
            for widths in [(16, 32, 64, 128, 128), (32, 64, 128, 256, 256), (16, 32, 64, 128, 256)]
        ],
    ],
)
def test_layer_by_layer(measured: str, widths: tuple[int, ...], columns: int, bias: bool) -> None:
    expected = ARCHITECTURES[measured]
    with torch.device("meta"):
        net = FractalNet(widths, columns, bias=bias)
    costs = accounting.account(net, (3, 32, 32))
    assert (costs.parameters, costs.macs, costs.buffers) == tuple(
        expected[key] for key in ("params", "macs", "buffers")
    )
    kinds = ("Conv2d", "MaxPool2d", "Linear")
    ours = [[row.kind, list(row.output), row.parameters, row.macs] for row in costs.rows if row.kind in kinds]
    assert sorted(ours) == sorted(row for row in expected["layers"] if row[0] in kinds)  # columns in another order


@pytest.mark.parametrize(
    ("columns", "depth"),
    [pytest.param(*pair, marks=pytest.mark.slow if pair[0] > 4 else ()) for pair in enumerate(DEPTHS, 1)],
)
def test_weights_of_every_depth_in_the_papers_table(columns: int, depth: int) -> None:
    with torch.device("meta"):
        net = FractalNet((16, 32, 64, 128, 128), columns, num_classes=100)
        deepest = net.column(columns)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == DEPTHS[depth]
    assert sum(isinstance(module, nn.Conv2d) for module in deepest.modules()) == depth


# The network once more as a grid: column k ends a convolution every 2^(columns - k) steps; what ends together joins.


def unit(columns: int, column: int, place: int) -> str:
    """The name of one convolution: each halving of the columns says which of the two smaller blocks it is in."""
    halves = format(place, f"0{column - 1}b") if column > 1 else ""
    return "".join("second." if half == "1" else "first." for half in halves) + "short"


def formula(
    state: dict[str, Tensor], x: Tensor, columns: int, blocks: int, lives: Callable[[int, int], list[bool]]
) -> Tensor:
    """`lives(step, inputs)` says which inputs of the join after a step are alive, the shallowest first."""
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[x.dim() - 2]
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[x.dim() - 2]

    def run(name: str, x: Tensor) -> Tensor:
        mean, var, gamma, beta = (
            state[f"{name}.norm.{key}"].view(-1, *[1] * (x.dim() - 2))
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = convolve(x, state[f"{name}.conv.weight"], padding=1)
        return ((x - mean) / (var + 1e-5).sqrt() * gamma + beta).clamp_min(0)

    for block in range(blocks):
        last = dict.fromkeys(range(1, columns + 1), x)
        for step in range(1, 2 ** (columns - 1) + 1):
            ends = [k for k in last if step % 2 ** (columns - k) == 0]
            made = [run(f"blocks.{block}.{unit(columns, k, step // 2 ** (columns - k) - 1)}", last[k]) for k in ends]
            alive = [y for y, lives_on in zip(made, lives(step, len(ends)), strict=True) if lives_on]
            joined = torch.stack(alive).mean(0) if alive else torch.full_like(made[0], math.nan)  # nobody reads it
            last.update(dict.fromkeys(ends, joined))
        x = pool(last[columns], 2)
    return x.flatten(2).mean(2) @ state["head.weight"].T + state["head.bias"]


def small(columns: int = 3, *, seed: int = 0, **settings: Any) -> FractalNet:
    """Two blocks, with normalisation as if it had been trained."""
    torch.manual_seed(seed)
    net = FractalNet((4, 6), columns, num_classes=5, **settings)
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.uniform_(0.5, 1.5)
    return net.double()


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("columns", "dimensions"), [(1, 2), (2, 2), (3, 1), (3, 2), (3, 3), (5, 2)])
def test_is_its_formula(columns: int, dimensions: int) -> None:
    net, x = small(columns, dimensions=dimensions).eval(), images(2, 3, *[8] * dimensions)
    with torch.no_grad():
        expected = formula(net.state_dict(), x, columns, 2, lambda step, inputs: [True] * inputs)
        torch.testing.assert_close(net(x), expected)


def test_joins_take_the_mean_of_what_is_alive() -> None:
    """Every pattern of the inner join, of two inputs, and the outer one, of three."""
    net, x = small(3).eval(), images(2, 3, 8, 8)
    patterns = [
        pattern for pattern in itertools.product([False, True], repeat=5) if any(pattern[:2]) and any(pattern[2:])
    ]
    assert len(patterns) == 21
    for pattern in patterns:
        inner, outer = list(pattern[:2]), list(pattern[2:])
        chosen = {1: [True], 2: inner, 3: outer}

        def lives(step: int, inputs: int, inner: list[bool] = inner, outer: list[bool] = outer) -> list[bool]:
            # The deepest column alone goes on after steps 1 and 3.
            return {1: [True], 2: inner, 3: [True], 4: outer}[step]

        with torch.no_grad():
            y = x
            for block in net.blocks:
                y = net.pool(block(y, lambda inputs, chosen=chosen: chosen[inputs]))
            expected = formula(net.state_dict(), x, 3, 2, lives)
            torch.testing.assert_close(net.head(y.flatten(2).mean(2)), expected)


# Columns


@pytest.mark.parametrize("columns", [1, 3, 4])
@pytest.mark.parametrize("training", [False, True])
def test_a_column_is_the_network_with_that_column_alone(columns: int, training: bool) -> None:
    net, x = small(columns, drop=0.0).train(training), images(4, 3, 8, 8)
    for number in range(1, columns + 1):
        plain = net.column(number)
        assert plain.training == training
        kinds = [type(module) for module in plain.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        assert kinds == 2 * 2 ** (number - 1) * [nn.Conv2d] + [nn.Linear]
        assert isinstance(plain.head, nn.Linear)
        torch.testing.assert_close(net(x, column=number), plain(x), rtol=0, atol=0)


def test_a_column_is_the_formula_of_its_convolutions_in_a_row() -> None:
    net, x = small(3).eval(), images(2, 3, 8, 8)
    for number in (1, 2, 3):
        with torch.no_grad():
            alone = formula(
                net.state_dict(),
                x,
                3,
                2,
                lambda step, inputs, number=number: [k == number for k in range(4 - inputs, 4)],
            )
            torch.testing.assert_close(net.column(number)(x), alone)


def test_a_column_is_a_copy_unless_it_shares() -> None:
    net = small(3)
    copied, shared = net.column(2), net.column(2, shared=True)
    own = {id(p) for p in net.parameters()}
    assert not own & {id(p) for p in copied.parameters()}
    assert {id(p) for p in shared.parameters()} <= own
    before = net.head.weight.clone()
    copied.head.weight.data.zero_()
    assert torch.equal(net.head.weight, before)
    shared.head.weight.data.zero_()
    assert not net.head.weight.any()


@pytest.mark.parametrize("number", [0, 4, -1, None, 1.5, "deepest"])
def test_refuses_a_column_that_is_not_there(number: Any) -> None:
    with pytest.raises(UserError, match="there is no column") as refusal:
        small(3).column(number)
    assert "1, the shallowest, to 3" in str(refusal.value)
    if number is not None:
        with pytest.raises(UserError, match="there is no column"):
            small(3)(images(2, 3, 8, 8), column=number)


# Drop-path


@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_local_drop_path_loses_each_input_but_never_all(inputs: int) -> None:
    """Every pattern comes as often as it should: of 4,000 draws within 5 standard deviations."""
    torch.manual_seed(0)
    choose, drop, draws = local_drop_path(0.4), 0.4, 4_000
    seen = Counter(tuple(choose(inputs)) for _ in range(draws))
    for pattern in itertools.product([False, True], repeat=inputs):
        share = math.prod(1 - drop if alive else drop for alive in pattern)
        if not any(pattern):
            share = 0.0
        elif sum(pattern) == 1:
            share += drop**inputs / inputs  # one comes back, each as likely as the others
        assert abs(seen[pattern] / draws - share) <= 5 * (share * (1 - share) / draws) ** 0.5, pattern


def ran(net: FractalNet, passes: int, *, x: Tensor | None = None) -> list[list[set[str]]]:
    """For each pass the units of each block that ran; they and the head do nothing, to be quick."""
    seen: list[list[set[str]]] = []
    for place, block in enumerate(net.blocks):
        for name, module in list(block.named_modules()):
            if hasattr(module, "short"):
                module.short = nn.Identity()
                name = f"{name}.short".removeprefix(".")
                module.short.register_forward_hook(lambda *_, place=place, name=name: seen[-1][place].add(name))
    net.head = nn.Identity()
    for _ in range(passes):
        seen.append([set() for _ in net.blocks])
        net(torch.zeros(2, 3, 4, 4) if x is None else x)
    return seen


def column(columns: int, number: int) -> set[str]:
    return {unit(columns, number, place) for place in range(2 ** (number - 1))}


def test_global_drop_path_leaves_one_column_in_all_blocks() -> None:
    """Half of 600 passes, each column a third of those; the others are whole: within 5 standard deviations."""
    net, passes = small(3, drop_path=0.0, drop=0.0).train(), 600
    whole = column(3, 1) | column(3, 2) | column(3, 3)
    kinds = {frozenset(column(3, number)): number for number in (1, 2, 3)} | {frozenset(whole): 0}
    counts: Counter[int] = Counter()
    for first, second in ran(net, passes):
        assert first == second
        counts[kinds[frozenset(first)]] += 1
    for kind, share in {0: 1 / 2, 1: 1 / 6, 2: 1 / 6, 3: 1 / 6}.items():
        assert abs(counts[kind] / passes - share) <= 5 * (share * (1 - share) / passes) ** 0.5, kind


def test_local_drop_path_is_drawn_for_every_join_by_itself() -> None:
    """With a share of 0.3 everywhere: the shallow column of a block runs when its input at the last join is alive."""
    net, passes = small(3, drop_path=0.3, global_drop_path=0.0, drop=0.0).train(), 800
    seen = ran(net, passes)
    shallow = torch.tensor([["short" in block for block in blocks] for blocks in seen], dtype=torch.float64)
    keep = 0.7 + 0.3**3 / 3  # one of three comes back
    bound = 5 * (keep * (1 - keep) / passes) ** 0.5
    assert (shallow.mean(0) - keep).abs().max() <= bound
    assert abs((shallow[:, 0] * shallow[:, 1]).mean().item() - keep**2) <= bound  # blocks draw apart
    # Behind the inner join the two deeper columns lose their ends apart from what reaches that join.
    middle = [(unit(3, 2, 0) in first, unit(3, 2, 1) in first) for first, _ in seen if unit(3, 3, 0) in first]
    assert {(True, True), (False, True), (True, False), (False, False)} == set(middle)


def test_every_join_of_a_pass_has_an_input_and_what_is_lost_learns_nothing() -> None:
    net, x = small(3, drop_path=0.9, global_drop_path=0.0, drop=0.0).train(), images(2, 3, 8, 8)
    for seed in range(30):
        net.zero_grad()
        torch.manual_seed(seed)
        before = {name: int(b) for name, b in net.named_buffers() if name.endswith("tracked")}
        net(x).square().sum().backward()
        learned = {name.removesuffix(".conv.weight") for name, p in net.named_parameters() if p.grad is not None}
        normalized = {
            name.removesuffix(".norm.num_batches_tracked")
            for name, b in net.named_buffers()
            if name.endswith("tracked") and int(b) > before[name]
        }
        assert normalized
        assert normalized == {name for name in learned if name.endswith("short")}
        assert {name.split(".")[1] for name in normalized} == {"0", "1"}


def test_draws_are_the_global_generators_and_none_without_drop_path() -> None:
    x = images(2, 3, 8, 8)
    net = small(3, drop=0.0).train()
    results = []
    for _ in range(2):
        torch.manual_seed(5)
        results.append([net(x) for _ in range(6)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert any(not torch.equal(results[0][0], other) for other in results[0][1:])
    for quiet in (small(3, drop=0.0, drop_path=0.0, global_drop_path=0.0).train(), net.eval()):
        state = torch.get_rng_state()
        quiet(x)
        assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_lost_where_costs_are_counted() -> None:
    with torch.device("meta"):
        net = FractalNet((4, 6), 3, drop_path=0.9, global_drop_path=1.0).train()
    x = torch.zeros(2, 3, 8, 8, device="meta")
    assert all(len(block) == 7 for blocks in ran(net, 5, x=x) for block in blocks)


# Parts


def test_dropout_grows_from_block_to_block_and_stands_ahead_of_normalisation() -> None:
    with torch.device("meta"):
        net = fractalnet_20()
    for share, block in zip((0, 0.1, 0.2, 0.3, 0.4), net.blocks, strict=True):
        assert [module.p for module in block.modules() if isinstance(module, nn.Dropout)] == pytest.approx([share] * 7)
    assert all(list(dict(block.short.named_children())) == ["conv", "drop", "norm", "relu"] for block in net.blocks)


def test_initial_weights() -> None:
    """Xavier's rule: an even distribution of variance 2 / (n_in + n_out)."""
    net = models.build("fractalnet_small", shape=(3, 32, 32), num_classes=10, rng=torch.Generator().manual_seed(0))
    for name, p in net.named_parameters():
        if p.dim() > 1:
            taps = p[0, 0].numel()
            limit = (6 / (taps * (p.shape[0] + p.shape[1]))) ** 0.5
            assert p.abs().max() <= limit, name
            assert abs(p.std().item() / (limit / 3**0.5) - 1) < 5 / (2 * p.numel()) ** 0.5, name
        else:
            assert torch.equal(p, torch.full_like(p, float(name.endswith("norm.weight")))), name


@pytest.mark.parametrize(("name", "smallest"), [("fractalnet_small", 8), ("fractalnet_20", 32)])
def test_the_smallest_is_the_smallest(name: str, smallest: int) -> None:
    with torch.device("meta"):
        net = models.build(name, shape=(3, smallest, smallest), num_classes=5)
        assert net(torch.zeros(2, 3, smallest, smallest)).shape == (2, 5)
        with pytest.raises(RuntimeError, match="too small"):
            net(torch.zeros(2, 3, smallest - 1, smallest - 1))


@pytest.mark.parametrize("setting", ["drop", "drop_path", "global_drop_path"])
@pytest.mark.parametrize("value", [-0.1, 1.1, None])
def test_refuses_shares_that_are_none(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"{setting} cannot be"):
        fractalnet_small(**{setting: value})


def test_refuses_columns_that_are_none() -> None:
    with pytest.raises(UserError, match="columns cannot be 0"):
        FractalNet((4,), 0)


def test_everything_is_everything() -> None:
    assert everything(4) == [True] * 4
