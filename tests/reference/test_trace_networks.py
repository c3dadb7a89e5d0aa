"""The flow of whole networks as `engram trace` shows it: trained ones with an image, and ones of one's own."""

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

import engram
from engram import models, recipe
from engram.errors import UserError
from engram.layers.auxiliary import with_auxiliary_heads
from engram.trace.flow import flow
from engram.trace.lengths import length
from engram.trace.of_network import of_network, sizes
from engram.trace.of_run import add_heads, of_run, read_image
from engram.trace.page import page
from engram.training import weights

MINE = '''
import torch
from torch import nn

class Reader(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.rnn, self.head = kind(6, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])

def lstm():
    return Reader()

def rnn():
    return Reader(nn.RNN)

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.gru, self.head = nn.Embedding(20, 3), nn.GRU(3, 3, batch_first=True), nn.Linear(3, 4)

    def forward(self, x):
        return self.head(self.gru(self.table(x))[0].mean(1))

class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)

    def forward(self, x):
        return {"maps": self.conv(x), "count": 3}

tiny = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
shapeless = nn.Sequential(nn.Conv2d(7, 3, 3), nn.Flatten(), nn.Linear(3 * 9 * 9, 4))
text = nn.Sequential(nn.Flatten(), nn.Linear(5, 4))

def fails():
    raise KeyError("absent")
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE, encoding="utf-8")
    Path("wrong.py").write_text("def net(:")
    pixels = np.random.default_rng(0).integers(0, 255, (40, 36, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    return tmp_path


def saved(net: nn.Module, name: str, shape: tuple[int, ...], folder: Path) -> None:
    channels = shape[0]
    described = weights.Description(
        model=name,
        settings={},
        classes=tuple(f"class {number}" for number in range(10)),
        shape=shape,
        stored_shape=shape,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
    )
    (folder / "weights").mkdir(parents=True)
    weights.save(net, described, folder / "weights" / "best.safetensors")


def build(name: str, shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, shape=shape, num_classes=10).eval()


def view(shape: tuple[int, ...]) -> torch.Tensor:
    """The image as the network sees it."""
    return (read_image("photo.png", shape).float() / 255 - 0.5) / 0.25


def test_lenet5_and_who_received_it_in_its_poolings(folder: Path) -> None:
    net = build("lenet5", (1, 28, 28))
    saved(net, "lenet5", (1, 28, 28), Path("run"))
    found = of_run("run", "photo.png", target="class 3")
    assert [one.windows for one in found.poolings] == ["14x14", "5x5"]
    kept = {}
    net.c1.register_full_backward_hook(lambda module, sent, came: kept.__setitem__("c1", came[0]))
    net.head.register_full_backward_hook(lambda module, sent, came: kept.__setitem__("head", sent[0]))
    x = view((1, 28, 28))
    F.cross_entropy(net(x.requires_grad_()), torch.tensor([3])).backward()
    parts = {part.name: part for part in found.parts}
    assert parts["c1"].entering == pytest.approx(length(kept["c1"]), rel=1e-4)
    assert parts["c1"].leaving == pytest.approx(length(x.grad), rel=1e-4)
    assert parts["head"].leaving == pytest.approx(length(kept["head"]), rel=1e-4)
    # what each place of the pooling's input received is what the layer before it was given
    assert np.allclose(found.poolings[0].received, kept["c1"][0].abs().sum(0), rtol=1e-3, atol=1e-6)
    drawn = page(found)
    assert drawn.count('role="img"') >= 2
    assert "data:image/png;base64," in drawn


def test_resnet20_and_its_shortcuts_against_its_residuals(folder: Path) -> None:
    net = build("resnet20", (3, 32, 32))
    saved(net, "resnet20", (3, 32, 32), Path("run"))
    found = of_run("run", "photo.png")
    ways = {fork: [one for one in found.branches if one.fork == fork] for fork in {one.fork for one in found.branches}}
    assert len(ways) == 9
    for rows in ways.values():
        assert sorted(one.kind for one in rows) == ["residual", "shortcut"]
        assert sum(one.share for one in rows) == pytest.approx(1)
    joined = [one for one in found.tributaries if one.join == "stages.0.1"]
    assert {(one.source, one.kind) for one in joined} == {
        ("stages.0.1.norm2", "residual"),
        ("stages.0.0", "shortcut"),
    }
    values = {}
    net.stages[0][0].register_forward_hook(lambda module, x, y: values.__setitem__("shortcut", y))
    net.stages[0][1].norm2.register_forward_hook(lambda module, x, y: values.__setitem__("residual", y.clone()))
    net(view((3, 32, 32)))
    for one in joined:
        assert one.value == pytest.approx(length(values[one.kind].detach()), rel=1e-4)
    assert "residual" in page(found)


def test_googlenet_small_with_the_heads_that_it_was_trained_with(folder: Path) -> None:
    net = build("googlenet_small", (3, 32, 32))
    torch.manual_seed(1)
    with_auxiliary_heads(net, "features.inception4a", shape=(3, 32, 32), weight=0.4)
    saved(net, "googlenet_small", (3, 32, 32), Path("run"))
    said = recipe.build({"auxiliary.at": "features.inception4a", "auxiliary.weight": 0.4})
    Path("run/recipe.toml").write_text(recipe.dumps(said))
    found = of_run("run", "photo.png", target="class 5")
    inception = [one for one in found.branches if one.fork == "features.inception3a"]
    assert [one.way.rpartition(".")[2] for one in inception] == ["one", "three", "five", "pool"]
    (head,) = [one for one in found.branches if one.kind == "auxiliary"]
    # by hand: the head's own weights, from the file, on what the module gave
    kept = {}
    net.get_submodule("features.inception4a").register_forward_hook(lambda module, x, y: kept.__setitem__("y", y))
    net(view((3, 32, 32)))
    given = kept["y"].detach().requires_grad_()
    loss = 0.4 * F.cross_entropy(net.auxiliary[0](given), torch.tensor([5]))
    assert head.gradient == pytest.approx(length(torch.autograd.grad(loss, given)[0]), rel=1e-4)
    Path("run/recipe.toml").unlink()  # without it nobody knows where the heads stood
    bare = nn.Sequential(nn.Linear(2, 2))
    add_heads(bare, Path("run/weights/best.safetensors"), (3, 32, 32))
    assert [name for name, _ in bare.named_children()] == ["0"]


@pytest.mark.parametrize("name", ["lstm", "rnn"])
def test_recurrent_networks_step_by_step(folder: Path, name: str) -> None:
    found, seen = of_network(f"mine.py:{name}", x="1x7x6")
    (steps,) = found.steps
    assert len(steps.gradients) == 7
    assert seen is not None
    x = seen["x"]
    assert x.gradient is not None
    assert steps.gradients == pytest.approx([x.gradient[0, step].norm().item() for step in range(7)], rel=1e-5)
    net = models.build(f"mine.py:{name}", shape=(7, 6), num_classes=10, rng=torch.Generator().manual_seed(0))
    leaf = x.value.clone().requires_grad_()
    scores = net(leaf)
    F.cross_entropy(scores, scores.detach().argmax(1)).backward()
    assert torch.allclose(leaf.grad, x.gradient, rtol=1e-5, atol=1e-7)
    assert "Back through time" in page(found)


@pytest.mark.parametrize(
    ("name", "size", "what"),
    [
        ("lenet5", "1x1x28x28", "the loss of class"),
        ("mine.py:tiny", "1x2", "the loss of class"),
        ("mine.py:Words", "1x9", "the loss of class"),
        ("mine.py:Maps", "1x2x32x32", "the sum of what it gives"),
    ],
)
def test_what_goes_in_is_guessed_from_the_first_layer(folder: Path, name: str, size: str, what: str) -> None:
    state = torch.get_rng_state()
    found, _ = of_network(name)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.facts["input"] == f"random, {size}"
    assert found.facts["gradient of"].startswith(what)
    again, _ = of_network(name)
    assert again.to_dict() == found.to_dict()
    assert of_network(name, seed=1)[0].to_dict() != found.to_dict()


def test_what_a_person_gives_goes_in(folder: Path) -> None:
    found, seen = of_network("mine.py:tiny", x="1,2", target="class 0")
    assert found.facts["input"] == "given, 1x2"
    assert seen is not None
    assert seen["x"].value.tolist() == [[1, 2]]
    net = models.build("mine.py:tiny", shape=(2,), num_classes=10, rng=torch.Generator().manual_seed(0))
    loss = F.cross_entropy(net(torch.tensor([[1.0, 2.0]])), torch.tensor([0]))
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    assert seen.nodes[-1].name == "cross_entropy"
    image, _ = of_network("resnet20", image="photo.png")
    assert image.facts["input"] == "photo.png, 1x3x32x32"
    assert image.image is not None


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mine.py:fails", {}, "mine.py:fails cannot be run: KeyError: 'absent'"),
        ("mine.py:shapeless", {}, "mine.py:shapeless cannot be run: RuntimeError"),
        ("mine.py:text", {"image": "photo.png"}, "takes inputs of 5, which are no images"),
        ("mine.py:tiny", {"x": "1x0"}, "holds nothing"),
        ("mine.py:tiny", {"x": "red"}, "--x red is no value"),
        ("mine.py:tiny", {"target": "2"}, "there is no class '2'"),
        ("mine.py:Maps", {"target": "2"}, "gives no scores"),
        ("mine.py:absent", {}, "defines no 'absent'"),
        ("wrong.py:net", {}, "wrong.py:net cannot be run: SyntaxError"),
        ("resnet20", {"image": "none.png"}, "cannot be read"),
    ],
)
def test_what_cannot_be_traced_is_said(folder: Path, name: str, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        of_network(name, **settings)


def test_a_size_that_is_given_is_tried_alone(folder: Path) -> None:
    found, _ = of_network("mine.py:shapeless", x="1x7x11x11")
    assert found.facts["input"] == "random, 1x7x11x11"


def test_sizes_of_the_first_layer() -> None:
    assert next(sizes(nn.Conv1d(2, 3, 3))) == (2, 64)
    assert next(sizes(nn.Conv3d(1, 3, 3))) == (1, 16, 16, 16)
    assert list(sizes(nn.Linear(3 * 16, 2))) == [(3, 4, 4), (48,), (9, 48)]
    assert list(sizes(nn.ReLU())) == []


def test_in_a_notebook() -> None:
    """Rich display: a diagram for an expression, the page in a frame of its own for a network."""
    seen = engram.trace(lambda x, y: x * y, 3.0, -4.0)
    assert seen._repr_svg_().startswith("<svg")
    assert "<svg" in seen._repr_html_()
    found = flow(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 3))
    shown = found._repr_html_()
    assert shown.startswith("<iframe ")
    inner = html.unescape(shown.partition('srcdoc="')[2].partition('" ')[0])
    assert inner == page(found)
    assert replace(found, title='"><script>alert(1)</script>')._repr_html_().count("<script>alert") == 0
