"""Pictures that a run keeps of what its network sees: what is in them, how large they are, what may go wrong."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engram import augment, models
from engram.attribution import gradient, smooth_grad
from engram.report import seen_files
from engram.report.run_folder import read
from engram.training import inside
from engram.training.device import Machine
from engram.training.inside.activations import chosen_layers, ever_active, outputs
from engram.training.inside.choice import pick
from engram.training.inside.filters import fine_detail
from engram.training.inside.pixels import shrink
from engram.training.inside.saliency import as_bytes, likeness
from engram.training.inside.seen import Seen

CPU = Machine(torch.device("cpu"), torch.float32, torch.contiguous_format, 1, False)
CLASSES = ("cat", "dog", "<b>")


class Pool:
    """Examples in memory, as `engram.data.pool.Pool` has them."""

    def __init__(self, stored: Tensor, labels: Tensor) -> None:
        self.stored, self.labels = stored, labels
        self.shape, self.dtype, self.nbytes = tuple(stored.shape[1:]), stored.dtype, stored.nbytes

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        return f"picture {index}"

    def batches(self, indices):
        for batch in indices:
            yield self.stored[batch], self.labels[batch]

    def pictures(self, indices: Sequence[int]):
        return self.stored[list(indices)].numpy()


def pool_of(shape: tuple[int, ...] = (3, 16, 16), count: int = 40) -> Pool:
    rng = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=rng)
    return Pool(stored, torch.randint(0, 3, (count,), generator=rng))


def views_of(channels: int = 3, size: tuple[int, int] = (16, 16), words: str = "") -> augment.Views:
    mean, std = torch.linspace(0.3, 0.5, channels), torch.linspace(0.2, 0.3, channels)
    return augment.views(words, size=size, mean=mean, std=std)


def network(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 20, 3, padding=1), nn.ReLU(), nn.Dropout(), nn.Flatten(), nn.Linear(20 * 64, 3),
    )  # fmt: skip


def written(folder: Path, net: nn.Module, **settings) -> list[str]:
    start = settings.pop("start", inside.first_filters(net))
    given = {"pool": pool_of(), "views": views_of(), "machine": CPU, "classes": CLASSES, **settings}
    return inside.write(folder, net, start=start, **given)


def test_everything_is_written_and_the_network_is_as_it_was(tmp_path: Path) -> None:
    net = network().train()
    before, draws = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    assert written(tmp_path, net) == []
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    assert torch.equal(torch.get_rng_state(), draws)
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "activations.npz", "filters.npz", "saliency.npz"
    ]  # fmt: skip
    for name in ("filters", "activations", "saliency"):
        assert getattr(seen_files, name)(tmp_path / "pictures" / f"{name}.npz")


def test_the_files_of_a_page_are_small(tmp_path: Path) -> None:
    """Noise, which cannot be packed, of more pixels than are kept, and more filters and channels than are kept."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 48, 11), nn.ReLU(), nn.Conv2d(48, 20, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 20, 1),
        nn.MaxPool2d(2), nn.Conv2d(20, 20, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(80, 3),
    )  # fmt: skip
    start = inside.first_filters(net)
    nn.init.normal_(net[0].weight)
    assert written(tmp_path, net, start=start, pool=pool_of((3, 72, 72), 6), views=views_of(3, (72, 72))) == []
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "pictures").iterdir()}
    assert sum(sizes.values()) < 400_000, sizes
    assert sum(sizes.values()) > 200_000, sizes  # the worst case is one


def test_filters_are_those_of_the_start_and_of_now(tmp_path: Path) -> None:
    net = network()
    start = inside.first_filters(net)
    assert start is not None
    assert (start.name, start.count) == ("0", 6)
    with torch.no_grad():
        net[0].weight += 0.1
    assert np.abs(start.weights - net[0].weight.detach().numpy()).max() > 0.05  # a copy
    written(tmp_path, net, start=start)
    found = seen_files.filters(tmp_path / "pictures" / "filters.npz")
    np.testing.assert_allclose(found["start"], start.weights, atol=1e-3)
    np.testing.assert_allclose(found["now"], start.weights + 0.1, atol=1e-3)
    assert float(found["moved"]) == pytest.approx(0.1 * start.weights.size**0.5 / np.linalg.norm(start.weights), 1e-4)
    assert str(found["layer"]) == "0"
    written(tmp_path, net, start=None)
    assert "start" not in seen_files.filters(tmp_path / "pictures" / "filters.npz")
    written(tmp_path, net, start=inside.first_filters(models.resnet20()))  # of another network
    assert "start" not in seen_files.filters(tmp_path / "pictures" / "filters.npz")


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_linear_layer_is_shown_as_the_picture_that_it_is_given(tmp_path: Path, channels_last: bool) -> None:
    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.head = nn.Linear(3 * 16 * 16, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = x.movedim(1, -1) if channels_last else x
            return self.head(self.hidden(x.reshape(len(x), -1)).relu())

    net = Perceptron()
    with torch.no_grad():  # looks at the second colour of the pixel in row 2 and column 7
        net.hidden.weight.zero_()
        net.hidden.weight[3, (2 * 16 + 7) * 3 + 1 if channels_last else (16 * 16) + 2 * 16 + 7] = 2.0
    assert written(tmp_path, net) == []
    (found,) = np.argwhere(seen_files.filters(tmp_path / "pictures" / "filters.npz")["now"])
    assert found.tolist() == [3, 1, 2, 7]
    assert not (tmp_path / "pictures" / "activations.npz").exists()
    saliency = seen_files.saliency(tmp_path / "pictures" / "saliency.npz")
    assert saliency["methods"].tolist() == ["gradient", "smooth_grad", "guided_backpropagation"]
    assert "no layer whose output keeps positions" in str(saliency["missing"][0])


def test_fine_detail_is_told_from_smooth_patterns() -> None:
    wave = torch.arange(16)
    smooth = torch.cos(2 * torch.pi * wave / 16).expand(1, 1, 16, 16)
    fine = torch.cos(2 * torch.pi * 7 * wave / 16).expand(1, 1, 16, 16)
    assert fine_detail(smooth)[0] < 0.1
    assert fine_detail(fine)[0] > 0.9
    shares = [
        fine_detail(torch.randn(64, 3, side, side, generator=torch.Generator().manual_seed(0))) for side in (3, 7)
    ]
    for share, chance in shares:  # flat on average, whatever the size
        assert chance == pytest.approx(1 - torch.pi / 16, abs=0.003)
        assert share == pytest.approx(chance, abs=0.02)


def test_activations_are_what_the_layers_give(tmp_path: Path) -> None:
    net, views, pool = network(), views_of(), pool_of()
    with torch.no_grad():
        net[4].bias[5], net[4].weight[5] = -1e3, 0.0  # a dead channel
    written(tmp_path, net)
    found = seen_files.activations(tmp_path / "pictures" / "activations.npz")
    saliency = seen_files.saliency(tmp_path / "pictures" / "saliency.npz")
    assert found["layers"].tolist() == ["2", "6"]  # what the ReLU gives, not the convolution; and what dropout lets by
    assert found["shapes"].tolist() == [[6, 16, 16], [20, 8, 8]]
    assert found["silent"].tolist() == [0, 1]
    assert int(found["examples"]) == 40
    indices = [int(name.removeprefix("picture ")) for name in saliency["names"][:2]]
    net.eval()
    x = views(pool.stored[indices])[0]
    with torch.no_grad():
        expected = {0: net[:3](x), 1: net[:6](x)}
    for place, maps in expected.items():
        channels = found[f"channels_{place}"].tolist()
        order = maps.mean((0, 2, 3)).argsort(descending=True).tolist()[:16]
        assert channels == order
        shown = maps[:, channels]
        shares = shown / shown.amax((1, 2, 3), keepdim=True)
        np.testing.assert_allclose(found[f"maps_{place}"], 255 * shares.numpy(), atol=0.51)
    np.testing.assert_allclose(found["pixels"], pool.stored[indices].movedim(1, -1).numpy(), atol=1)


def test_a_layer_is_heard_before_it_is_overwritten() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(outputs(net, x, ["0"])["0"], net[0](x))


def test_a_channel_that_one_example_makes_active_is_not_silent() -> None:
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU())
    with torch.no_grad():
        net[0].weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0, 0.0])
    pool = pool_of((1, 4, 4), 100)
    pool.stored.zero_()
    pool.stored[0, 0, 1, 1] = 255  # the rest, black, stands below zero
    seen = Seen(pool, augment.views((), size=(4, 4), mean=torch.tensor([0.5]), std=torch.tensor([1.0])), CPU, CLASSES)
    assert ever_active(net, seen, ["1"], range(100))["1"].tolist() == [True, True, False]
    assert ever_active(net, seen, ["1"], range(1, 100))["1"].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("name", "shape", "layers"),
    [
        ("lenet5", (1, 28, 28), ["c1", "s2", "c3", "s4"]),
        ("resnet20", (3, 32, 32), ["stem", "stages.0", "stages.1", "stages"]),
        ("mlp", (1, 28, 28), []),
    ],
)
def test_layers_are_the_first_and_the_ends_of_stages(name: str, shape: tuple[int, ...], layers: list[str]) -> None:
    torch.manual_seed(0)
    net = models.build(name, shape=shape, num_classes=10)
    assert chosen_layers(net, torch.randn(1, *shape)) == layers


def test_a_deep_network_shows_four_layers() -> None:
    torch.manual_seed(0)
    net = models.build("vgg_small", shape=(3, 32, 32), num_classes=10)
    layers = chosen_layers(net, torch.randn(1, 3, 32, 32))
    assert len(layers) == 4
    assert layers[-1] == "features"


def test_saliency_is_that_of_the_answers(tmp_path: Path) -> None:
    net, views, pool = network(), views_of(), pool_of()
    written(tmp_path, net, views=views_of(words="crops:5:4"))  # evaluation begins with a corner
    found = seen_files.saliency(tmp_path / "pictures" / "saliency.npz")
    assert found["methods"].tolist() == ["gradient", "smooth_grad", "grad_cam", "guided_backpropagation"]
    assert found["kinds"].tolist() == ["right", "right", "wrong", "wrong", "unsure", "unsure"]
    indices = [int(name.removeprefix("picture ")) for name in found["names"]]
    x = views(pool.stored[indices])[0]
    probability = net.eval()(x).softmax(1).detach()
    assert found["truth"].tolist() == [CLASSES[int(pool.labels[index])] for index in indices]
    assert found["predicted"].tolist() == [CLASSES[int(label)] for label in probability.argmax(1)]
    np.testing.assert_allclose(found["probability"], probability.amax(1), rtol=1e-5)
    np.testing.assert_allclose(found["pixels"], pool.stored[indices].movedim(1, -1).numpy(), atol=1)
    for place, maps in ((0, gradient(net, x)), (1, smooth_grad(net, x, samples=int(found["samples"])))):
        highest = np.quantile(maps.flatten(1).numpy(), 0.99, axis=1)[:, None, None]
        np.testing.assert_allclose(found["maps"][:, place], (255 * maps.numpy() / highest).clip(0, 255), atol=0.6)
    others = probability.topk(2, 1).indices[:, 1]
    assert float(found["alike"][0]) == pytest.approx(likeness(gradient(net, x), gradient(net, x, others)))
    assert np.isnan(found["alike"][1])


def test_the_surest_and_the_least_sure_are_chosen() -> None:
    rows = [[0.98, 0.01, 0.01], [0.97, 0.02, 0.01], [0.02, 0.96, 0.02], [0.1, 0.1, 0.8], [0.3, 0.34, 0.36]]
    probability = torch.tensor([*rows, [0.5, 0.49, 0.01], [0.9, 0.06, 0.04], [float("nan")] * 3])
    truth = torch.tensor([0, 0, 1, 0, 2, 1, 0, 0])
    # of the sure and right ones two classes; wrong are 3 and 5, which is also at a border; 4 is left there, then 6
    expected = [(0, "right"), (2, "right"), (3, "wrong"), (5, "wrong"), (4, "unsure"), (6, "unsure")]
    assert pick(probability, truth) == expected
    assert pick(probability[:1], truth[:1]) == [(0, "right")]
    assert pick(probability[-1:], truth[-1:]) == []
    one_class = pick(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64))
    assert one_class == [(0, "right"), (1, "right"), (2, "unsure")]


def test_examples_may_be_given(tmp_path: Path) -> None:
    written(tmp_path, network(), indices=[3, 30, 31])
    found = seen_files.saliency(tmp_path / "pictures" / "saliency.npz")
    assert set(found["names"]) == {"picture 3", "picture 30", "picture 31"}


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_are_shown_as_their_mean(tmp_path: Path, channels: int) -> None:
    pool = pool_of((channels, 16, 16))
    assert written(tmp_path, network(channels), pool=pool, views=views_of(channels)) == []
    found = seen_files.saliency(tmp_path / "pictures" / "saliency.npz")
    assert found["pixels"].shape == (6, 16, 16, 1)
    indices = [int(name.removeprefix("picture ")) for name in found["names"]]
    np.testing.assert_allclose(found["pixels"][..., 0], pool.stored[indices].float().mean(1).numpy(), atol=1)


def test_floats_are_stretched_and_the_middle_is_taken(tmp_path: Path) -> None:
    pool = pool_of((1, 20, 20))
    pool.stored = 7 * pool.stored.float() - 900
    pool.dtype = torch.float32
    views = augment.views((), size=(16, 16), mean=torch.tensor([0.0]), std=torch.tensor([500.0]))
    seen = Seen(pool, views, CPU, CLASSES)
    x, _ = seen.take([4])
    torch.testing.assert_close(x[0, 0] * 500, pool.stored[4, 0, 2:-2, 2:-2])
    pixels = seen.pixels(x)
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)


@pytest.mark.parametrize("shape", [(12,), (2, 30), (1, 6, 6, 6)])
def test_of_what_is_no_picture_nothing_is_written(tmp_path: Path, shape: tuple[int, ...]) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3))
    assert written(tmp_path, net, pool=pool_of(shape), start=None) == []
    assert list(tmp_path.iterdir()) == []


class Moody(nn.Module):
    """Fails as it is told to."""

    def __init__(self, mood: str) -> None:
        super().__init__()
        self.conv, self.head, self.mood = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), mood

    def forward(self, x: Tensor) -> Tensor:
        if self.mood == "fails":
            raise RuntimeError("no\nmore")
        x = F.relu(self.conv(x)).mean((2, 3))
        scores = self.head(x.detach() if self.mood == "detaches" else x)
        return scores * float("nan") if self.mood == "nan" else scores


def test_what_fails_is_told_and_costs_no_more(tmp_path: Path) -> None:
    told = written(tmp_path / "fails", Moody("fails"))
    assert not any("Traceback" in one for one in told)
    told = [*told, *written(tmp_path, Moody("fails"))]
    assert any(one.startswith("no pictures of filters: no") for one in told), told
    assert written(tmp_path, Moody("fails"), pool=pool_of(count=1)) != []
    assert written(tmp_path, Moody("detaches")) == [
        "no pictures of saliency: no gradient comes from the scores back to the input"
    ]


def test_a_network_of_nan_and_a_folder_that_is_none(tmp_path: Path) -> None:
    told = written(tmp_path, Moody("nan"))
    assert [one.partition(":")[0] for one in told] == ["no pictures of activations and saliency"]
    assert "finite" in told[0]
    (tmp_path / "file").write_text("")
    told = written(tmp_path / "file" / "below", network())
    assert len(told) == 3


def test_the_page_shows_them(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("")
    written(tmp_path, network())
    run = read(tmp_path)
    assert run.notes == ()
    assert set(run.filters) == {*seen_files.FILTERS, *seen_files.BEFORE}
    assert run.activations["maps_0"].dtype == np.uint8
    assert len(run.saliency["pixels"]) == 6


def test_maps_are_shrunk_by_their_mean_and_brought_to_bytes() -> None:
    maps = torch.arange(64.0).reshape(1, 1, 8, 8)
    np.testing.assert_allclose(shrink(maps, 4)[0, 0, 0], [4.5, 6.5, 8.5, 10.5])
    assert shrink(torch.zeros(1, 1, 100, 30), 50).shape == (1, 1, 50, 15)
    nothing = as_bytes(torch.stack([torch.zeros(4, 4), torch.full((4, 4), float("nan"))]), cut=True)
    assert not nothing.any()


def test_likeness_is_spearmans_correlation() -> None:
    from scipy.stats import spearmanr

    maps, others = torch.rand(2, 5, 6, 6).round(decimals=1)  # with ties
    expected = np.mean([spearmanr(maps[row].flatten(), others[row].flatten()).statistic for row in range(5)])
    assert likeness(maps, others) == pytest.approx(expected)
    maps[0] = 0.5  # nothing to rank
    expected = np.mean([spearmanr(maps[row].flatten(), others[row].flatten()).statistic for row in range(1, 5)])
    assert likeness(maps, others) == pytest.approx(expected)
