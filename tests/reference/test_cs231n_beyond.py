"""The course's published checks beyond the notes, by name: losses of GANs, contrastive losses, transformers, diffusion.

They are no part of what is offered, but their arithmetic is that of the rules: affine maps, softmax, layer norm, GELU,
convolution. Weights are drawn by torch in the order in which the course's classes make them, as float32; what is
computed with them is float64.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import CHECKS, Run, agree, error
from engram import rules

RUNS: dict[str, Run] = {}
BEYOND = sorted(name for name, check in CHECKS.items() if not check["in_notes_scope"])


def check(name: str) -> Callable[[Run], Run]:
    def enter(run: Run) -> Run:
        RUNS[name] = run
        return run

    return enter


@pytest.mark.parametrize("name", BEYOND)
def test_published(name: str) -> None:
    RUNS[name](CHECKS[name])


def test_no_check_is_left_out() -> None:
    assert set(RUNS) == set(BEYOND)
    assert len(BEYOND) == 24


# -- losses


@check("gan.losses.bce")
def _(check: dict[str, Any]) -> None:
    real, fake = (np.array(check["inputs"][f"logits_{kind}"]) for kind in ("real", "fake"))
    surprise = lambda logits: -rules.log_sigmoid_forward(logits)[0].mean()  # noqa: E731
    agree(surprise(real) + surprise(-fake), check["expected"]["d_loss"], check)
    agree(surprise(fake), check["expected"]["g_loss"], check)


@check("gan.losses.lsgan")
def _(check: dict[str, Any]) -> None:
    real, fake = (np.array(check["inputs"][f"scores_{kind}"]) for kind in ("real", "fake"))
    square = lambda scores: rules.l2_penalty(scores, 1 / len(scores))[0]  # noqa: E731
    agree(square(real - 1) + square(fake), check["expected"]["d_loss"], check)
    agree(square(fake - 1), check["expected"]["g_loss"], check)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (a, b))
    return rules.affine_forward(a, b.T)[0]


@check("simclr.losses")
def _(check: dict[str, Any]) -> None:
    left, right = (np.array(check["inputs"][side], dtype=float) for side in ("left", "right"))
    expected = np.array(check["expected"]["sim_positive"])
    np.testing.assert_allclose(np.diag(cosines(left, right))[:, None], expected, atol=5e-5)  # printed to 4 decimals
    both, count = np.concatenate([left, right]), len(left)
    partner = np.roll(np.arange(2 * count), count)
    for tau in (1, 5):
        scores = cosines(both, both) / tau
        np.fill_diagonal(scores, -1e9)  # oneself is not among the choices
        agree(rules.softmax_loss(scores, partner)[0], check["expected"][f"loss_tau{tau}"], check)


@check("clip.similarity_no_loop")
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    text, image = torch.randn(6, 10).double().numpy(), torch.randn(5, 10).double().numpy()
    agree(cosines(text, image), check["expected"]["out"], check)


# -- sizes


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@check("gan.param_count.discriminator_fc")
def _(check: dict[str, Any]) -> None:
    net = rules.FullyConnectedNet([256, 256], 784, 1)
    assert sum(value.size for value in net.params.values()) == check["expected"]["params"]


@check("gan.param_count.generator_fc")
def _(check: dict[str, Any]) -> None:
    net = rules.FullyConnectedNet([1024, 1024], 4, 784)
    assert sum(value.size for value in net.params.values()) == check["expected"]["params"]


@check("gan.param_count.dc_classifier")
def _(check: dict[str, Any]) -> None:
    side = ((28 - 4) // 2 - 4) // 2
    layers = nn.Conv2d(1, 32, 5), nn.Conv2d(32, 64, 5), nn.Linear(side * side * 64, 1024), nn.Linear(1024, 1)
    assert count(*layers) == check["expected"]["params"]


@check("gan.param_count.dc_generator")
def _(check: dict[str, Any]) -> None:
    layers = [nn.Linear(4, 1024), nn.BatchNorm1d(1024), nn.Linear(1024, 6272), nn.BatchNorm1d(6272)]
    layers += [nn.ConvTranspose2d(128, 64, 4), nn.BatchNorm2d(64), nn.ConvTranspose2d(64, 1, 4)]
    assert count(*layers) == check["expected"]["params"]


# -- transformers: modules hold the weights, the rules compute


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    return rules.temporal_affine_forward(x, layer.weight.T, layer.bias)[0]  # type: ignore[union-attr]


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    return rules.layernorm_forward(x, layer.weight, layer.bias)[0]


def attention(E: int) -> nn.ModuleDict:
    return nn.ModuleDict({name: nn.Linear(E, E) for name in ("key", "query", "value", "proj")})


def attend(
    layer: Any, query: Tensor, other: Tensor, heads: int, mask: Tensor | None = None, dropped: Tensor | None = None
) -> Tensor:
    """Softmax of Q Kᵀ / √(E / H), times V; `mask` is true where one may look, `dropped` scales the shares."""
    parts = (linear(one, layer[name]) for one, name in ((query, "query"), (other, "key"), (other, "value")))
    Q, K, V = (one.unflatten(2, (heads, -1)).transpose(1, 2) for one in parts)  # (N, H, T, E/H)
    scores = Q @ K.mT / math.sqrt(Q.shape[-1])
    share = rules.softmax(scores if mask is None else scores.masked_fill(~mask, -math.inf))  # (N, H, T, T)
    seen = (share if dropped is None else share * dropped) @ V
    return linear(seen.transpose(1, 2).flatten(2), layer["proj"])


def positions(T: int, D: int) -> Tensor:
    """Sines at even places, cosines at odd ones."""
    angles = torch.arange(T, dtype=torch.float64)[:, None] * 10_000 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)  # (T, D)


def feed(x: Tensor, layer: Any, activation: Callable[[Tensor], Tensor]) -> Tensor:
    return linear(activation(linear(x, layer["fc1"])), layer["fc2"])


def gelu(x: Tensor) -> Tensor:
    return rules.gelu_forward(x)[0]


def relu(x: Tensor) -> Tensor:
    return rules.relu_forward(x)[0]


def layer_of(E: int, width: int, *, cross: bool) -> nn.ModuleDict:
    """An encoder's layer, or a decoder's, in the order of the course's constructors."""
    parts: dict[str, nn.Module] = {"self": attention(E)}
    if cross:
        parts["cross"] = attention(E)
    parts["ffn"] = nn.ModuleDict({"fc1": nn.Linear(E, width), "fc2": nn.Linear(width, E)})
    names = ("self", "cross", "ffn") if cross else ("self", "ffn")
    return nn.ModuleDict(parts | {f"norm_{name}": nn.LayerNorm(E) for name in names})


def through(
    layer: Any,
    x: Tensor,
    heads: int,
    memory: Tensor | None = None,
    mask: Tensor | None = None,
    activation: Callable[[Tensor], Tensor] = gelu,
) -> Tensor:
    x = norm(x + attend(layer["self"], x, x, heads, mask), layer["norm_self"])
    if memory is not None:
        x = norm(x + attend(layer["cross"], x, memory, heads), layer["norm_cross"])
    return norm(x + feed(x, layer["ffn"], activation), layer["norm_ffn"])


def drawn_small(module: nn.Module) -> None:
    """The course's own initial weights, in the order in which `apply` visits."""
    if isinstance(module, nn.Linear | nn.Embedding):
        module.weight.data.normal_(0, 0.02)
        if isinstance(module, nn.Linear):
            module.bias.data.zero_()


def stack(layer: nn.ModuleDict, copies: int) -> nn.ModuleList:
    """Copies that share no weights, made without a draw."""
    return nn.ModuleList([deepcopy(layer) for _ in range(copies)])


@check("transformer.MultiHeadAttention.2025")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    layer, data, mask, other = attention(8), torch.randn(1, 3, 8), torch.randn(3, 3) < 0.5, torch.randn(1, 3, 8)
    layer, data, other = layer.double(), data.double(), other.double()
    agree(attend(layer, data, data, 2), check["expected"]["self"], check)
    agree(attend(layer, data, data, 2, mask), check["expected"]["masked_self"], check)
    agree(attend(layer, data, other, 2), check["expected"]["cross"], check)


@check("transformer.MultiHeadAttention.2021-2024")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    """Left in training mode: a tenth of the shares was dropped, by a stream of numbers that torch no longer has.

    Each row of the answer depends on six shares, so 64 patterns are tried; that any fits eight numbers to 1e-3 by
    chance is out of the question. Each dropout took one number from torch's generator.
    """
    torch.manual_seed(231)
    layer, data, _ = attention(8), torch.randn(1, 3, 8), torch.rand(1)
    mask, _, other = torch.randn(3, 3) < 0.5, torch.rand(1), torch.randn(1, 3, 8)
    layer, data, other = layer.double(), data.double(), other.double()
    tried = torch.tensor(list(product((0, 1 / 0.9), repeat=6)), dtype=torch.float64).view(-1, 2, 1, 3)  # (64, H, 1, T)
    for name, rest in (("self", (data, 2)), ("masked_self", (data, 2, mask)), ("cross", (other, 2))):
        expected = np.array(check["expected"][name])[0]  # (T, E)
        found = attend(layer, data, *rest, dropped=tried).numpy()  # (64, T, E)
        for row in range(3):
            off = min(error(pattern[row], expected[row], check) for pattern in found)
            assert off < check["tolerance"]["max"], f"{name}, row {row}: {off}"


@check("transformer.PositionalEncoding.2025")
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    agree(torch.randn(1, 2, 6).double() + positions(2, 6), check["expected"]["out"], check)


@check("transformer.PositionalEncoding.2021-2024")
def _(check: dict[str, Any]) -> None:
    """Left in training mode: what is not 0 is all there, times 1 / 0.9."""
    torch.manual_seed(231)
    stays = torch.tensor(check["expected"]["out"]) != 0
    assert stays.sum() == 11
    agree((torch.randn(1, 2, 6).double() + positions(2, 6)) / 0.9 * stays, check["expected"]["out"], check)


@check("transformer.TransformerDecoderLayer.2025")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    layer = layer_of(12, 48, cross=True)
    x, memory = torch.randn(1, 4, 12).double(), torch.randn(1, 5, 12).double()
    mask = torch.randn(4, 4) < 0.5
    agree(through(layer.double(), x, 2, memory, mask), check["expected"]["expected_output"], check)


@check("transformer.TransformerEncoderLayer")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    layer = layer_of(12, 48, cross=False)
    x = torch.randn(1, 4, 12).double()
    mask = torch.randn(4, 4) < 0.5
    agree(through(layer.double(), x, 2, mask=mask), check["expected"]["expected_output"], check)


def captioner(activation: Callable[[Tensor], Tensor], net: Any, features: Tensor, captions: Tensor) -> Tensor:
    """Scores of words: a decoder over the caption that looks at one projected picture."""
    T = captions.shape[1]
    embedded, _ = rules.word_embedding_forward(captions, net["embedding"].weight)
    x = embedded + positions(T, embedded.shape[2])
    memory = linear(features, net["visual"])[:, None]
    for layer in net["layers"]:
        x = through(layer, x, 2, memory, torch.ones(T, T, dtype=torch.bool).tril(), activation)
    return linear(x, net["output"])


def captioning_net(draw: bool) -> nn.ModuleDict:
    net = nn.ModuleDict({"visual": nn.Linear(20, 30), "embedding": nn.Embedding(3, 30, padding_idx=0)})
    net["layers"] = stack(layer_of(30, 2048, cross=True), 2)
    if draw:
        net.apply(drawn_small)
    net["output"] = nn.Linear(30, 3)
    return net


@check("transformer.CaptioningTransformer.2025")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    net = captioning_net(draw=True)
    features, captions = torch.randn(4, 20).double(), torch.randint(0, 3, (4, 3))
    agree(captioner(gelu, net.double(), features, captions), check["expected"]["expected_scores"], check)


@check("transformer.CaptioningTransformer.2022-2024")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    """Left in training mode: two of the twelve places were not disturbed by what was dropped, and those agree."""
    net = captioning_net(draw=False).double()
    for p in net.parameters():
        p.copy_(torch.linspace(-1.4, 1.3, p.numel(), dtype=torch.float64).view_as(p))
    features = torch.linspace(-1.5, 0.3, 80, dtype=torch.float64).view(4, 20)
    captions = (torch.arange(12) % 3).view(4, 3)
    found, expected = captioner(relu, net, features, captions), torch.tensor(check["expected"]["scores"])
    for place in ((2, 0), (2, 2)):
        agree(found[place], expected[place], check)


def patches(x: Tensor, side: int) -> Tensor:
    """(N, C, H, W) to (N, patches, C side side), row by row."""
    N, C, H, W = x.shape
    x = x.reshape(N, C, H // side, side, W // side, side).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(N, H * W // side**2, C * side**2)


@check("transformer.PatchEmbedding")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    layer = nn.Linear(3 * 64, 8)
    x = torch.randn(2, 3, 16, 16).double()
    agree(linear(patches(x, 8), layer.double()), check["expected"]["expected_output"], check)


@check("transformer.VisionTransformer")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    images = torch.randn(3, 3, 32, 32).double()
    net = nn.ModuleDict({"patch": nn.Linear(3 * 64, 128)})
    net["layers"] = stack(layer_of(128, 256, cross=False), 6)
    net["head"] = nn.Linear(128, 10)
    net.apply(drawn_small).double()
    x = linear(patches(images, 8), net["patch"]) + positions(16, 128)
    for layer in net["layers"]:  # type: ignore[union-attr]
        x = through(layer, x, 4)
    agree(linear(x.mean(1), net["head"]), check["expected"]["expected_scores"], check)


# -- diffusion


def kept(schedule: str, steps: int = 1000) -> Tensor:
    """How much of the picture is left before each step, 1 at first: ᾱ (steps + 1,)."""
    t = torch.linspace(0, steps, steps + 1, dtype=torch.float64) / steps
    if schedule == "cosine":
        left = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    else:
        # the ends are rounded to float32 in the course's code, and the checks have that in them
        start, end = (torch.tensor(float(at)).sigmoid() for at in (-3, 3))
        left = (-(t * 6 - 3).sigmoid() + end) / (end - start)
    beta = (1 - left[1:] / left[:-1]).clip(0, 0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - beta, 0)])


def noised(x: Tensor, noise: Tensor, t: Tensor, schedule: str = "sigmoid") -> Tensor:
    left = kept(schedule)[t + 1].view(-1, 1, 1, 1)
    return left.sqrt() * x + (1 - left).sqrt() * noise


@check("ddpm.q_sample")
def _(check: dict[str, Any]) -> None:
    x, noise = (torch.linspace(*ends, 36, dtype=torch.float64).view(3, 3, 2, 2) for ends in ((-0.9, 0.6), (-0.7, 0.8)))
    agree(noised(x, noise, torch.tensor(check["inputs"]["t"])), check["expected"]["x_t"], check)


def residual(dim: int, out: int, context: int) -> nn.ModuleDict:
    parts: dict[str, nn.Module] = {"mlp": nn.Linear(context, 2 * out)}
    for number, width in ((1, dim), (2, out)):
        parts[f"conv{number}"] = nn.Conv2d(width, out, 3, padding=1)
        parts[f"scale{number}"] = nn.ParameterList([nn.Parameter(torch.ones(1, out, 1, 1))])
    return nn.ModuleDict(parts | ({"shortcut": nn.Conv2d(dim, out, 1)} if dim != out else {}))


def unet(dim: int, condition: int, multiples: tuple[int, ...]) -> nn.ModuleDict:
    sides, context = [dim, *(dim * m for m in multiples)], 4 * dim
    steps = list(pairwise(sides))
    net = nn.ModuleDict({"first": nn.Conv2d(3, dim, 3, padding=1)})
    net["time"] = nn.ModuleList([nn.Linear(dim, context), nn.Linear(context, context)])
    net["condition"] = nn.ModuleList([nn.Linear(condition, context), nn.Linear(context, context)])
    net["downs"] = nn.ModuleList(
        nn.ModuleList([residual(a, a, context), residual(a, a, context), nn.Conv2d(a, b, 2, stride=2)])
        for a, b in steps
    )
    net["middle"] = nn.ModuleList([residual(sides[-1], sides[-1], context) for _ in range(2)])
    net["ups"] = nn.ModuleList(
        nn.ModuleList([nn.Conv2d(b, a, 3, padding=1), residual(2 * a, a, context), residual(2 * a, a, context)])
        for a, b in reversed(steps)
    )
    net["last"] = nn.Conv2d(dim, 3, 1)
    return net


def convolve(x: Tensor, layer: Any) -> Tensor:
    return rules.conv_forward(x, layer.weight, layer.bias, {"stride": layer.stride, "pad": layer.padding})[0]


def transform(x: Tensor, layer: Any, context: Tensor) -> Tensor:
    """Two convolutions with their lengths over channels made one, the first scaled and shifted by the context."""
    scale, shift = linear(gelu(context), layer["mlp"])[..., None, None].chunk(2, 1)
    out = x
    for number in (1, 2):
        out = convolve(out, layer[f"conv{number}"])
        out = F.normalize(out, dim=1) * layer[f"scale{number}"][0] * out.shape[1] ** 0.5
        out = gelu(out * (scale + 1) + shift if number == 1 else out)
    return out + (convolve(x, layer["shortcut"]) if "shortcut" in layer else x)


def denoise(net: Any, x: Tensor, t: Tensor, text: Tensor | None) -> Tensor:
    dim = net["first"].out_channels
    half = dim // 2
    angles = t[:, None] * torch.exp(torch.arange(half, dtype=x.dtype) * -math.log(10_000) / (half - 1))
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    text = x.new_zeros(len(x), net["condition"][0].in_features) if text is None else text
    said = ((waves, net["time"]), (text, net["condition"]))
    context = sum(linear(gelu(linear(one, first)), second) for one, (first, second) in said)
    x, skipped = convolve(x, net["first"]), []
    for *blocks, shrink in net["downs"]:
        for block in blocks:
            x = transform(x, block, context)
            skipped.append(x)
        x = convolve(x, shrink)
    for block in net["middle"]:
        x = transform(x, block, context)
    for grow, *blocks in net["ups"]:
        x = convolve(F.interpolate(x, scale_factor=2, mode="bilinear"), grow)
        for block in blocks:
            x = transform(torch.cat([x, skipped.pop()], 1), block, context)
    return convolve(x, net["last"])


@check("ddpm.unet.structure")
def _(check: dict[str, Any]) -> None:
    given, expected = check["inputs"], check["expected"]
    net = unet(given["dim"], given["condition_dim"], tuple(given["dim_mults"]))
    assert count(net) == expected["expected_num_params"]
    found: dict[str, list[int]] = {"downs": [], "ups": []}
    for name, blocks in (("downs", slice(0, 2)), ("ups", slice(1, 3))):
        for level in net[name]:  # type: ignore[union-attr]
            for block in list(level)[blocks]:
                first, mlp = block["conv1"], block["mlp"]
                found[name] += [first.in_channels, first.out_channels, mlp.in_features]
    assert found == {name: expected[f"expected_{name}_dims"] for name in found}


@check("ddpm.case0")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    torch.manual_seed(231)
    net = unet(4, 4, (2, 4))
    x, text = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 4).double()
    agree(denoise(net.double(), x, torch.tensor([8, 25]), text), check["expected"]["expected_out"][0], check)


@check("ddpm.case1")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    """The loss of a network that predicts the picture: squares weighted by signal over noise."""
    torch.manual_seed(231)
    net = unet(4, 4, (2, 4)).double()
    x, text = 2 * torch.randn(3, 3, 4, 4).double() - 1, torch.randn(3, 4).double()
    t = torch.randint(0, 1000, (3,))
    noise = torch.randn(3, 3, 4, 4).double()
    left = kept("sigmoid")[t + 1].view(-1, 1, 1, 1)
    off = denoise(net, noised(x, noise, t), t, text) - x
    agree((left / (1 - left) * off**2).mean(), check["expected"]["expected_out"][0], check)


@check("ddpm.case2")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    """One step back, from a network that predicts the picture and from one that predicts the noise."""
    torch.manual_seed(231)
    net = unet(4, 4, (2,)).double()
    x, text, t = torch.randn(1, 3, 4, 4).double(), torch.randn(1, 4).double(), 231
    for schedule, expected in zip(("sigmoid", "cosine"), check["expected"]["expected_out"], strict=True):
        before, left = kept(schedule)[t : t + 2]
        said = denoise(net, x, torch.tensor([t]), text)
        picture = said if schedule == "sigmoid" else (x - (1 - left).sqrt() * said) / left.sqrt()
        picture, alpha = picture.clamp(-1, 1), left / before
        mean = ((1 - alpha) * before.sqrt() * picture + (1 - before) * alpha.sqrt() * x) / (1 - left)
        spread = ((1 - alpha) * (1 - before) / (1 - left)).sqrt()
        agree(mean + spread * torch.randn(1, 3, 4, 4).double(), expected, check)


@check("ddpm.case3")
@torch.no_grad()
def _(check: dict[str, Any]) -> None:
    """Guidance: further along from what is said without the text to what is said with it."""
    torch.manual_seed(231)
    net = unet(4, 4, (2, 4))
    x, text, t = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 4).double(), torch.tensor([8, 25])
    net = net.double()
    out = 3.31 * denoise(net, x, t, text) - 2.31 * denoise(net, x, t, None)
    agree(out, check["expected"]["expected_out"][0], check)
